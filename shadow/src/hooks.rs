//! What an application may decide about a comparison: which events it leaves alone, of which it
//! compares the contents, which contents are alike, and what of them may be shown.
//!
//! Invariant: a hook that panics harms nobody: it is counted under its name, and the event is
//! compared as if there were no hook; only what a hook alone could have called alike is unverified,
//! and what it did not clear is not shown.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use eventbus_trait::Event;
use foldhash::quality::FixedState;
use tracing::debug;

/// Most bytes that are shown of an event.
const MOST_SHOWN: usize = 512;

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

/// Says of two deliveries of one event whose payloads differ in their bytes whether they are alike all
/// the same: the primary's and the candidate's. Headers, correlation and content type are compared as
/// ever.
///
/// It runs in the candidate's thread or in the subscriber's, under the lock of the event's stream: it
/// must be quick, and must not use the bus. A panic or an error counts in the report's `hook_errors`,
/// and the delivery is unverified. With this hook what one side delivered is kept, payload and all,
/// until the other one delivers it.
#[derive(Clone)]
pub struct Compare(Arc<Equality>);

type Equality = dyn Fn(&Event, &Event) -> Result<bool, String> + Send + Sync;

impl Compare {
    /// Takes for alike what `equal` says yes to.
    pub fn by(equal: impl Fn(&Event, &Event) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |primary, candidate| {
            Ok(equal(primary, candidate))
        }))
    }

    /// The same by a function that can fail.
    pub fn try_by<E: fmt::Display>(
        equal: impl Fn(&Event, &Event) -> Result<bool, E> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |primary, candidate| {
            equal(primary, candidate).map_err(|error| error.to_string())
        }))
    }

    /// `None` if it panicked or failed.
    fn alike(&self, primary: &Event, candidate: &Event) -> Option<bool> {
        let answer = catch_unwind(AssertUnwindSafe(|| (self.0)(primary, candidate))).ok()?;
        answer
            .map_err(|error| debug!(error, "the hook that compares failed"))
            .ok()
    }
}

impl fmt::Debug for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compare")
    }
}

/// Says what may be shown of an event that diverged: in the report, in the log, and in the divergence
/// file, up to 512 bytes of it. Without this hook nothing of a payload or header ever is.
///
/// It runs where [`Compare`] does, and only for what diverged. If it panics nothing is shown, and
/// `hook_errors` counts it. With this hook what one side delivered is kept, payload and all, until the
/// other one delivers it.
#[derive(Clone)]
pub struct Redact(Arc<dyn Fn(&Event) -> String + Send + Sync>);

impl Redact {
    /// Shows what `show` makes of an event.
    pub fn to(show: impl Fn(&Event) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(show))
    }

    /// `None` if it panicked.
    fn shown(&self, event: &Event) -> Option<String> {
        let mut text = catch_unwind(AssertUnwindSafe(|| (self.0)(event))).ok()?;
        text.truncate(text.floor_char_boundary(MOST_SHOWN));
        Some(text)
    }
}

impl fmt::Debug for Redact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redact")
    }
}

/// What a comparison of contents asks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hooks<'a> {
    pub(crate) compare: Option<&'a Compare>,
    pub(crate) redact: Option<&'a Redact>,
}

/// Hooks that failed, by name.
pub(crate) type Failed = Vec<&'static str>;

impl Hooks<'_> {
    /// Whether a delivery must be kept as it is until the other side delivers it.
    pub(crate) fn need_events(&self) -> bool {
        self.compare.is_some() || self.redact.is_some()
    }

    /// Whether two payloads are alike that differ in their bytes; `None` if nobody can say.
    pub(crate) fn alike(
        &self,
        primary: &Event,
        candidate: &Event,
        failed: &mut Failed,
    ) -> Option<bool> {
        let Some(compare) = self.compare else {
            return Some(false);
        };
        let alike = compare.alike(primary, candidate);
        if alike.is_none() {
            failed.push("compare");
        }
        alike
    }

    /// What may be shown of an event.
    pub(crate) fn shown(&self, event: &Event, failed: &mut Failed) -> Option<String> {
        let shown = self.redact?.shown(event);
        if shown.is_none() {
            failed.push("redact");
        }
        shown
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
