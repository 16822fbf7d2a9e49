//! What a busrt bus is told when it is opened.

use std::path::PathBuf;
use std::time::Duration;

use eventbus_trait::{ConnectError, Limits};

#[cfg(feature = "tcp")]
use crate::broker::Broker;
use crate::broker::{Acl, BrokerError, RateLimit, SocketError};
#[cfg(feature = "tcp")]
use crate::tls::{TlsError, TlsOptions};

/// Where the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// In this process.
    InProcess,
    /// At a UNIX socket.
    Unix(PathBuf),
    /// At a TCP port, behind TLS.
    #[cfg(feature = "tcp")]
    Tcp {
        /// Host name or address; an IPv6 address without its brackets.
        host: String,
        /// Port; 0 takes any, for a broker that this process runs.
        port: u16,
        /// Certificates of this end; those of a broker that this process runs, too.
        tls: TlsOptions,
    },
}

impl Address {
    /// The TCP port, if it is at one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            #[cfg(feature = "tcp")]
            Self::Tcp { port, .. } => Some(*port),
            _ => None,
        }
    }

    /// Takes the port that a broker of this process has got, in case it was asked for any.
    #[cfg(feature = "tcp")]
    pub(crate) fn take_port(&mut self, broker: Option<&Broker>) {
        let bound = broker.and_then(|broker| broker.addresses().first()?.port());
        if let (Self::Tcp { port, .. }, Some(bound)) = (self, bound) {
            *port = bound;
        }
    }
}

/// Who runs the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BrokerMode {
    /// This process, unless another one does already.
    #[default]
    Auto,
    /// This process; it is an error if another one does already.
    Embedded,
    /// Another process.
    External,
}

/// Options of [`open`](crate::open).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Where the broker is.
    pub address: Address,
    /// Who runs it. In process it is always this process.
    pub broker: BrokerMode,
    /// Client name on the broker: 1 to 64 of `A-Z a-z 0-9 _ -`, not beginning with `eb-` and without
    /// `--in-`. Without it a random one.
    pub name: Option<String>,
    /// Which bus on the broker, if others have one there: 1 to 16 of `A-Z a-z 0-9`. Members of one
    /// namespace see and wait for each other only; `None` is the one that all others are in. It is
    /// no secret and no border: whoever may be on the broker may be in any.
    ///
    /// It takes room in the client name, which `--in-` and the namespace end, and its topics begin
    /// otherwise on the broker: see `docs/wire-format.md`.
    pub namespace: Option<String>,
    /// Limits of the bus.
    pub limits: Limits,
    /// How long connecting, and every exchange with a peer, may take: 5 s.
    pub connect_timeout: Duration,
    /// How long the broker puts up with a silent client: 30 s. Clients ping often enough.
    pub keepalive: Duration,
    /// Most sessions on a broker that this process runs: 100.
    pub max_connections: usize,
    /// What others may do at a broker that this process runs: everything.
    pub acl: Acl,
    /// How much each of them may send; as much as it can, if not said.
    pub rate: Option<RateLimit>,
    /// How long a subscriber may stay away before what it has not confirmed is given up, counted
    /// and logged: 60 s. It runs only while this process is connected itself.
    pub link_timeout: Duration,
    /// The pauses between attempts to connect again.
    pub backoff: Backoff,
    /// Whether [`open`](crate::open) waits for a broker that is not there yet, for ever: no.
    pub wait: bool,
}

/// Pauses that double from `first` to `most`, each lengthened by a random part of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause: 100 ms.
    pub first: Duration,
    /// The longest: 30 s.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            most: Duration::from_secs(30),
        }
    }
}

impl Options {
    /// The defaults for an address.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self {
            address,
            broker: BrokerMode::default(),
            name: None,
            namespace: None,
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(5),
            keepalive: Duration::from_secs(30),
            max_connections: 100,
            acl: Acl::default(),
            rate: None,
            link_timeout: Duration::from_secs(60),
            backoff: Backoff::default(),
            wait: false,
        }
    }
}

/// Why a busrt bus was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// This process cannot be the broker.
    #[error(transparent)]
    Socket(SocketError),
    /// The certificates cannot be used.
    #[cfg(feature = "tcp")]
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The broker did not start, for another reason.
    #[error(transparent)]
    Broker(BrokerError),
    /// This process cannot be a client.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The namespace is not one.
    #[error("namespace `{namespace}` is not 1 to 16 of A-Z a-z 0-9")]
    Namespace {
        /// The namespace.
        namespace: String,
    },
    /// The session's runtime could not be started.
    #[error("cannot start threads: {reason}")]
    Runtime {
        /// What the system said.
        reason: String,
    },
}

impl From<BrokerError> for OpenError {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Socket(error) => Self::Socket(error),
            #[cfg(feature = "tcp")]
            BrokerError::Tls(error) => Self::Tls(error),
            other => Self::Broker(other),
        }
    }
}

/// Longest client name on a broker.
pub(crate) const LONGEST_NAME: usize = 64;

/// Whether a client may have this name on a broker, where it may have a namespace or be the broker's
/// own. A dot in a name costs the broker time and memory
/// exponentially, a NUL forges a sender, `%%` takes over another client's name.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(allowed)
}
