//! What a broker is told at its start.

#[cfg(feature = "tcp")]
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::{Acl, SocketError};
#[cfg(feature = "tcp")]
use crate::tls::{TlsError, TlsOptions};

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listener {
    /// At a UNIX socket, for processes of this user.
    Unix(PathBuf),
    /// At a TCP port, behind TLS, for clients with a certificate.
    #[cfg(feature = "tcp")]
    Tcp {
        /// Where; port 0 takes any, see [`Broker::addresses`](super::Broker::addresses).
        address: SocketAddr,
        /// Certificates of this end, and the authority of the clients'.
        tls: TlsOptions,
    },
}

/// How much one client may send.
///
/// A client over its rate is not refused: the broker reads from it as slowly as the rate says, so
/// that its own sending waits. An event counts one, and so do each topic of a subscription
/// and every other frame (acknowledgements among them), so a rate far below what its subscriptions receive starves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Events per second, in the long run.
    pub per_second: NonZeroU32,
    /// Events at once, after a time of silence.
    pub burst: NonZeroU32,
}

/// Options of [`Broker::start`](super::Broker::start).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BrokerOptions {
    /// Where to listen. Without any, only this process itself has a way in.
    pub listeners: Vec<Listener>,
    /// A client that sends nothing for 1.25 times this long is dropped, and so is one whose frame
    /// takes longer than this from its first byte to its last: 30 s.
    pub keepalive: Duration,
    /// From being accepted to being registered a client may take this long: 5 s.
    pub handshake_timeout: Duration,
    /// Most connections, and most sessions of this process beside them: 100.
    pub max_connections: usize,
    /// Longest frame in bytes, head not counted: 8 MiB.
    pub max_frame: usize,
    /// What each client may do: everything.
    pub acl: Acl,
    /// How much each client may send; as much as it can, if not said.
    pub rate: Option<RateLimit>,
    /// Frames that busrt queues for one client: 65,536. For a session of this process they are those
    /// in flight, which the credit of sessions keeps far below it; a connection's are taken out at
    /// once. busrt takes 16 bytes for each, at once, when a client comes.
    pub queue_frames: usize,
    /// Bytes that the broker keeps for one client that does not read, before it drops it: 288 MiB. A
    /// frame counts 256 bytes more than it has. A session lets others send it no more than 256 MiB.
    pub queue_bytes: usize,
    /// How long [`stop`](super::Broker::stop) waits for what is on its way to go out: 1 s.
    pub grace: Duration,
}

impl BrokerOptions {
    /// The defaults, listening nowhere.
    #[must_use]
    pub fn new() -> Self {
        Self {
            listeners: Vec::new(),
            keepalive: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(5),
            max_connections: 100,
            max_frame: 8 << 20,
            acl: Acl::default(),
            rate: None,
            queue_frames: 65_536,
            queue_bytes: 288 << 20,
            grace: Duration::from_secs(1),
        }
    }

    /// Makes `max_frame` large enough for events of this size, in bytes of payload, headers and
    /// correlation: headers travel as JSON, in which a byte may take six, and beside them there
    /// are the links.
    pub fn fit(&mut self, max_event_size: usize) {
        let largest = max_event_size.saturating_mul(6).saturating_add(2 << 20);
        self.max_frame = self.max_frame.max(largest);
    }
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a broker did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// A UNIX socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The certificates cannot be used.
    #[cfg(feature = "tcp")]
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A TCP port cannot be had.
    #[cfg(feature = "tcp")]
    #[error("cannot listen at `{address}`: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The broker's threads could not be started.
    #[error("cannot start the broker: {reason}")]
    Runtime {
        /// What the system said.
        reason: String,
    },
}
