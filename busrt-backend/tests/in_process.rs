//! Clients inside the broker's process: nobody starves, and nobody makes others starve.
//!
//! In process there is no socket between a publisher and a subscriber's queue, so nothing but the
//! session keeps one from waiting for the other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../../crossbeam-backend/tests/common/loud.rs"]
mod loud;

use std::future::Future;
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use busrt_backend::wire::Control;
use busrt_backend::{Address, BusrtBus, Options, open};
use eventbus_trait::{
    Delivery, Event, EventBus, PublishError, Publisher, Rate, Refused, Subscribe, Subscription,
    Topic, TryPublishError,
};
use loud::loud;

/// Reaching it is a hang.
const WATCHDOG: Duration = Duration::from_secs(120);
/// Never reached: whoever waits so long is let go by what the test does.
const LONG: Duration = Duration::from_secs(3_600);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(6)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(WATCHDOG, test)
            .await
            .expect("the test hangs");
    });
}

async fn opened() -> Arc<BusrtBus> {
    let mut options = Options::new(Address::InProcess);
    options.limits.publish_deadline = LONG;
    options.connect_timeout = LONG;
    open(options).await.unwrap()
}

async fn another(bus: &BusrtBus) -> Arc<dyn EventBus> {
    bus.connect(None).await.unwrap()
}

fn event(topic: &str, n: u64) -> Event {
    Event::new(topic, n.to_le_bytes().to_vec()).unwrap()
}

fn number(event: &Event) -> u64 {
    u64::from_le_bytes(event.bytes().unwrap()[..8].try_into().unwrap())
}

async fn expect_numbers(mut subscription: Subscription, numbers: Range<u64>) {
    for n in numbers {
        let event = subscription.recv().await.expect("the stream has ended");
        assert_eq!(number(&event), n);
    }
}

/// A subscription of `stalled` that has room for a few events; nobody reads it.
async fn stalled(bus: &dyn EventBus) -> Subscription {
    let subscribe = Subscribe::to("stalled").unwrap().named("stalled");
    bus.subscribe(subscribe.capacity(10)).await.unwrap()
}

/// Publishes until `stalled` takes no more; returns how many it has taken.
async fn fill(bus: &dyn EventBus, payload: &[u8]) -> u64 {
    for n in 0_u64.. {
        let payload = [&n.to_le_bytes(), payload].concat();
        let mut offer = Event::new("stalled", payload).unwrap();
        loop {
            let refused = match bus.try_publish(offer) {
                Ok(_) => break,
                Err(refused) => refused,
            };
            match refused.reason() {
                TryPublishError::Full { subscription } if subscription == "stalled" => return n,
                TryPublishError::Full { .. } => tokio::task::yield_now().await,
                other => panic!("{other}"),
            }
            offer = refused.into_event();
        }
    }
    unreachable!("a queue of 10 events is never full")
}

/// A publisher that waits for room in `stalled`, with a handle of its own.
async fn waiting(bus: &BusrtBus) -> (Arc<dyn EventBus>, tokio::task::JoinHandle<()>) {
    let handle = another(bus).await;
    fill(&*handle, b"").await;
    let publisher = Arc::clone(&handle);
    let task = tokio::spawn(async move {
        let refused = publisher.publish(event("stalled", 0)).await.unwrap_err();
        assert_eq!(*refused.reason(), PublishError::Closed);
    });
    (handle, task)
}

#[test]
fn sub_008_a_subscription_that_nobody_reads_holds_up_no_other_topic() {
    run(async {
        const N: u64 = 20_000;
        for same_handle in [true, false] {
            let bus = opened().await;
            let other = another(&bus).await;
            let apart: &dyn EventBus = if same_handle { &*bus } else { &*other };
            let mut stalled = stalled(apart).await;
            let publisher = another(&bus).await;
            let full = fill(&*publisher, b"").await;
            let held_up = {
                let publisher = Arc::clone(&publisher);
                tokio::spawn(async move { publisher.publish(event("stalled", full)).await })
            };
            let mut reading = Vec::new();
            for topic in ["a", "b"] {
                let subscribe = Subscribe::to(topic).unwrap();
                let subscription = bus.subscribe(subscribe).await.unwrap();
                reading.push(tokio::spawn(expect_numbers(subscription, 0..N)));
                let publisher = Arc::clone(&publisher);
                reading.push(tokio::spawn(async move {
                    for n in 0..N {
                        publisher.publish(event(topic, n)).await.unwrap();
                    }
                }));
            }
            for task in reading {
                task.await.unwrap();
            }
            assert!(!held_up.is_finished(), "there was no room for it");
            for n in 0..=full {
                assert_eq!(number(&stalled.recv().await.unwrap()), n);
            }
            held_up.await.unwrap().unwrap();
            for handle in [publisher, other] {
                handle.shutdown().await.unwrap();
            }
            bus.shutdown().await.unwrap();
        }
    });
}

/// Publishers that never rest, on a topic that is read and on one that is not.
struct Flood {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<u64>>,
}

impl Flood {
    async fn start(bus: &BusrtBus) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let published = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        let floods = [
            ("flood", Delivery::AtLeastOnce),
            ("flood", Delivery::AtLeastOnce),
            ("stalled", Delivery::AtMostOnce),
        ];
        for (topic, delivery) in floods {
            let handle = another(bus).await;
            let (stop, published) = (Arc::clone(&stop), Arc::clone(&published));
            tasks.push(tokio::spawn(async move {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let event = event(topic, n).delivery(delivery);
                    handle.publish(event).await.unwrap();
                    published.fetch_add(1, Ordering::Relaxed);
                    n += 1;
                }
                handle.shutdown().await.unwrap();
                if delivery == Delivery::AtLeastOnce {
                    n
                } else {
                    0
                }
            }));
        }
        Self {
            stop,
            published,
            tasks,
        }
    }

    fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Ends it; returns how many events must have been read.
    async fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut read = 0;
        for task in std::mem::take(&mut self.tasks) {
            read += task.await.unwrap();
        }
        read
    }
}

/// A test that fails must not hang on publishers that never rest.
impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_flood_starves_neither_newcomers_nor_subscribers_nor_other_publishers() {
    run(async {
        let bus = opened().await;
        let _stalled = stalled(&*bus).await;
        let mut flooded = bus
            .subscribe(Subscribe::to("flood").unwrap())
            .await
            .unwrap();
        let reading = tokio::spawn(async move {
            let mut read = 0_u64;
            while flooded.recv().await.is_some() {
                read += 1;
            }
            read
        });
        let flood = Flood::start(&bus).await;
        let resident = another(&bus).await;
        for n in 0..10 {
            let before = flood.published();
            let newcomer = another(&bus).await;
            let mut answers = newcomer
                .subscribe(Subscribe::to("quiet").unwrap())
                .await
                .unwrap();
            let receipt = resident.publish(event("quiet", n)).await.unwrap();
            assert_eq!(receipt.confirmed(LONG).await.unwrap().deliveries, 1);
            assert_eq!(number(&answers.recv().await.unwrap()), n);
            newcomer.shutdown().await.unwrap();
            // The flood goes on: neither did it have to end, nor was it held up.
            while flood.published() == before {
                tokio::task::yield_now().await;
            }
        }
        let published = flood.stop().await;
        resident.shutdown().await.unwrap();
        bus.shutdown().await.unwrap();
        assert_eq!(reading.await.unwrap(), published);
    });
}

/// ORD-004, with queues that are full by events and with queues that are full by bytes.
#[test]
fn ord_004_control_gets_through_while_data_queues_are_full() {
    run(async {
        for payload in [0, 1_000_000] {
            let bus = opened().await;
            let mut stalled = stalled(&*bus).await;
            let full = fill(&*bus, &vec![0; payload]).await;
            assert!(full > 0);
            let mut waiting_ones = Vec::new();
            for _ in 0..4 {
                waiting_ones.push(waiting(&bus).await);
            }
            // The directory, the barrier of a subscribe, and its end, past all that waits.
            let newcomer = another(&bus).await;
            let both = Subscribe::to("stalled").unwrap().and("quiet").unwrap();
            let mut both = newcomer.subscribe(both).await.unwrap();
            let receipt = bus.publish(event("quiet", 7)).await.unwrap();
            assert_eq!(receipt.confirmed(LONG).await.unwrap().deliveries, 1);
            assert_eq!(number(&both.recv().await.unwrap()), 7);
            both.unsubscribe().await;
            newcomer.shutdown().await.unwrap();
            // A shutdown does not wait for those who wait for room.
            for (handle, task) in waiting_ones {
                assert!(!task.is_finished());
                handle.shutdown().await.unwrap();
                task.await.unwrap();
            }
            let first = stalled.recv().await.unwrap();
            let mut own = vec![number(&first)];
            while (own.len() as u64) < full {
                let event = stalled.recv().await.unwrap();
                if event.origin().unwrap().publisher == first.origin().unwrap().publisher {
                    own.push(number(&event));
                }
            }
            assert_eq!(own, (0..full).collect::<Vec<_>>());
            bus.shutdown().await.unwrap();
        }
    });
}

/// A client at the broker's socket that sends the same messages to the directory, which is a client
/// inside the process, again and again, as fast as it can, until it is dropped.
struct Pest {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Pest {
    fn start(socket: &Path, messages: &[Control]) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(&greeting).unwrap();
        let mut answer = [0; 1];
        stream.read_exact(&mut answer).unwrap();
        stream.write_all(b"\x04\0pest").unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [1]);
        // Whatever it is answered: it must not be what stops the flood.
        let mut answers = stream.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));

        let mut flood = Vec::new();
        for message in messages.iter().cycle().take(100) {
            let body = [b"eb-directory\0", &message.write()[..]].concat();
            flood.extend_from_slice(&[0, 0, 0, 0, 0x12]);
            flood.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
            flood.extend_from_slice(&body);
        }
        // It has begun when this returns.
        stream.write_all(&flood).unwrap();
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::new(AtomicU64::new(100)));
        let thread = {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) && stream.write_all(&flood).is_ok() {
                    sent.fetch_add(100, Ordering::Relaxed);
                }
                let _ = stream.shutdown(std::net::Shutdown::Both);
            })
        };
        Self {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Pest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_flood_of_messages_to_the_directory_keeps_nobody_from_joining() {
    run(async {
        for messages in [
            &[Control::Join, Control::Leave][..],
            &[Control::Leave],
            &[Control::Probe],
        ] {
            let directory = tempfile::Builder::new()
                .permissions(std::fs::Permissions::from_mode(0o700))
                .tempdir()
                .unwrap();
            let socket = directory.path().join("bus.sock");
            let mut options = Options::new(Address::Unix(socket.clone()));
            options.connect_timeout = LONG;
            let bus = open(options).await.unwrap();
            let pest = Pest::start(&socket, messages);
            for n in 0..3 {
                let newcomer = another(&bus).await;
                let mut events = newcomer
                    .subscribe(Subscribe::to("quiet").unwrap())
                    .await
                    .unwrap();
                bus.publish(event("quiet", n)).await.unwrap();
                assert_eq!(number(&events.recv().await.unwrap()), n);
                newcomer.shutdown().await.unwrap();
            }
            let mut tick = tokio::time::interval(Duration::from_millis(1));
            // It was not stopped by anything but us.
            while pest.sent() <= 100 {
                tick.tick().await;
            }
            drop(pest);
            bus.shutdown().await.unwrap();
        }
    });
}

fn at_a_rate(per_second: u32, publish_deadline: Duration) -> Options {
    let mut options = Options::new(Address::InProcess);
    options.limits.publish_deadline = publish_deadline;
    options.limits.rate = Some(Rate {
        per_second: per_second.try_into().unwrap(),
        burst: 1.try_into().unwrap(),
    });
    options
}

#[test]
fn who_waits_for_a_turn_is_told_of_a_shutdown() {
    run(async {
        let bus = open(at_a_rate(1, LONG)).await.unwrap();
        bus.try_publish(event("a", 0)).unwrap();
        let mut waiting = Vec::new();
        let patience = loop {
            let publisher = Arc::clone(&bus);
            let n = waiting.len() as u64;
            waiting.push(tokio::spawn(async move {
                publisher.publish(event("a", n)).await
            }));
            tokio::task::yield_now().await;
            match bus.try_publish(event("a", 0)).map_err(Refused::into_parts) {
                Err((_, TryPublishError::RateLimited { retry_after }))
                    if retry_after > WATCHDOG =>
                {
                    break retry_after;
                }
                _ => {}
            }
        };
        bus.shutdown().await.unwrap();
        for publish in waiting {
            let refused = publish.await.unwrap().unwrap_err();
            assert_eq!(*refused.reason(), PublishError::Closed, "{patience:?}");
        }
    });
}

#[test]
fn the_wait_for_a_turn_is_part_of_what_was_waited() {
    run(async {
        let bus = open(at_a_rate(5, Duration::from_millis(300)))
            .await
            .unwrap();
        let full = Subscribe::to("a").unwrap().capacity(1);
        let _full = bus.subscribe(full).await.unwrap();
        let refused = loop {
            if let Err(refused) = bus.publish(event("a", 1)).await {
                break refused;
            }
        };
        let PublishError::Backpressure { waited, .. } = refused.reason() else {
            panic!("{refused:?}");
        };
        assert!(*waited > Duration::from_millis(250), "{waited:?}");
    });
}

/// Publishes by the publisher that it was woken by, once.
struct PublishesWhenWoken {
    publisher: Publisher,
    woken: AtomicBool,
    woken_in: parking_lot::Mutex<Option<std::thread::ThreadId>>,
}

impl Wake for PublishesWhenWoken {
    fn wake(self: Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            *self.woken_in.lock() = Some(std::thread::current().id());
            let again = self.publisher.event("from the waker");
            self.publisher.try_publish(again).unwrap();
        }
    }
}

/// A publisher that does the session's work wakes the subscriber itself, and holds nothing that the
/// subscriber's executor may want.
#[test]
fn who_is_woken_in_the_publishers_thread_may_publish_by_the_same_publisher() {
    run(async {
        let bus = opened().await;
        let mut subscription = bus.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
        let publisher = bus.publisher(Topic::new("a").unwrap());
        // Its own thread may be faster, or busy yet: then that one delivers.
        loop {
            let waker = Arc::new(PublishesWhenWoken {
                publisher: publisher.clone(),
                woken: AtomicBool::new(false),
                woken_in: parking_lot::Mutex::default(),
            });
            let task = Waker::from(Arc::clone(&waker));
            let mut context = Context::from_waker(&task);
            while subscription.poll_recv(&mut context).is_ready() {}
            let publishing = publisher.clone();
            let publishing = tokio::task::spawn_blocking(move || {
                publishing.try_publish(publishing.event("first")).unwrap();
                std::thread::current().id()
            });
            let publisher_in = publishing.await.unwrap();
            let woken_in = *waker.woken_in.lock();
            let first = subscription.recv().await.unwrap();
            if woken_in == Some(publisher_in) {
                assert_eq!(first.bytes().unwrap(), "first");
                let second = subscription.recv().await.unwrap();
                assert_eq!(second.bytes().unwrap(), "from the waker");
                return;
            }
        }
    });
}

#[test]
fn a_subscription_without_a_name_finds_one_that_nobody_has() {
    run(async {
        let bus = opened().await;
        let unnamed = || Subscribe::to("a").unwrap();
        let first = bus.subscribe(unnamed()).await.unwrap();
        let name = first.name().to_owned();
        let (stem, number) = name.rsplit_once('-').unwrap();
        let next = format!("{stem}-{}", number.parse::<u64>().unwrap() + 1);
        let _taken = bus.subscribe(unnamed().named(&*next)).await.unwrap();
        let third = bus.subscribe(unnamed()).await.unwrap();
        assert!(![name, next].contains(&third.name().to_owned()));
    });
}

/// What an application does when its payload is let go of is its own affair: also publishing by the
/// publisher that has just accepted it.
#[test]
fn a_payload_may_publish_by_its_own_publisher_when_it_is_dropped() {
    run(async {
        let bus = opened().await;
        let mut events = bus.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
        let publisher = bus.publisher(Topic::new("a").unwrap());
        let (done, ended) = tokio::sync::oneshot::channel();
        // On a thread of its own: one that waits for itself cannot be given up.
        std::thread::spawn(move || {
            for _ in 0..2 {
                publisher.first_try(&mut Some(loud(&publisher))).unwrap();
            }
            let _ = done.send(());
        });
        ended.await.unwrap();
        for _ in 0..4 {
            events.recv().await.unwrap();
        }
    });
}
