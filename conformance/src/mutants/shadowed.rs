//! A shadow with a defect: the candidate reaches the application, or the comparison is wrong.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::rpc::{Call, CallError};
use eventbus_trait::{Event, EventBus, Limits, Payload, PublishError};
use futures_util::FutureExt;

use super::around::Around;
use super::layered::{Layered, layered};
use super::{Defect, MutantHarness};
use crate::harness::{Comparison, Depth, Replayed, Rig, ShadowHarness, ShadowRig, Wrap};

#[async_trait]
impl ShadowHarness for MutantHarness {
    async fn start_shadow(&self, limits: Limits, wrap: Wrap) -> Result<Box<dyn ShadowRig>, String> {
        let Some(shadow) = self.inner.shadow() else {
            return Err("the phase doubles nothing".to_owned());
        };
        let defect = self.defect;
        if defect == Defect::ShowsCandidate {
            let inner = shadow.start_shadow(limits, Box::new(|bus| bus)).await?;
            let bus = wrap(inner.bus());
            return Ok(MutantShadowRig::boxed(inner, bus, defect));
        }
        let place = Arc::new(OnceLock::new());
        let candidate = Arc::clone(&place);
        let wrap: Wrap = Box::new(move |bus| {
            let wrapped = wrap(bus);
            let _ = place.set(Arc::clone(&wrapped));
            wrapped
        });
        let inner = shadow.start_shadow(limits, wrap).await?;
        let bus = match (defect, candidate.get()) {
            (
                Defect::SpreadsPanics
                | Defect::SpreadsSlowness
                | Defect::SpreadsRefusals
                | Defect::SpreadsFailures
                | Defect::MirrorsEffects,
                Some(candidate),
            ) => layered(Exposed {
                inner: inner.bus(),
                candidate: Arc::clone(candidate),
                defect,
            }),
            _ => inner.bus(),
        };
        Ok(MutantShadowRig::boxed(inner, bus, defect))
    }
}

struct MutantShadowRig {
    inner: Box<dyn ShadowRig>,
    bus: Arc<dyn EventBus>,
    defect: Defect,
    /// How many events the application published before the last candidate came.
    earlier: AtomicU64,
    stumbles: Arc<AtomicBool>,
}

impl MutantShadowRig {
    fn boxed(
        inner: Box<dyn ShadowRig>,
        bus: Arc<dyn EventBus>,
        defect: Defect,
    ) -> Box<dyn ShadowRig> {
        let stumbles = Arc::<AtomicBool>::default();
        let bus = match defect {
            Defect::StumblesOverCandidates => layered(Stumbling {
                inner: bus,
                stumbles: Arc::clone(&stumbles),
            }),
            _ => bus,
        };
        Box::new(Self {
            inner,
            bus,
            defect,
            earlier: AtomicU64::new(0),
            stumbles,
        })
    }
}

impl Around for MutantShadowRig {
    fn inner(&self) -> &dyn Rig {
        &*self.inner
    }

    fn shown(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus)
    }
}

#[async_trait]
impl ShadowRig for MutantShadowRig {
    async fn compare(&self, patience: Duration) -> Comparison {
        let mut seen = self.inner.compare(patience).await;
        match self.defect {
            Defect::BlindToMissing => overlook(&mut seen.missing, &mut seen.matched),
            Defect::BlindToDifferences => overlook(&mut seen.differs, &mut seen.matched),
            Defect::BlindToOrder => overlook(&mut seen.reordered, &mut seen.matched),
            Defect::BlindToReplies => overlook(&mut seen.calls.differs, &mut seen.calls.same),
            Defect::ForgetsUnmirrored => seen.calls.unmirrored = 0,
            Defect::BlindToDuplicates => seen.duplicate = 0,
            Defect::BlindToPhantoms => seen.phantom = 0,
            Defect::CountsTwice => seen.duplicate *= 2,
            Defect::Cries => {
                seen.matched = seen.matched.saturating_sub(1);
                seen.missing += 1;
            }
            Defect::CriesAtPublishers => {
                seen.matched = seen.matched.saturating_sub(seen.inverted);
                seen.reordered += seen.inverted;
            }
            Defect::LosesCount => seen.matched = seen.matched.saturating_sub(1),
            Defect::Mislocates => {
                for (topic, _) in &mut seen.places {
                    topic.push_str(".elsewhere");
                }
            }
            _ => {}
        }
        seen
    }

    async fn detach(&self, patience: Duration) -> Comparison {
        let mut seen = self.inner.detach(patience).await;
        match self.defect {
            Defect::ComparesTheEarlier => {
                let earlier = self.earlier.load(Ordering::Relaxed);
                seen.expected += earlier;
                seen.missing += earlier;
            }
            Defect::CountsTheSample => {
                let out = std::mem::take(&mut seen.unsampled);
                seen.matched -= out;
                seen.expected -= out;
            }
            _ => {}
        }
        seen
    }

    async fn attach(&self, wrap: Wrap, depth: Depth) -> Result<(), String> {
        let published = self.bus.stats().published;
        self.earlier.store(published, Ordering::Relaxed);
        self.inner.attach(wrap, depth).await?;
        self.stumbles.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn replay(&self, file: &Path) -> Result<Replayed, String> {
        let mut seen = self.inner.replay(file).await?;
        if self.defect == Defect::ReplaysOtherwise && seen.reproduced > 0 {
            seen.reproduced -= 1;
            seen.otherwise += 1;
        }
        Ok(seen)
    }
}

/// What the application has instead of the shadow's bus: it loses its footing when a candidate comes.
struct Stumbling {
    inner: Arc<dyn EventBus>,
    stumbles: Arc<AtomicBool>,
}

#[async_trait]
impl Layered for Stumbling {
    fn inner(&self) -> &Arc<dyn EventBus> {
        &self.inner
    }

    fn before_try_publish(&self, _: &Event) -> Result<(), PublishError> {
        if self.stumbles.swap(false, Ordering::Relaxed) {
            return Err(PublishError::Closed);
        }
        Ok(())
    }
}

/// Takes deliveries of one class for deliveries of another.
fn overlook(class: &mut u64, taken_for: &mut u64) {
    *taken_for += std::mem::take(class);
}

/// What the application has instead of the shadow's bus: the candidate stands before it.
struct Exposed {
    inner: Arc<dyn EventBus>,
    candidate: Arc<dyn EventBus>,
    defect: Defect,
}

impl Exposed {
    /// Publishes on the candidate what nobody takes.
    async fn ask_candidate(&self) -> Result<(), PublishError> {
        let Ok(probe) = Event::new("mutant.probe", Payload::raw(Vec::new())) else {
            return Ok(());
        };
        let asked = self.candidate.publish(probe).await;
        asked.map(|_| ()).map_err(|refused| refused.into_parts().1)
    }
}

#[async_trait]
impl Layered for Exposed {
    fn inner(&self) -> &Arc<dyn EventBus> {
        &self.inner
    }

    async fn before_call(&self, call: Call) -> Result<Call, CallError> {
        match self.defect {
            Defect::MirrorsEffects => Ok(call.idempotent()),
            Defect::SpreadsFailures => {
                let asking = AssertUnwindSafe(self.candidate.call(call.clone())).catch_unwind();
                match asking.now_or_never() {
                    Some(Ok(Err(denied @ CallError::Denied { .. }))) => Err(denied),
                    _ => Ok(call),
                }
            }
            _ => Ok(call),
        }
    }

    async fn before_publish(&self, _: &Event) -> Result<(), PublishError> {
        match self.defect {
            Defect::MirrorsEffects | Defect::SpreadsFailures => Ok(()),
            Defect::SpreadsSlowness => {
                // Whatever comes of it but time.
                let _ = AssertUnwindSafe(self.ask_candidate()).catch_unwind().await;
                Ok(())
            }
            Defect::SpreadsPanics => {
                let _ = self.ask_candidate().now_or_never();
                Ok(())
            }
            _ => {
                let asking = AssertUnwindSafe(self.ask_candidate()).catch_unwind();
                let refused = asking.now_or_never().and_then(Result::ok);
                refused.unwrap_or(Ok(()))
            }
        }
    }
}
