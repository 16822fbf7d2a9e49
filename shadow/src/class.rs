//! The classes that an expected delivery can end in, and the counts of them.
//!
//! An expected delivery is one event for one subscription. It begins in flight and ends in exactly
//! one class; the only changes after that are from missing to late or reordered, when what was
//! given up comes after all.
//!
//! Invariant, at every instant: `expected = matched + ignored + missing + late + reordered +
//! differs + unverified + in_flight`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::interleaving::Inversions;

/// One of the two buses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The bus that the application sees.
    Primary,
    /// The bus on trial.
    Candidate,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Primary => Self::Candidate,
            Self::Candidate => Self::Primary,
        }
    }

    pub(crate) fn at(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Candidate => "candidate",
        })
    }
}

/// Why a delivery was not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The publish was cancelled by the application, so that the event may or may not be out.
    Cancelled,
    /// A side says that it dropped the event: an `AtMostOnce` event, or a subscription that may
    /// lose events.
    Lagged,
    /// The event was published while another of its topic was being published through the same
    /// handle, and did not wait for its turn, so that no order is due.
    Unordered,
    /// The subscription was being made or ended while the event was published.
    Changing,
    /// The application ended the subscription before it had read the event.
    Unsubscribed,
    /// The queue to the candidate was full.
    QueueFull,
    /// The event was in flight for longer than the comparison can remember.
    Window,
    /// The subscription has more streams than the comparison keeps.
    Streams,
    /// The candidate refused the event.
    Refused,
    /// The candidate could not be connected to or subscribed on, panicked, or went away.
    Unavailable,
    /// The payload is a typed value that could not be encoded.
    Unreadable,
    /// Neither side delivered the event.
    Neither,
    /// The bus was shut down first.
    Shutdown,
    /// The candidate was detached before the application had read the event.
    Detached,
    /// A side delivered more than what is due and remembered, of what cannot be told apart: events
    /// that there was no room for on the primary, or no stream, or that an earlier candidate was
    /// given. Each counts as one that was expected.
    Unplaced,
    /// The hook that compares payloads failed.
    HookFailed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::Cancelled,
        Self::Lagged,
        Self::Unordered,
        Self::Changing,
        Self::Unsubscribed,
        Self::QueueFull,
        Self::Window,
        Self::Streams,
        Self::Refused,
        Self::Unavailable,
        Self::Unreadable,
        Self::Neither,
        Self::Shutdown,
        Self::Detached,
        Self::Unplaced,
        Self::HookFailed,
    ];

    /// Whether the application's own doing explains it: nothing was due to be compared. The other
    /// reasons leave something unsaid about the candidate.
    #[must_use]
    pub fn is_explained(self) -> bool {
        matches!(
            self,
            Self::Cancelled
                | Self::Lagged
                | Self::Unordered
                | Self::Changing
                | Self::Unsubscribed
                | Self::Detached
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "publish cancelled",
            Self::Lagged => "dropped as allowed",
            Self::Unordered => "published out of turn",
            Self::Changing => "subscription changing",
            Self::Unsubscribed => "unsubscribed before read",
            Self::QueueFull => "queue full",
            Self::Window => "window too small",
            Self::Streams => "too many streams",
            Self::Refused => "refused by the candidate",
            Self::Unavailable => "candidate unavailable",
            Self::Unreadable => "payload not readable",
            Self::Neither => "delivered by neither",
            Self::Shutdown => "shut down",
            Self::Detached => "detached before read",
            Self::Unplaced => "delivered beyond what is due",
            Self::HookFailed => "compare hook failed",
        })
    }
}

/// What an expected delivery is, or has ended as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Open,
    Matched,
    Ignored,
    Missing(Side),
    Late,
    Reordered,
    Differs,
    Unverified(Reason),
}

/// How many deliveries are in each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) expected: u64,
    pub(crate) open: u64,
    /// Of the open and missing ones, those that the candidate may still deliver.
    pub(crate) awaited: u64,
    /// Streams on which the candidate was given something since the last marker came through.
    pub(crate) unmarked: u64,
    pub(crate) matched: u64,
    /// Of the matched ones, those whose contents were not compared.
    pub(crate) unsampled: u64,
    pub(crate) ignored: u64,
    pub(crate) missing: u64,
    pub(crate) late: u64,
    pub(crate) reordered: u64,
    pub(crate) differs: u64,
    unverified: [u64; Reason::ALL.len()],
    /// Arrivals beyond the expected ones, which are in no class.
    pub(crate) duplicates: u64,
    pub(crate) phantoms: u64,
    /// Pairs of deliveries, which are in no class either.
    pub(crate) inversions: Inversions,
}

impl Counts {
    pub(crate) fn of(&mut self, class: Class) -> &mut u64 {
        match class {
            Class::Open => &mut self.open,
            Class::Matched => &mut self.matched,
            Class::Ignored => &mut self.ignored,
            Class::Missing(_) => &mut self.missing,
            Class::Late => &mut self.late,
            Class::Reordered => &mut self.reordered,
            Class::Differs => &mut self.differs,
            Class::Unverified(reason) => &mut self.unverified[reason as usize],
        }
    }

    pub(crate) fn unverified(&self) -> u64 {
        self.unverified.iter().sum()
    }

    pub(crate) fn by_reason(&self) -> BTreeMap<Reason, u64> {
        Reason::ALL
            .into_iter()
            .map(|reason| (reason, self.unverified[reason as usize]))
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            expected,
            open,
            awaited,
            unmarked,
            matched,
            unsampled,
            ignored,
            missing,
            late,
            reordered,
            differs,
            unverified,
            duplicates,
            phantoms,
            inversions,
        } = other;
        self.inversions.pairs += inversions.pairs;
        self.inversions.inverted += inversions.inverted;
        self.expected += expected;
        self.open += open;
        self.awaited += awaited;
        self.unmarked += unmarked;
        self.matched += matched;
        self.unsampled += unsampled;
        self.ignored += ignored;
        self.missing += missing;
        self.late += late;
        self.reordered += reordered;
        self.differs += differs;
        for (sum, n) in self.unverified.iter_mut().zip(unverified) {
            *sum += n;
        }
        self.duplicates += duplicates;
        self.phantoms += phantoms;
    }

    /// Whether the law of this module holds.
    #[cfg(test)]
    pub(crate) fn law_holds(&self) -> bool {
        self.expected
            == self.matched
                + self.ignored
                + self.missing
                + self.late
                + self.reordered
                + self.differs
                + self.unverified()
                + self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        let mut counts = Counts::default();
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            *counts.of(Class::Unverified(reason)) += at as u64 + 1;
        }
        assert_eq!(counts.by_reason().len(), Reason::ALL.len());
        assert_eq!(counts.unverified(), (1..=16u64).sum::<u64>());
    }
}
