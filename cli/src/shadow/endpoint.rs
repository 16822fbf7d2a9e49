//! The two ends of a comparison.
//!
//! An end is a phase as the facade knows it, or `unix` alone: a socket in a private temporary
//! directory with a broker of its own, so that a comparison needs no preparation and leaves
//! nothing behind.

use std::fmt;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use eventbus::{BrokerMode, Config, EventBus, Phase, PhaseError};
use tempfile::TempDir;

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
}

/// One end, open.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) bus: Arc<dyn EventBus>,
    /// Where the private socket is; removed when the run is over.
    _directory: Option<TempDir>,
}

impl FromStr for Endpoint {
    type Err = PhaseError;

    fn from_str(text: &str) -> Result<Self, PhaseError> {
        match text {
            "unix" => Ok(Self::PrivateUnix),
            text => text.parse().map(Self::Phase),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase(phase) => phase.fmt(f),
            Self::PrivateUnix => f.write_str("unix"),
        }
    }
}

impl Endpoint {
    /// Opens this end with the limits and timeouts of `config`.
    pub(crate) async fn open(&self, config: &Config) -> Result<Opened, Failure> {
        let mut limits = config.limits.clone();
        limits.publish_deadline = limits.publish_deadline.max(PUBLISH_DEADLINE);
        let config = config.clone().limits(limits);
        let (config, directory) = match self {
            Self::Phase(phase) => (config.phase(phase.clone()), None),
            Self::PrivateUnix => {
                let directory = tempfile::Builder::new()
                    .prefix("eventbus-")
                    .permissions(Permissions::from_mode(0o700))
                    .tempdir()
                    .map_err(|reason| Failure::io("make a private directory", reason))?;
                let socket = format!("unix://{}", directory.path().join("bus.sock").display());
                let config = config
                    .phase(socket.parse()?)
                    .broker_mode(BrokerMode::Embedded);
                (config, Some(directory))
            }
        };
        Ok(Opened {
            bus: eventbus::open(&config).await?,
            _directory: directory,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_phase_or_a_private_socket() {
        assert_eq!("unix".parse(), Ok(Endpoint::PrivateUnix));
        assert_eq!(
            "ipc:///run/x/bus.sock".parse(),
            Ok(Endpoint::Phase(Phase::Unix("/run/x/bus.sock".into())))
        );
        assert_eq!("shadow".parse::<Endpoint>(), Err(PhaseError::Shadow));
        assert_eq!(Endpoint::PrivateUnix.to_string(), "unix");
    }
}
