//! How long calls wait, by the operation that they ask for.
//!
//! A health check that takes a second is a symptom, a shutdown that takes a minute may be none; so one
//! deadline for all calls is either too long or too short. Which is which belongs to the deployment, and
//! the facade reads it from configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use super::call::{Call, DEFAULT_DEADLINE};

/// A deadline for each operation that has one of its own, and one for all others.
///
/// ```
/// use std::time::Duration;
/// use eventbus_trait::rpc::{Call, Deadlines};
/// let deadlines = Deadlines::new(Duration::from_secs(5))
///     .with("health_check", Duration::from_secs(1));
/// let call = deadlines.give(Call::new("procmond", "health_check", ""));
/// assert_eq!(call.deadline, Duration::from_secs(1));
/// assert_eq!(deadlines.of("shutdown"), Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    others: Duration,
    by_method: BTreeMap<String, Duration>,
}

impl Deadlines {
    /// The same deadline for all operations.
    #[must_use]
    pub fn new(others: Duration) -> Self {
        Self {
            others,
            by_method: BTreeMap::new(),
        }
    }

    /// What suits the operations of a collector: 2 s for a health check, 35 s for what changes something,
    /// which collectors cut off after 30 s, 30 s for a shutdown, and 5 s for the rest.
    #[must_use]
    pub fn of_collectors() -> Self {
        let change = Duration::from_secs(35);
        Self::default()
            .with("health_check", Duration::from_secs(2))
            .with("start_collection", change)
            .with("stop_collection", change)
            .with("update_config", change)
            .with("shutdown", Duration::from_secs(30))
    }

    /// Gives one operation a deadline of its own; a later one replaces it.
    #[must_use]
    pub fn with(mut self, method: impl Into<String>, deadline: Duration) -> Self {
        self.by_method.insert(method.into(), deadline);
        self
    }

    /// Sets the deadline of the operations that have none of their own.
    #[must_use]
    pub fn for_others(mut self, deadline: Duration) -> Self {
        self.others = deadline;
        self
    }

    /// How long a call of this method waits.
    #[must_use]
    pub fn of(&self, method: &str) -> Duration {
        self.by_method.get(method).copied().unwrap_or(self.others)
    }

    /// How long a call waits whose operation has no deadline of its own.
    #[must_use]
    pub fn others(&self) -> Duration {
        self.others
    }

    /// The operations that have a deadline of their own, by name.
    pub fn own(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.by_method
            .iter()
            .map(|(method, deadline)| (method.as_str(), *deadline))
    }

    /// The call with the deadline of its method, in place of the one that it had.
    #[must_use]
    pub fn give(&self, call: Call) -> Call {
        let deadline = self.of(&call.method);
        call.deadline(deadline)
    }
}

/// [`DEFAULT_DEADLINE`] for all.
impl Default for Deadlines {
    fn default() -> Self {
        Self::new(DEFAULT_DEADLINE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn an_operation_has_its_own_deadline_or_the_one_of_the_others() {
        let deadlines = Deadlines::new(seconds(3))
            .with("shutdown", seconds(9))
            .with("shutdown", seconds(60));
        assert_eq!(deadlines.of("shutdown"), seconds(60));
        assert_eq!(deadlines.of("shutdown_now"), seconds(3));
        assert_eq!(deadlines.others(), seconds(3));
        assert_eq!(
            deadlines.own().collect::<Vec<_>>(),
            [("shutdown", seconds(60))]
        );
        let deadlines = deadlines.for_others(seconds(4));
        assert_eq!(
            (deadlines.of("hash"), deadlines.of("shutdown")),
            (seconds(4), seconds(60))
        );
        assert_eq!(Deadlines::default().of("shutdown"), DEFAULT_DEADLINE);
    }

    #[test]
    fn a_call_gets_the_deadline_of_its_method_and_keeps_the_rest() {
        let deadlines = Deadlines::new(seconds(3)).with("hash", seconds(9));
        let call = Call::new("s", "hash", "x")
            .idempotent()
            .deadline(seconds(1));
        let given = deadlines.give(call.clone());
        assert_eq!(given, call.deadline(seconds(9)));
    }
}
