//! Calls that are made once more on the candidate, and the copies of services that answer them there.
//!
//! A service that the application serves on the primary is served on the candidate as well, as
//! `NAME--mirror`: nobody takes it for the service, and a cutover finds the service's own name free. It
//! carries out idempotent calls alone, in slots that the service's own calls leave free.
//!
//! Invariant: the caller has the primary's answer before the candidate is asked; what is asked there is
//! bounded, and whoever asks waits for nothing; each call that was begun is counted once more, however
//! the candidate ends.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eventbus_trait::rpc::{Call, CallError, Reply, ServeError, Service, Serving, Spare};
use eventbus_trait::{EventBus, PublisherId, check_client_name};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use crate::attached::Attached;
use crate::calls::{CallDifference, Counted, End, NotCompared, Otherwise, compared, is_answer};
use crate::candidate::{kind, text_of};
use crate::comparator::Comparator;
use crate::link::Link;
use crate::queue::Command;

/// What a copy's name ends with.
const COPY: &str = "--mirror";
/// Bytes of request and reply that one unit of room stands for.
const UNIT: usize = 1024;
/// How long a name may still be taken by a copy that was there before.
const NAME_WAIT: Duration = Duration::from_millis(500);

/// The name of a service's copy, if there can be one.
fn copy_of(service: &str) -> Option<String> {
    let name = format!("{service}{COPY}");
    check_client_name(&name).is_ok().then_some(name)
}

/// One comparison's calls.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) counted: Counted,
    room: Arc<Semaphore>,
    capacity: u32,
    /// What the candidate has to do, one for each command in its queue.
    work: Mutex<VecDeque<Work>>,
}

/// Something for the candidate's thread to do.
#[derive(Debug)]
pub(crate) enum Work {
    Serve(Arc<Hosted>, Arc<Link>),
    Unserve(u64),
    Call(Box<Asked>),
}

impl Mirror {
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX).max(1);
        let capacity = capacity.min(u32::MAX >> 4);
        Self {
            counted: Counted::default(),
            room: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
            work: Mutex::default(),
        }
    }

    fn room(&self, call: &Call, end: &Result<Reply, CallError>) -> Option<OwnedSemaphorePermit> {
        let reply = end
            .as_ref()
            .ok()
            .and_then(|reply| reply.payload.known_len());
        let bytes = call.payload.known_len().unwrap_or(0) + reply.unwrap_or(0);
        let units = u32::try_from(bytes / UNIT + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room);
        room.try_acquire_many_owned(units.min(self.capacity)).ok()
    }

    /// The next thing to do, for the candidate's thread.
    pub(crate) fn next(&self) -> Option<Work> {
        self.work.lock().pop_front()
    }

    /// Forgets what is to do: the candidate has gone.
    pub(crate) fn forget(&self) {
        let forgotten = std::mem::take(&mut *self.work.lock());
        // Not under the lock: it counts.
        drop(forgotten);
    }
}

impl Comparator {
    /// Has the candidate's thread do something; says whether it will be asked to.
    pub(crate) fn order(&self, work: Work) -> bool {
        // Both under the lock, so that there is one command for each.
        let mut all = self.mirror.work.lock();
        all.push_back(work);
        let queued = self.queue.control(Command::Work);
        let not_done = if queued { None } else { all.pop_back() };
        drop(all);
        drop(not_done);
        queued
    }
}

/// A service of the application's, and what copies of it share.
#[derive(Debug)]
pub(crate) struct Hosted {
    id: u64,
    pub(crate) owner: PublisherId,
    copy: String,
    concurrency: Service,
    spare: Spare,
    runtime: runtime::Handle,
}

impl Hosted {
    /// `None` if its name is too long for a copy, or there is no runtime.
    pub(crate) fn new(owner: PublisherId, service: &Service) -> Option<Arc<Self>> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let spare = Spare::of(service);
        let copy = copy_of(service.name())?;
        Some(Arc::new(Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            owner,
            concurrency: spare.service(&copy),
            copy,
            spare,
            runtime: runtime::Handle::try_current().ok()?,
        }))
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Its handlers are dropped, wherever copies are served.
    pub(crate) fn end(&self) {
        self.spare.end();
    }

    /// Serves the copy; its handlers run where those of the service do.
    pub(crate) async fn serve(&self, bus: &dyn EventBus) -> Result<Serving, ServeError> {
        let begun = tokio::time::Instant::now();
        loop {
            let mut serving = pin!(bus.serve(self.concurrency.clone()));
            let served = std::future::poll_fn(|cx| {
                let _within = self.runtime.enter();
                serving.as_mut().poll(cx)
            });
            match served.await {
                Err(ServeError::InUse { .. }) if begun.elapsed() < NAME_WAIT => {
                    let pause = std::future::pending::<()>();
                    let _ = tokio::time::timeout(NAME_WAIT / 10, pause).await;
                }
                ended => return ended,
            }
        }
    }

    pub(crate) fn copy(&self) -> &str {
        &self.copy
    }
}

/// A call of the application's, until it ends on the primary.
pub(crate) struct Made<'a> {
    attached: &'a Arc<Attached>,
    /// If it is to be made on the candidate.
    again: Option<Call>,
}

impl<'a> Made<'a> {
    pub(crate) fn new(attached: &'a Arc<Attached>, call: &Call) -> Self {
        let again = call.idempotent.then(|| call.clone());
        Self { attached, again }
    }

    /// It has ended on the primary.
    pub(crate) fn ended(mut self, end: &Result<Reply, CallError>) {
        let comparator = &self.attached.comparator;
        let counted = &comparator.mirror.counted;
        let Some(mut call) = self.again.take() else {
            return counted.unmirrored();
        };
        if !is_answer(end) {
            return counted.skipped(NotCompared::NoAnswer);
        }
        let Some(copy) = copy_of(&call.service) else {
            return counted.skipped(NotCompared::NoCopy);
        };
        let Some(room) = comparator.mirror.room(&call, end) else {
            return counted.skipped(NotCompared::Full);
        };
        let service = std::mem::replace(&mut call.service, copy);
        counted.begun();
        comparator.order(Work::Call(Box::new(Asked {
            call: Some(call),
            service,
            primary: end.clone(),
            link: Arc::clone(&self.attached.link),
            comparator: Arc::clone(comparator),
            end: None,
            _room: room,
        })));
    }
}

/// Given up by the application.
impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.again.take().is_some() {
            let counted = &self.attached.comparator.mirror.counted;
            counted.skipped(NotCompared::Cancelled);
        }
    }
}

/// A call for the candidate; it is counted when this is dropped.
pub(crate) struct Asked {
    call: Option<Call>,
    service: String,
    primary: Result<Reply, CallError>,
    link: Arc<Link>,
    comparator: Arc<Comparator>,
    end: Option<End>,
    _room: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let end = self.end.take();
        let end = end.unwrap_or(End::NotCompared(NotCompared::Gone));
        self.comparator.mirror.counted.ended(end);
    }
}

impl Asked {
    pub(crate) fn copy(&self) -> &str {
        self.call.as_ref().map_or("", |call| &call.service)
    }

    /// Asks the candidate, on its own thread, and compares; `copied` says whether the copy is served
    /// there by this process.
    pub(crate) async fn ask(mut self: Box<Self>, copied: bool) {
        let Some((call, bus)) = self.call.take().zip(self.link.bus()) else {
            return;
        };
        let (method, deadline) = (call.method.clone(), call.deadline);
        // Whatever the candidate makes of the deadline.
        let calling =
            tokio::time::timeout(deadline.saturating_mul(2), async { bus.call(call).await });
        let comparator = Arc::clone(&self.comparator);
        let candidate = match AssertUnwindSafe(calling).catch_unwind().await {
            Ok(Ok(candidate)) => candidate,
            Ok(Err(_)) => {
                comparator.error("call", "hangs", &"it did not end by its deadline");
                self.end = Some(End::Failed);
                return;
            }
            Err(panic) => {
                comparator.error("call", "panic", &text_of(&*panic));
                self.end = Some(End::Failed);
                return;
            }
        };
        self.end = Some(match compared(&self.primary, &candidate, copied) {
            Ok(()) => End::Same,
            Err(Otherwise::NotCompared(reason)) => End::NotCompared(reason),
            Err(Otherwise::Failed(error)) => {
                comparator.error("call", &kind(&error), &error);
                End::Failed
            }
            Err(Otherwise::Differs(detail)) => {
                let service = self.service.clone();
                debug!(service, method, detail, "the candidate answers otherwise");
                End::Differs(CallDifference {
                    service,
                    method,
                    detail,
                })
            }
        });
    }
}

/// Serves a copy on the candidate; `None` if that cannot be, which is counted.
pub(crate) async fn serve_copy(
    comparator: &Comparator,
    hosted: &Hosted,
    link: &Link,
) -> Option<Serving> {
    let bus = link.bus()?;
    let serving = AssertUnwindSafe(hosted.serve(&*bus)).catch_unwind().await;
    match serving {
        Ok(Ok(serving)) => Some(serving),
        Ok(Err(ServeError::NotSupported { backend })) => {
            warn!(backend, "the candidate has no calls: none are compared");
            None
        }
        Ok(Err(error)) => {
            comparator.error("serve", &kind(&error), &error);
            None
        }
        Err(panic) => {
            comparator.error("serve", "panic", &text_of(&*panic));
            None
        }
    }
}
