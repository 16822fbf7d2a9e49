//! Serving a collector: its service, its heartbeats, and the end of both.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::Collector;
use super::keeper::Keeper;
use super::pulse;
use super::service::Operations;
use super::status::Shared;
use super::wire::ShutdownReply;
use crate::intake::Intake;
use crate::member::{Activity, Heartbeat, Identity, IdentityError};
use crate::tasks::worker::{self, WorkError, Worker, WorkerStats};
use eventbus_trait::rpc::{ServeError, Service, Serving};
use eventbus_trait::{BusState, EventBus, Publisher, Topic, TopicError};

/// Operations that may wait for their turn.
const ORDERS: usize = 64;
/// Calls of the service that run at once: those that wait for their turn run too.
const CALLS: usize = 2 * ORDERS;
/// How long replies may take to leave, in the end.
const REPLIES: Duration = Duration::from_secs(1);

/// How a collector is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Time between two heartbeats: 1 s.
    pub interval: Duration,
    /// How long a change may take before it is cut off: 30 s.
    pub limit: Duration,
    /// How long a health check may take: 1 s.
    pub check_limit: Duration,
    /// How long a shutdown may take at most: 30 s.
    pub shutdown_limit: Duration,
    /// Largest request, in bytes: 256 KiB.
    pub max_request: usize,
    /// Version and content of the configuration that the collector goes by from the beginning.
    pub config: Option<(u64, Value)>,
    /// Bounds of what it does for tasks, if it has a [handler](Collector::task_handler).
    pub tasks: worker::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            limit: Duration::from_secs(30),
            check_limit: Duration::from_secs(1),
            shutdown_limit: Duration::from_secs(30),
            max_request: 256 << 10,
            config: None,
            tasks: worker::Options::default(),
        }
    }
}

/// Why a collector is not served.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// It cannot be a member.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its heartbeats have no topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A limit is none.
    #[error("`{what}` is {value:?}, not within 1ms to a day")]
    Limit {
        /// Which.
        what: &'static str,
        /// What it is.
        value: Duration,
    },
    /// Its operations cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Its tasks cannot be had.
    #[error(transparent)]
    Work(#[from] WorkError),
}

/// How a collector that was served has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// It was shut down.
    ShutDown(ShutdownReply),
    /// Its bus was closed under it.
    BusClosed,
}

/// A collector while it is served. Dropping it ends it at once, without draining.
pub struct Host {
    shared: Arc<Shared>,
    operations: Operations,
    publisher: Publisher,
    counters: Option<worker::Counters>,
    ended: watch::Receiver<Option<Ended>>,
    task: AbortHandle,
}

/// Serves `collector` on `bus` under the name of its identity, and says on `health.KIND.NAME` that it
/// lives, once it hears what it is asked and what tasks it is given. Call it within a tokio runtime.
///
/// # Errors
/// [`HostError`]; nothing was served then, and no heartbeat published.
pub async fn serve_collector(
    bus: Arc<dyn EventBus>,
    identity: Identity,
    collector: impl Collector,
    options: Options,
) -> Result<Host, HostError> {
    identity.check()?;
    options.check()?;
    let topic = Topic::new(Heartbeat::topic_of(&identity))?;
    let name = identity.name.clone();
    let shared = Arc::new(Shared::new(identity, Arc::new(collector), options));
    let (orders, ordered) = mpsc::channel(ORDERS);
    let (stops, stopped) = mpsc::channel(ORDERS);
    let operations = Operations {
        shared: Arc::clone(&shared),
        orders,
        stops,
    };
    let service = Service::new(name, operations.clone())
        .concurrency(CALLS)
        .longest(shared.options.limit.max(shared.options.shutdown_limit));
    // The name first, so that the tasks of another member of this name are not taken.
    let serving = bus.serve(service).await?;
    let worker = work(&bus, &shared).await?;
    let publisher = bus.publisher(topic);
    let mut helpers = JoinSet::new();
    helpers.spawn(pulse::beat(
        Arc::clone(&shared),
        publisher.clone(),
        bus.state(),
    ));
    helpers.spawn(pulse::check(Arc::clone(&shared)));
    let (tell, ended) = watch::channel(None);
    let keeper = Keeper::new(Arc::clone(&shared)).run(ordered, stopped);
    let counters = worker.as_ref().map(Worker::counters);
    let hosting = Hosting {
        shared: Arc::clone(&shared),
        worker,
        publisher: publisher.clone(),
        serving,
        helpers,
        bus,
    };
    let task = tokio::spawn(async move {
        let end = hosting.run(keeper).await;
        tell.send_replace(Some(end));
    });
    Ok(Host {
        shared,
        operations,
        publisher,
        counters,
        ended,
        task: task.abort_handle(),
    })
}

/// Hears the orders of the member, if its collector does tasks.
async fn work(bus: &Arc<dyn EventBus>, shared: &Shared) -> Result<Option<Worker>, WorkError> {
    let Some(handler) = shared.collector.task_handler() else {
        return Ok(None);
    };
    let (bus, identity) = (Arc::clone(bus), &shared.identity);
    let options = shared.options.tasks.clone();
    let gate = shared.intake.clone();
    let worker = Worker::of(bus, identity, handler, options, gate).await?;
    Ok(Some(worker))
}

impl Options {
    fn check(&self) -> Result<(), HostError> {
        let limits = [
            ("interval", self.interval),
            ("limit", self.limit),
            ("check_limit", self.check_limit),
            ("shutdown_limit", self.shutdown_limit),
        ];
        let sane = Duration::from_millis(1)..=Duration::from_secs(86_400);
        match limits.into_iter().find(|(_, value)| !sane.contains(value)) {
            Some((what, value)) => Err(HostError::Limit { what, value }),
            None => Ok(()),
        }
    }
}

/// What runs while a collector is served.
struct Hosting {
    shared: Arc<Shared>,
    worker: Option<Worker>,
    publisher: Publisher,
    serving: Serving,
    helpers: JoinSet<()>,
    bus: Arc<dyn EventBus>,
}

impl Hosting {
    async fn run(mut self, keeper: impl Future<Output = ShutdownReply>) -> Ended {
        let mut state = self.bus.state();
        let end = tokio::select! {
            reply = keeper => Ended::ShutDown(reply),
            () = closed(&mut state, &mut self.helpers) => {
                self.shared.intake.close();
                Ended::BusClosed
            }
        };
        if let Some(worker) = self.worker {
            // What was taken has ended; if not, it is given back while the member is still there.
            worker.stop(Duration::ZERO).await;
        }
        self.helpers.shutdown().await;
        self.shared.leaves();
        if end != Ended::BusClosed {
            pulse::leave(&self.publisher, &self.shared.heartbeat()).await;
        }
        self.serving.stop(REPLIES).await;
        end
    }
}

/// Waits until the bus is closed: it says so, or takes no more heartbeats.
async fn closed(state: &mut watch::Receiver<BusState>, helpers: &mut JoinSet<()>) {
    let says = state.wait_for(|state| matches!(state, BusState::Closed));
    tokio::select! {
        Ok(_) = says => {}
        _ = helpers.join_next() => {}
    }
}

impl Host {
    /// Who is served.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Where work is taken in that a shutdown waits for.
    #[must_use]
    pub fn intake(&self) -> Intake {
        self.shared.intake.clone()
    }

    /// What it did for tasks, also when it is gone; nothing if its collector does none.
    #[must_use]
    pub fn tasks(&self) -> Option<WorkerStats> {
        self.counters.as_ref().map(worker::Counters::stats)
    }

    /// What the member is doing.
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.shared.activity()
    }

    /// Shuts it down as the operation `shutdown` does, by `deadline` or [`Options::shutdown_limit`], and
    /// waits until it is gone.
    pub async fn shutdown(&self, deadline: Duration) -> Ended {
        // If it is gone, that is how it ended.
        let _ = self.operations.stop(deadline).await;
        self.ended().await
    }

    /// Waits until it is gone, whoever shut it down.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let end = ended.wait_for(Option::is_some).await;
        end.ok()
            .and_then(|end| end.clone())
            .unwrap_or(Ended::BusClosed)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.ended.borrow().is_some() {
            return;
        }
        self.task.abort();
        self.shared.intake.close();
        self.shared.leaves();
        // Whether or not anybody hears it: there is no time to wait.
        let _ = pulse::publish(&self.publisher, &self.shared.heartbeat());
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("identity", self.identity())
            .field("activity", &self.activity())
            .finish_non_exhaustive()
    }
}
