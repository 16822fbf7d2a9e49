//! What all sources share: how much is still wanted, and the way onto the bus.
//!
//! Several publishers feed at the same time, so the count of events is claimed before they are
//! published: `--events N` publishes exactly N, whoever publishes them.
//!
//! Invariant: the claims granted sum up to at most the limit, and every event claimed is published
//! or the run fails.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eventbus::{Event, EventBus};
use tracing::info;

use super::recording::Recorder;
use crate::failure::Failure;

/// When a source ends.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds {
    pub(crate) events: Option<u64>,
    pub(crate) duration: Option<Duration>,
}

/// The shared state of one run's publishers.
#[derive(Debug)]
pub(crate) struct Feed {
    bounds: Bounds,
    started: Instant,
    /// Events asked for, beyond the limit too.
    claimed: AtomicU64,
    published: AtomicU64,
    cancelled: AtomicBool,
    finished: AtomicBool,
    recorder: Option<Mutex<Recorder>>,
}

impl Feed {
    pub(crate) fn new(bounds: Bounds, recorder: Option<Recorder>) -> Self {
        Self {
            bounds,
            started: Instant::now(),
            claimed: AtomicU64::new(0),
            published: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            recorder: recorder.map(Mutex::new),
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Events that the bus has taken.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Ends the source before its time.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the source was ended before its time.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Whether the time is up or the source was cancelled.
    pub(crate) fn is_over(&self) -> bool {
        self.is_cancelled()
            || self
                .bounds
                .duration
                .is_some_and(|duration| self.elapsed() >= duration)
    }

    /// Claims up to `wanted` events; zero once nothing more is to be published.
    pub(crate) fn claim(&self, wanted: usize) -> usize {
        if self.is_over() {
            return 0;
        }
        let Some(limit) = self.bounds.events else {
            return wanted;
        };
        let before = self.claimed.fetch_add(wanted as u64, Ordering::Relaxed);
        let left = usize::try_from(limit.saturating_sub(before)).unwrap_or(usize::MAX);
        wanted.min(left)
    }

    /// Publishes events that have been claimed, in order, as publisher number `publisher`.
    pub(crate) async fn publish(
        &self,
        bus: &Arc<dyn EventBus>,
        publisher: u32,
        events: Vec<Event>,
    ) -> Result<(), Failure> {
        if let Some(recorder) = &self.recorder {
            recorder
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write(publisher, self.elapsed(), &events)?;
        }
        let count = events.len() as u64;
        bus.publish_batch(events).await?;
        if self.published.fetch_add(count, Ordering::Relaxed) == 0 {
            info!(events = count, "first events published");
        }
        Ok(())
    }

    /// Whether the source has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Notes that the source has ended, and writes out what is recorded.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        self.finished.store(true, Ordering::Relaxed);
        match &self.recorder {
            Some(recorder) => recorder
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .finish(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_claimed_than_is_wanted() {
        let bounds = Bounds {
            events: Some(1_000),
            duration: None,
        };
        let feed = Feed::new(bounds, None);
        let claimed: usize = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| std::iter::from_fn(|| Some(feed.claim(7))).take(100).sum()))
                .collect();
            claims
                .into_iter()
                .map(|c| c.join().unwrap_or(0_usize))
                .sum()
        });
        assert_eq!(claimed, 1_000);
        assert_eq!(feed.claim(1), 0);
    }

    #[test]
    fn a_cancelled_source_claims_nothing() {
        let feed = Feed::new(Bounds::default(), None);
        assert_eq!(feed.claim(5), 5);
        feed.cancel();
        assert_eq!(feed.claim(5), 0);
    }
}
