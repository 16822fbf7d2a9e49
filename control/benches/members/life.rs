//! The broker's and the members' processes: this program again.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use control::member::{Activity, Heartbeat, Identity};
use control::tasks::worker::{Options, TaskFailure, TaskHandler, Work, Worker};
use eventbus::{BrokerMode, Config, Event, EventBus, Payload, Phase};

/// What a child is told: its role, how many members, and where the broker is.
const TOLD: &str = "CONTROL_BENCH_CHILD";
/// Connections of the members: a broker takes 100, and leaves some to the agent and to what dials again.
pub(crate) const CONNECTIONS: u64 = 96;
/// Between two heartbeats of a member.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// Tasks that a member does at once.
const MAX_TASKS: u32 = 4;

/// Killed when it is dropped.
pub(crate) struct Child(std::process::Child);

impl Child {
    /// Starts a process, and waits until it is ready.
    pub(crate) async fn start(role: &str, members: u64, socket: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(TOLD, format!("{role} {members} {}", socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = child.stdout.take().unwrap();
        let mut line = String::new();
        let read = move || BufReader::new(said).read_line(&mut line).map(|_| line);
        let line = tokio::task::spawn_blocking(read).await.unwrap().unwrap();
        assert_eq!(line, "ready\n", "{role} did not start");
        Self(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bus at the socket.
pub(crate) async fn open(socket: &Path, mode: BrokerMode) -> Arc<dyn EventBus> {
    let config = Config::default()
        .phase(Phase::Unix(socket.to_owned()))
        .broker_mode(mode);
    eventbus::open(&config).await.unwrap()
}

pub(crate) fn told() -> Option<(String, u64, PathBuf)> {
    let told = std::env::var(TOLD).ok()?;
    let mut words = told.splitn(3, ' ');
    let mut word = || words.next().unwrap().to_owned();
    Some((word(), word().parse().unwrap(), word().into()))
}

/// Lives until the parent has gone.
pub(crate) async fn play((role, members, socket): (String, u64, PathBuf)) {
    let _alive: Box<dyn Send> = match &*role {
        "broker" => Box::new(open(&socket, BrokerMode::Embedded).await),
        _ => Box::new(all(members, &socket).await),
    };
    println!("ready");
    let wait = || std::io::stdin().read_to_end(&mut Vec::new());
    let _ended = tokio::task::spawn_blocking(wait).await.unwrap();
}

async fn all(members: u64, socket: &Path) -> Vec<Worker> {
    let mut buses = Vec::new();
    for _ in 0..CONNECTIONS.min(members) {
        buses.push(open(socket, BrokerMode::External).await);
    }
    let mut workers = Vec::new();
    for (n, bus) in (0..members).zip(buses.iter().cycle()) {
        let name = format!("member-{n}");
        let identity = Identity::new(name, "bench")
            .capability("work")
            .max_tasks(MAX_TASKS);
        let worker = Worker::start(
            Arc::clone(bus),
            &identity,
            Arc::new(Echo),
            Options::default(),
        );
        workers.push(worker.await.unwrap());
        // Not all at once, as members that were started by people would not be.
        let first = INTERVAL.mul_f64(n as f64 / members as f64);
        tokio::spawn(beat(Arc::clone(bus), identity, first));
    }
    workers
}

async fn beat(bus: Arc<dyn EventBus>, identity: Identity, first: Duration) {
    let mut due = tokio::time::interval_at(tokio::time::Instant::now() + first, INTERVAL);
    let mut heartbeat = Heartbeat {
        identity,
        activity: Activity::Collecting,
        ailment: None,
        interval_ms: u64::try_from(INTERVAL.as_millis()).unwrap(),
        number: 0,
    };
    loop {
        due.tick().await;
        heartbeat.number += 1;
        let event = Event::json(heartbeat.topic(), &heartbeat).unwrap();
        bus.publish(event).await.unwrap();
    }
}

struct Echo;

#[async_trait]
impl TaskHandler for Echo {
    async fn run(&self, work: Work) -> Result<Payload, TaskFailure> {
        Ok(work.task.payload)
    }
}
