//! What is remembered of deliveries that are done with: enough to know a duplicate.
//!
//! Invariant: bounded; what falls out of it is remembered by its highest sequence alone.

use std::collections::VecDeque;

use super::slot::Slot;
use crate::class::Side;

/// How many sequences are remembered one by one.
const REMEMBERED: usize = 512;

#[derive(Debug, Default)]
pub(crate) struct History {
    entries: VecDeque<Entry>,
    /// The highest sequence that was ever remembered.
    highest: Option<u64>,
    /// The highest sequence that fell out.
    forgotten: Option<u64>,
    /// The highest sequence that was given up while a side could still deliver it.
    given_up: Option<u64>,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    seen: [bool; 2],
}

/// What an arrival is that belongs to no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    /// This side delivered it before.
    Duplicate,
    /// It is of a time that is not remembered one by one; most likely delivered before.
    Forgotten,
    /// It was given up before this side delivered it.
    GivenUp,
    /// It was never expected here.
    Unknown,
}

impl History {
    /// Remembers a slot that is done with.
    pub(crate) fn remember(&mut self, slot: &Slot) {
        if self.entries.len() == REMEMBERED
            && let Some(oldest) = self.entries.pop_front()
        {
            self.forgotten = self.forgotten.max(Some(oldest.sequence));
        }
        self.highest = self.highest.max(Some(slot.sequence));
        self.entries.push_back(Entry {
            sequence: slot.sequence,
            seen: slot.ends.map(|end| end.seen()),
        });
    }

    /// Remembers a slot that is given up for want of room.
    pub(crate) fn give_up(&mut self, slot: &Slot) {
        self.given_up = self.given_up.max(Some(slot.sequence));
        self.remember(slot);
    }

    /// What an arrival of `sequence` is. `first` is the first sequence ever expected.
    pub(crate) fn arrival(&mut self, side: Side, sequence: u64, first: Option<u64>) -> Past {
        if Some(sequence) > self.highest {
            return Past::Unknown;
        }
        let entry = self.entries.iter_mut().find(|e| e.sequence == sequence);
        if let Some(entry) = entry {
            return if std::mem::replace(&mut entry.seen[side.at()], true) {
                Past::Duplicate
            } else {
                Past::GivenUp
            };
        }
        if Some(sequence) <= self.given_up {
            return Past::GivenUp;
        }
        if first.is_some_and(|first| sequence >= first) && Some(sequence) <= self.forgotten {
            return Past::Forgotten;
        }
        Past::Unknown
    }
}
