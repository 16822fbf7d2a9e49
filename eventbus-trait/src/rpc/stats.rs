//! Counters of calls: what a handle has asked, and what its services have answered.

use serde::{Deserialize, Serialize};

/// Calls of one handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallStats {
    /// Calls begun.
    pub made: u64,
    /// Calls under way.
    pub outstanding: u64,
    /// Calls that ended with a reply.
    pub replied: u64,
    /// Calls that ended with an error.
    pub failed: u64,
    /// Calls whose future was dropped.
    pub cancelled: u64,
}

impl std::ops::AddAssign for CallStats {
    fn add_assign(&mut self, more: Self) {
        self.made += more.made;
        self.outstanding += more.outstanding;
        self.replied += more.replied;
        self.failed += more.failed;
        self.cancelled += more.cancelled;
    }
}

/// What one service that a handle serves has done. The numbers are the service's own, over all buses
/// that it is served on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceStats {
    /// The service.
    pub name: String,
    /// Calls admitted.
    pub admitted: u64,
    /// Calls refused because too many were there.
    pub busy: u64,
    /// Calls that wait for their turn.
    pub waiting: u64,
    /// Calls whose handler runs.
    pub running: u64,
    /// Most handlers that ran at once.
    pub most_running: u64,
    /// Calls whose handler replied.
    pub replied: u64,
    /// Calls whose handler said that it failed.
    pub failed: u64,
    /// Calls whose handler panicked.
    pub panicked: u64,
    /// Calls that ended before their handler did: cancelled, or out of time.
    pub dropped: u64,
}

impl ServiceStats {
    /// Whether each call that was admitted is in one counter. Only meaningful while none begins or
    /// ends.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        let ended = self.replied + self.failed + self.panicked + self.dropped;
        self.admitted == ended + self.waiting + self.running
    }
}
