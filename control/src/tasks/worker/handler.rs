//! What does tasks: the user's part.

use std::sync::Arc;

use async_trait::async_trait;
use eventbus_trait::codec::{CodecError, Json};
use eventbus_trait::{Correlation, Payload};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::tasks::Task;

/// Does tasks. At most [`max_tasks`](crate::member::Identity::max_tasks) at once.
///
/// Its future is dropped when the task is cancelled, when its deadline has passed, and when the worker is
/// stopped by force: what it needs to put right then belongs into a `Drop`. A panic is a failed task.
///
/// The same task may be asked for twice, by a dispatcher that does not know whether it was done: see
/// [`Options::remember`](super::Options::remember).
#[async_trait]
pub trait TaskHandler: Send + Sync {
    /// Does a task, and returns its result.
    ///
    /// # Errors
    /// [`TaskFailure`]: the task fails, with this message.
    async fn run(&self, work: Work) -> Result<Payload, TaskFailure>;
}

/// A task to do.
#[derive(Debug, Clone)]
pub struct Work {
    /// The task.
    pub task: Task,
    /// When it has to be done, by tokio's clock. The future of the handler is dropped then.
    pub deadline: Instant,
    /// What its event was correlated by. What is published on its behalf is a
    /// [`child`](Correlation::child) of it.
    pub correlation: Correlation,
}

impl Work {
    /// What the task says, from JSON.
    ///
    /// # Errors
    /// [`CodecError`] if that is no such JSON; as a [`TaskFailure`] by `?`.
    pub fn decode_json<T>(&self) -> Result<Arc<T>, CodecError>
    where
        T: std::any::Any + Send + Sync + Serialize + DeserializeOwned,
    {
        self.task.payload.decode::<T, Json>()
    }
}

/// A task has failed: why, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TaskFailure(pub String);

impl TaskFailure {
    /// It failed for this reason.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<CodecError> for TaskFailure {
    fn from(error: CodecError) -> Self {
        Self(error.to_string())
    }
}
