//! A token bucket that may go into debt.
//!
//! A frame is charged once its head is known, whatever it costs; who owes waits until the debt is
//! paid. So the rate holds in the long run, and a frame of more events than the burst is no error.

use std::time::Duration;

use tokio::time::Instant;

use super::RateLimit;

#[derive(Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(limit: RateLimit, now: Instant) -> Self {
        Self {
            limit,
            tokens: f64::from(limit.burst.get()),
            at: now,
        }
    }

    /// Charges for so many events, and says how long to wait before they may go.
    pub(super) fn take(&mut self, events: u32) -> Option<Duration> {
        self.take_at(events, Instant::now())
    }

    fn take_at(&mut self, events: u32, now: Instant) -> Option<Duration> {
        let per_second = f64::from(self.limit.per_second.get());
        let earned = now.duration_since(self.at).as_secs_f64() * per_second;
        self.at = now;
        self.tokens = (self.tokens + earned).min(f64::from(self.limit.burst.get()));
        self.tokens -= f64::from(events);
        (self.tokens < 0.0).then(|| Duration::from_secs_f64(-self.tokens / per_second))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn a_burst_is_free_and_a_debt_is_paid_in_time() {
        let limit = RateLimit {
            per_second: NonZeroU32::new(10).unwrap(),
            burst: NonZeroU32::new(5).unwrap(),
        };
        let start = Instant::now();
        let mut bucket = Bucket::new(limit, start);
        assert_eq!(bucket.take_at(5, start), None);
        assert_eq!(bucket.take_at(10, start), Some(Duration::from_secs(1)));
        let paid = start + Duration::from_secs(1);
        assert_eq!(bucket.take_at(1, paid), Some(Duration::from_millis(100)));
        let rested = paid + Duration::from_secs(60);
        assert_eq!(
            bucket.take_at(5, rested),
            None,
            "no more than the burst is saved"
        );
        assert_eq!(bucket.take_at(1, rested), Some(Duration::from_millis(100)));
    }
}
