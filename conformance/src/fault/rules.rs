//! What a proxy does to the bytes that pass it, and the count of what it has done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::Way;

/// Few bytes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trickle {
    /// Bytes in one write.
    pub bytes: usize,
    /// Time between two writes.
    pub every: Duration,
}

/// What is done to the bytes of every connection until it is changed. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Nothing goes up. Sockets stay open, and whatever is sent waits, as in a network that is
    /// partitioned and will heal.
    pub hold_up: bool,
    /// Nothing comes down. With both held, no new connection is answered either.
    pub hold_down: bool,
    /// Each piece waits this long before it goes on.
    pub delay: Option<Duration>,
    /// Each piece goes on in small ones.
    pub trickle: Option<Trickle>,
}

impl Rules {
    /// Everything waits, in both directions.
    #[must_use]
    pub fn partitioned() -> Self {
        Self {
            hold_up: true,
            hold_down: true,
            ..Self::default()
        }
    }

    /// Everything waits, in one direction.
    #[must_use]
    pub fn half_partitioned(way: Way) -> Self {
        Self {
            hold_up: way == Way::Up,
            hold_down: way == Way::Down,
            ..Self::default()
        }
    }

    pub(super) fn holds(&self, way: Way) -> bool {
        match way {
            Way::Up => self.hold_up,
            Way::Down => self.hold_down,
        }
    }
}

/// How often a proxy has really done something to a connection. A rule under which nothing came
/// past is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Struck {
    /// Connections reset.
    pub resets: u64,
    /// Times that bytes were waiting and were held back.
    pub held: u64,
    /// Pieces delayed.
    pub delayed: u64,
    /// Pieces cut into small ones.
    pub trickled: u64,
    /// Connections cut off in the middle of what was being sent.
    pub torn: u64,
    /// Bytes changed.
    pub corrupted: u64,
    /// Connections that could not be passed on, because nobody listened behind.
    pub unanswered: u64,
}

impl Struck {
    /// All of it but what was merely not answered.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.resets + self.held + self.delayed + self.trickled + self.torn + self.corrupted
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) resets: AtomicU64,
    pub(super) held: AtomicU64,
    pub(super) delayed: AtomicU64,
    pub(super) trickled: AtomicU64,
    pub(super) torn: AtomicU64,
    pub(super) corrupted: AtomicU64,
    pub(super) unanswered: AtomicU64,
}

impl Counts {
    pub(super) fn read(&self) -> Struck {
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Struck {
            resets: of(&self.resets),
            held: of(&self.held),
            delayed: of(&self.delayed),
            trickled: of(&self.trickled),
            torn: of(&self.torn),
            corrupted: of(&self.corrupted),
            unanswered: of(&self.unanswered),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}
