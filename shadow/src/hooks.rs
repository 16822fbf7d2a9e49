//! What an application may decide about a comparison: which events it leaves alone, and of which it
//! compares the contents.
//!
//! Invariant: a hook that panics harms nobody: it is counted under its name, and the event is
//! compared as if there were no hook.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use eventbus_trait::Event;
use foldhash::quality::FixedState;

/// Says which events the comparison leaves alone. It runs in the publishing task; a panic counts
/// as no, and in the report's `hook_errors`.
#[derive(Clone)]
pub struct Ignore(Arc<dyn Fn(&Event) -> bool + Send + Sync>);

impl Ignore {
    /// Leaves alone what `predicate` says yes to.
    pub fn when(predicate: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(predicate))
    }

    /// `None` if it panicked.
    pub(crate) fn takes(&self, event: &Event) -> Option<bool> {
        catch_unwind(AssertUnwindSafe(|| (self.0)(event))).ok()
    }
}

impl fmt::Debug for Ignore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ignore")
    }
}

/// Compares the contents of a share of the events only. Delivery and order of the others are
/// compared all the same: they count as matched, and in the report's `unsampled`.
///
/// Events of one key are all in the share or all not, on every run: so what belongs together is
/// looked at together.
#[derive(Clone)]
pub struct Sample {
    below: u64,
    key: Arc<dyn Fn(&Event) -> u64 + Send + Sync>,
}

impl Sample {
    /// Compares the contents of the events whose `key` falls into `share`, 0 to 1. The key is taken
    /// in the publishing task; if that panics, the event is compared, and `hook_errors` counts it.
    pub fn by<K: Hash>(share: f64, key: impl Fn(&Event) -> K + Send + Sync + 'static) -> Self {
        Self {
            // Saturates, so that a share of 1 is everything.
            below: (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64,
            key: Arc::new(move |event| FixedState::with_seed(0x5a4d_91e5).hash_one(key(event))),
        }
    }

    /// The same, by topic: all events of a topic or none.
    #[must_use]
    pub fn by_topic(share: f64) -> Self {
        Self::by(share, |event: &Event| event.topic().clone())
    }

    /// `None` if it panicked.
    pub(crate) fn takes(&self, event: &Event) -> Option<bool> {
        let key = catch_unwind(AssertUnwindSafe(|| (self.key)(event))).ok()?;
        Some(self.below == u64::MAX || key < self.below)
    }
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sample")
            .field("below", &self.below)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: usize) -> Event {
        Event::new("a", n.to_string().into_bytes()).unwrap()
    }

    #[test]
    fn a_share_is_a_share_and_sticks_to_its_keys() {
        let by_payload = |share| Sample::by(share, |event: &Event| event.bytes().unwrap());
        for (share, least, most) in [(0.0, 0, 0), (0.1, 800, 1200), (1.0, 10_000, 10_000)] {
            let sample = by_payload(share);
            let taken = |n: &usize| sample.takes(&event(*n)) == Some(true);
            let first: Vec<_> = (0..10_000).filter(taken).collect();
            assert!(
                (least..=most).contains(&first.len()),
                "{share}: {}",
                first.len()
            );
            let again = by_payload(share);
            assert!(first.iter().all(|n| again.takes(&event(*n)) == Some(true)));
        }
    }
}
