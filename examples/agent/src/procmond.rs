//! The process monitor: tells which processes come and go, and hashes what they run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Parser;
use control::collector::wire::Ending;
use control::collector::{Asked, Collector, Ended, Host, Options, Refusal, serve_collector};
use control::member::Identity;
use control::tasks::worker::TaskHandler;
use eventbus::{Event, EventBus};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, interval_at};

use crate::hash::Hasher;
use crate::plain::{complain, say};
use crate::proc::{self, Process};
use crate::reputation::Oracle;
use crate::{Failure, HASH_EXECUTABLE, KIND, setup};

/// Where it tells of a process that has come.
pub(crate) const NEW: &str = "events.process.new";
/// Where it tells of one that has gone.
pub(crate) const GONE: &str = "events.process.gone";
/// Tasks at once.
const MAX_TASKS: u32 = 4;
/// How long it may take to end when it is interrupted.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Watches the processes of this machine, and does what an agent on the same bus asks.
#[derive(Debug, Parser)]
#[command(name = "procmond")]
struct Args {
    /// Its name on the bus, and of its service.
    #[arg(default_value = "procmond")]
    name: String,
    /// Time between two heartbeats.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    heartbeat: Duration,
    /// Service whose method `reputation` is asked about each digest.
    #[arg(long)]
    reputation: Option<String>,
}

/// What `update_config` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Time between two looks at `/proc`, in milliseconds: 10 to 60,000.
    interval_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { interval_ms: 500 }
    }
}

/// A process of its own, until it is shut down or interrupted.
///
/// # Errors
/// Why it does not run, in a sentence.
pub async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let bus = setup::open_collector(&args.name).await?;
    let host = serve(
        Arc::clone(&bus),
        &args.name,
        args.heartbeat,
        args.reputation,
    )
    .await?;
    say(format_args!("{} serves", args.name));
    let ended = tokio::select! {
        ended = host.ended() => ended,
        interrupted = setup::interrupted() => {
            interrupted?;
            host.shutdown(END_WITHIN).await
        }
    };
    let closed = bus.shutdown().await;
    match ended {
        Ended::ShutDown(reply) if reply.ended == Ending::Graceful => {
            say(format_args!("{} has ended gracefully", args.name));
            Ok(closed?)
        }
        Ended::ShutDown(reply) => Err(format!(
            "{} was forced to end: {}",
            args.name,
            reply.reason.unwrap_or_default()
        )
        .into()),
        _ => Err("the bus was closed".into()),
    }
}

/// Serves the monitor on a bus, in whatever process.
pub(crate) async fn serve(
    bus: Arc<dyn EventBus>,
    name: &str,
    heartbeat: Duration,
    reputation: Option<String>,
) -> Result<Host, Failure> {
    let identity = Identity::new(name, KIND)
        .version(env!("CARGO_PKG_VERSION"))
        .capability(HASH_EXECUTABLE)
        .max_tasks(MAX_TASKS);
    let member = name.to_owned();
    let oracle = reputation.map(|service| Oracle {
        bus: Arc::clone(&bus),
        service,
    });
    let monitor = Monitor {
        bus: Arc::clone(&bus),
        settings: watch::channel(Settings::default()).0,
        looking: Mutex::new(None),
        hasher: Arc::new(Hasher { member, oracle }),
        blind: Arc::default(),
    };
    let options = Options {
        interval: heartbeat,
        ..Options::default()
    };
    Ok(serve_collector(bus, identity, monitor, options).await?)
}

struct Monitor {
    bus: Arc<dyn EventBus>,
    settings: watch::Sender<Settings>,
    looking: Mutex<Option<Looking>>,
    hasher: Arc<Hasher>,
    /// Why it sees nothing.
    blind: Arc<Mutex<Option<String>>>,
}

/// The task that looks at `/proc`. It ends when `stop` is dropped.
struct Looking {
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

#[async_trait]
impl Collector for Monitor {
    async fn health_check(&self) -> Result<(), String> {
        match &*self.blind.lock() {
            None => Ok(()),
            Some(reason) => Err(format!("cannot read /proc: {reason}")),
        }
    }

    async fn start_collection(&self, _: &Asked, options: &Value) -> Result<(), Refusal> {
        if !options.is_null() {
            return Err(Refusal::new(
                "it collects all processes, and takes no options",
            ));
        }
        let (stop, stopped) = watch::channel(());
        let look = Look {
            bus: Arc::clone(&self.bus),
            known: BTreeSet::new(),
            blind: Arc::clone(&self.blind),
        };
        let task = tokio::spawn(look.run(self.settings.subscribe(), stopped));
        *self.looking.lock() = Some(Looking { stop, task });
        Ok(())
    }

    async fn stop_collection(&self, _: &Asked) -> Result<(), Refusal> {
        let Some(Looking { stop, task }) = self.looking.lock().take() else {
            return Ok(());
        };
        drop(stop);
        task.await.map_err(|error| Refusal::new(error.to_string()))
    }

    async fn validate_config(&self, config: &Value) -> Result<(), Refusal> {
        settings(config).map(drop)
    }

    async fn update_config(&self, _: &Asked, config: &Value) -> Result<(), Refusal> {
        self.settings.send_replace(settings(config)?);
        Ok(())
    }

    async fn get_capabilities(&self) -> Value {
        json!({
            "publishes": [NEW, GONE],
            "config": *self.settings.borrow(),
        })
    }

    fn task_handler(&self) -> Option<Arc<dyn TaskHandler>> {
        Some(Arc::clone(&self.hasher) as _)
    }

    fn abort(&self) {
        if let Some(looking) = self.looking.lock().take() {
            looking.task.abort();
        }
    }
}

fn settings(config: &Value) -> Result<Settings, Refusal> {
    let settings: Settings = serde_json::from_value(config.clone())?;
    let interval = settings.interval_ms;
    if !(10..=60_000).contains(&interval) {
        let text = format!("`interval_ms` is {interval}, not within 10 to 60000");
        return Err(Refusal::new(text));
    }
    Ok(settings)
}

/// When to look again: a new interval counts from the last look.
fn next(looked: Option<Instant>, every: Duration) -> Instant {
    let now = Instant::now();
    looked.map_or(now, |looked| now.max(looked + every))
}

/// Looks at `/proc` again and again, and tells what has changed.
struct Look {
    bus: Arc<dyn EventBus>,
    known: BTreeSet<Process>,
    blind: Arc<Mutex<Option<String>>>,
}

impl Look {
    async fn run(mut self, mut settings: watch::Receiver<Settings>, mut stop: watch::Receiver<()>) {
        let mut looked = None;
        loop {
            let every = Duration::from_millis(settings.borrow_and_update().interval_ms);
            let mut tick = interval_at(next(looked, every), every);
            loop {
                tokio::select! {
                    // Its sender says nothing, and is dropped.
                    _ = stop.changed() => return,
                    Ok(()) = settings.changed() => break,
                    at = tick.tick() => {
                        looked = Some(at);
                        self.look(&stop).await;
                    }
                }
            }
        }
    }

    async fn look(&mut self, stop: &watch::Receiver<()>) {
        let now = match spawn_blocking(proc::all).await {
            Ok(Ok(now)) => now,
            Ok(Err(error)) => return *self.blind.lock() = Some(error.to_string()),
            Err(error) => return *self.blind.lock() = Some(error.to_string()),
        };
        *self.blind.lock() = None;
        for process in &now - &self.known {
            if stop.has_changed().is_ok() && self.tell(NEW, &process).await {
                self.known.insert(process);
            }
        }
        for process in &self.known - &now {
            if stop.has_changed().is_ok() && self.tell(GONE, &process).await {
                self.known.remove(&process);
            }
        }
    }

    /// Publishes; what finds no room is told at the next look.
    async fn tell(&self, topic: &'static str, process: &Process) -> bool {
        let Ok(event) = Event::json(topic, process) else {
            return false;
        };
        match self.bus.publish(event).await {
            Ok(_) => true,
            Err(refused) => {
                complain(format_args!("{refused}"));
                false
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use std::process::{Command, Stdio};

    use eventbus::{Config, Phase, Subscribe};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shorter_interval_counts_from_the_last_look() {
        let config = Config::default().phase(Phase::Crossbeam);
        let bus = eventbus::open(&config).await.unwrap();
        let mut new = bus.subscribe(Subscribe::to(NEW).unwrap()).await.unwrap();
        let long = Settings {
            interval_ms: 60_000,
        };
        let (settings, told) = watch::channel(long);
        let (_stop, stopped) = watch::channel(());
        let look = Look {
            bus: Arc::clone(&bus),
            known: BTreeSet::new(),
            blind: Arc::default(),
        };
        let looking = tokio::spawn(look.run(told, stopped));
        let began = Instant::now();
        new.recv().await.unwrap();
        let cat = Command::new("cat").stdin(Stdio::piped()).spawn();
        let mut cat = cat.unwrap();
        settings.send_replace(Settings { interval_ms: 100 });
        loop {
            let event = new.recv().await.unwrap();
            let process = event.decode_json::<Process>().unwrap();
            if u32::try_from(process.pid) == Ok(cat.id()) {
                break;
            }
        }
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
        looking.abort();
        drop(cat.stdin.take());
        cat.wait().unwrap();
    }
}
