//! A move to another phase with a defect: the bus shows that it was moved, or a crash leaves it in
//! the wrong phase, or in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use eventbus_trait::{EventBus, Limits};

use super::around::Around;
use super::layered::{Layered, layered};
use super::shared::Shared;
use super::{Defect, MutantBus, MutantHarness};
use crate::harness::{Course, CutoverHarness, CutoverRig, Rig, Steps, Wreck};

#[async_trait]
impl CutoverHarness for MutantHarness {
    async fn start_movable(&self, limits: Limits) -> Result<Box<dyn CutoverRig>, String> {
        let inner = self.moves()?.start_movable(limits).await?;
        let shared = self.shared();
        let bus = MutantBus::with(inner.bus(), &shared);
        Ok(Box::new(MutantMovable { inner, bus, shared }))
    }

    fn steps(&self) -> Steps {
        let none = Steps {
            last: 0,
            decides: 0,
        };
        self.inner.cutover().map_or(none, CutoverHarness::steps)
    }

    async fn crash(&self, course: Course, step: u8) -> Result<Box<dyn Wreck>, String> {
        let Steps { last, .. } = self.steps();
        let step = match self.defect {
            Defect::ForgetsCommits => 1,
            Defect::CommitsTooSoon => last,
            _ => step,
        };
        Ok(Box::new(MutantWreck {
            inner: self.moves()?.crash(course, step).await?,
            shared: self.shared(),
            starts: AtomicU64::new(0),
        }))
    }
}

impl MutantHarness {
    fn moves(&self) -> Result<&dyn CutoverHarness, String> {
        let moves = self.inner.cutover();
        moves.ok_or_else(|| "the phase is not moved to another".to_owned())
    }
}

struct MutantWreck {
    inner: Box<dyn Wreck>,
    shared: Arc<Shared>,
    starts: AtomicU64,
}

#[async_trait]
impl Wreck for MutantWreck {
    async fn restart(&self) -> Result<Box<dyn CutoverRig>, String> {
        let inner = self.inner.restart().await?;
        let before = self.starts.fetch_add(1, Ordering::SeqCst);
        let bus: Arc<dyn EventBus> = match self.shared.defect {
            Defect::Wavers if before > 0 => {
                let course = match inner.holds_second() {
                    true => Course::Back,
                    false => Course::Forward,
                };
                inner.cut_over(course).await?;
                inner.bus()
            }
            Defect::WakesDeaf => layered(Deaf {
                inner: inner.bus(),
                other: self.inner.restart().await?.bus(),
            }),
            // What is wrong is in where it starts, or in a move without a crash.
            _ => return Ok(inner),
        };
        let (bus, shared) = (MutantBus::with(bus, &self.shared), Arc::clone(&self.shared));
        Ok(Box::new(MutantMovable { inner, bus, shared }))
    }
}

/// Publishes on one bus and subscribes on another.
struct Deaf {
    inner: Arc<dyn EventBus>,
    other: Arc<dyn EventBus>,
}

impl Layered for Deaf {
    fn inner(&self) -> &Arc<dyn EventBus> {
        &self.inner
    }

    fn subscribes_on(&self) -> &Arc<dyn EventBus> {
        &self.other
    }
}

struct MutantMovable {
    inner: Box<dyn CutoverRig>,
    bus: Arc<MutantBus>,
    shared: Arc<Shared>,
}

impl Around for MutantMovable {
    fn inner(&self) -> &dyn Rig {
        &*self.inner
    }

    fn shown(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus) as Arc<dyn EventBus>
    }
}

#[async_trait]
impl CutoverRig for MutantMovable {
    fn holds_second(&self) -> bool {
        self.inner.holds_second()
    }

    async fn cut_over(&self, course: Course) -> Result<(), String> {
        self.shared.arm();
        self.inner.cut_over(course).await?;
        if self.shared.defect == Defect::StaysPut {
            let back = match course {
                Course::Forward => Course::Back,
                Course::Back => Course::Forward,
            };
            self.inner.cut_over(back).await?;
        }
        Ok(())
    }
}
