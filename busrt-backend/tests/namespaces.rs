//! Several buses on one broker, which know nothing of each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use busrt::client::AsyncClient as _;
use busrt_backend::broker::{Acl, AclRule, Broker, BrokerOptions, Listener};
use busrt_backend::{Address, BrokerMode, BusrtBus, OpenError, Options, open};
use conformance::fault::BrokerProcess;
use eventbus_trait::{ConnectError, Event, EventBus, Subscribe, Subscription, TopicFilter};

const PATIENCE: Duration = Duration::from_secs(60);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let done = tokio::time::timeout(PATIENCE, test).await;
        done.expect("the watchdog has had enough");
    });
}

fn socket() -> (tempfile::TempDir, PathBuf) {
    let private = std::fs::Permissions::from_mode(0o700);
    let mut builder = tempfile::Builder::new();
    let directory = builder.permissions(private).tempdir().unwrap();
    let path = directory.path().join("bus.sock");
    (directory, path)
}

fn options(path: &Path, namespace: Option<&str>) -> Options {
    let mut options = Options::new(Address::Unix(path.to_owned()));
    options.broker = BrokerMode::External;
    options.namespace = namespace.map(str::to_owned);
    options.limits.publish_deadline = Duration::from_secs(5);
    options
}

async fn member(path: &Path, namespace: Option<&str>) -> Arc<BusrtBus> {
    open(options(path, namespace)).await.unwrap()
}

async fn everything(bus: &BusrtBus, capacity: usize) -> Subscription {
    let everything = Subscribe::to("#").unwrap().named("everything");
    bus.subscribe(everything.capacity(capacity)).await.unwrap()
}

async fn say(bus: &BusrtBus, text: &'static str) -> u64 {
    let receipt = bus.publish(Event::new("x.y", text).unwrap()).await.unwrap();
    receipt.confirmed(PATIENCE).await.unwrap().deliveries
}

async fn heard(subscription: &mut Subscription) -> String {
    let event = subscription.recv().await.unwrap();
    String::from_utf8(event.bytes().unwrap().to_vec()).unwrap()
}

/// One bus without a namespace, two members of one with, all with the same names and topics.
async fn are_apart(path: &Path) {
    let application = member(path, None).await;
    let mut seen = everything(&application, 10).await;
    let (one, two) = (member(path, Some("a")).await, member(path, Some("a")).await);
    // A name is in use in its own namespace only, and comes back as it was asked for.
    let mut within = everything(&two, 10).await;
    let named = application.connect(Some("collector")).await.unwrap();
    let same = one.connect(Some("collector")).await.unwrap();
    let taken = two.connect(Some("collector")).await.err();
    let name = "collector".to_owned();
    assert_eq!(taken, Some(ConnectError::NameInUse { name }));

    assert_eq!(say(&application, "application").await, 1);
    assert_eq!(say(&one, "within").await, 1);
    // Whoever comes now greets its own.
    let late = member(path, Some("a")).await;
    let other = member(path, Some("b")).await;
    assert_eq!(say(&late, "late").await, 1);
    assert_eq!(say(&other, "other").await, 0);

    // A client without a session is part of the bus whose topics it uses.
    let config = busrt::ipc::Config::new(path.to_str().unwrap(), "foreign");
    let mut foreign = busrt::ipc::Client::connect(&config).await.unwrap();
    let frames = foreign.take_event_channel().unwrap();
    let subscribed = foreign.subscribe("eb/#", busrt::QoS::Processed);
    subscribed.await.unwrap().unwrap().await.unwrap().unwrap();
    assert_eq!(say(&one, "inside").await, 1);
    let bare = foreign.publish("eb/x/y", b"bare"[..].into(), busrt::QoS::Processed);
    bare.await.unwrap().unwrap().await.unwrap().unwrap();
    assert_eq!(heard(&mut seen).await, "application");
    assert_eq!(heard(&mut seen).await, "bare");
    say(&one, "last").await;
    say(&application, "last").await;
    // Of what was said inside nothing has even gone to it.
    let mut sender = "foreign".to_owned();
    while sender == "foreign" {
        sender = frames.recv().await.unwrap().sender().to_owned();
    }
    assert!(!sender.contains("--in-"), "{sender}");
    for expected in ["within", "late", "inside", "last"] {
        assert_eq!(heard(&mut within).await, expected);
    }
    assert_eq!(heard(&mut seen).await, "last");
    for handle in [named, same] {
        handle.shutdown().await.unwrap();
    }
    for bus in [one, two, late, other, application] {
        bus.shutdown().await.unwrap();
    }
}

async fn broker(path: &Path) -> Broker {
    broker_with(path, Acl::default()).await
}

async fn broker_with(path: &Path, acl: Acl) -> Broker {
    let mut options = BrokerOptions::new();
    options.acl = acl;
    options.listeners.push(Listener::Unix(path.to_owned()));
    Broker::start(options).await.unwrap()
}

#[test]
fn buses_on_a_broker_of_ours_are_apart() {
    run(async {
        let (_directory, path) = socket();
        let broker = broker(&path).await;
        are_apart(&path).await;
        broker.stop().await;
    });
}

#[test]
fn buses_on_a_stock_busrtd_are_apart() {
    let (_directory, path) = socket();
    let _broker = BrokerProcess::busrtd(&path, Duration::from_secs(30)).unwrap();
    run(are_apart(&path));
}

#[test]
fn nobody_waits_for_those_of_another_namespace() {
    run(async {
        let (_directory, path) = socket();
        let broker = broker(&path).await;
        let application = member(&path, None).await;
        let mut stalled = everything(&application, 1).await;
        let inside = member(&path, Some("a")).await;
        let mut read = everything(&inside, 100).await;
        for _ in 0..100 {
            assert_eq!(say(&inside, "busy").await, 1);
            assert_eq!(heard(&mut read).await, "busy");
        }
        // It has room all the same: nothing of that was for it.
        say(&application, "own").await;
        assert_eq!(heard(&mut stalled).await, "own");
        broker.stop().await;
    });
}

#[test]
fn rules_of_access_hold_in_every_namespace() {
    run(async {
        let (_directory, path) = socket();
        let open_alone = vec![TopicFilter::new("open.#").unwrap()];
        let mut rule = AclRule::deny_all();
        (rule.publish, rule.subscribe) = (open_alone.clone(), open_alone);
        let broker = broker_with(&path, Acl::default().with("guest*", rule)).await;
        let config = busrt::ipc::Config::new(path.to_str().unwrap(), "guest");
        let mut guest = busrt::ipc::Client::connect(&config).await.unwrap();
        for prefix in ["eb", "eb-a1", "eb-b"] {
            for (topic, may) in [("open/x", true), ("secret", false)] {
                let name = format!("{prefix}/{topic}");
                let sent = guest.publish(&name, b"x"[..].into(), busrt::QoS::Processed);
                let answer = sent.await.unwrap().unwrap().await.unwrap();
                assert_eq!(answer.is_ok(), may, "publish on {name}");
            }
            for (pattern, may) in [("open/#", true), ("#", false), ("+/x", false)] {
                let pattern = format!("{prefix}/{pattern}");
                let sent = guest.subscribe(&pattern, busrt::QoS::Processed);
                let answer = sent.await.unwrap().unwrap().await.unwrap();
                assert_eq!(answer.is_ok(), may, "subscribe to {pattern}");
            }
        }
        drop(guest);
        broker.stop().await;
    });
}

#[test]
fn a_namespace_is_checked_and_its_mark_is_nobodys_name() {
    run(async {
        let (_directory, path) = socket();
        let broker = broker(&path).await;
        let refused = open(options(&path, Some("a-b"))).await.err();
        let namespace = "a-b".to_owned();
        assert_eq!(refused, Some(OpenError::Namespace { namespace }));
        let bus = member(&path, None).await;
        for name in ["x--in-a", "eb-directory"] {
            let refused = bus.connect(Some(name)).await.unwrap_err();
            let name = name.to_owned();
            assert_eq!(refused, ConnectError::BadName { name });
        }
        broker.stop().await;
    });
}

#[test]
fn a_name_that_is_none_starts_nothing() {
    run(async {
        let (_directory, path) = socket();
        let long = "n".repeat(58);
        for name in ["x--in-a", "eb-directory", "", long.as_str()] {
            let mut options = options(&path, Some("a1"));
            options.broker = BrokerMode::Embedded;
            options.name = Some(name.to_owned());
            let name = name.to_owned();
            let reason = match open(options).await {
                Err(OpenError::Connect(reason)) => reason,
                other => panic!("{other:?}"),
            };
            let bad = ConnectError::BadName { name };
            let is_long = matches!(reason, ConnectError::LongName { limit: 57, .. });
            assert!(reason == bad || is_long, "{reason}");
            assert!(!path.exists(), "a broker was started");
        }
    });
}
