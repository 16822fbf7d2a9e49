//! What a process that a test starts does.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use control::collector::{Ended, Options, TasksOnly, serve_collector};
use control::dispatch::{self, Dispatcher, TaskSpec};
use control::member::Identity;
use control::registry::{Registry, Rules};
use control::tasks::worker::{TaskFailure, TaskHandler, Work};
use eventbus::{BrokerMode, Config, EventBus, Payload, Phase, Subscribe};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use crate::process::say;

/// Its end is noticed after five of them; who has no turn on a busy machine for two counts as ailing and
/// is given no tasks.
const INTERVAL: Duration = Duration::from_secs(1);

/// A bus at the socket.
pub(crate) async fn open(socket: &Path, mode: BrokerMode) -> Arc<dyn EventBus> {
    let config = Config::default()
        .phase(Phase::Unix(socket.to_owned()))
        .broker_mode(mode);
    eventbus::open(&config).await.unwrap()
}

pub(crate) async fn play(role: String, name: String, socket: PathBuf) {
    let bus = open(&socket, BrokerMode::External).await;
    match &*role {
        "member" => member(bus, name).await,
        "agent" => agent(bus, name).await,
        other => panic!("no role {other}"),
    }
}

struct Deeds {
    name: String,
    gone: watch::Receiver<bool>,
}

#[async_trait]
impl TaskHandler for Deeds {
    async fn run(&self, work: Work) -> Result<Payload, TaskFailure> {
        let payload = work.task.payload.bytes()?;
        if payload != "quiet" {
            say(&format!("begun {}", work.task.mark.id));
        }
        if payload == format!("hang at {}", self.name) {
            pending::<()>().await;
        }
        if payload == "go" {
            let mut gone = self.gone.clone();
            gone.wait_for(|gone| *gone)
                .await
                .map_err(|error| TaskFailure::new(error.to_string()))?;
            return Ok(Payload::raw("gone"));
        }
        Ok(work.task.payload)
    }
}

/// Does tasks until its standard input ends, and says what it has counted.
async fn member(bus: Arc<dyn EventBus>, name: String) {
    let identity = Identity::new(&name, "process")
        .capability("work")
        .max_tasks(8);
    let options = Options {
        interval: INTERVAL,
        ..Options::default()
    };
    let (tell_gone, gone) = watch::channel(false);
    let deeds = TasksOnly(Arc::new(Deeds { name, gone }));
    let host = serve_collector(Arc::clone(&bus), identity, deeds, options)
        .await
        .unwrap();
    let mut gos = bus.subscribe(Subscribe::to("go.#").unwrap()).await.unwrap();
    say("ready");
    let mut nothing = Vec::new();
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        _ = stdin.read_to_end(&mut nothing) => {}
        () = async { while gos.recv().await.is_some() { tell_gone.send_replace(true); } } => {}
    }
    let ended = host.shutdown(Duration::from_secs(10)).await;
    assert!(matches!(ended, Ended::ShutDown(_)), "{ended:?}");
    let stats = host.tasks().unwrap();
    let stats = serde_json::json!({
        "accepted": stats.accepted,
        "repeated": stats.repeated,
        "done": stats.done,
        "malformed": stats.malformed,
    });
    say(&format!("stats {stats}"));
}

/// Submits a task, and is there until it is killed.
async fn agent(bus: Arc<dyn EventBus>, name: String) {
    let registry = Registry::start(Arc::clone(&bus), Rules::default())
        .await
        .unwrap();
    let dispatcher = Dispatcher::start(bus, &name, &registry, dispatch::Options::default())
        .await
        .unwrap();
    let spec = TaskSpec::new("work", Payload::raw("go"))
        .id("t")
        .wait_for_member();
    let handle = dispatcher.submit(spec).unwrap();
    let ended = handle.outcome().await;
    panic!("it should not live to see this: {ended:?}");
}
