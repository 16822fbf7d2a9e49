//! Deliveries that are only counted: nothing about them is remembered.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::class::{Class, Counts, Reason};

/// Why a delivery is not tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Untracked {
    /// There was no room for the event in the queue to the candidate.
    QueueFull,
    /// There was no candidate to give it to.
    Unavailable,
    /// The application wants it ignored.
    Ignored,
    /// Its publish was dropped: nobody knows what became of it.
    Cancelled,
}

const ALL: [Untracked; 4] = [
    Untracked::QueueFull,
    Untracked::Unavailable,
    Untracked::Ignored,
    Untracked::Cancelled,
];

/// How many there are of each.
#[derive(Debug, Default)]
pub(crate) struct Tally([AtomicU64; ALL.len()]);

impl Untracked {
    fn class(self) -> Class {
        match self {
            Self::QueueFull => Class::Unverified(Reason::QueueFull),
            Self::Unavailable => Class::Unverified(Reason::Unavailable),
            Self::Ignored => Class::Ignored,
            Self::Cancelled => Class::Unverified(Reason::Cancelled),
        }
    }
}

impl Tally {
    pub(crate) fn add(&self, why: Untracked) {
        self.0[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes everything out, and returns it.
    pub(crate) fn take(&self) -> [u64; ALL.len()] {
        self.0.each_ref().map(|n| n.swap(0, Ordering::Relaxed))
    }

    pub(crate) fn add_all(&self, taken: [u64; ALL.len()]) {
        for (n, taken) in self.0.iter().zip(taken).filter(|(_, taken)| *taken > 0) {
            n.fetch_add(taken, Ordering::Relaxed);
        }
    }

    /// Adds all of them; returns how many there are.
    pub(crate) fn add_to(&self, counts: &mut Counts) -> u64 {
        let mut all = 0;
        for (n, why) in self.0.iter().zip(ALL) {
            let n = n.load(Ordering::Relaxed);
            *counts.of(why.class()) += n;
            all += n;
        }
        counts.expected += all;
        all
    }
}
