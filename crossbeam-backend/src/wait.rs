//! Waiting for room, with a deadline.
//!
//! Invariant: between two attempts a waiting publisher holds no reservation and no lock, so
//! dropping its future leaves the event published by the attempt that succeeded or not at all.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use eventbus_trait::{Event, Held, PublishError, Refused, Throttle};

use super::handle::{Attempt, Handle};
use super::queue::Queue;
use super::route::Path;
use super::sync::{Delay, PATIENCE, yield_now};

/// How many of these looks follow a spin, each twice as long, instead of giving the processor away.
const SPINS: u32 = 4;

/// The end of a wait, which began when the publish did.
#[derive(Debug, Clone, Copy)]
struct Patience {
    left: Duration,
    /// Noted once there is something to wait for.
    started: Option<Instant>,
}

/// Publishes an event, waiting for room until the handle's deadline. Returns how many queued it.
pub(crate) async fn publish(handle: &Handle, event: Event, path: Path) -> Result<u64, Refused> {
    let mut patience = Patience {
        left: handle.hub.limits.publish_deadline,
        started: None,
    };
    let turn = match &handle.throttle {
        Some(throttle) if !handle.is_hopeless(&event) => turn(throttle, &mut patience).await,
        _ => Ok(None),
    };
    let mut slot = Some(event);
    let outcome = match turn {
        Ok(admission) => {
            let outcome = enter(handle, &mut slot, path, patience).await;
            if let (Ok(_), Some(admission)) = (&outcome, admission) {
                admission.used();
            }
            outcome
        }
        Err(reason) => Err(reason),
    };
    match (outcome, slot) {
        (Ok(queued), _) => Ok(queued),
        (Err(reason), Some(event)) => {
            handle.refuse(&event, &reason);
            Err(Refused::new(event, reason))
        }
        // An attempt takes the event only if it succeeds.
        (Err(_), None) => Ok(0),
    }
}

/// Waits for the event's turn under the rate limit, or until the handle is closed; the attempt that
/// follows tells which.
#[cold]
async fn turn<'a>(
    throttle: &'a Throttle,
    patience: &mut Patience,
) -> Result<Option<Held<'a>>, PublishError> {
    let rate_limited = |retry_after| PublishError::RateLimited { retry_after };
    let (wait, admission) = throttle.reserve(patience.left).map_err(rate_limited)?;
    let admission = admission.held();
    if !wait.is_zero() {
        patience.started = Some(Instant::now());
        throttle.wait(Delay::new(wait)).await;
        patience.left = patience.left.saturating_sub(wait);
    }
    Ok(Some(admission))
}

/// Enters the queues, waiting for room until the deadline.
async fn enter(
    handle: &Handle,
    slot: &mut Option<Event>,
    path: Path,
    patience: Patience,
) -> Result<u64, PublishError> {
    match handle.attempt(slot, path) {
        Attempt::Queued(queued) => Ok(queued),
        Attempt::Full(queue) => match insist(handle, slot, queue, path) {
            Attempt::Queued(queued) => Ok(queued),
            Attempt::Full(queue) => wait(handle, slot, queue, path, patience).await,
            Attempt::Refused(reason) => Err(reason),
        },
        Attempt::Refused(reason) => Err(reason),
    }
}

/// Tries a few times more: a receiver at work makes room sooner than the publisher could go to
/// sleep, and one that is woken for each single place makes the other wait in turn.
fn insist(handle: &Handle, event: &mut Option<Event>, queue: Arc<Queue>, path: Path) -> Attempt {
    let mut outcome = Attempt::Full(queue);
    for patience in 0..PATIENCE {
        if patience < SPINS {
            (0..16 << patience).for_each(|_| std::hint::spin_loop());
        } else {
            yield_now();
        }
        outcome = handle.attempt(event, path);
        if !matches!(outcome, Attempt::Full(_)) {
            break;
        }
    }
    outcome
}

async fn wait(
    handle: &Handle,
    event: &mut Option<Event>,
    queue: Arc<Queue>,
    path: Path,
    patience: Patience,
) -> Result<u64, PublishError> {
    let started = patience.started.unwrap_or_else(Instant::now);
    let mut timer = Delay::new(patience.left);
    let mut place = Place::new(handle.hub.next_id(), queue);
    poll_fn(|cx| {
        loop {
            place.register(cx);
            match handle.attempt(event, path) {
                Attempt::Queued(queued) => return Poll::Ready(Ok(queued)),
                Attempt::Refused(reason) => return Poll::Ready(Err(reason)),
                Attempt::Full(queue) if place.is_at(&queue) => break,
                Attempt::Full(queue) => place.move_to(queue),
            }
        }
        match Pin::new(&mut timer).poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(place.backpressure(started.elapsed()))),
            Poll::Pending => Poll::Pending,
        }
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
