//! Where a service's calls are admitted, wait for their turn, and are handled.
//!
//! A backend asks for a [`Ticket`] when a call arrives, and attends to it in a task that it may end at
//! any time. Refusals are known at once: nothing that would be refused waits first.
//!
//! Invariant: at most `concurrency` handlers run, at most `queue` calls wait, in the order of their
//! tickets; a ticket that is dropped gives back what it had.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::call::{Call, Reply};
use super::error::{CallError, Failure};
use super::service::{Handler, Limits};
use super::stats::ServiceStats;
use crate::trace::Handling;

/// Admits a service's calls and runs its handler.
pub struct Desk {
    name: Arc<str>,
    handler: Arc<dyn Handler>,
    pub(super) limits: Limits,
    slots: Arc<Semaphore>,
    /// Told when a call finds no slot, so that a spare handler gives its own up.
    wanted: Notify,
    /// Calls that wait or run.
    inside: AtomicUsize,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    admitted: AtomicU64,
    busy: AtomicU64,
    running: AtomicU64,
    most_running: AtomicU64,
    replied: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    dropped: AtomicU64,
}

type Turn = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

/// The right of one call to wait for its turn, and to be handled.
#[must_use = "a call that is not attended to is dropped"]
pub struct Ticket {
    place: Place,
    turn: Turn,
    /// If it came at once.
    had: Option<OwnedSemaphorePermit>,
    since: Instant,
}

/// A call's place at the desk, until this is dropped or it is given up.
struct Place {
    call: Arc<Admitted>,
    outcome: Option<Outcome>,
}

/// A call that was admitted.
#[derive(Debug)]
struct Admitted {
    desk: Arc<Desk>,
    left: AtomicBool,
}

/// Gives a call up: its place is free for another at once, also while its handler is still being
/// dropped. The handler's slot is free when that is done, so no more run than may.
#[derive(Debug, Clone)]
pub struct GiveUp(Arc<Admitted>);

/// A handler that runs, until this is dropped.
struct Running<'a>(&'a Desk);

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Replied,
    Failed,
    Panicked,
}

impl Desk {
    pub(super) fn new(name: Arc<str>, handler: Arc<dyn Handler>, limits: Limits) -> Self {
        Self {
            name,
            handler,
            limits,
            slots: Arc::new(Semaphore::new(
                limits.concurrency.min(Semaphore::MAX_PERMITS),
            )),
            wanted: Notify::new(),
            inside: AtomicUsize::new(0),
            counters: Counters::default(),
        }
    }

    pub(super) fn with(&self, limits: Limits) -> Self {
        Self::new(Arc::clone(&self.name), Arc::clone(&self.handler), limits)
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many calls may run and wait.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.limits.concurrency + self.limits.queue
    }

    /// How long a call may take that brings no deadline.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.limits.longest
    }

    /// Admits a call of `method`, at once or not at all. Whoever is admitted first has its turn first.
    ///
    /// # Errors
    /// [`CallError::NoMethod`] or [`CallError::Busy`].
    pub fn admit(self: &Arc<Self>, method: &str) -> Result<Ticket, CallError> {
        let has = catch_unwind(AssertUnwindSafe(|| self.handler.has(method)));
        if !has.map_err(|_| self.panicked())? {
            return Err(Failure::NoMethod.of(&self.name, method));
        }
        let place = self.place()?;
        let slots = Arc::clone(&self.slots);
        let mut turn: Turn = Box::pin(async move { slots.acquire_owned().await.ok() });
        // From now on it is in the line.
        let had = match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(slot) => slot,
            Poll::Pending => {
                self.wanted.notify_waiters();
                None
            }
        };
        Ok(Ticket {
            place,
            turn,
            had,
            since: Instant::now(),
        })
    }

    /// Whether the handler says that there is such a method; not if it panics.
    pub(super) fn has(&self, method: &str) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.handler.has(method))).unwrap_or_default()
    }

    /// Has a call handled in a slot that no call of the service wants; `None` if one does, before it is
    /// done.
    pub(super) async fn handle_spare(&self, call: Call) -> Option<Result<Reply, Failure>> {
        let mut wanted = std::pin::pin!(self.wanted.notified());
        // Before it is in the line: whoever finds no slot because of it, tells it.
        wanted.as_mut().enable();
        let slots = Arc::clone(&self.slots);
        let _slot = before(slots.acquire_owned(), wanted.as_mut()).await?.ok()?;
        before(self.handler.handle(call), wanted).await
    }

    fn place(self: &Arc<Self>) -> Result<Place, CallError> {
        let limit = self.capacity();
        let more = |inside: usize| (inside < limit).then_some(inside + 1);
        let order = Ordering::AcqRel;
        let entered = self.inside.fetch_update(order, Ordering::Acquire, more);
        if entered.is_err() {
            self.counters.busy.fetch_add(1, Ordering::Relaxed);
            let service = self.name.to_string();
            return Err(CallError::Busy { service, limit });
        }
        self.counters.admitted.fetch_add(1, Ordering::Relaxed);
        let call = Admitted {
            desk: Arc::clone(self),
            left: AtomicBool::new(false),
        };
        Ok(Place {
            call: Arc::new(call),
            outcome: None,
        })
    }

    fn panicked(&self) -> CallError {
        CallError::Panicked {
            service: self.name.to_string(),
        }
    }

    /// Counters as of now.
    #[must_use]
    pub fn stats(&self) -> ServiceStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let c = &self.counters;
        let running = of(&c.running);
        ServiceStats {
            name: self.name.to_string(),
            admitted: of(&c.admitted),
            busy: of(&c.busy),
            waiting: (self.inside.load(Ordering::Acquire) as u64).saturating_sub(running),
            running,
            most_running: of(&c.most_running),
            replied: of(&c.replied),
            failed: of(&c.failed),
            panicked: of(&c.panicked),
            dropped: of(&c.dropped),
        }
    }

    fn run(&self) -> Running<'_> {
        let running = self.counters.running.fetch_add(1, Ordering::AcqRel) + 1;
        let most = &self.counters.most_running;
        most.fetch_max(running, Ordering::AcqRel);
        Running(self)
    }
}

impl Ticket {
    /// What gives the call up, for whoever ends its task.
    #[must_use]
    pub fn give_up(&self) -> GiveUp {
        GiveUp(Arc::clone(&self.place.call))
    }

    /// Waits for the call's turn and has it handled, until `deadline`, which is to be ready when the
    /// call's own is over. Dropping this drops the handler.
    ///
    /// # Errors
    /// [`CallError::Deadline`], [`CallError::Panicked`], or what the handler says.
    pub async fn attend(
        self,
        mut call: Call,
        deadline: impl Future<Output = ()>,
    ) -> Result<Reply, CallError> {
        let Self {
            mut place,
            turn,
            had,
            since,
        } = self;
        let mut deadline = std::pin::pin!(deadline);
        let late = CallError::Deadline {
            service: call.service.clone(),
            deadline: call.deadline,
        };
        let slot = match had {
            Some(slot) => Some(slot),
            None => match before(turn, deadline.as_mut()).await {
                Some(slot) => slot,
                None => return Err(late),
            },
        };
        call.deadline = call.deadline.saturating_sub(since.elapsed());
        let desk = Arc::clone(&place.call.desk);
        let running = desk.run();
        let (service, method) = (call.service.clone(), call.method.clone());
        let handling = Handling::of(&call);
        let handler = handling.around(caught(&*desk.handler, call));
        let handled = before(handler, deadline).await;
        drop(running);
        drop(slot);
        let (outcome, result) = match handled {
            None => {
                handling.failed(&late);
                return Err(late);
            }
            Some(None) => (Outcome::Panicked, Err(desk.panicked())),
            Some(Some(Ok(reply))) => (Outcome::Replied, Ok(reply)),
            Some(Some(Err(failure))) => (Outcome::Failed, Err(failure.of(&service, &method))),
        };
        place.outcome = Some(outcome);
        result.inspect_err(|error| handling.failed(error))
    }
}

/// What comes first, if it is not the deadline.
pub(super) async fn before<T>(
    wanted: impl Future<Output = T>,
    mut deadline: Pin<&mut impl Future<Output = ()>>,
) -> Option<T> {
    let mut wanted = std::pin::pin!(wanted);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = wanted.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        deadline.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// What the handler says; `None` if it panics, whether before its future or in it.
async fn caught(handler: &dyn Handler, call: Call) -> Option<Result<Reply, Failure>> {
    let made = catch_unwind(AssertUnwindSafe(|| handler.handle(call)));
    let mut handling = made.ok()?;
    std::future::poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx)));
        match polled {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.counters.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl GiveUp {
    /// Gives it up, if it has not ended.
    pub fn now(&self) {
        self.0.leave(None);
    }
}

impl Admitted {
    /// Gives the place back, once.
    fn leave(&self, outcome: Option<Outcome>) {
        if self.left.swap(true, Ordering::AcqRel) {
            return;
        }
        let counters = &self.desk.counters;
        let counter = match outcome {
            Some(Outcome::Replied) => &counters.replied,
            Some(Outcome::Failed) => &counters.failed,
            Some(Outcome::Panicked) => &counters.panicked,
            None => &counters.dropped,
        };
        counter.fetch_add(1, Ordering::AcqRel);
        self.desk.inside.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.call.leave(self.outcome);
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("desk", &self.place.call.desk)
            .finish_non_exhaustive()
    }
}
