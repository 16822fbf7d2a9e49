//! Two processes on one broker with two doors: one is restarted at the other door, and nobody notices.
//!
//! The process that moves is this test binary again. Both publish all the time, and each holds what it
//! reads of the other, and of itself, against the next number.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eventbus::{BrokerMode, Config, Event, EventBus, Phase, Subscribe, Subscription, Tls};

use super::scene::{Scene, run};

/// What the child is told: its directory, its phase, and which of its lives this is.
const CHILD: &str = "EVENTBUS_TEST_ROLLOUT_DOOR";
/// What is read of each process by the other in each life.
const EVENTS: u64 = 500;

fn config(directory: &Path, phase: Phase) -> Config {
    let file = |name: &str| directory.join(name);
    Config::default()
        .broker_mode(BrokerMode::External)
        .tls(Tls::new(file("ca.pem"), file("own.pem"), file("own.key")))
        .phase(phase)
}

async fn publish(bus: &Arc<dyn EventBus>, topic: &str, n: u64) {
    let event = Event::new(topic, n.to_string().into_bytes()).unwrap();
    bus.publish(event).await.unwrap();
    tokio::task::yield_now().await;
}

async fn number(events: &mut Subscription) -> Option<(String, u64)> {
    let event = events.recv().await?;
    let bytes = event.bytes().unwrap();
    let number = std::str::from_utf8(&bytes).unwrap().parse().unwrap();
    Some((event.topic().to_string(), number))
}

/// One life of the process that moves; no test of its own.
#[test]
fn child() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let told: Vec<_> = told.split(' ').collect();
    let (directory, topic) = (PathBuf::from(told[0]), format!("child.{}", told[2]));
    let config = config(&directory, told[1].parse().unwrap()).name("collector");
    run(async move {
        let bus = eventbus::open(&config).await.unwrap();
        let mut events = bus
            .subscribe(Subscribe::to("parent.#").unwrap())
            .await
            .unwrap();
        let writing = async {
            for n in 0..EVENTS {
                publish(&bus, &topic, n).await;
            }
        };
        let reading = async {
            let (_, first) = number(&mut events).await.unwrap();
            for n in first + 1..first + EVENTS {
                assert_eq!(number(&mut events).await.unwrap().1, n);
            }
        };
        tokio::join!(writing, reading);
        events.unsubscribe().await;
        bus.shutdown().await.unwrap();
    });
}

fn live(directory: &Path, phase: &Phase, life: u32) {
    let told = format!("{} {phase} {life}", directory.display());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["doors::child", "--exact"])
        .env(CHILD, told)
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{phase}: {said}");
}

#[test]
fn a_process_is_restarted_at_the_other_door_of_its_broker() {
    run(async {
        let scene = Scene::new();
        let directory = scene.directory.path().to_owned();
        scene.certificates();
        let doors = [scene.phase("unix"), scene.phase("tcp")];
        let (Phase::Unix(path), Phase::Tcp { port, .. }) = (&doors[0], &doors[1]) else {
            unreachable!("as asked for");
        };
        let mut config = config(&directory, doors[0].clone());
        config.broker.unix.push(path.clone());
        config.broker.tcp.push(([127, 0, 0, 1], *port).into());
        let broker = eventbus::start_broker(&config).await.unwrap();
        let bus = eventbus::open(&config).await.unwrap();
        let mut own = bus
            .subscribe(Subscribe::to("parent.#").unwrap())
            .await
            .unwrap();
        let mut childs = bus
            .subscribe(Subscribe::to("child.#").unwrap())
            .await
            .unwrap();

        let stop = Arc::new(AtomicBool::new(false));
        let (publisher, stopped) = (bus.connect(None).await.unwrap(), Arc::clone(&stop));
        let writing = tokio::spawn(async move {
            let mut n = 0;
            while !stopped.load(Ordering::SeqCst) {
                publish(&publisher, "parent.n", n).await;
                n += 1;
            }
            publisher.shutdown().await.unwrap();
            n
        });
        let reading = tokio::spawn(async move {
            let mut next = 0;
            while let Some((_, n)) = number(&mut own).await {
                assert_eq!(n, next, "of the process that stays");
                next += 1;
            }
            next
        });
        for (life, door) in [&doors[0], &doors[1], &doors[0]].into_iter().enumerate() {
            let (directory, door) = (directory.clone(), door.clone());
            let lived = tokio::task::spawn_blocking(move || live(&directory, &door, life as u32));
            for n in 0..EVENTS {
                let (topic, number) = number(&mut childs).await.unwrap();
                assert_eq!((topic, number), (format!("child.{life}"), n));
            }
            lived.await.unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        let sent = writing.await.unwrap();
        bus.shutdown().await.unwrap();
        assert_eq!(reading.await.unwrap(), sent);
        assert!(number(&mut childs).await.is_none());
        broker.stop().await;
    });
}
