//! Configuration: defaults, a file, the environment, and what the program itself sets.
//!
//! The layers are figment's, so that a program can put its own flags on top; the errors are ours,
//! because a typing mistake in a deployment must name its key, its value and what is allowed, in
//! one sentence.
//!
//! Invariant: a [`Config`] that exists is valid; what is left to fail at `open` is the world.

pub(crate) mod environment;
mod error;
mod listen;
mod nearest;
mod operations;
mod raw;
mod rollout;
mod settings;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use eventbus_trait::Limits;
use eventbus_trait::rpc::Deadlines;
/// The layers of a configuration before they are read; see [`Config::figment`].
pub use figment::Figment;
use figment::providers::{Format, Toml};
use serde::{Deserialize, Serialize};

pub use error::ConfigError;
pub use listen::{AclRule, MetricsAddress};
pub use settings::{Flag, Layer, Setting, SettingValue, settings};

use crate::phase::{Phase, PhaseError};
use crate::rollout::Rollout;
use environment::Environment;
use raw::Raw;

/// The file that is read if it exists and `EVENTBUS_CONFIG` names no other.
pub const DEFAULT_FILE: &str = "eventbus.toml";
/// The environment variable that names another file, which then must exist.
pub const FILE_VARIABLE: &str = "EVENTBUS_CONFIG";

/// How a bus is opened.
///
/// [`Config::load`] takes, from weakest to strongest: the defaults, `eventbus.toml` in the working
/// directory (or the file that `EVENTBUS_CONFIG` names), and `EVENTBUS_*` variables, in which two
/// underscores lead into a table: `EVENTBUS_BROKER__MODE` is `mode` in `[broker]`. A program sets
/// its own flags on top, by [`Config::figment`] or by the methods here.
///
/// ```toml
/// phase = "shadow"                 # crossbeam, in-process, unix:///path, ipc:///path, shadow
/// primary = "crossbeam"            # only for phase = "shadow"
/// candidate = "unix:///run/x/bus.sock"
/// name = "collector"               # client name at the broker; without it a random one
///
/// [limits]
/// max_event_size = 1048576         # bytes
/// publish_deadline = "5s"
/// max_subscriptions = 16384
/// max_calls = 1024                 # calls of one handle under way at once
/// rate = 10000                     # events per second of each handle; without it no limit
/// burst = 10000                    # how many of them at once; without it a second's worth
///
/// [broker]
/// mode = "auto"                    # auto, embedded, external
/// max_connections = 100
/// timeout = "30s"                  # a client that is silent for longer is let go
/// rate = 10000                     # events per second of each client; without it no limit
/// unix = ["/run/x/bus.sock"]       # these only for a standalone broker
/// tcp = ["0.0.0.0:7777"]
/// metrics = "127.0.0.1:9100"
/// grace = "1s"                     # how long it lets go out what is on its way when it ends
///
/// [connect]
/// timeout = "5s"
/// wait = false                     # whether to wait for a broker that is not there yet
/// link_timeout = "60s"             # a subscriber that stays away for longer is given up
///
/// [observe]
/// listen = "127.0.0.1:9600"        # a page, /metrics and /healthz; without it nothing is served
///
/// [operations]                     # how long calls wait, for who asks: `Config::operations`
/// default = "5s"
/// health_check = "2s"              # and start_collection, stop_collection, update_config,
/// shutdown = "30s"                 # get_capabilities
/// [operations.methods]             # of the application's own services
/// hash = "60s"
///
/// [tls]                            # only for tcp://host:port, and needed there
/// ca = "certs/ca.pem"
/// cert = "certs/collector.pem"
/// key = "certs/collector.key"
/// server_name = "broker.example"   # if the host in the phase is not in the broker's certificate
/// crl = "certs/crl.pem"            # if certificates are revoked
///
/// [rollout]                        # with this table `phase` plays no part; see docs/rollout.md
/// phases = ["crossbeam", "in-process", "unix:///run/x/bus.sock"]
/// journal = "/var/lib/x/rollout"   # says which phase holds
/// admin = "/run/x/rollout.sock"    # where `eventbus rollout` finds it
/// mode = "manual"                  # manual, automatic
/// shadow = true                    # whether each phase is compared with the next before it is left
/// hold = "2s"                      # how long a cutover may hold publishers
/// fall_back = false                # whether it goes back when its gates have failed
///
/// [acl."collector-*"]              # once there is one, who is not named may do nothing
/// publish = ["events.#"]
/// subscribe = ["control.#"]
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// What the bus runs on.
    pub phase: Phase,
    /// Client name at a broker; without it the bus gets a random one.
    pub name: Option<String>,
    /// Limits that every phase keeps alike.
    pub limits: Limits,
    /// The embedded broker, and whether there is one.
    pub broker: Broker,
    /// How long opening a connection may take: 5 s.
    pub connect_timeout: Duration,
    /// Whether `open` waits, for ever, for a broker that is not there yet: no.
    pub wait: bool,
    /// How long a subscriber may stay away before what it has not confirmed is given up: 60 s.
    pub link_timeout: Duration,
    /// Where what the bus does can be seen.
    pub observe: Observe,
    /// How long calls wait, by operation, as [`Deadlines::of_collectors`]. The bus leaves each call the deadline that it has; this is
    /// for those who make calls, to be given to them with [`Deadlines::give`].
    pub operations: Deadlines,
    /// Certificates of a phase `tcp://host:port`, and of a broker that listens at a TCP port.
    pub tls: Option<Tls>,
    /// A rollout from one phase to another. With it, `phase` plays no part.
    pub rollout: Option<Rollout>,
    /// What clients may do at a broker that this process runs, by their names, or by beginnings of
    /// names with a final `*`. `None`, everybody may do everything; otherwise who is not named here
    /// may do nothing, so if it is empty nobody may do anything.
    pub acl: Option<BTreeMap<String, AclRule>>,
}

/// Where what a bus does can be seen: a page, `/observed.json`, `/metrics` and `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Observe {
    /// Where they are served, in plain HTTP without a password; nowhere, if not said. Setting it needs
    /// the feature `observe`.
    pub listen: Option<MetricsAddress>,
}

/// The files that TLS needs, all PEM. A relative path starts at the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// Certificates of the authorities whose word is taken for a peer.
    pub ca: PathBuf,
    /// This program's certificate; its DNS names are the client names that it may have.
    pub cert: PathBuf,
    /// The key of that certificate, which others must not be able to read.
    pub key: PathBuf,
    /// The name that the broker's certificate must be for, if it is not the host of the phase.
    pub server_name: Option<String>,
    /// Lists of revoked certificates.
    pub crl: Option<PathBuf>,
}

impl Tls {
    /// The three files that are always needed.
    #[must_use]
    pub fn new(ca: impl Into<PathBuf>, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            ca: ca.into(),
            cert: cert.into(),
            key: key.into(),
            server_name: None,
            crl: None,
        }
    }
}

/// The broker of a phase that has one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broker {
    /// Who runs it.
    pub mode: BrokerMode,
    /// Most connections that an embedded broker accepts: 100.
    pub max_connections: usize,
    /// How long a peer may be silent before it counts as gone: 30 s.
    pub timeout: Duration,
    /// How long a standalone broker that ends lets go out what is on its way: 1 s.
    pub grace: Duration,
    /// Events per second that each client may send to a broker that this process runs; as many as
    /// it can, if not said.
    pub rate: Option<u32>,
    /// UNIX sockets of a standalone broker.
    pub unix: Vec<PathBuf>,
    /// TCP ports of a standalone broker, always with TLS.
    pub tcp: Vec<SocketAddr>,
    /// Where a standalone broker serves `/healthz` and `/metrics`, if anywhere.
    pub metrics: Option<MetricsAddress>,
}

/// Who runs the broker behind a UNIX socket or a TCP port. In process it is always embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum BrokerMode {
    /// At a UNIX socket this process, unless somebody runs one there already; over TCP somebody
    /// else.
    #[default]
    Auto,
    /// This process; a broker that is there already is an error.
    Embedded,
    /// Somebody else; nothing there is an error.
    External,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            phase: Phase::default(),
            name: None,
            limits: Limits::default(),
            broker: Broker::default(),
            connect_timeout: Duration::from_secs(5),
            wait: false,
            link_timeout: Duration::from_secs(60),
            observe: Observe::default(),
            operations: Deadlines::of_collectors(),
            tls: None,
            rollout: None,
            acl: None,
        }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            mode: BrokerMode::Auto,
            max_connections: 100,
            timeout: Duration::from_secs(30),
            grace: Duration::from_secs(1),
            rate: None,
            unix: Vec::new(),
            tcp: Vec::new(),
            metrics: None,
        }
    }
}

impl Config {
    /// Defaults, then the file, then the environment.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, its value and what is allowed.
    pub fn load() -> Result<Self, ConfigError> {
        Self::from_figment(&Self::figment()?)
    }

    /// The layers of [`Config::load`], for a program that puts its own on top:
    ///
    /// ```
    /// use eventbus::{Config, Phase};
    /// let flags = [("phase", "in-process"), ("connect.timeout", "1s")];
    /// let figment = flags.into_iter().fold(Config::figment()?, |f, flag| f.merge(flag));
    /// assert_eq!(Config::from_figment(&figment)?.phase, Phase::InProcess);
    /// # Ok::<(), eventbus::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] if the file cannot be read.
    pub fn figment() -> Result<Figment, ConfigError> {
        let named = std::env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty());
        match named {
            Some(path) => Self::figment_from(Path::new(&path)),
            None if Path::new(DEFAULT_FILE).exists() => Self::figment_from(Path::new(DEFAULT_FILE)),
            None => Ok(Figment::new().merge(Environment)),
        }
    }

    /// As [`figment`](Self::figment), with this file instead of the one that the environment or
    /// the working directory has.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] if the file cannot be read.
    pub fn figment_from(file: &Path) -> Result<Figment, ConfigError> {
        Ok(merge_file(Figment::new(), file)?.merge(Environment))
    }

    /// Reads a configuration from any figment; keys that it lacks have their defaults.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, its value and what is allowed.
    pub fn from_figment(figment: &Figment) -> Result<Self, ConfigError> {
        let raw: Raw = figment
            .extract()
            .map_err(|error| ConfigError::from_figment(figment, error))?;
        raw.check(figment)
    }

    /// Sets the phase.
    #[must_use]
    pub fn phase(mut self, phase: Phase) -> Self {
        self.phase = phase;
        self
    }

    /// Sets the phase to a shadow of two others.
    ///
    /// # Errors
    /// [`PhaseError`] if the two cannot stand side by side.
    pub fn shadow(self, primary: Phase, candidate: Phase) -> Result<Self, PhaseError> {
        Ok(self.phase(Phase::shadow(primary, candidate)?))
    }

    /// Sets the client name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets who runs the broker.
    #[must_use]
    pub fn broker_mode(mut self, mode: BrokerMode) -> Self {
        self.broker.mode = mode;
        self
    }

    /// Sets how long opening a connection may take.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets whether opening waits for a broker that is not there yet.
    #[must_use]
    pub fn wait(mut self, wait: bool) -> Self {
        self.wait = wait;
        self
    }

    /// Sets the rollout.
    #[must_use]
    pub fn rollout(mut self, rollout: Rollout) -> Self {
        self.rollout = Some(rollout);
        self
    }

    /// Sets the certificates of a phase `tcp://host:port`.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }
}

/// Reads the file here rather than in figment, which takes a file that it cannot find for an
/// empty one and looks for it in the parent directories too.
fn merge_file(figment: Figment, path: &Path) -> Result<Figment, ConfigError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => match std::fs::read_to_string(path) {
            Ok(_) => Ok(figment.merge(Toml::file_exact(path))),
            Err(error) => Err(unreadable(path, &error.to_string())),
        },
        Ok(_) => Err(unreadable(path, "it is not a file")),
        Err(error) => Err(unreadable(path, &error.to_string())),
    }
}

fn unreadable(path: &Path, reason: &str) -> ConfigError {
    ConfigError::Unreadable {
        path: path.display().to_string(),
        reason: reason.to_owned(),
    }
}
