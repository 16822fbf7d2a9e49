//! How fast a source goes: as fast as it can, or so many events a second.
//!
//! Events are owed by the clock, not by the number of ticks, so that a late tick is made up for.

use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior};

/// Most events published at once.
pub(super) const BATCH: usize = 256;
/// Time between two looks at what is owed.
const TICK: Duration = Duration::from_millis(5);

/// One publisher's pace.
#[derive(Debug)]
pub(super) struct Pace {
    /// Events per second, and when to look again.
    rate: Option<(f64, Interval)>,
    started: Instant,
    granted: u64,
}

impl Pace {
    /// One of `publishers` equal shares of `rate`; full speed without a rate.
    pub(super) fn new(rate: Option<u64>, publishers: u32) -> Self {
        let rate = rate.map(|rate| {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            (rate as f64 / f64::from(publishers), ticks)
        });
        Self {
            rate,
            started: Instant::now(),
            granted: 0,
        }
    }

    /// Waits until events are owed, and says how many: no more than `most`, and no more than a
    /// batch. They count as published.
    ///
    /// With a rate it waits for one look at most and may return zero, so that the caller notices
    /// the end of a slow source.
    pub(super) async fn due(&mut self, most: usize) -> usize {
        let most = most.min(BATCH);
        let Some((rate, ticks)) = &mut self.rate else {
            return most;
        };
        let owed = |granted: u64| {
            let owed = (*rate * self.started.elapsed().as_secs_f64()) as u64;
            usize::try_from(owed.saturating_sub(granted)).map_or(most, |due| due.min(most))
        };
        let mut due = owed(self.granted);
        if due == 0 {
            ticks.tick().await;
            due = owed(self.granted);
        }
        self.granted += due as u64;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn full_speed_is_a_batch_at_a_time() {
        let mut pace = Pace::new(None, 3);
        assert_eq!(pace.due(BATCH).await, BATCH);
    }

    #[tokio::test]
    async fn a_rate_is_shared_and_never_exceeded() {
        let mut pace = Pace::new(Some(2_000), 2);
        let mut granted = 0;
        while granted < 50 {
            granted += pace.due(BATCH).await;
            assert!(granted as f64 <= 1_000.0 * pace.started.elapsed().as_secs_f64());
        }
    }
}
