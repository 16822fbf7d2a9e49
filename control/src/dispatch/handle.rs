//! What a submitter holds of a task.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use super::spec::{Outcome, TaskError};

/// A task that was taken. Cloning it gives another handle to the same task.
///
/// Dropping it changes nothing: the task goes on, and its reports can be
/// [gathered](crate::results::Gather). To end it, [`cancel`](Self::cancel) it.
#[derive(Clone)]
pub struct TaskHandle {
    id: Arc<str>,
    shared: Arc<Shared>,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl TaskHandle {
    pub(super) fn new(
        id: Arc<str>,
        shared: Arc<Shared>,
        outcome: watch::Receiver<Option<Outcome>>,
    ) -> Self {
        Self {
            id,
            shared,
            outcome,
        }
    }

    /// The task's id, which is the id of its events' correlation.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the task has ended. Cancel-safe, and the same each time.
    ///
    /// # Errors
    /// [`TaskError`] says why there is no result.
    pub async fn outcome(&self) -> Outcome {
        let mut outcome = self.outcome.clone();
        match outcome.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Err(TaskError::Closed)),
            Err(_) => Err(TaskError::Closed),
        }
    }

    /// How the task ended, if it has.
    #[must_use]
    pub fn try_outcome(&self) -> Option<Outcome> {
        self.outcome.borrow().clone()
    }

    /// Ends the task as [`TaskError::Cancelled`], for whoever waits for it, and tells the member that has
    /// it. Whether it had not ended before. What a member has done by then is done.
    pub fn cancel(&self) -> bool {
        let mut inner = self.shared.inner.lock();
        let cancelled = inner.with(|core, _, steps| core.cancel(&self.id, steps));
        drop(inner);
        self.shared.wake.notify_one();
        cancelled
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
