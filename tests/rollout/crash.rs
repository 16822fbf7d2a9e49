//! MIG-004: kill -9 before each numbered step of a cutover, and what a restart finds.
//!
//! The process that dies is this test binary again. Beside it lives one that survives, with a broker
//! of its own at a UNIX socket: what it sends and what it was sent is counted through all of it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use eventbus::rollout::{self, Direction, Rollout, Step, Trial};
use eventbus::{BrokerMode, Config, Event, EventBus, Phase, Subscribe, Subscription, broker};
use tokio::task::JoinHandle;

use super::scene::{PATIENCE, Scene, easy, run};

/// What the child is told: its directory, the way and the step.
const CHILD: &str = "EVENTBUS_TEST_ROLLOUT_CHILD";

fn config(directory: &Path) -> Config {
    let phases = vec![Phase::Crossbeam, Phase::Unix(directory.join("bus.sock"))];
    let mut rollout = Rollout::new(phases, directory.join("journal"));
    rollout.shadow = false;
    rollout.hold = Duration::from_secs(20);
    rollout.gates = easy();
    Config::default()
        .broker_mode(BrokerMode::External)
        .rollout(rollout)
}

fn numbered(topic: &str, n: u64) -> Event {
    Event::new(topic, n.to_string().into_bytes()).unwrap()
}

fn number(event: &Event) -> u64 {
    let bytes = event.bytes().unwrap();
    std::str::from_utf8(&bytes).unwrap().parse().unwrap()
}

/// The life of the process that dies; no test of its own.
#[test]
fn child() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let told: Vec<_> = told.split(' ').collect();
    let (directory, way) = (PathBuf::from(told[0]), told[1].to_owned());
    let step = Step::from_number(told[2].parse().unwrap()).unwrap();
    run(async move {
        let armed = Arc::new(AtomicBool::new(false));
        let kill = Arc::clone(&armed);
        let watch = move |at: Step| {
            if at == step && kill.load(Ordering::SeqCst) {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
                loop {
                    std::thread::park();
                }
            }
        };
        let bus = rollout::open_trial(&config(&directory), Trial::default().on_step(watch))
            .await
            .unwrap();
        let controller = bus.controller().clone();
        let mut survivors = bus
            .subscribe(Subscribe::to("survivor.#").unwrap())
            .await
            .unwrap();
        tokio::spawn(async move { while survivors.recv().await.is_some() {} });
        let publisher = bus.connect(None).await.unwrap();
        let arrived = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&arrived);
        tokio::spawn(async move {
            for n in 0.. {
                let receipt = publisher.publish(numbered("child.n", n)).await.unwrap();
                let confirmed = receipt.confirmed(PATIENCE).await.unwrap();
                if confirmed.deliveries > 0 {
                    println!("confirmed {n}");
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        if way == "back" {
            controller.advance(true).await.unwrap();
            while arrived.load(Ordering::SeqCst) < 50 {
                tokio::task::yield_now().await;
            }
        }
        armed.store(true, Ordering::SeqCst);
        match way.as_str() {
            "back" => controller.back().await.unwrap(),
            _ => controller.advance(true).await.unwrap(),
        };
        unreachable!("step {step} was not reached");
    });
}

/// A process that lives through it: it publishes for itself and for the child, and reads both.
struct Survivor {
    bus: Arc<dyn EventBus>,
    broker: broker::Broker,
    stop: Arc<AtomicBool>,
    writing: JoinHandle<u64>,
    own: Subscription,
    childs: Subscription,
}

impl Survivor {
    async fn start(directory: &Path) -> Self {
        let socket = directory.join("bus.sock");
        let mut config = Config::default().broker_mode(BrokerMode::External);
        config.broker.unix.push(socket.clone());
        let broker = eventbus::start_broker(&config).await.unwrap();
        config.link_timeout = Duration::from_millis(200);
        let bus = eventbus::open(&config.phase(Phase::Unix(socket)))
            .await
            .unwrap();
        let own = bus
            .subscribe(Subscribe::to("survivor.#").unwrap())
            .await
            .unwrap();
        let childs = bus
            .subscribe(Subscribe::to("child.#").unwrap())
            .await
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (publisher, stopped) = (bus.connect(None).await.unwrap(), Arc::clone(&stop));
        let writing = tokio::spawn(async move {
            let mut n = 0;
            while !stopped.load(Ordering::SeqCst) {
                publisher.publish(numbered("survivor.n", n)).await.unwrap();
                n += 1;
                tokio::task::yield_now().await;
            }
            publisher.shutdown().await.unwrap();
            n
        });
        Self {
            bus,
            broker,
            stop,
            writing,
            own,
            childs,
        }
    }

    /// Nothing that it accepted is lost or doubled, and nothing that was confirmed to the child.
    async fn end(mut self, confirmed: &BTreeSet<u64>) {
        self.stop.store(true, Ordering::SeqCst);
        let reading = async {
            let mut next = 0;
            loop {
                let event = self.own.recv().await;
                let Some(event) = event else { return next };
                assert_eq!(number(&event), next, "of the survivor itself");
                next += 1;
            }
        };
        let ending = async {
            let sent = self.writing.await.unwrap();
            self.bus.shutdown().await.unwrap();
            sent
        };
        let (read, sent) = tokio::join!(reading, ending);
        assert_eq!(read, sent);
        let mut seen = BTreeSet::new();
        let mut last = None;
        while let Some(event) = self.childs.recv().await {
            let n = number(&event);
            assert!(
                last < Some(n),
                "{n} after {last:?}: doubled or out of order"
            );
            last = Some(n);
            seen.insert(n);
        }
        let lost: Vec<_> = confirmed.difference(&seen).collect();
        assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
        self.broker.stop().await;
    }
}

/// Lets a child die before `step`; what was confirmed to it.
fn die(directory: &Path, way: &str, step: Step) -> BTreeSet<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::child", "--exact", "--nocapture"])
        .env(
            CHILD,
            format!("{} {way} {}", directory.display(), step.number()),
        )
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut confirmed = BTreeSet::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(n) = line.unwrap().strip_prefix("confirmed ") {
            // The last line may be cut short by the kill.
            confirmed.extend(n.parse::<u64>());
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "{status}");
    confirmed
}

async fn killed_before(way: &'static str, step: Step) {
    let scene = Scene::new();
    let directory = scene.directory.path().to_owned();
    let survivor = Survivor::start(&directory).await;
    let place = directory.clone();
    let dying = tokio::task::spawn_blocking(move || die(&place, way, step));
    let confirmed = dying.await.unwrap();

    let bus = rollout::open(&config(&directory)).await.unwrap();
    let status = bus.controller().status();
    // The commit is what step 5 writes.
    let moved = step > Step::Commit;
    let in_unix = moved == (way == "forward");
    assert_eq!(
        status.phase == "crossbeam",
        !in_unix,
        "{way}, {step}: {}",
        status.phase
    );
    assert_eq!(status.stage, usize::from(in_unix));
    // And it is a phase that works, and can be left.
    let mut events = bus
        .subscribe(Subscribe::to("after.#").unwrap())
        .await
        .unwrap();
    bus.publish(numbered("after.one", 1)).await.unwrap();
    assert_eq!(number(&events.recv().await.unwrap()), 1);
    let controller = bus.controller();
    match controller.plan(Direction::Advance).to {
        Some(_) => controller.advance(true).await.unwrap(),
        None => controller.back().await.unwrap(),
    };
    bus.publish(numbered("after.two", 2)).await.unwrap();
    assert_eq!(number(&events.recv().await.unwrap()), 2);
    bus.shutdown().await.unwrap();
    survivor.end(&confirmed).await;
    println!(
        "{way}, before step {} ({step}): {} confirmed",
        step.number(),
        confirmed.len()
    );
}

#[test]
fn mig_004_forward_every_step() {
    for step in Step::ALL {
        run(killed_before("forward", step));
    }
}

#[test]
fn mig_004_back_every_step() {
    for step in Step::ALL {
        run(killed_before("back", step));
    }
}
