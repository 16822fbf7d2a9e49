//! Candidates that work, and candidates that do not.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use busrt_backend::broker::{Broker, BrokerOptions, Listener};
use busrt_backend::{Address, BrokerMode, Options};
use eventbus_trait::{
    BatchRefused, ConnectError, Event, EventBus, Publisher, PublisherId, Receipt, Refused,
    ShutdownError, Stats, Subscribe, SubscribeError, Subscription, Topic, TryPublishError,
};
use shadow::{Sample, ShadowOptions};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Names the socket to serve, in the environment of this program as a broker.
pub(crate) const BROKER: &str = "SHADOW_BENCH_BROKER";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    None,
    Works,
    Hangs,
    Panics,
    Killed,
}

/// A candidate, and whether its contents are sampled, at 1 in 100.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    sampled: bool,
}

impl Case {
    pub(crate) const ALL: [Self; 9] = [
        Self::whole(Kind::None),
        Self::whole(Kind::Works),
        Self::sampled(Kind::Works),
        Self::whole(Kind::Hangs),
        Self::sampled(Kind::Hangs),
        Self::whole(Kind::Panics),
        Self::sampled(Kind::Panics),
        Self::whole(Kind::Killed),
        Self::sampled(Kind::Killed),
    ];

    const fn whole(kind: Kind) -> Self {
        Self {
            kind,
            sampled: false,
        }
    }

    const fn sampled(kind: Kind) -> Self {
        Self {
            kind,
            sampled: true,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match (self.kind, self.sampled) {
            (Kind::None, _) => "none",
            (Kind::Works, false) => "works",
            (Kind::Works, true) => "works-sampled",
            (Kind::Hangs, false) => "hangs",
            (Kind::Hangs, true) => "hangs-sampled",
            (Kind::Panics, false) => "panics",
            (Kind::Panics, true) => "panics-sampled",
            (Kind::Killed, false) => "broker-killed",
            (Kind::Killed, true) => "broker-killed-sampled",
        }
    }

    pub(crate) fn options(self) -> ShadowOptions {
        let by_bytes = |event: &Event| event.bytes().ok();
        ShadowOptions {
            sample: self.sampled.then(|| Sample::by(0.01, by_bytes)),
            max_divergences: 10,
            ..ShadowOptions::default()
        }
    }

    pub(crate) fn has_target(self) -> bool {
        self.kind != Kind::Works
    }

    /// Whether the shadow comes to give its candidate nothing more.
    pub(crate) fn ends_up_alone(self) -> bool {
        matches!(self.kind, Kind::Hangs | Kind::Panics | Kind::Killed)
    }
}

/// A candidate, and what it needs.
pub(crate) struct Candidate {
    pub(crate) bus: Arc<dyn EventBus>,
    broker: Option<Child>,
    _directory: Option<TempDir>,
}

impl Candidate {
    pub(crate) fn open(kind: Kind, runtime: &Runtime) -> Option<Self> {
        if kind == Kind::None {
            return None;
        }
        if kind != Kind::Killed {
            let mut options = Options::new(Address::InProcess);
            options.broker = BrokerMode::Embedded;
            let inner = runtime.block_on(busrt_backend::open(options)).unwrap();
            let bus: Arc<dyn EventBus> = match kind {
                Kind::Hangs | Kind::Panics => Arc::new(Bad { inner, kind }),
                _ => inner,
            };
            return Some(Self {
                bus,
                broker: None,
                _directory: None,
            });
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bus/bus.sock");
        let mut broker = Command::new(std::env::current_exe().unwrap())
            .env(BROKER, &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(broker.stdout.as_mut().unwrap());
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let mut options = Options::new(Address::Unix(path));
        options.broker = BrokerMode::External;
        let bus = runtime.block_on(busrt_backend::open(options)).unwrap();
        Some(Self {
            bus,
            broker: Some(broker),
            _directory: Some(directory),
        })
    }

    /// Kills the broker, if it is one of its own.
    pub(crate) fn strike(&mut self) {
        if let Some(broker) = &mut self.broker {
            broker.kill().unwrap();
            broker.wait().unwrap();
        }
    }
}

/// Serves as a broker until the program that started this one is gone.
pub(crate) fn serve(path: PathBuf) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut options = BrokerOptions::new();
        options.listeners.push(Listener::Unix(path));
        let _broker = Broker::start(options).await.unwrap();
        println!("ready");
        let input = || std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = tokio::task::spawn_blocking(input).await;
    });
}

/// Hangs or panics in each publish.
#[derive(Debug)]
struct Bad {
    inner: Arc<dyn EventBus>,
    kind: Kind,
}

#[async_trait]
impl EventBus for Bad {
    fn backend(&self) -> &str {
        "bad"
    }

    fn publisher_id(&self) -> PublisherId {
        self.inner.publisher_id()
    }

    async fn publish(&self, _: Event) -> Result<Receipt, Refused> {
        // Past the panic hook, which would print each.
        if self.kind == Kind::Panics {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        std::future::pending().await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        self.inner.try_publish(event)
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        self.inner.publish_batch(events).await
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        self.inner.publisher(topic)
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        self.inner.subscribe(subscribe).await
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        self.inner.connect(name).await
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.inner.shutdown().await
    }
}
