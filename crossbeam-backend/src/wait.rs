//! Waiting for room, with a deadline.
//!
//! Invariant: between two attempts a waiting publisher holds no reservation and no lock, so
//! dropping its future leaves the event published by the attempt that succeeded or not at all.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use eventbus_trait::{Event, PublishError, Refused};
use futures_timer::Delay;

use crate::handle::{Attempt, Handle};
use crate::queue::Queue;
use crate::route::Path;

/// Publishes an event, waiting for room until the handle's deadline. Returns how many queued it.
pub(crate) async fn publish(handle: &Handle, event: Event, path: Path) -> Result<u64, Refused> {
    let refused = match handle.attempt(event, path) {
        Attempt::Queued(queued) => return Ok(queued),
        Attempt::Full(event, queue) => match wait(handle, event, queue, path).await {
            Ok(queued) => return Ok(queued),
            Err(refused) => refused,
        },
        Attempt::Refused(event, reason) => Refused::new(event, reason),
    };
    handle.refuse(refused.event(), refused.reason());
    Err(refused)
}

async fn wait(
    handle: &Handle,
    event: Event,
    queue: Arc<Queue>,
    path: Path,
) -> Result<u64, Refused> {
    let deadline = handle.hub.limits.publish_deadline;
    let started = Instant::now();
    let mut timer = Delay::new(deadline);
    let mut place = Place::new(handle.hub.next_id(), queue);
    let mut event = Some(event);
    poll_fn(move |cx| {
        let Some(mut held) = event.take() else {
            return Poll::Pending;
        };
        loop {
            place.register(cx);
            match handle.attempt(held, path) {
                Attempt::Queued(queued) => return Poll::Ready(Ok(queued)),
                Attempt::Refused(event, reason) => {
                    return Poll::Ready(Err(Refused::new(event, reason)));
                }
                Attempt::Full(event, queue) => {
                    held = event;
                    if place.is_at(&queue) {
                        break;
                    }
                    place.move_to(queue);
                }
            }
        }
        if Pin::new(&mut timer).poll(cx).is_ready() {
            let reason = place.backpressure(started.elapsed());
            return Poll::Ready(Err(Refused::new(held, reason)));
        }
        event = Some(held);
        Poll::Pending
    })
    .await
}

/// Where a publisher waits. Dropping it ends the wait.
struct Place {
    token: u64,
    queue: Arc<Queue>,
}

impl Place {
    fn new(token: u64, queue: Arc<Queue>) -> Self {
        Self { token, queue }
    }

    fn register(&self, cx: &Context<'_>) {
        self.queue.room.register(self.token, cx.waker());
    }

    fn is_at(&self, queue: &Arc<Queue>) -> bool {
        Arc::ptr_eq(&self.queue, queue)
    }

    fn move_to(&mut self, queue: Arc<Queue>) {
        self.queue.room.forget(self.token);
        self.queue = queue;
    }

    fn backpressure(&self, waited: Duration) -> PublishError {
        PublishError::Backpressure {
            subscription: self.queue.name.to_string(),
            waited,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.room.forget(self.token);
    }
}
