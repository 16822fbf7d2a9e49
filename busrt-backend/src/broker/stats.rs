//! What the front door counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The reasons, each with a short word for it: a value of a log's field, a label of a metric.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident => $word:literal,)*) => {
        /// Why a connection was not taken, or was ended, by the front door.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Reason {
            $($(#[$doc])* $reason,)*
        }

        impl Reason {
            const WORDS: &[&str] = &[$($word),*];

            pub(super) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => $word,)*
                }
            }
        }
    };
}

reasons! {
    /// The peer is of another user, or says not who it is.
    User => "user",
    /// There are as many connections as there may be.
    TooMany => "too_many",
    /// So many others came while it had not said who it is.
    Unfinished => "unfinished",
    /// The system gave no descriptor, or another resource, for it.
    Resources => "resources",
    /// It speaks something else, or another version.
    Protocol => "protocol",
    /// It hung up before it had a name.
    HungUp => "hung_up",
    /// It was not registered in time.
    HandshakeTimeout => "handshake_timeout",
    /// Its name is no name, or is the broker's own.
    Name => "name",
    /// Its name is not the one that it has proved to have.
    Identity => "identity",
    /// Its name is in use.
    NameInUse => "name_in_use",
    /// A frame of an operation that there is not.
    Operation => "operation",
    /// A frame longer than allowed.
    Length => "length",
    /// A frame with a topic, filter or target that is none, or with too many.
    Topic => "topic",
    /// A frame that did not come to its end in time.
    Stalled => "stalled",
    /// It does not read what it is sent.
    Deaf => "deaf",
}

/// What a broker has done so far, and what it holds now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BrokerStats {
    /// Connections now.
    pub connections: usize,
    /// Sessions in the directory now, those of this process included.
    pub sessions: usize,
    /// Connections accepted, refused ones included.
    pub accepted: u64,
    /// Connections refused, or ended for what they sent, by the reason that stands in the log too:
    /// `user`, `too_many`, `unfinished`, `resources`, `protocol`, `hung_up`, `handshake_timeout`, `name`, `identity`,
    /// `name_in_use`, `operation`, `length`, `topic`, `stalled`, `deaf`, and those of TLS.
    pub refused: BTreeMap<&'static str, u64>,
    /// Frames that were denied to a client whose connection stayed.
    pub denied: u64,
    /// Frames from clients.
    pub frames: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients, as far as they take them.
    pub bytes_out: u64,
    /// Accepting that failed, for want of descriptors mostly.
    pub accept_errors: u64,
    /// How long the directory has not gone round. It does several times a second; seconds here
    /// mean that the broker is stuck.
    pub silent: Duration,
}

impl BrokerStats {
    /// Every reason that may stand in [`refused`](Self::refused), for who wants to tell them before
    /// they have happened.
    pub fn reasons() -> impl Iterator<Item = &'static str> {
        #[cfg(feature = "tcp")]
        let of_tls = crate::tls::REFUSALS;
        #[cfg(not(feature = "tcp"))]
        let of_tls: &[&str] = &[];
        Reason::WORDS.iter().chain(of_tls).copied()
    }
}

/// A look at a broker that does not keep it from ending.
#[derive(Debug, Clone)]
pub struct Monitor(pub(super) Arc<Counters>);

impl Monitor {
    /// What the broker has done so far, also while it stops and afterwards.
    #[must_use]
    pub fn stats(&self) -> BrokerStats {
        self.0.snapshot()
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicUsize,
    pub(super) sessions: AtomicUsize,
    pub(super) accepted: AtomicU64,
    pub(super) denied: AtomicU64,
    pub(super) frames: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    /// Bytes on their way to clients that have not taken them yet.
    pub(super) unsent: AtomicUsize,
    pub(super) accept_errors: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    /// When the directory went round last.
    round: Mutex<Option<Instant>>,
}

impl Counters {
    /// The directory has gone round.
    pub(super) fn went_round(&self) {
        *self.round.lock() = Some(Instant::now());
    }

    pub(super) fn refuse(&self, reason: &'static str) {
        debug_assert!(
            BrokerStats::reasons().any(|known| known == reason),
            "{reason}"
        );
        *self.refused.lock().entry(reason).or_default() += 1;
    }

    pub(super) fn snapshot(&self) -> BrokerStats {
        BrokerStats {
            connections: self.connections.load(Relaxed),
            sessions: self.sessions.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
            refused: self.refused.lock().clone(),
            denied: self.denied.load(Relaxed),
            frames: self.frames.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            accept_errors: self.accept_errors.load(Relaxed),
            silent: self.round.lock().map_or(Duration::ZERO, |at| at.elapsed()),
        }
    }
}
