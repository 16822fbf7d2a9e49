//! A pretended move to another phase: it takes its time, and changes nothing but its name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::Limits;

use super::Pretend;
use crate::harness::{Course, CutoverHarness, CutoverRig, Harness, Rig, Steps, Wreck};
use crate::mutants::around::Around;

/// How many events are published on the first handle while a move goes on.
const MEANWHILE: u64 = 10;
const STEPS: Steps = Steps {
    last: 3,
    decides: 2,
};

#[async_trait]
impl CutoverHarness for Pretend {
    async fn start_movable(&self, limits: Limits) -> Result<Box<dyn CutoverRig>, String> {
        started(&*self.inner, limits, false).await
    }

    fn steps(&self) -> Steps {
        STEPS
    }

    async fn crash(&self, course: Course, step: u8) -> Result<Box<dyn Wreck>, String> {
        Ok(Box::new(Left {
            inner: Arc::clone(&self.inner),
            second: (course == Course::Forward) == (step > STEPS.decides),
        }))
    }
}

async fn started(
    inner: &dyn Harness,
    limits: Limits,
    second: bool,
) -> Result<Box<dyn CutoverRig>, String> {
    Ok(Box::new(Unmoved {
        rig: inner.start(limits).await?,
        second: AtomicBool::new(second),
    }))
}

struct Left {
    inner: Arc<dyn Harness>,
    second: bool,
}

#[async_trait]
impl Wreck for Left {
    async fn restart(&self) -> Result<Box<dyn CutoverRig>, String> {
        started(&*self.inner, Limits::default(), self.second).await
    }
}

struct Unmoved {
    rig: Box<dyn Rig>,
    second: AtomicBool,
}

impl Around for Unmoved {
    fn inner(&self) -> &dyn Rig {
        &*self.rig
    }
}

#[async_trait]
impl CutoverRig for Unmoved {
    fn holds_second(&self) -> bool {
        self.second.load(Ordering::SeqCst)
    }

    async fn cut_over(&self, course: Course) -> Result<(), String> {
        let published = || self.rig.bus().stats().published;
        // A bus that nobody publishes on is moved as well.
        let (before, mut beats) = (published(), 0);
        let mut beat = tokio::time::interval(Duration::from_millis(1));
        while published() < before + MEANWHILE && beats < 100 {
            beat.tick().await;
            beats += 1;
        }
        self.second
            .store(course == Course::Forward, Ordering::SeqCst);
        Ok(())
    }
}
