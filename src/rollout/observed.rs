//! What a stage has shown so far, and since when.

use std::time::{Duration, Instant};

use super::gate::Snapshot;
use super::status::Verdict;

#[derive(Debug)]
pub(crate) struct Evidence {
    begun: Instant,
    /// Events published before the stage began.
    before: u64,
    events: u64,
    last_event: Instant,
    decided: Instant,
    /// Evaluations in a row that passed.
    pub(crate) successes: u32,
    /// Evaluations that failed.
    pub(crate) failures: u32,
    /// Moves from here that the automatic mode has tried in vain.
    pub(crate) moves_failed: u32,
}

impl Evidence {
    /// A stage begins, after so many events.
    pub(crate) fn begin(published: u64) -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            before: published,
            events: 0,
            last_event: now,
            decided: now,
            successes: 0,
            failures: 0,
            moves_failed: 0,
        }
    }

    /// Adds what time says.
    pub(crate) fn complete(&mut self, snapshot: &mut Snapshot) {
        if !snapshot.shadowed {
            snapshot.events = snapshot.events.saturating_sub(self.before);
        }
        if snapshot.events > self.events {
            self.events = snapshot.events;
            self.last_event = Instant::now();
        }
        snapshot.lasted = self.begun.elapsed();
        snapshot.age = self.last_event.elapsed();
    }

    /// Takes in a verdict.
    pub(crate) fn judged(&mut self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Pass => {
                self.successes += 1;
                self.decided = Instant::now();
            }
            Verdict::Fail => {
                self.successes = 0;
                self.failures += 1;
                self.decided = Instant::now();
            }
            Verdict::Inconclusive | Verdict::Stale => self.successes = 0,
        }
        verdict
    }

    /// How long there has been no verdict.
    pub(crate) fn undecided_for(&self) -> Duration {
        self.decided.elapsed()
    }

    /// Begins to count anew.
    pub(crate) fn forget_verdicts(&mut self) {
        self.successes = 0;
        self.failures = 0;
        self.decided = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_count_in_a_row_and_failures_in_all() {
        let mut evidence = Evidence::begin(0);
        for verdict in [Verdict::Pass, Verdict::Fail, Verdict::Pass, Verdict::Pass] {
            evidence.judged(verdict);
        }
        assert_eq!((evidence.successes, evidence.failures), (2, 1));
        evidence.judged(Verdict::Inconclusive);
        assert_eq!((evidence.successes, evidence.failures), (0, 1));
        evidence.forget_verdicts();
        assert_eq!(evidence.failures, 0);
    }

    #[test]
    fn what_was_published_before_the_stage_is_not_its_evidence() {
        let mut evidence = Evidence::begin(100);
        let mut snapshot = Snapshot {
            events: 130,
            ..Snapshot::default()
        };
        evidence.complete(&mut snapshot);
        assert_eq!(snapshot.events, 30);
    }
}
