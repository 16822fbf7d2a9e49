//! What the handles of one `open` share: a runtime for their tasks and, perhaps, the broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus_trait::{ConnectError, PublisherId};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::interval;
use tracing::{info, warn};

use crate::broker::{Broker, BrokerError, BrokerOptions, Listener, SocketError};
use crate::bus::BusrtBus;
use crate::options::{Address, BrokerMode, OpenError, Options, check_name};
use crate::session::node::Node;
use crate::session::{incoming, writer};
use crate::{runtime, transport};

/// How long a client name that is in use is tried again.
const NAME_PATIENCE: Duration = Duration::from_secs(1);
/// How often something is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// Commands that may wait for a writer.
const COMMANDS: usize = 1_024;

pub(crate) struct Home {
    pub(crate) options: Options,
    broker: Option<Broker>,
    #[cfg(feature = "tcp")]
    connector: Option<crate::tls::Connector>,
    runtime: Option<Runtime>,
}

/// Opens a bus over busrt: starts the broker if this process is to run it, and connects.
///
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
    if let Some(name) = &options.name {
        check_name(name)?;
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
    #[cfg(feature = "tcp")]
    let connector = connector(&options)?;
    let broker = start_broker(&options).await?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("eventbus-session")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            if let Some(broker) = broker {
                broker.stop().await;
            }
            let reason = e.to_string();
            return Err(OpenError::Runtime { reason });
        }
    };
    let name = options.name.clone();
    let home = Arc::new(Home {
        options,
        broker,
        #[cfg(feature = "tcp")]
        connector,
        runtime: Some(runtime),
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

/// Reads the certificates, and checks that they entitle to the name that is asked for.
#[cfg(feature = "tcp")]
fn connector(options: &Options) -> Result<Option<crate::tls::Connector>, OpenError> {
    let Address::Tcp { host, port, tls } = &options.address else {
        return Ok(None);
    };
    let connector = crate::tls::Connector::new(host, *port, tls)?;
    if let Some(name) = &options.name {
        connector.check_name(name)?;
    }
    Ok(Some(connector))
}

async fn start_broker(options: &Options) -> Result<Option<Broker>, OpenError> {
    let mut broker_options = BrokerOptions::new();
    broker_options.keepalive = options.keepalive;
    broker_options.max_connections = options.max_connections;
    broker_options.fit(options.limits.max_event_size);
    broker_options.acl = options.acl.clone();
    broker_options.rate = options.rate;
    let path = match &options.address {
        Address::Unix(path) => path,
        #[cfg(feature = "tcp")]
        Address::Tcp { host, port, tls } => {
            if options.broker != BrokerMode::Embedded {
                return Ok(None);
            }
            let address = crate::tls::resolve(host, *port)?;
            let tls = tls.clone();
            broker_options.listeners = vec![Listener::Tcp { address, tls }];
            info!(%address, "this process is the broker");
            return Ok(Some(Broker::start(broker_options).await?));
        }
        Address::InProcess => return Ok(Some(Broker::start(broker_options).await?)),
    };
    if options.broker == BrokerMode::External {
        return Ok(None);
    }
    broker_options.listeners = vec![Listener::Unix(path.clone())];
    match Broker::start(broker_options).await {
        Ok(broker) => {
            info!(socket = %path.display(), "this process is the broker");
            Ok(Some(broker))
        }
        Err(BrokerError::Socket(SocketError::InUse { .. }))
            if options.broker == BrokerMode::Auto =>
        {
            Ok(None)
        }
        Err(reason) => Err(reason.into()),
    }
}

impl Home {
    /// Another handle: a connection, a node, its tasks.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        name: Option<&str>,
    ) -> Result<BusrtBus, ConnectError> {
        let publisher = PublisherId::random();
        let name = self.client_name(name, publisher)?;
        check_name(&name).map_err(|e| ConnectError::Refused {
            address: self.address(),
            reason: e.to_string(),
        })?;
        let Some(runtime) = &self.runtime else {
            return Err(ConnectError::Closed);
        };
        let started = Instant::now();
        let deadline = self.options.connect_timeout;
        // In a task of our own runtime, because a busrt client lives where it was made.
        let making = {
            let (home, name) = (Arc::clone(self), name.clone());
            runtime.spawn(async move {
                let made = tokio::time::timeout(deadline, home.client(&name)).await;
                made.unwrap_or_else(|_| Err(home.timed_out(started)))
            })
        };
        let mut client = making.await.map_err(|_| ConnectError::Closed)??;
        let Some(frames) = client.take_event_channel() else {
            return Err(ConnectError::Closed);
        };
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let limits = self.options.limits.clone();
        let node = Arc::new(Node::new(name.as_str().into(), publisher, limits, commands));
        let tasks = vec![
            runtime.spawn(incoming::run(Arc::clone(&node), frames)),
            runtime.spawn(writer::run(
                Arc::clone(&node),
                client,
                receiver,
                self.options.keepalive,
            )),
        ];
        let bus = BusrtBus::new(Arc::clone(&node), Arc::clone(self), tasks, self.backend());
        // From here on, dropping `bus` undoes everything.
        node.join(&self.address(), deadline.saturating_sub(started.elapsed()))
            .await?;
        Ok(bus)
    }

    /// A client, tried again for a moment while its name is in use: it may be that of a peer whose
    /// end the broker has not seen yet.
    async fn client(&self, name: &str) -> Result<transport::Client, ConnectError> {
        let patience = Instant::now() + NAME_PATIENCE;
        let mut again = interval(RETRY);
        loop {
            again.tick().await;
            match self.try_client(name).await {
                Err(ConnectError::NameInUse { .. }) if Instant::now() < patience => {}
                done => return done,
            }
        }
    }

    async fn try_client(&self, name: &str) -> Result<transport::Client, ConnectError> {
        match (&self.options.address, &self.broker) {
            (Address::InProcess, Some(broker)) => transport::in_process(broker, name).await,
            (Address::InProcess, None) => Err(ConnectError::Closed),
            (Address::Unix(path), _) => transport::unix(path, name, self.options.keepalive).await,
            #[cfg(feature = "tcp")]
            (Address::Tcp { .. }, _) => match &self.connector {
                Some(connector) => transport::tcp(connector, name, self.options.keepalive).await,
                None => Err(ConnectError::Closed),
            },
        }
    }

    /// The name that was asked for, or one of the handle's own.
    fn client_name(
        &self,
        asked: Option<&str>,
        publisher: PublisherId,
    ) -> Result<String, ConnectError> {
        #[cfg(feature = "tcp")]
        if let Some(connector) = &self.connector {
            return connector
                .client_name(asked, &publisher.to_string())
                .map_err(|e| ConnectError::Refused {
                    address: self.address(),
                    reason: e.to_string(),
                });
        }
        Ok(asked.map_or_else(|| format!("eb-{publisher}"), str::to_owned))
    }

    fn timed_out(&self, started: Instant) -> ConnectError {
        ConnectError::Timeout {
            address: self.address(),
            waited: started.elapsed(),
        }
    }

    fn backend(&self) -> &'static str {
        match self.options.address {
            Address::InProcess => "in-process",
            Address::Unix(_) => "unix",
            #[cfg(feature = "tcp")]
            Address::Tcp { .. } => "tcp",
        }
    }

    fn address(&self) -> String {
        match &self.options.address {
            Address::InProcess => "in-process".to_owned(),
            Address::Unix(path) => format!("unix://{}", path.display()),
            #[cfg(feature = "tcp")]
            Address::Tcp { host, port, .. } => crate::tls::address(host, *port),
        }
    }

    /// Ends the threads, then the broker.
    pub(crate) async fn stop(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime::stop(runtime).await;
        }
        if let Some(broker) = self.broker.take() {
            broker.stop().await;
        }
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
