//! Sleepers: operations that are under way and have nothing to do until the bus wakes them.
//!
//! Invariant: a sleeper has been polled and was not ready, by a task of its own that only the bus
//! wakes. Whoever polled it again would hide that it was not woken.

use std::future::{Future, poll_fn};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Stage;
use crate::verdict::{Checked, Unmet};

impl Stage {
    /// Has a task of its own do `work`, and returns once that sleeps, or is done.
    ///
    /// # Errors
    /// Broken, naming `what`, if it does neither.
    pub async fn asleep<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Checked<Sleeper<T>> {
        let (asleep, slept) = oneshot::channel();
        let mut asleep = Some(asleep);
        let mut work = Box::pin(work);
        let task = tokio::spawn(poll_fn(move |cx| {
            let polled = work.as_mut().poll(cx);
            if let Some(asleep) = asleep.take() {
                // Who waited for this may have given up.
                let _ = asleep.send(());
            }
            polled
        }));
        let sleeper = Sleeper { what, task };
        // An error is a panic, which `woken` tells.
        let _ = self.wait(what, slept).await?;
        Ok(sleeper)
    }
}

/// Work that slept; given up when dropped.
#[derive(Debug)]
pub struct Sleeper<T> {
    what: &'static str,
    task: JoinHandle<T>,
}

impl<T> Sleeper<T> {
    /// Waits until it has been woken and is done.
    ///
    /// # Errors
    /// Broken, naming what it is and `after` what it should have ended, if it sleeps on.
    pub async fn woken(mut self, stage: &Stage, after: &str) -> Checked<T> {
        let what = format!("{} to be woken {after}", self.what);
        let done = stage.0.patience.wait(&what, &mut self.task).await?;
        done.map_err(Unmet::broken)
    }
}

impl<T> Drop for Sleeper<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
