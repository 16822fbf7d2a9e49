//! The bus of other programs, as an operator's commands come to it.
//!
//! They are guests: they run no broker, serve nothing, and have a name of their own, so that a
//! configuration that is a program's can be used while that program runs.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use eventbus::config::Flag;
use eventbus::{BrokerMode, Config, ConfigError, EventBus, Observe, OpenError, Phase};
use tokio::time::timeout;

use crate::args::absolute;
use crate::failure::Failure;

/// How long leaving may take: nothing of ours is on its way.
const LEAVING: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct RemoteArgs {
    /// The bus: `unix:PATH`, `tcp://host:port`, or `config` for the `phase` of the configuration
    #[arg(long, value_name = "URL", default_value = "config")]
    pub(crate) at: At,

    /// Read this file, and neither `eventbus.toml` nor the file that `EVENTBUS_CONFIG` names
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Certificates of the authorities whose word is taken for the broker [default: `tls.ca`]
    #[arg(long, value_name = "FILE.pem")]
    pub(crate) ca: Option<PathBuf>,

    /// The certificate to show to the broker [default: `tls.cert`]
    #[arg(long, value_name = "FILE.pem")]
    pub(crate) cert: Option<PathBuf>,

    /// The key of that certificate [default: `tls.key`]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// Client name at the broker, if it goes by names who may do what [default: one by chance, or
    /// over TCP one that the certificate entitles to]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum At {
    Config,
    Phase(Phase),
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "config" {
            return Ok(Self::Config);
        }
        // At a shell a path may be relative.
        let whole = match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() && !path.starts_with("//") => {
                format!("unix://{}", absolute(Path::new(path))?.display())
            }
            _ => text.to_owned(),
        };
        match whole.parse() {
            Ok(phase @ (Phase::Unix(_) | Phase::Tcp { .. })) => Ok(Self::Phase(phase)),
            Ok(_) | Err(eventbus::PhaseError::Unknown { .. }) => {
                Err("expected `unix:PATH`, `tcp://host:port` or `config`".to_owned())
            }
            Err(reason) => Err(reason.to_string()),
        }
    }
}

impl RemoteArgs {
    /// What a guest opens: only that of the configuration which is about the way there.
    pub(crate) fn configuration(&self) -> Result<Config, Failure> {
        let mut figment = match &self.config {
            Some(file) => Config::figment_from(file)?,
            None => Config::figment()?,
        };
        if let At::Phase(phase) = &self.at {
            figment = figment.merge(Flag::new("--at", "phase", phase.to_string()));
        }
        for (flag, key, file) in [
            ("--ca", "tls.ca", &self.ca),
            ("--cert", "tls.cert", &self.cert),
            ("--key", "tls.key", &self.key),
        ] {
            if let Some(file) = file {
                figment = figment.merge(Flag::new(flag, key, file));
            }
        }
        let mut config = Config::from_figment(&figment).map_err(Self::said)?;
        if let At::Phase(phase) = &self.at {
            config.phase = phase.clone();
            config.rollout = None;
        }
        if config.rollout.is_some() {
            return Err(Failure::Flags(
                "the configuration has a rollout, whose phase is its program's to say; give --at \
                 unix:PATH or --at tcp://host:port"
                    .to_owned(),
            ));
        }
        if let Phase::Shadow { primary, .. } = &config.phase {
            config.phase = (**primary).clone();
        }
        let tcp = matches!(config.phase, Phase::Tcp { .. });
        if !tcp && !matches!(config.phase, Phase::Unix(_)) {
            return Err(Failure::Flags(format!(
                "phase `{}` is inside its program, where nobody else can reach it; give --at \
                 unix:PATH or --at tcp://host:port, or set `phase`",
                config.phase
            )));
        }
        if tcp && config.tls.is_none() {
            let phase = config.phase.to_string();
            return Err(Failure::Open(OpenError::NoCertificates { phase }));
        }
        config.name.clone_from(&self.name);
        config.wait = false;
        config.limits.rate = None;
        config.observe = Observe::default();
        Ok(config.broker_mode(BrokerMode::External))
    }

    /// With the flags that mend it.
    fn said(reason: ConfigError) -> Failure {
        match reason {
            ConfigError::MissingTls { .. } => {
                Failure::Flags(format!("{reason}; --ca, --cert and --key do that"))
            }
            _ => Failure::Config(reason),
        }
    }
}

/// Comes to the bus.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn EventBus>, Failure> {
    Ok(eventbus::open(config).await?)
}

/// Leaves; what holds that up is the broker's to clear away.
pub(crate) async fn leave(bus: &dyn EventBus) {
    let _ = timeout(LEAVING, bus.shutdown()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_is_an_address_or_the_configurations() {
        let unix = |path: &str| Ok(At::Phase(Phase::Unix(path.into())));
        assert_eq!("config".parse(), Ok(At::Config));
        assert_eq!("unix:///run/x/bus.sock".parse(), unix("/run/x/bus.sock"));
        assert_eq!("ipc:///run/x/bus.sock".parse(), unix("/run/x/bus.sock"));
        assert_eq!("unix:/run/x/bus.sock".parse(), unix("/run/x/bus.sock"));
        let here = std::env::current_dir().unwrap().join("run/bus.sock");
        assert_eq!("unix:run/bus.sock".parse(), unix(here.to_str().unwrap()));
        for text in [
            "",
            "crossbeam",
            "in-process",
            "shadow",
            "unix:",
            "tcp://x",
            "x",
        ] {
            assert!(text.parse::<At>().is_err(), "{text:?}");
        }
    }
}
