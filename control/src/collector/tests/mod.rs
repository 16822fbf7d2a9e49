//! A collector that does as a test says, and what its callers and listeners see of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;
mod operations;
mod shutdown;
mod tasks;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::rpc::ServiceStats;
use eventbus_trait::{EventBus, Limits};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use super::wire::CollectionReply;
use super::*;
use crate::client::{CollectorClient, OperationError};
use crate::member::{Activity, Identity};
use crate::registry::{Change, Health, Registry, Rules, Watch};

/// Longer than anything waited for here; the clock is turned, so it costs nothing.
const WATCHDOG: Duration = Duration::from_secs(3_600);

/// How a method behaves.
#[derive(Debug, Clone)]
enum Does {
    Refuse,
    Panic,
    Hang,
    Wait(Arc<Notify>),
}

/// A collector that remembers what it was asked.
#[derive(Debug, Clone, Default)]
struct Fake(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    does: HashMap<&'static str, Does>,
    asked: Vec<String>,
    correlations: Vec<Option<String>>,
}

impl Fake {
    fn will(&self, method: &'static str, does: Does) {
        self.0.lock().does.insert(method, does);
    }

    fn behave(&self, method: &'static str) {
        self.0.lock().does.remove(method);
    }

    /// What it was asked since it was last asked for this, health checks left out.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().asked)
    }

    async fn act(&self, method: &'static str, said: &Value) -> Result<(), Refusal> {
        if method != "health_check" {
            let said = if said.is_null() {
                String::new()
            } else {
                format!(" {said}")
            };
            self.0.lock().asked.push(format!("{method}{said}"));
        }
        let does = self.0.lock().does.get(method).cloned();
        match does {
            None => Ok(()),
            Some(Does::Refuse) => Err(Refusal::new(format!("no {method} today"))),
            Some(Does::Panic) => panic!("{method} was told to panic"),
            Some(Does::Hang) => std::future::pending().await,
            Some(Does::Wait(gate)) => {
                gate.notified().await;
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Collector for Fake {
    async fn health_check(&self) -> Result<(), String> {
        let said = self.act("health_check", &Value::Null).await;
        said.map_err(|refusal| refusal.to_string())
    }

    async fn start_collection(&self, asked: &Asked, options: &Value) -> Result<(), Refusal> {
        let correlation = asked.correlation.as_ref().map(|c| c.id.clone());
        self.0.lock().correlations.push(correlation);
        self.act("start_collection", options).await
    }

    async fn stop_collection(&self, _: &Asked) -> Result<(), Refusal> {
        self.act("stop_collection", &Value::Null).await
    }

    async fn validate_config(&self, config: &Value) -> Result<(), Refusal> {
        self.act("validate_config", config).await
    }

    async fn update_config(&self, _: &Asked, config: &Value) -> Result<(), Refusal> {
        self.act("update_config", config).await
    }

    async fn get_capabilities(&self) -> Value {
        json!({ "reads": "/proc" })
    }

    async fn shutdown(&self, _: &Asked) -> Result<(), Refusal> {
        self.act("shutdown", &Value::Null).await
    }

    fn abort(&self) {
        self.0.lock().asked.push("abort".to_owned());
    }
}

/// Waits for what the clock or other tasks bring about. A loop that only yielded would stop a paused
/// clock, and with it the watchdog.
async fn eventually(mut so: impl FnMut() -> bool) {
    let mut tick = interval(Duration::from_millis(1));
    let look = async {
        while !so() {
            tick.tick().await;
        }
    };
    timeout(WATCHDOG, look)
        .await
        .expect("it never came to that");
}

fn identity() -> Identity {
    Identity::new("procmond", "process")
        .version("1.2.3")
        .capability("hash_executable")
        .max_tasks(4)
}

struct Scene {
    bus: Arc<dyn EventBus>,
    /// The collector's own handle.
    home: Arc<dyn EventBus>,
    fake: Fake,
    host: Host,
    client: CollectorClient,
    registry: Registry,
    changes: Watch,
}

impl Scene {
    async fn with(options: Options) -> Self {
        let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits::default());
        let registry = Registry::start(Arc::clone(&bus), Rules::default())
            .await
            .unwrap();
        let mut changes = registry.watch();
        changes.next().await.unwrap();
        let fake = Fake::default();
        let home = bus.connect(None).await.unwrap();
        // One that others have a share in is asked for the same.
        let shared: Arc<dyn Collector> = Arc::new(fake.clone());
        let host = serve_collector(Arc::clone(&home), identity(), shared, options)
            .await
            .unwrap();
        let client = CollectorClient::new(Arc::clone(&bus), "procmond");
        Self {
            bus,
            home,
            fake,
            host,
            client,
            registry,
            changes,
        }
    }

    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn next(&mut self) -> Change {
        let next = timeout(WATCHDOG, self.changes.next()).await;
        next.expect("nothing has changed")
            .expect("the stream ended")
    }

    /// Waits for a change that is asked for.
    async fn until(&mut self, mut wanted: impl FnMut(&Change) -> bool) -> Change {
        loop {
            let change = self.next().await;
            if wanted(&change) {
                return change;
            }
        }
    }

    /// Waits until the registry hears that it ails so.
    async fn ails(&mut self, wanted: &str) {
        let ailing = |change: &Change| match change {
            Change::Degraded(member) | Change::Changed(member) => match &member.health {
                Health::Degraded { ailment, .. } => ailment.as_deref() == Some(wanted),
                _ => false,
            },
            _ => false,
        };
        self.until(ailing).await;
    }

    /// Waits until the service has counted so.
    async fn counted(&self, wanted: impl Fn(&ServiceStats) -> bool) {
        eventually(|| self.home.stats().services.iter().any(&wanted)).await;
    }

    /// Has somebody start it, which goes on until the gate is opened.
    async fn held(
        &self,
    ) -> (
        Arc<Notify>,
        JoinHandle<Result<CollectionReply, OperationError>>,
    ) {
        let gate = Arc::new(Notify::new());
        let waits = Does::Wait(Arc::clone(&gate));
        self.fake.will("start_collection", waits);
        let client = self.client.clone();
        let call = tokio::spawn(async move { client.start_collection(&Value::Null).await });
        self.asked("start_collection").await;
        (gate, call)
    }

    /// Waits until the collector was asked for something.
    async fn asked(&self, method: &str) {
        eventually(|| self.fake.0.lock().asked.iter().any(|asked| asked == method)).await;
    }
}
