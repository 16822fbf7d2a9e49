//! Where brokers of the tests are, how to reach them, and the processes that do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::fault::{Clock, Place};
use crate::harness::Refusal;
use crate::peer::{Part, play};
use busrt_backend::broker::{Broker, BrokerOptions, Listener};
use busrt_backend::tls::TlsOptions;
use busrt_backend::{Address, Backoff, BrokerMode, OpenError, Options, open};
use eventbus_trait::{EventBus, Limits};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// Any free port of this machine.
pub(crate) const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What a broker is asked for the time by, and answers with.
pub(crate) const CLOCK: &str = "clock";
const PART: &str = "EVENTBUS_CONFORMANCE_PART";
const DOOR: &str = "EVENTBUS_CONFORMANCE_DOOR";
const BROKER: &str = "broker";

/// What is needed to listen or connect somewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Door {
    /// What its processes have for a wall clock, instead of the right one.
    #[serde(skip)]
    pub(crate) clock: Option<Clock>,
    pub(crate) at: At,
    pub(crate) keepalive: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum At {
    Unix(PathBuf),
    Tcp(SocketAddr, Files),
}

/// Authority, certificate, key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Files(PathBuf, PathBuf, PathBuf);

impl Files {
    pub(crate) fn of(certificate: crate::fault::Certificate) -> Self {
        Self(certificate.ca, certificate.cert, certificate.key)
    }

    pub(crate) fn tls(&self) -> TlsOptions {
        TlsOptions::new(&self.0, &self.1, &self.2)
    }
}

impl Door {
    pub(crate) fn options(&self, limits: Limits) -> Options {
        let address = match &self.at {
            At::Unix(path) => Address::Unix(path.clone()),
            At::Tcp(address, files) => Address::Tcp {
                host: address.ip().to_string(),
                port: address.port(),
                tls: files.tls(),
            },
        };
        let mut options = Options::new(address);
        options.broker = BrokerMode::External;
        options.limits = limits;
        options.keepalive = self.keepalive;
        options.backoff = Backoff {
            first: Duration::from_millis(20),
            most: Duration::from_millis(500),
        };
        options
    }

    fn listener(&self) -> Listener {
        match &self.at {
            At::Unix(path) => Listener::Unix(path.clone()),
            At::Tcp(address, files) => Listener::Tcp {
                address: *address,
                tls: files.tls(),
            },
        }
    }

    /// A broker in this process.
    pub(crate) async fn broker(&self) -> Result<Broker, String> {
        let mut options = BrokerOptions::new();
        options.keepalive = self.keepalive;
        options.listeners.push(self.listener());
        let broker = Broker::start(options).await;
        broker.map_err(|error| error.to_string())
    }

    pub(crate) async fn open(&self, limits: Limits) -> Result<Arc<dyn EventBus>, String> {
        let bus = self.open_with(self.options(limits)).await;
        bus.map_err(|error| error.to_string())
    }

    pub(crate) async fn open_with(&self, options: Options) -> Result<Arc<dyn EventBus>, Refusal> {
        match open(options).await {
            Ok(bus) => Ok(bus),
            Err(error) => Err(refusal(error)),
        }
    }

    /// This program as the broker there.
    pub(crate) fn broker_command(&self) -> Result<Command, String> {
        self.command(BROKER)
    }

    /// This program as another process on the bus.
    pub(crate) fn peer_command(&self, part: &Part) -> Result<Command, String> {
        self.command(&part.to_word())
    }

    fn command(&self, part: &str) -> Result<Command, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let door = serde_json::to_string(self).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.env(PART, part).env(DOOR, door);
        if let Some(clock) = &self.clock {
            clock.rule(&mut command);
        }
        Ok(command)
    }
}

/// A directory for sockets and keys.
pub(crate) fn private_directory() -> Result<TempDir, String> {
    let private = std::fs::Permissions::from_mode(0o700);
    let directory = tempfile::Builder::new().permissions(private).tempdir();
    directory.map_err(|error| error.to_string())
}

/// A place for one more to listen, beside `place`.
pub(crate) fn beside(place: &Place, directory: &TempDir, name: &str) -> Place {
    match place {
        Place::Unix(_) => Place::Unix(directory.path().join(name)),
        Place::Tcp(_) => Place::Tcp(LOCAL),
    }
}

/// If this process is one that a phase has started, as a broker, as a peer or to be killed over a
/// move: its whole life.
///
/// `main` of a program that runs clauses on [`phases`](super::phases) calls it before it does
/// anything else, and ends with what it returns.
#[must_use]
pub fn life_as_a_child() -> Option<ExitCode> {
    if let Some(ended) = super::moved::life_and_death() {
        return Some(ended);
    }
    let (part, door) = (std::env::var(PART).ok()?, std::env::var(DOOR).ok()?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let lived = match (runtime, serde_json::from_str(&door)) {
        (Ok(runtime), Ok(door)) => {
            let lived = runtime.block_on(live(&part, &door));
            runtime.shutdown_background();
            lived
        }
        (Err(error), _) => Err(error.to_string()),
        (_, Err(error)) => Err(error.to_string()),
    };
    Some(match lived {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{part}: {reason}");
            ExitCode::FAILURE
        }
    })
}

async fn live(part: &str, door: &Door) -> Result<(), String> {
    if part == BROKER {
        let broker = door.broker().await?;
        println!("ready");
        parent_is_gone().await;
        broker.stop().await;
        return Ok(());
    }
    let part = Part::from_word(part).ok_or("no such part")?;
    let mut options = door.options(Limits::default());
    options.name = part.client_name().map(str::to_owned);
    let bus = door.open_with(options).await;
    let bus = bus.map_err(|error| error.to_string())?;
    tokio::select! {
        played = play(bus, part, |line| println!("{line}")) => played,
        () = parent_is_gone() => Ok(()),
    }
}

/// A parent that ends closes its end, however it ended. Until then it may ask for the time.
async fn parent_is_gone() {
    let input = || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if line == CLOCK {
                println!("{CLOCK} {}", seconds_now());
            }
        }
    };
    let _ = tokio::task::spawn_blocking(input).await;
}

/// Why no bus was opened, as a clause can look at it.
pub(crate) fn refusal(error: OpenError) -> Refusal {
    match error {
        OpenError::Connect(error) => Refusal::Connect(error),
        other => Refusal::Other(other.to_string()),
    }
}

/// What this process's wall clock says, in seconds.
pub(crate) fn seconds_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}
