//! What a member runs to do tasks: orders in, reports out, and a bound on everything between.
//!
//! `intake` decides and knows nothing of buses; the driver here only carries out what it says. So what
//! holds of tasks is tested without a bus.
//!
//! Invariant: every handler is a child of the driver; when the worker is dropped, nothing of it is left. Each
//! report was published, replaced by a later one of the same task, or is counted as unsent; at the end one for each
//! dispatcher may be both published and counted.

mod driver;
mod handler;
mod intake;
mod memory;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use eventbus_trait::{EventBus, FilterError, Subscribe, SubscribeError};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

pub use handler::{TaskFailure, TaskHandler, Work};

use super::orders_topic;
use crate::intake::Intake as Gate;
use crate::later::after;
use crate::member::Identity;
use driver::Driver;
use intake::Intake;
use memory::Memory;

/// How long after a task's deadline its dispatcher may still be told.
const GRACE: Duration = Duration::from_secs(1);

/// Bounds of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Tasks that wait while `max_tasks` run, the highest priority first: 64. What comes then is refused.
    pub queue: usize,
    /// How many ended tasks are remembered: 1,024. Who asks for one of them again gets the same answer.
    pub remember: usize,
    /// How many bytes of results are remembered with them: 16 MiB.
    pub remember_bytes: usize,
    /// Reports that wait for one dispatcher: 1,024. While there are more, its tasks are not taken.
    pub unheard: usize,
    /// Dispatchers for which reports wait: 64. While there are more, tasks of others are not taken.
    pub dispatchers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue: 64,
            remember: 1024,
            remember_bytes: 16 << 20,
            unheard: 1024,
            dispatchers: 64,
        }
    }
}

/// Why a worker did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// There is no topic for such a kind and name.
    #[error("no topic for the tasks of `{name}`: {error}")]
    Name {
        /// The member's name.
        name: String,
        /// What is wrong.
        error: FilterError,
    },
    /// The orders cannot be had.
    #[error("cannot take orders: {0}")]
    Subscribe(#[from] SubscribeError),
}

/// What a worker has to do at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Handlers that are there.
    pub running: usize,
    /// Tasks that wait for one.
    pub waiting: usize,
    /// Dispatchers that a report is on its way to.
    pub telling: usize,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// Tasks accepted. Each ends as one of `done`, `failed`, `cancelled` and `interrupted`.
    pub accepted: u64,
    /// Orders for a task that was there or remembered.
    pub repeated: u64,
    /// Orders refused.
    pub refused: u64,
    /// Tasks whose handler returned a result.
    pub done: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Of these, those whose handler panicked.
    pub panicked: u64,
    /// Tasks that their dispatcher cancelled.
    pub cancelled: u64,
    /// Tasks that had not ended when the worker stopped, which gives them back if there is time.
    pub interrupted: u64,
    /// Of `done`, results that could not be sent, such as those that are too large: they were told as failed.
    pub unsendable: u64,
    /// Events that are no orders.
    pub malformed: u64,
    /// Orders not taken because their dispatcher does not take reports.
    pub unanswerable: u64,
    /// Reports that were not published in time, or not before the worker was gone. Of each dispatcher one may
    /// have come all the same: the one that was just being published.
    pub unsent: u64,
    /// How often a report found no room and was tried again.
    pub retries: u64,
    /// Tasks that are remembered.
    pub remembered: usize,
}

/// How a worker stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Whether everything that it had taken came to its own end.
    pub drained: bool,
    /// What it did.
    pub stats: WorkerStats,
}

/// Does tasks, until it is stopped or dropped. Dropping it drops its handlers, and says nothing to anybody; what
/// it had still to say is counted.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    load: watch::Receiver<Load>,
    seen: watch::Receiver<u64>,
    driver: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    intake: Mutex<Intake>,
    wake: Notify,
    /// How often the driver was asked to look; it says which it has seen.
    asked: AtomicU64,
    /// Whether everything is to be given back.
    interrupt: AtomicBool,
    malformed: AtomicU64,
    unanswerable: AtomicU64,
    unsent: AtomicU64,
    retries: AtomicU64,
}

impl Worker {
    /// Starts to take tasks as a member that goes only when the tasks that were taken have ended and been told.
    pub(crate) async fn of(
        bus: Arc<dyn EventBus>,
        identity: &Identity,
        handler: Arc<dyn TaskHandler>,
        options: Options,
        gate: Gate,
    ) -> Result<Self, WorkError> {
        Self::begin(bus, identity, handler, options, Some(gate)).await
    }

    /// Starts to take tasks as this member, at most `identity.max_tasks` at once. Within a tokio runtime,
    /// which handlers then run on. When it returns, orders are heard, and not before: whoever says that
    /// the member is there says it then, as [`serve_collector`](crate::collector::serve_collector) does
    /// for a collector with a [handler](crate::collector::Collector::task_handler).
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn start(
        bus: Arc<dyn EventBus>,
        identity: &Identity,
        handler: Arc<dyn TaskHandler>,
        options: Options,
    ) -> Result<Self, WorkError> {
        Self::begin(bus, identity, handler, options, None).await
    }

    async fn begin(
        bus: Arc<dyn EventBus>,
        identity: &Identity,
        handler: Arc<dyn TaskHandler>,
        options: Options,
        gate: Option<Gate>,
    ) -> Result<Self, WorkError> {
        let topic = orders_topic(&identity.kind, &identity.name);
        let subscribe = Subscribe::to(&topic).map_err(|error| WorkError::Name {
            name: identity.name.clone(),
            error,
        })?;
        let orders = bus.subscribe(subscribe).await?;
        let intake = Intake::new(
            identity
                .capabilities
                .iter()
                .cloned()
                .collect::<BTreeSet<_>>(),
            usize::try_from(identity.max_tasks).unwrap_or(usize::MAX),
            options.queue,
            Memory::new(options.remember, options.remember_bytes),
        );
        let shared = Arc::new(Shared {
            intake: Mutex::new(intake),
            wake: Notify::new(),
            asked: AtomicU64::new(0),
            interrupt: AtomicBool::new(false),
            malformed: AtomicU64::new(0),
            unanswerable: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        });
        let (tell_load, load) = watch::channel(Load::default());
        let (tell_seen, seen) = watch::channel(0);
        let tell = (tell_load, tell_seen);
        let mut driver = Driver::new(bus, identity, handler, options, Arc::clone(&shared), tell);
        driver.gate = gate;
        let driver = tokio::spawn(driver.run(orders));
        Ok(Self {
            shared,
            load,
            seen,
            driver,
        })
    }

    /// Takes no new tasks from now on: whoever asks is refused. What is there goes on.
    pub fn drain(&self) {
        self.shared.intake.lock().drain();
    }

    /// Waits until nothing is there to do, and everything has been told; also when the bus was closed.
    /// Cancel-safe.
    pub async fn idle(&self) {
        // The load that is known may be of before an order that the driver is just reading.
        let asked = self.shared.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.shared.wake.notify_one();
        let (mut seen, mut load) = (self.seen.clone(), self.load.clone());
        // An error says that the driver has ended.
        let _ended = seen.wait_for(|seen| *seen >= asked).await.is_err();
        let _ended = load
            .wait_for(|load| *load == Load::default())
            .await
            .is_err();
    }

    /// What it has to do now, and a watch on that.
    #[must_use]
    pub fn load(&self) -> watch::Receiver<Load> {
        self.load.clone()
    }

    /// Takes no new tasks, and lets those that it has come to their end, at most for `deadline`. Then the
    /// rest is dropped and given back: dispatchers ask others. After that it is gone.
    pub async fn stop(mut self, deadline: Duration) -> Stopped {
        self.drain();
        let at = after(Instant::now(), deadline);
        let drained = timeout_at(at, self.idle()).await.is_ok();
        if !drained {
            self.shared.interrupt.store(true, Ordering::Release);
            self.shared.wake.notify_one();
            let _told = timeout_at(at + GRACE, self.idle()).await;
        }
        self.driver.abort();
        let _gone = (&mut self.driver).await;
        // Only now are the reports counted that it has not sent.
        let stats = self.stats();
        // A bus that was closed leaves nothing to be waited for, but that is no end.
        let drained = drained && stats.interrupted == 0;
        Stopped { drained, stats }
    }

    /// Counters as of now.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        self.shared.stats()
    }

    /// The counters, also when it is gone.
    pub(crate) fn counters(&self) -> Counters {
        Counters(Arc::clone(&self.shared))
    }
}

/// What a worker counts.
#[derive(Debug)]
pub(crate) struct Counters(Arc<Shared>);

impl Counters {
    pub(crate) fn stats(&self) -> WorkerStats {
        self.0.stats()
    }
}

impl Shared {
    fn stats(&self) -> WorkerStats {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let intake = self.intake.lock();
        let counts = intake.counts;
        WorkerStats {
            accepted: counts.accepted,
            repeated: counts.repeated,
            refused: counts.refused,
            done: counts.done,
            failed: counts.failed,
            panicked: counts.panicked,
            cancelled: counts.cancelled,
            interrupted: counts.interrupted,
            unsendable: counts.unsendable,
            remembered: intake.remembered(),
            malformed: get(&self.malformed),
            unanswerable: get(&self.unanswerable),
            unsent: get(&self.unsent),
            retries: get(&self.retries),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
