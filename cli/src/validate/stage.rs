//! The bus to measure: its broker, and handles of it.
//!
//! A broker at a socket or a port is the program again, in a process of its own, as it is where
//! several processes share a bus; so it can be killed for real.
//!
//! Invariant: a broker of ours does not outlive this process, however that ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::conformance::Harness as _;
use ::conformance::fault::{BrokerProcess, Process, Reserved};
use ::conformance::phases::Running;
use eventbus::{BrokerMode, Config, EventBus, Limits, Phase};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::child::Part;
use super::plan::{Plan, Transport};
use super::stream::Pair;
use crate::certs;
use crate::failure::Failure;
use crate::place::Certificates;
use crate::shadow::endpoint::private_directory;

/// Where a broker of ours is to listen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Listen {
    Unix(PathBuf),
    Tcp(SocketAddr, Certificates),
}

/// What handles are opened of.
pub(super) enum Stage {
    /// Each `open` is a bus of its own.
    Alone(Box<Config>),
    /// A broker in a process of its own.
    Own(Box<Own>),
    /// Somebody else's.
    Elsewhere(Box<Running>),
}

pub(super) struct Own {
    config: Config,
    broker: BrokerProcess,
    /// How long it took to start.
    pub(super) started_in: Duration,
    /// Of its socket or its certificates.
    _directory: TempDir,
    /// Also while the broker is dead.
    _port: Option<Reserved>,
}

impl Stage {
    pub(super) fn new(plan: &Plan) -> Result<Self, Failure> {
        if let Some((_, place)) = &plan.against {
            let running = place
                .running()
                .map_err(|reason| Failure::io("reach the broker", reason))?;
            return Ok(Self::Elsewhere(Box::new(running)));
        }
        match plan.transport {
            Transport::Crossbeam => Ok(Self::alone(Phase::Crossbeam)),
            Transport::InProcess => Ok(Self::alone(Phase::InProcess)),
            Transport::Unix => {
                let directory = private_directory()?;
                let socket = directory.path().join("bus.sock");
                let config = Config::default().phase(Phase::Unix(socket.clone()));
                Self::own(config, Listen::Unix(socket), directory, None)
            }
            Transport::Tcp => {
                let directory = private_directory()?;
                let tls = certs::private(directory.path())?;
                let port =
                    Reserved::new().map_err(|reason| Failure::io("find a free port", reason))?;
                let address = port.address();
                let phase = format!("tcp://{address}");
                let config = Config::default().phase(phase.parse()?).tls(tls.clone());
                let listen = Listen::Tcp(address, tls.into());
                Self::own(config, listen, directory, Some(port))
            }
        }
    }

    fn alone(phase: Phase) -> Self {
        Self::Alone(Box::new(Config::default().phase(phase)))
    }

    fn own(
        config: Config,
        listen: Listen,
        directory: TempDir,
        port: Option<Reserved>,
    ) -> Result<Self, Failure> {
        let part = Part::Broker(listen).to_word()?;
        let program =
            std::env::current_exe().map_err(|reason| Failure::io("find this program", reason))?;
        let command = move || {
            let mut command = Command::new(&program);
            Part::tell(&mut command, &part);
            command
        };
        let began = Instant::now();
        let broker = BrokerProcess::speaking(command)
            .map_err(|reason| Failure::io("start a broker", reason))?;
        Ok(Self::Own(Box::new(Own {
            config: config.broker_mode(BrokerMode::External),
            broker,
            started_in: began.elapsed(),
            _directory: directory,
            _port: port,
        })))
    }

    /// A handle, as a process opens its first.
    pub(super) async fn open(&self) -> Result<Arc<dyn EventBus>, Failure> {
        match self {
            Self::Alone(config) => Ok(eventbus::open(config).await?),
            Self::Own(own) => Ok(eventbus::open(&own.config).await?),
            Self::Elsewhere(running) => {
                let rig = running.start(Limits::default()).await;
                let rig = rig.map_err(|reason| Failure::io("open a bus", reason))?;
                Ok(rig.bus())
            }
        }
    }

    /// Two handles of one bus; where processes share it, each is as a process of its own has it.
    pub(super) async fn pair(&self) -> Result<Pair, Failure> {
        let subscriber = self.open().await?;
        let publisher = match self {
            Self::Own(_) => self.open().await?,
            Self::Alone(_) | Self::Elsewhere(_) => subscriber.connect(None).await?,
        };
        Ok(Pair {
            publisher,
            subscriber,
        })
    }

    /// Kills the broker, calls `struck`, and starts the broker again; when it was killed, and how long
    /// until it listened.
    pub(super) fn strike(&mut self, struck: impl FnOnce()) -> Result<(Instant, Duration), Failure> {
        let killed = Instant::now();
        if let Self::Own(own) = self {
            own.broker.kill();
            struck();
            let started = own.broker.start();
            started.map_err(|reason| Failure::io("start the broker again", reason))?;
        }
        Ok((killed, killed.elapsed()))
    }

    pub(super) fn own_broker(&self) -> Option<&Process> {
        match self {
            Self::Own(own) => own.broker.process(),
            Self::Alone(_) | Self::Elsewhere(_) => None,
        }
    }
}
