//! The raw parts, used as well as they can be while nothing is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use busrt::broker::{Broker, ServerConfig};
use busrt::client::AsyncClient;
use busrt::{EventChannel, QoS, ipc};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::PAYLOAD;

const TOPIC: &str = "bench/topic";
/// How far a publisher may be ahead of the subscriber: half of what the broker queues for a
/// client. Beyond all of it the broker throws the subscriber out, and says nothing.
const AHEAD: u64 = 4096;

/// A bounded channel between two threads.
pub(crate) fn crossbeam(events: u64) -> Duration {
    let (sender, receiver) = crossbeam_channel::bounded(8192);
    let payload = Arc::new(vec![7_u8; PAYLOAD]);
    let started = Instant::now();
    let publisher = std::thread::spawn(move || {
        for _ in 0..events {
            sender.send(Arc::clone(&payload)).unwrap();
        }
    });
    let came = receiver.iter().inspect(|p| assert_eq!(p.len(), PAYLOAD));
    assert_eq!(came.count() as u64, events);
    let took = started.elapsed();
    publisher.join().unwrap();
    took
}

/// Internal clients of a broker; a full subscriber makes the publisher wait.
pub(crate) fn in_process(events: u64) -> Duration {
    runtime().block_on(async move {
        let broker = Broker::new();
        let mut subscriber = broker.register_client("subscriber").await.unwrap();
        let mut publisher = broker.register_client("publisher").await.unwrap();
        subscriber.subscribe(TOPIC, QoS::No).await.unwrap();
        let frames = subscriber.take_event_channel().unwrap();
        let started = Instant::now();
        let reading = count(frames, events, Arc::default());
        let publishing = tokio::spawn(async move {
            for _ in 0..events {
                let payload = vec![7_u8; PAYLOAD];
                publisher
                    .publish(TOPIC, payload.into(), QoS::No)
                    .await
                    .unwrap();
            }
        });
        reading.await.unwrap();
        let took = started.elapsed();
        publishing.await.unwrap();
        took
    })
}

/// Clients over a UNIX socket, each event acknowledged by the broker; the best of some windows.
pub(crate) fn unix(events: u64) -> Duration {
    best_window(|window| {
        runtime().block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("raw.sock");
            let socket = socket.to_str().unwrap();
            let mut broker = Broker::new();
            let config = ServerConfig::new().timeout(Duration::from_secs(10));
            broker.spawn_unix_server(socket, config).await.unwrap();
            windowed(socket, events, window).await
        })
    })
}

/// The same over TCP, without TLS.
pub(crate) fn tcp(events: u64) -> Duration {
    best_window(|window| {
        runtime().block_on(async {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap().to_string();
            drop(free);
            let mut broker = Broker::new();
            let config = ServerConfig::new().timeout(Duration::from_secs(10));
            broker.spawn_tcp_server(&address, config).await.unwrap();
            windowed(&address, events, window).await
        })
    })
}

fn best_window(run: impl Fn(usize) -> Duration) -> Duration {
    [64, 256, 1024].into_iter().map(run).min().unwrap()
}

async fn windowed(socket: &str, events: u64, window: usize) -> Duration {
    let mut subscriber = connect(socket, "subscriber").await;
    let mut publisher = connect(socket, "publisher").await;
    let frames = subscriber.take_event_channel().unwrap();
    let received = Arc::new(AtomicU64::new(0));
    let reading = count(frames, events, Arc::clone(&received));
    let active = subscriber.subscribe(TOPIC, QoS::Processed).await.unwrap();
    active.unwrap().await.unwrap().unwrap();
    let pinger = ping(subscriber);
    let started = Instant::now();
    let mut unconfirmed = VecDeque::with_capacity(window);
    let payload = vec![7_u8; PAYLOAD];
    for sent in 0..events {
        if unconfirmed.len() == window
            && let Some(oldest) = unconfirmed.pop_front()
        {
            confirm(oldest).await;
        }
        while sent - received.load(Ordering::Relaxed) >= AHEAD {
            tokio::task::yield_now().await;
        }
        let confirm = publisher
            .publish(TOPIC, payload.as_slice().into(), QoS::Processed)
            .await
            .unwrap();
        unconfirmed.extend(confirm);
    }
    for confirmation in unconfirmed {
        confirm(confirmation).await;
    }
    reading.await.unwrap();
    let took = started.elapsed();
    pinger.abort();
    took
}

async fn connect(socket: &str, name: &str) -> ipc::Client {
    let config = ipc::Config::new(socket, name).timeout(Duration::from_secs(10));
    ipc::Client::connect(&config).await.unwrap()
}

async fn confirm(confirmation: tokio::sync::oneshot::Receiver<Result<(), busrt::Error>>) {
    confirmation.await.unwrap().unwrap();
}

/// Drains a client and counts; ends when all events are there.
fn count(frames: EventChannel, events: u64, received: Arc<AtomicU64>) -> JoinHandle<()> {
    tokio::spawn(async move {
        for n in 1..=events {
            let frame = frames.recv().await.expect("the subscriber is connected");
            assert_eq!(frame.payload().len(), PAYLOAD);
            received.store(n, Ordering::Relaxed);
        }
    })
}

/// The broker drops a client that sends nothing, however much it receives.
fn ping(mut client: ipc::Client) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut often = tokio::time::interval(Duration::from_millis(300));
        loop {
            often.tick().await;
            client.ping().await.unwrap();
        }
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
