//! What the handles of one `open` share: a runtime for their tasks, and the way to the broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus_trait::{ConnectError, PublisherId, check_client_name};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tracing::warn;

use crate::bus::BusrtBus;
use crate::calls::{self, port::Port};
use crate::dial::{Dialer, RETRY};
use crate::executor::Executor;
use crate::namespace;
use crate::options::{Address, BrokerMode, OpenError, Options};
use crate::runtime;
use crate::session::connection;
use crate::session::node::Node;
use crate::work::{Task, Tasks};

/// Commands that may wait for a connection's task.
const COMMANDS: usize = 1_024;

pub(crate) struct Home {
    dialer: Arc<Dialer>,
    runtime: Option<Runtime>,
    tasks: Tasks,
}

/// Opens a bus over busrt: starts the broker if this process is to run it, and connects.
///
/// The bus outlives its connection: see [`EventBus::state`](eventbus_trait::EventBus::state).
/// It may be called from any executor; the bus brings its own threads.
///
/// # Errors
/// [`OpenError`]: the socket cannot be had, nothing answers, or the name is in use.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use busrt_backend::{Address, Options, open};
/// use eventbus_trait::{Event, EventBus, Subscribe};
/// let bus = open(Options::new(Address::InProcess)).await?;
/// let mut events = bus.subscribe(Subscribe::to("events.#")?).await?;
/// bus.publish(Event::new("events.process.new", "pid 1")?).await?;
/// assert_eq!(events.recv().await.unwrap().bytes()?, "pid 1");
/// bus.shutdown().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub async fn open(options: Options) -> Result<Arc<BusrtBus>, OpenError> {
    if let Some(namespace) = &options.namespace {
        namespace::check(namespace)?;
    }
    if let Some(name) = &options.name {
        check_client_name(name)?;
        namespace::within(name.clone(), options.namespace.as_deref())?;
    }
    let patience = Instant::now() + options.connect_timeout;
    loop {
        match open_once(options.clone()).await {
            // Who has the lock may not listen yet, or no more: ask again who is the broker.
            Err(OpenError::Connect(ConnectError::Unreachable { .. }))
                if options.broker == BrokerMode::Auto
                    && matches!(options.address, Address::Unix(_))
                    && Instant::now() < patience =>
            {
                futures_timer::Delay::new(RETRY).await;
            }
            done => return done,
        }
    }
}

async fn open_once(options: Options) -> Result<Arc<BusrtBus>, OpenError> {
    let dialer = Arc::new(Dialer::new(options).await?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One may sit out a pause of the executor's tasks.
        .worker_threads(2)
        .thread_name("eventbus-session")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            dialer.stop().await;
            let reason = e.to_string();
            return Err(OpenError::Runtime { reason });
        }
    };
    let name = dialer.options.name.clone();
    let tasks = match dialer.options.address {
        Address::InProcess => Tasks::Helped(Executor::new(runtime.handle().clone())),
        _ => Tasks::Runtime(runtime.handle().clone()),
    };
    let home = Arc::new(Home {
        dialer,
        runtime: Some(runtime),
        tasks,
    });
    match home.connect(name.as_deref()).await {
        Ok(bus) => Ok(Arc::new(bus)),
        Err(reason) => {
            if let Some(home) = Arc::into_inner(home) {
                home.stop().await;
            }
            Err(reason.into())
        }
    }
}

impl Home {
    /// Another handle: a connection, a node, its task.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        name: Option<&str>,
    ) -> Result<BusrtBus, ConnectError> {
        if let Some(name) = name {
            check_client_name(name)?;
        }
        let publisher = PublisherId::random();
        let name = self.dialer.client_name(name, publisher)?;
        let Some(runtime) = &self.runtime else {
            return Err(ConnectError::Closed);
        };
        // In a task of our own runtime, because a busrt client lives where it was made.
        let making = {
            let dialer = Arc::clone(&self.dialer);
            runtime.spawn(async move { dialer.first(&name).await })
        };
        let made = making.await.map_err(|_| ConnectError::Closed)?;
        let (client, name) = made.map_err(namespace::as_asked)?;
        let options = &self.dialer.options;
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let node = Arc::new(Node::new(
            name.as_str().into(),
            publisher,
            options.limits.clone(),
            options.link_timeout,
            commands,
            self.tasks.clone(),
        ));
        let task = self.tasks.spawn(connection::run(
            Arc::clone(&node),
            Arc::clone(&self.dialer),
            client,
            receiver,
        ));
        let bus = BusrtBus::new(
            Arc::clone(&node),
            Arc::clone(self),
            task,
            self.dialer.backend(),
        );
        // From here on, dropping `bus` undoes everything.
        node.joined(&self.dialer.address(), options.connect_timeout)
            .await
            .map_err(namespace::as_asked)?;
        Ok(bus)
    }

    /// A connection for a service, whose client has this name.
    pub(crate) async fn serve(
        &self,
        name: &str,
        port: Arc<Port>,
    ) -> Result<Task<()>, ConnectError> {
        let Some(runtime) = &self.runtime else {
            return Err(ConnectError::Closed);
        };
        let making = {
            let (dialer, name) = (Arc::clone(&self.dialer), name.to_owned());
            runtime.spawn(async move { dialer.service(&name).await })
        };
        let client = making.await.map_err(|_| ConnectError::Closed)??;
        let (dialer, tasks) = (Arc::clone(&self.dialer), self.tasks.clone());
        Ok(self
            .tasks
            .spawn(calls::connection::run(port, dialer, tasks, client)))
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// How long an exchange with a peer may take.
    pub(crate) fn patience(&self) -> Duration {
        self.dialer.options.connect_timeout
    }

    /// Ends the threads, then the broker.
    pub(crate) async fn stop(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime::stop(runtime).await;
        }
        self.dialer.stop().await;
    }

    /// Runs `last` on a thread of its own and lets go of everything afterwards.
    pub(crate) fn finish_in_background(
        self: Arc<Self>,
        last: impl Future<Output = ()> + Send + 'static,
    ) {
        let finish = move || {
            if let Some(runtime) = &self.runtime {
                runtime.block_on(last);
            }
        };
        let spawned = std::thread::Builder::new()
            .name("eventbus-finish".to_owned())
            .spawn(finish);
        if let Err(reason) = spawned {
            warn!(%reason, "handle dropped without being finished");
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
