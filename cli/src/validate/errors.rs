//! Errors by kind: what publishing was refused for, and what handles have counted themselves.

use eventbus::{PublishError, Stats};
use serde::{Deserialize, Serialize};

/// How often each kind came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Errors {
    /// Refused: a subscription had no room until the deadline.
    pub(crate) backpressure: u64,
    /// Refused: over the rate limit.
    pub(crate) rate_limited: u64,
    /// Refused: no connection.
    pub(crate) disconnected: u64,
    /// Refused: not allowed.
    pub(crate) denied: u64,
    /// Refused: over the size limit.
    pub(crate) too_large: u64,
    /// Refused: the bus was closed.
    pub(crate) closed: u64,
    /// Refused for another reason.
    pub(crate) other: u64,
    /// Copies dropped for want of room.
    pub(crate) dropped: u64,
    /// Frames that could not be read.
    pub(crate) malformed: u64,
    /// Copies given up because a subscriber stayed away.
    pub(crate) given_up: u64,
    /// Shutdowns that could not confirm everything in time.
    pub(crate) unconfirmed: u64,
}

impl Errors {
    /// Counts a refusal; returns its reason.
    pub(super) fn refused<'a>(&mut self, reason: &'a PublishError) -> &'a PublishError {
        *match reason {
            PublishError::Backpressure { .. } => &mut self.backpressure,
            PublishError::RateLimited { .. } => &mut self.rate_limited,
            PublishError::Disconnected { .. } => &mut self.disconnected,
            PublishError::Denied { .. } => &mut self.denied,
            PublishError::TooLarge { .. } => &mut self.too_large,
            PublishError::Closed => &mut self.closed,
            _ => &mut self.other,
        } += 1;
        reason
    }

    /// Adds what a handle has counted.
    pub(super) fn counted(&mut self, stats: &Stats) {
        self.dropped += stats.dropped;
        self.malformed += stats.malformed;
        self.given_up += stats.given_up;
    }

    /// Adds another's.
    pub(super) fn add(&mut self, other: Self) {
        self.backpressure += other.backpressure;
        self.rate_limited += other.rate_limited;
        self.disconnected += other.disconnected;
        self.denied += other.denied;
        self.too_large += other.too_large;
        self.closed += other.closed;
        self.other += other.other;
        self.dropped += other.dropped;
        self.malformed += other.malformed;
        self.given_up += other.given_up;
        self.unconfirmed += other.unconfirmed;
    }

    /// Each kind with its name in the JSON document.
    pub(super) fn kinds(&self) -> [(&'static str, u64); 11] {
        [
            ("backpressure", self.backpressure),
            ("rate_limited", self.rate_limited),
            ("disconnected", self.disconnected),
            ("denied", self.denied),
            ("too_large", self.too_large),
            ("closed", self.closed),
            ("other", self.other),
            ("dropped", self.dropped),
            ("malformed", self.malformed),
            ("given_up", self.given_up),
            ("unconfirmed", self.unconfirmed),
        ]
    }

    pub(super) fn total(&self) -> u64 {
        self.kinds().iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_counted_added_and_named() {
        let mut errors = Errors::default();
        errors.refused(&PublishError::Closed);
        errors.refused(&PublishError::TooLarge { size: 2, limit: 1 });
        errors.counted(&Stats {
            dropped: 3,
            malformed: 4,
            given_up: 5,
            ..Stats::default()
        });
        let mut sum = errors;
        sum.add(errors);
        assert_eq!((errors.total(), sum.total()), (14, 28));
        let json = serde_json::to_value(errors).unwrap();
        assert_eq!(json.as_object().unwrap().len(), errors.kinds().len());
        for (name, count) in errors.kinds() {
            assert_eq!(json[name], count, "{name}");
        }
    }
}
