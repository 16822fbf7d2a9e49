//! The two ends of a comparison.
//!
//! An end is a phase as the facade knows it, or `unix` or `tcp` alone: a socket in a private
//! temporary directory, or a port with certificates there, each with a broker of its own, so that a
//! comparison needs no preparation and leaves nothing behind.

use std::fmt;
use std::fs::Permissions;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use eventbus::broker::{Address, Broker};
use eventbus::{BrokerMode, Config, EventBus, Phase, PhaseError};
use tempfile::TempDir;

use crate::certs;
use crate::failure::Failure;

/// How long the source may wait for room: a comparison on a busy machine waits rather than fails.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(60);

/// One end, before it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A phase.
    Phase(Phase),
    /// A UNIX socket of this run's own.
    PrivateUnix,
    /// A TCP port of this run's own, with certificates of its own.
    PrivateTcp,
}

/// One end, open.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) bus: Arc<dyn EventBus>,
    /// The broker at a private port, which ends with the run.
    _broker: Option<Broker>,
    /// Where the private socket or the certificates are; removed when the run is over.
    _directory: Option<TempDir>,
}

impl FromStr for Endpoint {
    type Err = PhaseError;

    fn from_str(text: &str) -> Result<Self, PhaseError> {
        match text {
            "unix" => Ok(Self::PrivateUnix),
            "tcp" => Ok(Self::PrivateTcp),
            text => text.parse().map(Self::Phase),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase(phase) => phase.fmt(f),
            Self::PrivateUnix => f.write_str("unix"),
            Self::PrivateTcp => f.write_str("tcp"),
        }
    }
}

impl Endpoint {
    /// Another end of the same kind, which shares nothing with this one.
    pub(crate) fn alike(&self) -> Self {
        match self {
            Self::Phase(Phase::Unix(_)) => Self::PrivateUnix,
            Self::Phase(Phase::Tcp { .. }) => Self::PrivateTcp,
            other => other.clone(),
        }
    }

    /// Opens this end with the limits and timeouts of `config`.
    pub(crate) async fn open(&self, config: &Config) -> Result<Opened, Failure> {
        let mut limits = config.limits.clone();
        limits.publish_deadline = limits.publish_deadline.max(PUBLISH_DEADLINE);
        let config = config.clone().limits(limits);
        let (config, broker, directory) = match self {
            Self::Phase(phase) => (config.phase(phase.clone()), None, None),
            Self::PrivateTcp => {
                let directory = private_directory()?;
                let (config, broker) = private_port(config, directory.path()).await?;
                (config, Some(broker), Some(directory))
            }
            Self::PrivateUnix => {
                let directory = private_directory()?;
                let socket = format!("unix://{}", directory.path().join("bus.sock").display());
                let config = config
                    .phase(socket.parse()?)
                    .broker_mode(BrokerMode::Embedded);
                (config, None, Some(directory))
            }
        };
        Ok(Opened {
            bus: eventbus::open(&config).await?,
            _broker: broker,
            _directory: directory,
        })
    }
}

/// For this run's sockets and certificates.
pub(crate) fn private_directory() -> Result<TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("eventbus-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|reason| Failure::io("make a private directory", reason))
}

/// A broker at any free port of this machine, and the configuration of its clients.
async fn private_port(mut config: Config, directory: &Path) -> Result<(Config, Broker), Failure> {
    config.tls = Some(certs::private(directory)?);
    config.broker.unix.clear();
    config.broker.tcp = vec![(Ipv4Addr::LOCALHOST, 0).into()];
    let broker = eventbus::start_broker(&config)
        .await
        .map_err(|reason| Failure::io("start a broker", reason))?;
    let port = broker.addresses().first().and_then(Address::port);
    let phase = format!("tcp://127.0.0.1:{}", port.unwrap_or_default());
    let config = config
        .phase(phase.parse()?)
        .broker_mode(BrokerMode::External);
    Ok((config, broker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_phase_or_private() {
        assert_eq!("unix".parse(), Ok(Endpoint::PrivateUnix));
        assert_eq!("tcp".parse(), Ok(Endpoint::PrivateTcp));
        assert_eq!(
            "ipc:///run/x/bus.sock".parse(),
            Ok(Endpoint::Phase(Phase::Unix("/run/x/bus.sock".into())))
        );
        assert_eq!("shadow".parse::<Endpoint>(), Err(PhaseError::Shadow));
        assert_eq!(Endpoint::PrivateUnix.to_string(), "unix");
        for (end, alike) in [
            ("unix:///run/x/bus.sock", "unix"),
            ("tcp://host:1", "tcp"),
            ("in-process", "in-process"),
            ("tcp", "tcp"),
        ] {
            assert_eq!(end.parse::<Endpoint>().unwrap().alike().to_string(), alike);
        }
    }
}
