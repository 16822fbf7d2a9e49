//! A pool: one connection for each kind, however many ask, as long as it is open.
#![cfg(feature = "busrt")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests are outside of what clippy takes for tests"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eventbus::{
    BrokerMode, Config, Event, EventBus, Phase, Pool, PoolError, PublishError, Subscribe, broker,
    start_broker,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// The phases that a pool may stand over here.
fn phases() -> Vec<Phase> {
    let mut phases = vec![Phase::InProcess];
    if cfg!(feature = "crossbeam") {
        phases.push(Phase::Crossbeam);
    }
    phases
}

async fn over(phase: &Phase) -> Pool {
    let config = Config::default().phase(phase.clone());
    Pool::over(eventbus::open(&config).await.unwrap())
}

async fn is_closed(bus: &Arc<dyn EventBus>) -> bool {
    let event = Event::new("a", "x").unwrap();
    let refused = bus.publish(event).await.err();
    refused.is_some_and(|refused| *refused.reason() == PublishError::Closed)
}

/// A broker at a socket, and how to get there.
async fn broker() -> (tempfile::TempDir, broker::Broker, Config) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("run/bus.sock");
    let mut config = Config::default().broker_mode(BrokerMode::External);
    config.broker.unix.push(socket.clone());
    let broker = start_broker(&config).await.unwrap();
    (directory, broker, config.phase(Phase::Unix(socket)))
}

fn counted(config: Config) -> (Pool, Arc<AtomicUsize>) {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let pool = Pool::opening(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        config.clone()
    });
    (pool, opened)
}

#[tokio::test]
async fn a_kind_has_one_bus_and_another_kind_another() {
    for phase in phases() {
        let pool = over(&phase).await;
        let one = pool.get("process").await.unwrap();
        assert!(Arc::ptr_eq(&one, &pool.get("process").await.unwrap()));
        let other = pool.clone().get("network").await.unwrap();
        assert_ne!(one.publisher_id(), other.publisher_id());
        assert_eq!(pool.kinds(), ["network", "process"]);
        let mut events = one.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
        other.publish(Event::new("a", "x").unwrap()).await.unwrap();
        assert_eq!(events.recv().await.unwrap().bytes().unwrap(), "x");
    }
}

/// Twenty parts of an application, two kinds: two connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_asks_at_once_shares_one_opening() {
    let (_directory, broker, config) = broker().await;
    let (pool, opened) = counted(config);
    let parts: Vec<_> = (0..20)
        .map(|n| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let kind = ["process", "network"][n % 2];
                (n % 2, pool.get(kind).await.unwrap())
            })
        })
        .collect();
    let mut buses = [const { Vec::new() }; 2];
    for part in parts {
        let (kind, bus) = part.await.unwrap();
        buses[kind].push(bus);
    }
    for same in buses {
        assert!(same.iter().all(|bus| Arc::ptr_eq(bus, &same[0])));
    }
    assert_eq!(opened.load(Ordering::SeqCst), 2);
    assert_eq!(broker.stats().connections, 2);
    pool.shutdown().await.unwrap();
    broker.stop().await;
}

#[tokio::test]
async fn a_bus_that_was_shut_down_is_opened_anew() {
    for phase in phases() {
        let pool = over(&phase).await;
        let old = pool.get("process").await.unwrap();
        old.shutdown().await.unwrap();
        let new = pool.get("process").await.unwrap();
        assert!(!Arc::ptr_eq(&old, &new), "{phase}");
        assert!(is_closed(&old).await && !is_closed(&new).await, "{phase}");
        assert!(Arc::ptr_eq(&new, &pool.get("process").await.unwrap()));
    }
}

#[tokio::test]
async fn it_is_bounded_and_what_was_shut_down_makes_room() {
    for phase in phases() {
        let pool = over(&phase).await.limit(2);
        let a = pool.get("a").await.unwrap();
        pool.get("b").await.unwrap();
        let full = PoolError::Full {
            kind: "c".to_owned(),
            limit: 2,
        };
        assert_eq!(pool.get("c").await.unwrap_err(), full);
        assert!(Arc::ptr_eq(&a, &pool.get("a").await.unwrap()), "{phase}");
        a.shutdown().await.unwrap();
        pool.get("c").await.unwrap();
        assert_eq!(pool.kinds(), ["b", "c"]);
    }
}

#[tokio::test]
async fn what_could_not_be_opened_is_an_error_takes_no_room_and_is_tried_again() {
    let (directory, broker, config) = broker().await;
    let nobody = directory.path().join("nobody.sock");
    let there = config.phase.clone();
    let pool = Pool::opening(move |kind| match kind {
        "good" => config.clone().phase(there.clone()),
        _ => config.clone().phase(Phase::Unix(nobody.clone())),
    });
    let pool = pool.limit(1);
    for kind in ["bad", "worse", "bad"] {
        let error = pool.get(kind).await.unwrap_err();
        assert!(
            matches!(&error, PoolError::Open { kind: of, .. } if of == kind),
            "{error}"
        );
        assert!(pool.kinds().is_empty());
    }
    pool.get("good").await.unwrap();
    assert_eq!(pool.kinds(), ["good"]);
    broker.stop().await;
}

#[tokio::test]
async fn shutting_it_down_shuts_all_down_for_good() {
    for phase in phases() {
        let pool = over(&phase).await;
        let buses = [pool.get("a").await.unwrap(), pool.get("b").await.unwrap()];
        pool.shutdown().await.unwrap();
        pool.shutdown().await.unwrap();
        for bus in &buses {
            assert!(is_closed(bus).await, "{phase}");
        }
        assert_eq!(pool.get("a").await.unwrap_err(), PoolError::Closed);
        assert!(pool.kinds().is_empty());
    }
}

/// Who is opening while it is shut down gets no bus that outlives it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_that_a_shutdown_overtakes_leaves_nothing() {
    let (_directory, broker, config) = broker().await;
    let (begun, mut beginning) = tokio::sync::mpsc::channel(1);
    let (go_on, wait) = std::sync::mpsc::sync_channel::<()>(0);
    let wait = std::sync::Mutex::new(wait);
    let pool = Pool::opening(move |_| {
        begun.try_send(()).unwrap();
        tokio::task::block_in_place(|| wait.lock().unwrap().recv().unwrap());
        config.clone()
    });
    let opening = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get("a").await }
    });
    beginning.recv().await.unwrap();
    pool.shutdown().await.unwrap();
    go_on.send(()).unwrap();
    let got = tokio::time::timeout(PATIENCE, opening).await.unwrap();
    assert_eq!(got.unwrap().unwrap_err(), PoolError::Closed);
    let gone = async {
        while broker.stats().connections > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    broker.stop().await;
}
