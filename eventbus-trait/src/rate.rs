//! A limit on how fast one publisher publishes, which may be set (FLW-005).
//!
//! The whole state is one number, the time at which everything admitted so far will have been paid
//! for (the generic cell rate algorithm). So whoever has to wait reserves its turn: it knows at once
//! how long, is woken once, and nobody who comes later takes the turn away.
//!
//! Invariant: `due` grows by one interval for each event admitted and falls by one for each
//! admission that was given back, and nothing else changes it.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SECOND: u64 = 1_000_000_000;

/// Events that a publisher may publish, per second and at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Events per second, in the long run.
    pub per_second: NonZeroU32,
    /// Events that may come at once after a rest.
    pub burst: NonZeroU32,
}

impl Rate {
    /// So many events per second, a second's worth of them at once.
    #[must_use]
    pub fn per_second(events: NonZeroU32) -> Self {
        Self {
            per_second: events,
            burst: events,
        }
    }
}

/// Holds one publisher to a [`Rate`]: for backends, one for each handle.
#[derive(Debug)]
pub struct Throttle {
    began: Instant,
    /// Nanoseconds that each event costs.
    interval: u64,
    /// Nanoseconds that may be owed.
    slack: u64,
    /// When everything admitted will have been paid for, in nanoseconds since `began`.
    due: AtomicU64,
}

/// The right to publish one event. Dropping it gives it back, unless the event was published.
#[derive(Debug)]
#[must_use = "dropping an admission gives it back"]
pub struct Admission<'a>(Option<&'a Throttle>);

impl Throttle {
    /// A throttle that has rested.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let interval = SECOND.div_ceil(u64::from(rate.per_second.get()));
        Self {
            began: Instant::now(),
            interval,
            slack: interval * u64::from(rate.burst.get() - 1),
            due: AtomicU64::new(0),
        }
    }

    /// Admits an event now.
    ///
    /// # Errors
    /// How long to wait until one is admitted; never zero.
    pub fn admit(&self) -> Result<Admission<'_>, Duration> {
        self.reserve(Duration::ZERO).map(|(_, admission)| admission)
    }

    /// Admits an event after the wait that it returns, which is within `patience`. It may be
    /// published when that has passed.
    ///
    /// # Errors
    /// How long it would have to wait: longer than `patience`.
    pub fn reserve(&self, patience: Duration) -> Result<(Duration, Admission<'_>), Duration> {
        let now = nanoseconds(self.began.elapsed());
        self.reserve_at(now, nanoseconds(patience))
            .map(|wait| (Duration::from_nanos(wait), Admission(Some(self))))
            .map_err(Duration::from_nanos)
    }

    fn reserve_at(&self, now: u64, patience: u64) -> Result<u64, u64> {
        let mut due = self.due.load(Ordering::Relaxed);
        loop {
            let from = due.max(now);
            let wait = from.saturating_sub(now.saturating_add(self.slack));
            if wait > patience {
                return Err(wait);
            }
            match self.due.compare_exchange_weak(
                due,
                from.saturating_add(self.interval),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(wait),
                Err(other) => due = other,
            }
        }
    }

    fn give_back(&self) {
        self.due.fetch_sub(self.interval, Ordering::Relaxed);
    }
}

impl Admission<'_> {
    /// The event was published.
    pub fn used(mut self) {
        self.0 = None;
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if let Some(throttle) = self.0 {
            throttle.give_back();
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn throttle(per_second: u32, burst: u32) -> Throttle {
        Throttle::new(Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        })
    }

    #[test]
    fn a_burst_is_free_and_then_events_come_at_the_rate() {
        let throttle = throttle(10, 3);
        for _ in 0..3 {
            assert_eq!(throttle.reserve_at(0, 0), Ok(0));
        }
        assert_eq!(throttle.reserve_at(0, 0), Err(100 * MS));
        assert_eq!(throttle.reserve_at(60 * MS, 0), Err(40 * MS));
        assert_eq!(throttle.reserve_at(100 * MS, 0), Ok(0));
        let rested = 1_000_000 * MS;
        for _ in 0..3 {
            assert_eq!(throttle.reserve_at(rested, 0), Ok(0));
        }
        assert!(throttle.reserve_at(rested, 0).is_err(), "no more is saved");
    }

    #[test]
    fn who_waits_has_its_turn_and_who_would_wait_too_long_has_none() {
        let throttle = throttle(10, 1);
        assert_eq!(throttle.reserve_at(0, 0), Ok(0));
        assert_eq!(throttle.reserve_at(0, 250 * MS), Ok(100 * MS));
        assert_eq!(throttle.reserve_at(0, 250 * MS), Ok(200 * MS));
        assert_eq!(throttle.reserve_at(0, 250 * MS), Err(300 * MS));
        assert_eq!(
            throttle.reserve_at(100 * MS, 0),
            Err(200 * MS),
            "both turns are taken"
        );
    }

    #[test]
    fn what_is_not_used_is_given_back() {
        let throttle = throttle(1, 1);
        drop(throttle.admit().unwrap());
        let wait = {
            throttle.admit().unwrap().used();
            throttle.admit().unwrap_err()
        };
        assert!(
            !wait.is_zero() && wait <= Duration::from_secs(1),
            "{wait:?}"
        );
    }

    #[test]
    fn the_largest_rate_and_the_longest_patience_do_not_overflow() {
        let throttle = throttle(u32::MAX, u32::MAX);
        throttle.admit().unwrap().used();
        let slow = self::throttle(1, u32::MAX);
        let (wait, admission) = slow.reserve(Duration::MAX).unwrap();
        admission.used();
        assert_eq!(wait, Duration::ZERO);
    }

    proptest! {
        /// In any span of time there are at most a burst and what the rate earns in it.
        #[test]
        fn never_more_than_burst_and_rate(
            per_second in 1_u32..2_000, burst in 1_u32..50,
            steps in prop::collection::vec((0_u64..40 * MS, any::<bool>()), 1..200),
        ) {
            let throttle = throttle(per_second, burst);
            let (mut now, mut admitted) = (0, Vec::new());
            for (step, back) in steps {
                now += step;
                if throttle.reserve_at(now, 0).is_ok() {
                    if back {
                        throttle.give_back();
                    } else {
                        admitted.push(now);
                    }
                }
            }
            for (at, first) in admitted.iter().enumerate() {
                for (n, last) in admitted[at..].iter().enumerate() {
                    let earned = (last - first) / throttle.interval;
                    prop_assert!((n as u64) < u64::from(burst) + earned + 1);
                }
            }
        }
    }
}
