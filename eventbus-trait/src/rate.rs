//! A limit on how fast one publisher publishes, which may be set (FLW-005).
//!
//! The whole state is one number, the time at which everything admitted so far will have been paid
//! for (the generic cell rate algorithm). So whoever has to wait reserves its turn: it knows at once
//! how long, is woken once, and nobody who comes later takes the turn away.
//!
//! Invariant: `due` grows by one interval for each event admitted, and falls by one only while the
//! last of these is given back. So no two have the same turn, and what was given back too late, after
//! its turn had gone by unused, earns nothing.

use std::future::{Future, poll_fn};
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::watch;

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
    closed: watch::Sender<bool>,
}

/// The right to publish one event. It is spent, unless it is given back.
#[derive(Debug)]
#[must_use = "an admission is spent unless it is given back"]
pub struct Admission<'a> {
    throttle: &'a Throttle,
    /// What `due` was once it was admitted.
    due: u64,
}

/// An admission that gives itself back when it is dropped, unless it was used: for a publish that
/// may be refused or cancelled on its way.
#[derive(Debug)]
#[must_use = "dropping it gives the admission back"]
pub struct Held<'a>(Option<Admission<'a>>);

/// A turn: how long until it comes, and what is due after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    wait: u64,
    due: u64,
}

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
            closed: watch::Sender::new(false),
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
            .map(|turn| {
                let due = turn.due;
                let admission = Admission {
                    throttle: self,
                    due,
                };
                (Duration::from_nanos(turn.wait), admission)
            })
            .map_err(Duration::from_nanos)
    }

    /// Waits until `delay` is over, or until the throttle is closed, if that is sooner.
    pub async fn wait(&self, delay: impl Future<Output = ()>) {
        let mut closing = self.closed.subscribe();
        let mut closed = pin!(closing.wait_for(|closed| *closed));
        let mut delay = pin!(delay);
        poll_fn(|cx| {
            if closed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            delay.as_mut().poll(cx)
        })
        .await;
    }

    /// Ends every [`wait`](Self::wait), now and later: the handle is closed, and whoever waits for a
    /// turn has to be told so.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    fn reserve_at(&self, now: u64, patience: u64) -> Result<Turn, u64> {
        let mut due = self.due.load(Ordering::Relaxed);
        loop {
            let from = due.max(now);
            let wait = from.saturating_sub(now.saturating_add(self.slack));
            if wait > patience {
                return Err(wait);
            }
            let after = from.saturating_add(self.interval);
            match self
                .due
                .compare_exchange_weak(due, after, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(Turn { wait, due: after }),
                Err(other) => due = other,
            }
        }
    }

    /// Gives a turn back if nobody has come after it. Were it given back later, the last turn would
    /// be given out twice, or one that has gone by would be.
    fn give_back(&self, due: u64) {
        let before = due.saturating_sub(self.interval);
        // Fails if somebody has come; then the turn is lost, and the rate is kept.
        let _ = self
            .due
            .compare_exchange(due, before, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl<'a> Admission<'a> {
    /// The event was not published: the next one may have the turn, unless somebody waits behind it
    /// already.
    pub fn give_back(self) {
        self.throttle.give_back(self.due);
    }

    /// Gives it back when that is dropped without having been used.
    pub fn held(self) -> Held<'a> {
        Held(Some(self))
    }
}

impl Held<'_> {
    /// The event was published.
    pub fn used(mut self) {
        self.0 = None;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(admission) = self.0.take() {
            admission.give_back();
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

    fn wait_at(throttle: &Throttle, now: u64, patience: u64) -> Result<u64, u64> {
        throttle.reserve_at(now, patience).map(|turn| turn.wait)
    }

    #[test]
    fn a_burst_is_free_and_then_events_come_at_the_rate() {
        let throttle = throttle(10, 3);
        for _ in 0..3 {
            assert_eq!(wait_at(&throttle, 0, 0), Ok(0));
        }
        assert_eq!(wait_at(&throttle, 0, 0), Err(100 * MS));
        assert_eq!(wait_at(&throttle, 60 * MS, 0), Err(40 * MS));
        assert_eq!(wait_at(&throttle, 100 * MS, 0), Ok(0));
        let rested = 1_000_000 * MS;
        for _ in 0..3 {
            assert_eq!(wait_at(&throttle, rested, 0), Ok(0));
        }
        assert!(wait_at(&throttle, rested, 0).is_err(), "no more is saved");
    }

    #[test]
    fn who_waits_has_its_turn_and_who_would_wait_too_long_has_none() {
        let throttle = throttle(10, 1);
        assert_eq!(wait_at(&throttle, 0, 0), Ok(0));
        assert_eq!(wait_at(&throttle, 0, 250 * MS), Ok(100 * MS));
        assert_eq!(wait_at(&throttle, 0, 250 * MS), Ok(200 * MS));
        assert_eq!(wait_at(&throttle, 0, 250 * MS), Err(300 * MS));
        assert_eq!(
            wait_at(&throttle, 100 * MS, 0),
            Err(200 * MS),
            "both turns are taken"
        );
    }

    #[test]
    fn what_is_not_used_is_given_back() {
        let throttle = throttle(1, 1);
        drop(throttle.admit().unwrap().held());
        throttle.admit().unwrap().give_back();
        let wait = {
            throttle.admit().unwrap().held().used();
            throttle.admit().unwrap_err()
        };
        assert!(
            !wait.is_zero() && wait <= Duration::from_secs(1),
            "{wait:?}"
        );
    }

    #[test]
    fn a_backend_that_says_nothing_keeps_the_rate() {
        let throttle = throttle(1, 1);
        drop(throttle.admit().unwrap());
        assert!(throttle.admit().is_err());
    }

    #[test]
    fn what_is_given_back_late_earns_nothing() {
        let throttle = throttle(10, 1);
        let first = throttle.reserve_at(0, 0).unwrap();
        assert_eq!(wait_at(&throttle, 500 * MS, 0), Ok(0));
        throttle.give_back(first.due);
        assert_eq!(
            wait_at(&throttle, 500 * MS, 0),
            Err(100 * MS),
            "its turn is over"
        );
        let second = throttle.reserve_at(500 * MS, 300 * MS).unwrap();
        assert_eq!(wait_at(&throttle, 500 * MS, 300 * MS), Ok(200 * MS));
        throttle.give_back(second.due);
        assert_eq!(
            wait_at(&throttle, 500 * MS, 300 * MS),
            Ok(300 * MS),
            "nobody shares a turn with who came after it"
        );
    }

    #[test]
    fn closing_ends_every_wait() {
        let throttle = throttle(1, 1);
        let mut waiting = pin!(throttle.wait(std::future::pending()));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        throttle.close();
        assert!(waiting.as_mut().poll(&mut cx).is_ready());
        let mut later = pin!(throttle.wait(std::future::pending()));
        assert!(later.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn the_largest_rate_and_the_longest_patience_do_not_overflow() {
        let throttle = throttle(u32::MAX, u32::MAX);
        drop(throttle.admit().unwrap());
        let slow = self::throttle(1, u32::MAX);
        let (wait, admission) = slow.reserve(Duration::MAX).unwrap();
        drop(admission);
        assert_eq!(wait, Duration::ZERO);
    }

    proptest! {
        /// In any span of time there are at most a burst and what the rate earns in it, whatever is
        /// given back, at once or late.
        #[test]
        fn never_more_than_burst_and_rate(
            per_second in 1_u32..2_000, burst in 1_u32..50,
            steps in prop::collection::vec(
                (0_u64..40 * MS, 0_u64..80 * MS, any::<Option<prop::sample::Index>>()), 1..200,
            ),
        ) {
            let throttle = throttle(per_second, burst);
            let (mut now, mut admitted) = (0, Vec::new());
            for (step, patience, back) in steps {
                now += step;
                if let Ok(turn) = throttle.reserve_at(now, patience) {
                    admitted.push((now + turn.wait, turn.due));
                }
                if let Some(back) = back.filter(|_| !admitted.is_empty()) {
                    let (_, due) = admitted.remove(back.index(admitted.len()));
                    throttle.give_back(due);
                }
            }
            let mut admitted: Vec<u64> = admitted.into_iter().map(|(at, _)| at).collect();
            admitted.sort_unstable();
            for (at, first) in admitted.iter().enumerate() {
                for (n, last) in admitted[at..].iter().enumerate() {
                    let earned = (last - first) / throttle.interval;
                    prop_assert!((n as u64) < u64::from(burst) + earned + 1);
                }
            }
        }
    }
}
