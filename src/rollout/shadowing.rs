//! The shadow of a stage: begun, ended, and asked what it has found.
//!
//! Each phase is opened inside a shadow bus without a candidate, so that one can be attached to it
//! while it is in use. A candidate that is moved to next is not opened a second time: what was
//! compared is what is moved to, and no address changes hands.
//!
//! Invariant: a candidate is the shadow's, or kept for the cutover that follows, or shut down.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use eventbus_trait::EventBus;
use futures_timer::Delay;
use parking_lot::Mutex;

use shadow::{LATENCY_BOUNDS_US, ShadowBus, ShadowOptions, SideLatency};
use tracing::warn;

use super::gate::Snapshot;
use super::opening::Opening;
use crate::phase::Phase;

/// How long a comparison that ends may decide what it has begun.
const SETTLE: Duration = Duration::from_secs(3);
/// How long an address may still be taken by a candidate that was there before.
const FREE: Duration = Duration::from_secs(5);

/// The buses that a shadow can be attached to, and the candidate that is kept.
#[derive(Debug, Default)]
pub(crate) struct Shadows {
    buses: Mutex<HashMap<String, Weak<ShadowBus>>>,
    kept: Mutex<Option<(Phase, Arc<dyn EventBus>)>>,
}

impl Shadows {
    /// Puts a phase's bus where a shadow can be attached to it.
    pub(crate) fn wrap(&self, phase: &Phase, bus: Arc<dyn EventBus>) -> Arc<dyn EventBus> {
        let bus = ShadowBus::alone(bus, ShadowOptions::default());
        let mut buses = self.buses.lock();
        // Whoever uses the bus keeps it.
        buses.retain(|_, bus| bus.strong_count() > 0);
        buses.insert(phase.to_string(), Arc::downgrade(&bus));
        bus
    }

    /// The candidate that is kept, if it is this phase.
    pub(crate) fn take(&self, phase: &Phase) -> Option<Arc<dyn EventBus>> {
        let mut kept = self.kept.lock();
        let found = kept.take_if(|(candidate, _)| candidate == phase);
        found.map(|(_, bus)| bus)
    }

    /// The bus of a phase, if it is being compared.
    pub(crate) fn attached(&self, phase: &str) -> Option<Arc<ShadowBus>> {
        let bus = self.buses.lock().get(phase)?.upgrade()?;
        bus.is_attached().then_some(bus)
    }

    fn of(&self, phase: &Phase) -> Option<Arc<ShadowBus>> {
        self.buses.lock().get(&phase.to_string())?.upgrade()
    }
}

/// Begins and ends shadows on the phase that holds.
pub(crate) struct Shadowing {
    pub(crate) opening: Arc<Opening>,
    /// The phase that is compared, and the candidate.
    attached: Option<(Weak<ShadowBus>, Phase, Arc<dyn EventBus>)>,
}

impl Shadowing {
    pub(crate) fn new(opening: Arc<Opening>) -> Self {
        Self {
            opening,
            attached: None,
        }
    }

    /// Begins to compare the phase that holds with a candidate.
    pub(crate) async fn attach(&mut self, phase: &Phase, candidate: &Phase) -> Result<(), String> {
        let Some(shadow) = self.opening.shadows.of(phase) else {
            return Err("the bus is closed".to_owned());
        };
        let bus = self.open(candidate).await?;
        let attached = shadow.attach(Arc::clone(&bus));
        attached.map_err(|error| error.to_string())?;
        self.attached = Some((Arc::downgrade(&shadow), candidate.clone(), bus));
        Ok(())
    }

    async fn open(&self, candidate: &Phase) -> Result<Arc<dyn EventBus>, String> {
        let begun = Instant::now();
        loop {
            match self.opening.candidate(candidate).await {
                Ok(bus) => return Ok(bus),
                Err(error) if begun.elapsed() > FREE => return Err(error.to_string()),
                Err(error) => {
                    warn!(%candidate, %error, "the candidate cannot be opened yet");
                    Delay::new(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Ends the comparison, and keeps the candidate if it is what is moved to next.
    pub(crate) async fn detach(&mut self, next: &Phase) {
        let Some((shadow, phase, bus)) = self.attached.take() else {
            return;
        };
        if let Some(shadow) = shadow.upgrade() {
            shadow.detach(SETTLE).await;
        }
        // A candidate has no rate limit; the bus that holds must have the one that there is.
        if phase == *next && self.opening.is_unlimited() {
            *self.opening.shadows.kept.lock() = Some((phase, bus));
        } else if let Err(error) = bus.shutdown().await {
            // Its deliveries were compared; what is left of them nobody misses.
            warn!(%phase, %error, "the candidate was closed all the same");
        }
    }

    /// Ends the candidate that was kept for a cutover that did not come to be.
    pub(crate) async fn forget_kept(&self) {
        let kept = self.opening.shadows.kept.lock().take();
        if let Some((phase, bus)) = kept
            && let Err(error) = bus.shutdown().await
        {
            warn!(%phase, %error, "the candidate was closed all the same");
        }
    }

    /// Says what was found.
    pub(crate) fn fill(&self, snapshot: &mut Snapshot) {
        let shadow = self.attached.as_ref().and_then(|(bus, ..)| bus.upgrade());
        let Some(shadow) = shadow else { return };
        let (report, glance) = (shadow.report(), shadow.glance());
        let diverged = report.diverged();
        snapshot.events = report.matched + diverged;
        snapshot.divergences = [
            ("missing", report.missing),
            ("late", report.late),
            ("reordered", report.reordered),
            ("differing", report.differs),
            ("duplicate", report.duplicates),
            ("phantom", report.phantoms),
            ("differing_call", report.calls.differs),
        ]
        .map(|(class, n)| (class.to_owned(), n))
        .into();
        let due = report
            .expected
            .saturating_sub(report.in_flight + report.ignored);
        let came = report.matched + report.late + report.reordered + report.differs;
        snapshot.throughput_ratio = (due > 0).then(|| came as f64 / due as f64);
        snapshot.latency_ratio = match (median(&glance.primary), median(&glance.candidate)) {
            (Some(primary), Some(candidate)) if primary > 0.0 => Some(candidate / primary),
            _ => None,
        };
    }
}

/// The median in microseconds, as if each bucket's samples were spread over it evenly.
fn median(side: &SideLatency) -> Option<f64> {
    let half = side.samples as f64 / 2.0;
    let mut below = 0.0;
    for (at, count) in side.buckets.iter().enumerate() {
        let count = *count as f64;
        if count > 0.0 && below + count >= half {
            let low = at.checked_sub(1).map_or(0, |at| LATENCY_BOUNDS_US[at]) as f64;
            let high = LATENCY_BOUNDS_US.get(at).map_or(low, |bound| *bound as f64);
            return Some(low + (high - low) * (half - below) / count);
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_within_the_bucket_of_the_middle_sample() {
        let mut side = SideLatency::default();
        assert_eq!(median(&side), None);
        // 2 to 5 us: four of them; 10 to 20 us: two.
        (side.buckets[2], side.buckets[4], side.samples) = (4, 2, 6);
        assert_eq!(median(&side), Some(2.0 + 3.0 * 0.75));
        (side.buckets[22], side.samples) = (10, 16);
        assert_eq!(median(&side), Some(10_000_000.0), "beyond the last bound");
    }
}
