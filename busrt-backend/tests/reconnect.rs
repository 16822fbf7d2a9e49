//! A bus that outlives its connections: brokers come and go, events do not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use busrt_backend::{Address, Backoff, BrokerMode, BusrtBus, Options, open};
use eventbus_trait::{
    BusState, Event, EventBus, PublishError, ReceiptError, Subscribe, Subscription,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn run(test: impl Future<Output = ()>) {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("the watchdog has had enough");
    });
}

fn socket() -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .unwrap();
    let path = dir.path().join("bus.sock");
    (dir, path)
}

fn options(path: &Path, broker: BrokerMode) -> Options {
    let mut options = Options::new(Address::Unix(path.to_owned()));
    options.broker = broker;
    options.limits.publish_deadline = PATIENCE;
    options.backoff = Backoff {
        first: Duration::from_millis(5),
        most: Duration::from_millis(50),
    };
    options
}

async fn broker(path: &Path) -> Arc<BusrtBus> {
    let mut options = options(path, BrokerMode::Embedded);
    options.limits.publish_deadline = Duration::from_millis(10);
    open(options).await.unwrap()
}

async fn client(path: &Path) -> Arc<BusrtBus> {
    open(options(path, BrokerMode::External)).await.unwrap()
}

fn event(topic: &str, n: u64) -> Event {
    Event::new(topic, n.to_le_bytes().to_vec()).unwrap()
}

fn number(event: &Event) -> u64 {
    u64::from_le_bytes(event.bytes().unwrap()[..].try_into().unwrap())
}

async fn expect_numbers(subscription: &mut Subscription, range: std::ops::Range<u64>) {
    for n in range {
        assert_eq!(number(&subscription.recv().await.unwrap()), n);
    }
}

async fn until(bus: &BusrtBus, state: impl FnMut(&BusState) -> bool) {
    bus.state().wait_for(state).await.unwrap();
}

fn is_connecting(state: &BusState) -> bool {
    matches!(state, BusState::Connecting { .. })
}

#[test]
fn flt_001_events_survive_restarts_of_the_broker() {
    run(async {
        const EVENTS: u64 = 30_000;
        const RESTARTS: u64 = 5;
        let (_dir, path) = socket();
        let mut host = broker(&path).await;
        let publisher = client(&path).await;
        let subscriber = client(&path).await;
        let mut all = subscriber
            .subscribe(Subscribe::to("#").unwrap())
            .await
            .unwrap();
        let mut own = publisher
            .subscribe(Subscribe::to("a").unwrap())
            .await
            .unwrap();
        let publishing = tokio::spawn({
            let publisher = Arc::clone(&publisher);
            async move {
                for n in 0..EVENTS {
                    publisher.publish(event("a", n)).await.unwrap();
                }
            }
        });
        let own = tokio::spawn(async move {
            expect_numbers(&mut own, 0..EVENTS).await;
            own
        });
        for part in 0..RESTARTS {
            let from = part * EVENTS / RESTARTS;
            expect_numbers(&mut all, from..from + EVENTS / RESTARTS / 2).await;
            let _ = host.shutdown().await;
            host = broker(&path).await;
            let rest = from + EVENTS / RESTARTS / 2..(part + 1) * EVENTS / RESTARTS;
            expect_numbers(&mut all, rest).await;
        }
        publishing.await.unwrap();
        let own = own.await.unwrap();
        let mut state = publisher.state();
        while publisher.stats().reconnects < RESTARTS {
            state.changed().await.unwrap();
        }
        publisher.shutdown().await.unwrap();
        for subscription in [&all, &own] {
            let stats = subscription.stats();
            assert_eq!(stats.delivered, EVENTS, "{stats:?}");
            assert_eq!(stats.dropped, 0, "{stats:?}");
        }
        assert_eq!(publisher.stats().given_up, 0);
        host.shutdown().await.unwrap();
    });
}

#[test]
fn sub_007_subscriptions_are_restored_and_new_ones_wait_for_the_connection() {
    run(async {
        let (_dir, path) = socket();
        let host = broker(&path).await;
        let bus = client(&path).await;
        let mut before = bus.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
        let _ = host.shutdown().await;
        until(&bus, is_connecting).await;
        // Accepted while there is no broker: `before` is told, `during` is not connected yet.
        let receipt = bus.publish(event("a", 0)).await.unwrap();
        let during = tokio::spawn({
            let bus = Arc::clone(&bus);
            async move { bus.subscribe(Subscribe::to("a").unwrap()).await }
        });
        let host = broker(&path).await;
        let mut during = during.await.unwrap().unwrap();
        assert_eq!(receipt.confirmed(PATIENCE).await.unwrap().deliveries, 1);
        let other = client(&path).await;
        other.publish(event("a", 1)).await.unwrap();
        expect_numbers(&mut before, 0..2).await;
        expect_numbers(&mut during, 1..2).await;
        drop(host);
    });
}

#[test]
fn flw_001_without_a_broker_publish_waits_for_room_and_hands_the_event_back() {
    run(async {
        let (_dir, path) = socket();
        let host = broker(&path).await;
        let mut options = options(&path, BrokerMode::External);
        options.limits.publish_deadline = Duration::from_millis(50);
        let bus = open(options).await.unwrap();
        let mut subscription = bus
            .subscribe(Subscribe::to("a").unwrap().capacity(8).named("small"))
            .await
            .unwrap();
        let _ = host.shutdown().await;
        until(&bus, is_connecting).await;
        let mut accepted = 0;
        let refused = loop {
            match bus.publish(event("a", accepted)).await {
                Ok(_) => accepted += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(accepted, 8);
        assert!(
            matches!(refused.reason(), PublishError::Backpressure { subscription, .. } if subscription == "small"),
            "{refused}"
        );
        let host = broker(&path).await;
        expect_numbers(&mut subscription, 0..8).await;
        // On a busy machine, room is told of when somebody has given up waiting for it already.
        let mut back = refused.into_event();
        while let Err(refused) = bus.publish(back).await {
            let full = matches!(refused.reason(), PublishError::Backpressure { .. });
            assert!(full, "{refused}");
            back = refused.into_event();
        }
        expect_numbers(&mut subscription, 8..9).await;
        drop(host);
    });
}

#[test]
fn del_010_a_subscriber_that_stays_away_is_given_up_by_name() {
    run(async {
        let (_dir, path) = socket();
        let host = broker(&path).await;
        let mut options = options(&path, BrokerMode::External);
        options.link_timeout = Duration::from_millis(300);
        let bus = open(options).await.unwrap();

        // A peer that joins as the protocol says, subscribes, acknowledges nothing and is gone.
        let peer = silent_peer(&path, "peer").await;
        let receipt = loop {
            let receipt = bus.publish(event("a", 1)).await.unwrap();
            let waited = receipt.confirmed(Duration::from_millis(20)).await;
            match waited {
                // Not subscribed yet.
                Ok(_) => {}
                Err(ReceiptError::Unconfirmed { subscriptions, .. }) => {
                    assert_eq!(subscriptions, ["mute"]);
                    break receipt;
                }
                Err(other) => panic!("{other}"),
            }
        };
        let started = Instant::now();
        drop(peer);
        let given_up = receipt.confirmed(PATIENCE).await;
        assert!(
            matches!(&given_up, Err(ReceiptError::Lost { subscriptions }) if subscriptions == &["mute"]),
            "{given_up:?}"
        );
        assert!(started.elapsed() >= Duration::from_millis(300));
        assert!(bus.stats().given_up >= 1);
        bus.shutdown().await.unwrap();
        drop(host);
    });
}

async fn silent_peer(path: &Path, name: &str) -> busrt::ipc::Client {
    use busrt::QoS;
    use busrt::client::AsyncClient;
    use busrt_backend::wire::{Control, SubscriptionInfo};
    let config = busrt::ipc::Config::new(path.to_str().unwrap(), name);
    let mut peer = busrt::ipc::Client::connect(&config).await.unwrap();
    let frames = peer.take_event_channel().unwrap();
    peer.send("eb-directory", Control::Join.write().into(), QoS::Processed)
        .await
        .unwrap();
    let members = loop {
        let frame = frames.recv().await.unwrap();
        let bytes = bytes::Bytes::copy_from_slice(frame.payload());
        if let Ok(Some(Control::Members(members))) = Control::read(&bytes) {
            break members;
        }
    };
    let hello = Control::Hello {
        publisher: eventbus_trait::PublisherId::random(),
        subscriptions: vec![SubscriptionInfo {
            id: 1,
            name: "mute".to_owned(),
            filters: vec!["a".parse().unwrap()],
            link: 1,
            received: 0,
            received_bytes: 0,
            credit: 100,
            credit_bytes: 1 << 20,
        }],
    };
    for member in members.iter().filter(|member| member.client != name) {
        let sent = peer.send(&member.client, hello.write().into(), QoS::RealtimeProcessed);
        sent.await.unwrap().unwrap().await.unwrap().unwrap();
    }
    peer
}

#[test]
fn another_process_becomes_the_broker_when_the_first_one_ends() {
    run(async {
        let (_dir, path) = socket();
        let first = open(options(&path, BrokerMode::Auto)).await.unwrap();
        let second = open(options(&path, BrokerMode::Auto)).await.unwrap();
        let third = open(options(&path, BrokerMode::Auto)).await.unwrap();
        let mut events = second.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
        first.publish(event("a", 0)).await.unwrap();
        first.shutdown().await.unwrap();
        third.publish(event("a", 1)).await.unwrap();
        expect_numbers(&mut events, 0..2).await;
        until(&third, |state| *state == BusState::Connected).await;
        third.shutdown().await.unwrap();
        second.shutdown().await.unwrap();
        assert!(!path.exists(), "the last broker took its socket along");
    });
}

#[test]
fn lif_008_open_waits_for_a_broker_if_asked_to() {
    run(async {
        let (_dir, path) = socket();
        let mut options = options(&path, BrokerMode::External);
        let refused = open(options.clone()).await.unwrap_err();
        assert!(refused.to_string().contains("nothing answers"), "{refused}");
        options.wait = true;
        let opening = tokio::spawn(open(options));
        let host = broker(&path).await;
        let bus = opening.await.unwrap().unwrap();
        assert_eq!(*bus.state().borrow(), BusState::Connected);
        bus.shutdown().await.unwrap();
        assert_eq!(*bus.state().borrow(), BusState::Closed);
        drop(host);
    });
}
