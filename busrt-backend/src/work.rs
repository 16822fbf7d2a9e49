//! Tasks of a session: on its runtime or, in process, where publishers can help with them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_task::FallibleTask;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::executor::{Executor, Help};

/// Where the tasks of a session run.
#[derive(Clone)]
pub(crate) enum Tasks {
    Runtime(Handle),
    Helped(Arc<Executor>),
}

/// A task. It yields nothing if it panicked or was stopped.
pub(crate) enum Task<T> {
    Runtime(JoinHandle<T>),
    Helped(FallibleTask<T>),
}

impl Tasks {
    pub(crate) fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        match self {
            Self::Runtime(runtime) => Task::Runtime(runtime.spawn(future)),
            Self::Helped(executor) => Task::Helped(executor.spawn(future)),
        }
    }

    /// Lets the others have a turn.
    pub(crate) async fn yield_now(&self) {
        match self {
            Self::Runtime(_) => tokio::task::yield_now().await,
            Self::Helped(_) => yield_here().await,
        }
    }

    /// Who can let a task [pause](Executor::pause): the runtime's own clock is too coarse.
    pub(crate) fn executor(&self) -> Option<&Executor> {
        match self {
            Self::Runtime(_) => None,
            Self::Helped(executor) => Some(executor),
        }
    }

    /// Offers help with what the caller is about to cause.
    #[inline]
    pub(crate) fn help(&self) -> Option<Help<'_>> {
        match self {
            Self::Runtime(_) => None,
            Self::Helped(executor) => executor.help(),
        }
    }
}

impl<T> Task<T> {
    /// Stops it, and waits until it has let go of everything.
    pub(crate) async fn stop(self) {
        match self {
            Self::Runtime(task) => {
                task.abort();
                let _ = task.await;
            }
            Self::Helped(task) => {
                task.cancel().await;
            }
        }
    }
}

impl<T> Future for Task<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self.get_mut() {
            Self::Runtime(task) => Pin::new(task).poll(cx).map(Result::ok),
            Self::Helped(task) => Pin::new(task).poll(cx),
        }
    }
}

/// Goes to the end of the queue. The runtime's own would wait for the runtime of whoever helps.
async fn yield_here() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
