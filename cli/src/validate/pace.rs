//! When each event is due.
//!
//! A latency is counted from when its event was due, and not from when the publisher got to it: else
//! a bus that holds its publisher up would be measured only while it does not (coordinated
//! omission). So the publisher must not be late by itself: it rests while there is time, and looks
//! at the clock, giving way to others, for the last bit, because no timer of the system wakes
//! anybody that precisely.

use std::time::{Duration, Instant};

/// How late the system may wake who rests.
const SLACK: Duration = Duration::from_micros(150);

/// So many events a second, from a moment on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    rate: u32,
}

impl Pace {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate: rate.max(1) }
    }

    /// When event `number` is due, from the first on.
    pub(super) fn due(self, number: u64) -> Duration {
        let rate = u64::from(self.rate);
        let rest = number % rate * 1_000_000_000 / rate;
        Duration::from_secs(number / rate) + Duration::from_nanos(rest)
    }

    /// Keeps this thread until event `number` is due.
    pub(super) fn wait(self, began: Instant, number: u64) {
        let due = began + self.due(number);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match left.checked_sub(SLACK) {
                Some(rest) if !rest.is_zero() => std::thread::park_timeout(rest),
                _ => std::thread::yield_now(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_due_by_its_number_alone() {
        let pace = Pace::new(3);
        assert_eq!(pace.due(0), Duration::ZERO);
        assert_eq!(pace.due(1), Duration::from_nanos(333_333_333));
        assert_eq!(pace.due(3), Duration::from_secs(1));
        assert_eq!(pace.due(300_000_000), Duration::from_secs(100_000_000));
    }

    #[test]
    fn nothing_is_published_before_it_is_due() {
        let (pace, began) = (Pace::new(1_000), Instant::now());
        for number in 0..20 {
            pace.wait(began, number);
            assert!(began.elapsed() >= pace.due(number));
        }
    }
}
