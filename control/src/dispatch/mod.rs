//! Giving tasks to members that can do them, until each has ended.
//!
//! A [`Dispatcher`] knows the members from a [`Registry`], and asks of those that have the capability, are
//! well and have room, the one that has the fewest of its tasks; among equals the first by name. A member
//! that refuses, does not accept in time, or is removed, loses the task to another one, until the task's
//! deadline. A result or a failure is final.
//!
//! [`core`](self) decides and knows nothing of buses; the driver carries it out.
//!
//! Invariant: each task that was taken ends exactly once, and everything is bounded: tasks by
//! [`Options::outstanding`], those at a member by what it does at once.

mod core;
mod doing;
mod driver;
mod handle;
mod roster;
mod spec;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eventbus_trait::trace::TraceParent;
use eventbus_trait::{
    ConnectError, EventBus, FilterError, PublisherId, Subscribe, SubscribeError, check_client_name,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use self::core::{Core, Step, Taken};
use crate::later::after;
use crate::registry::Registry;
use crate::tasks::reports_topic;
use driver::Driver;
pub use handle::TaskHandle;
pub use spec::{
    Attempt, AttemptEnd, DEFAULT_DEADLINE, Done, Outcome, SubmitError, TaskError, TaskSpec,
};

/// How long cancellations may take to go out when a dispatcher stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bounds of a dispatcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Tasks that are outstanding at once: 4,096. What comes then is [`SubmitError::Full`].
    pub outstanding: usize,
    /// How long a member has to accept a task: 2 s. Then another one is asked.
    pub accept_within: Duration,
    /// How many attempts a task has: 32. After the last it is [`TaskError::GivenUp`].
    pub attempts: usize,
    /// How long a member is not asked again that did not take a task: 250 ms, twice as long each time.
    pub pause: Duration,
    /// How many more tasks a member is given than it does at once: 0. They wait at the member.
    pub ahead: usize,
    /// How many ended tasks are remembered: 1,024. Who submits one of them again gets the same outcome.
    pub remember: usize,
    /// How many bytes of results are remembered with them: 16 MiB.
    pub remember_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            outstanding: 4096,
            accept_within: Duration::from_secs(2),
            attempts: 32,
            pause: Duration::from_millis(250),
            ahead: 0,
            remember: 1024,
            remember_bytes: 16 << 20,
        }
    }
}

/// Why a dispatcher did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError {
    /// It cannot have this name.
    #[error(transparent)]
    Name(#[from] ConnectError),
    /// There is no topic of that name.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Reports cannot be had.
    #[error("cannot take reports: {0}")]
    Subscribe(#[from] SubscribeError),
}

/// What a dispatcher has counted since its start, and has at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Tasks taken. Each ends as one of the next seven.
    pub submitted: u64,
    /// Tasks done.
    pub done: u64,
    /// Tasks that a member tried in vain.
    pub failed: u64,
    /// Tasks not done by their deadline.
    pub overdue: u64,
    /// Tasks for which too many members were asked.
    pub given_up: u64,
    /// Tasks that could not be sent.
    pub unsendable: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
    /// Tasks that were there when it stopped.
    pub closed: u64,
    /// Submissions of a task that was there or remembered.
    pub duplicates: u64,
    /// Submissions refused.
    pub refused: u64,
    /// Attempts that came to nothing.
    pub retries: u64,
    /// Reports about another attempt than the one under way, or of an unknown task.
    pub late: u64,
    /// Events that are no reports.
    pub malformed: u64,
    /// Orders that could not be published.
    pub unsent: u64,
}

impl Counts {
    /// Counts the end of a task. Whether that is for good: a task that was tried and has ended.
    fn count(&mut self, outcome: &Outcome) -> bool {
        let (count, lasting) = match outcome {
            Ok(_) => (&mut self.done, true),
            Err(TaskError::Failed { .. }) => (&mut self.failed, true),
            Err(TaskError::Deadline { .. }) => (&mut self.overdue, false),
            Err(TaskError::GivenUp { .. }) => (&mut self.given_up, false),
            Err(TaskError::Unsendable { .. }) => (&mut self.unsendable, false),
            Err(TaskError::Cancelled) => (&mut self.cancelled, false),
            Err(TaskError::Closed) => (&mut self.closed, false),
        };
        *count += 1;
        lasting
    }
}

/// What a dispatcher has at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// Tasks that have not ended.
    pub outstanding: usize,
    /// Of these, those that wait for a member with room.
    pub waiting: usize,
    /// Places taken at members: tasks at them, and cancellations on their way to them.
    pub taken: usize,
    /// Members that are known.
    pub members: usize,
    /// Members that an order is on its way to.
    pub sending: usize,
}

/// Gives tasks to members, until it is stopped or dropped. Dropping it ends what is outstanding as
/// [`TaskError::Closed`]; members are not told, and go on until their tasks' deadlines.
pub struct Dispatcher {
    name: String,
    shared: Arc<Shared>,
    now: watch::Receiver<Now>,
    seen: watch::Receiver<u64>,
    driver: JoinHandle<()>,
    /// It ends with its last handle.
    _registry: Registry,
}

struct Shared {
    inner: Mutex<Inner>,
    wake: Notify,
    /// How often the driver was asked to look; it says which it has seen.
    asked: AtomicU64,
}

struct Inner {
    core: Core,
    waiters: HashMap<Arc<str>, watch::Sender<Option<Outcome>>>,
    /// What the driver has to publish. Bounded by the seats that are taken.
    out: Vec<Step>,
    closed: bool,
}

impl Inner {
    fn apply(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::End { id, outcome } => {
                    if let Some(waiter) = self.waiters.remove(&id) {
                        waiter.send_replace(Some(outcome));
                    }
                }
                order => self.out.push(order),
            }
        }
    }

    /// Lets `change` at the core, and does what follows from it here.
    fn with<T>(&mut self, change: impl FnOnce(&mut Core, Instant, &mut Vec<Step>) -> T) -> T {
        let mut steps = Vec::new();
        let result = change(&mut self.core, Instant::now(), &mut steps);
        self.apply(steps);
        result
    }

    fn close(&mut self) {
        self.closed = true;
        self.with(|core, _, steps| core.end_all(&TaskError::Closed, steps));
        self.out.clear();
    }
}

impl Dispatcher {
    /// Starts to dispatch under a name, which reports are sent to: `results.NAME`. Two dispatchers of a bus
    /// have two names. Within a tokio runtime.
    ///
    /// What is known of members comes from `registry`; one that has just started knows nobody for as long
    /// as a heartbeat takes, see [`TaskSpec::wait_for_member`].
    ///
    /// # Errors
    /// [`DispatchError`].
    pub async fn start(
        bus: Arc<dyn EventBus>,
        name: &str,
        registry: &Registry,
        options: Options,
    ) -> Result<Self, DispatchError> {
        check_client_name(name)?;
        let reports = bus.subscribe(Subscribe::to(reports_topic(name))?).await?;
        let mut changes = registry.watch();
        let life = PublisherId::random().to_string();
        let mut inner = Inner {
            core: Core::new(name.to_owned(), life, options),
            waiters: HashMap::new(),
            out: Vec::new(),
            closed: false,
        };
        // The first is about all members that are known: so who submits at once finds them.
        if let Some(change) = changes.next().await {
            inner.with(|core, now, steps| core.change(change, now, steps));
        }
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            wake: Notify::new(),
            asked: AtomicU64::new(0),
        });
        let (tell_now, now) = watch::channel(Now::default());
        let (tell_seen, seen) = watch::channel(0);
        let driver = Driver::new(bus, Arc::clone(&shared), tell_now, tell_seen);
        let driver = tokio::spawn(driver.run(reports, changes));
        Ok(Self {
            name: name.to_owned(),
            shared,
            now,
            seen,
            driver,
            _registry: registry.clone(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes a task, and asks a member as soon as one has room. Submitting an id again that is
    /// outstanding or remembered is the same task, as it was submitted first.
    ///
    /// # Errors
    /// [`SubmitError`]; nobody was asked then.
    pub fn submit(&self, spec: TaskSpec) -> Result<TaskHandle, SubmitError> {
        let trace = TraceParent::current().map(|parent| parent.to_string());
        let mut inner = self.shared.inner.lock();
        if inner.closed {
            return Err(SubmitError::Closed);
        }
        let taken = inner.with(|core, now, steps| core.submit(spec.traced(trace), now, steps))?;
        let (id, outcome) = match taken {
            Taken::Ended(id, outcome) => {
                let (_, ended) = watch::channel(Some(outcome));
                (id, ended)
            }
            Taken::Outstanding(id) => {
                let waiter = inner.waiters.entry(Arc::clone(&id));
                let outcome = waiter.or_insert_with(|| watch::channel(None).0).subscribe();
                (id, outcome)
            }
        };
        drop(inner);
        self.shared.wake.notify_one();
        Ok(TaskHandle::new(id, Arc::clone(&self.shared), outcome))
    }

    /// Waits until nothing is outstanding and nothing is to be published. Cancel-safe.
    pub async fn idle(&self) {
        let asked = self.shared.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.shared.wake.notify_one();
        let (mut seen, mut now) = (self.seen.clone(), self.now.clone());
        // An error says that the driver has ended.
        let _ended = seen.wait_for(|seen| *seen >= asked).await.is_err();
        let idle = |now: &Now| now.outstanding == 0 && now.taken == 0 && now.sending == 0;
        let _ended = now.wait_for(idle).await.is_err();
    }

    /// Takes no more tasks, waits until those that are outstanding have ended, at most for `deadline`, and
    /// cancels the rest. How many that were.
    pub async fn stop(mut self, deadline: Duration) -> usize {
        self.shared.inner.lock().closed = true;
        let at = after(Instant::now(), deadline);
        if timeout_at(at, self.idle()).await.is_ok() {
            return 0;
        }
        let rest = {
            let mut inner = self.shared.inner.lock();
            let rest = inner.core.outstanding();
            inner.with(|core, _, steps| core.end_all(&TaskError::Closed, steps));
            rest
        };
        self.shared.wake.notify_one();
        let _told = timeout_at(at + FAREWELL, self.idle()).await;
        self.driver.abort();
        let _gone = (&mut self.driver).await;
        rest
    }

    /// Counters since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.inner.lock().core.counts
    }

    /// What there is at this moment.
    #[must_use]
    pub fn now(&self) -> Now {
        let sending = self.now.borrow().sending;
        self.shared.now(sending)
    }
}

impl Shared {
    fn now(&self, sending: usize) -> Now {
        let inner = self.inner.lock();
        Now {
            outstanding: inner.core.outstanding(),
            waiting: inner.core.waiting(),
            taken: inner.core.taken(),
            members: inner.core.members(),
            sending: sending + inner.out.len(),
        }
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.driver.abort();
        self.shared.inner.lock().close();
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
