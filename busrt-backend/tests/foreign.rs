//! Clients that know nothing of sessions: busrt's own Python libraries on one bus with ours, at a
//! broker of ours and at a stock busrtd.
//!
//! They publish what their users publish, and read our events with the decoder that
//! `docs/wire-format.md` gives them, word for word.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "foreign/python.rs"]
mod python;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use busrt_backend::{Address, BrokerMode, BusrtBus, Options, open};
use conformance::fault::BrokerProcess;
use eventbus_trait::rpc::{Call, CallError, Failure, Reply, Service};
use eventbus_trait::{
    ContentType, Correlation, Delivery, Event, EventBus, Origin, Payload, PublisherId, Subscribe,
    Subscription,
};
use libtest_mimic::{Arguments, Failed, Trial};
use python::{Peer, Python};
use serde_json::{Value, json};

const LIBRARIES: [&str; 2] = ["busrt", "busrt_async"];
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let without = std::env::var_os("EVENTBUS_NO_FOREIGN").is_some_and(|value| value == "1");
    if without {
        println!("EVENTBUS_NO_FOREIGN=1: nothing is tried with clients in other languages");
    }
    let tests = [
        (
            "a_bare_payload_is_an_event",
            a_bare_payload_is_an_event as fn(Scene),
        ),
        (
            "our_events_are_read_with_the_documented_decoder",
            our_events_are_read,
        ),
        (
            "a_foreign_subscriber_takes_part_in_no_link",
            a_foreign_subscriber_takes_part_in_no_link,
        ),
        ("it_calls_a_service_of_ours", it_calls_a_service_of_ours),
        ("we_call_a_service_of_its", we_call_a_service_of_its),
    ];
    let example = Trial::test("the_documented_example_publishes", || {
        the_documented_example_publishes(&Scene::new("busrt", Broker::Ours)?);
        Ok(())
    });
    let scenes = LIBRARIES.into_iter().flat_map(|library| {
        let brokers = [(Broker::Ours, "ours"), (Broker::Stock, "busrtd")];
        brokers.map(|(broker, at)| (library, broker, at))
    });
    let trials = scenes.flat_map(|(library, broker, at)| {
        tests.map(|(name, test)| {
            let run = move || -> Result<(), Failed> {
                test(Scene::new(library, broker)?);
                Ok(())
            };
            Trial::test(format!("{library}::{at}::{name}"), run).with_ignored_flag(without)
        })
    });
    let trials = trials.chain([example.with_ignored_flag(without)]);
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Who runs the broker.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Broker {
    Ours,
    Stock,
}

/// A bus at a broker behind a socket, and Python to come to it.
struct Scene {
    runtime: tokio::runtime::Runtime,
    python: Python,
    library: &'static str,
    bus: Arc<BusrtBus>,
    socket: PathBuf,
    _busrtd: Option<BrokerProcess>,
    _directory: tempfile::TempDir,
}

impl Scene {
    fn new(library: &'static str, broker: Broker) -> Result<Self, String> {
        let python = Python::new()?;
        let directory = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .unwrap();
        let socket = directory.path().join("bus.sock");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut options = Options::new(Address::Unix(socket.clone()));
        let busrtd = if broker == Broker::Stock {
            options.broker = BrokerMode::External;
            Some(BrokerProcess::busrtd(&socket, options.keepalive)?)
        } else {
            None
        };
        let bus = runtime.block_on(open(options)).unwrap();
        Ok(Self {
            runtime,
            python,
            library,
            bus,
            socket,
            _busrtd: busrtd,
            _directory: directory,
        })
    }

    fn peer(&self, words: &[&str]) -> Peer {
        let socket = self.socket.to_str().unwrap();
        let mut all = vec![self.library, words[0], socket];
        all.extend(&words[1..]);
        self.python.peer(&all)
    }

    fn subscribe(&self, filter: &str) -> Subscription {
        let subscribe = Subscribe::to(filter).unwrap();
        self.runtime
            .block_on(self.bus.subscribe(subscribe))
            .unwrap()
    }

    fn publish(&self, event: Event) {
        self.runtime.block_on(self.bus.publish(event)).unwrap();
    }

    fn receive(&self, subscription: &mut Subscription) -> Event {
        let received = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, subscription.recv()).await });
        received.expect("no event came").expect("the bus has ended")
    }
}

fn a_bare_payload_is_an_event(scene: Scene) {
    let mut events = scene.subscribe("events.process.#");
    let sent = r#"{"pid": 4711, "name": "grüß"}"#;
    let peer = scene.peer(&["publish", "eb/events/process/new", sent]);
    assert_eq!(peer.line(), "published");
    let event = scene.receive(&mut events);
    assert_eq!(event.topic().as_str(), "events.process.new");
    assert_eq!(event.bytes().unwrap(), sent.as_bytes());
    assert_eq!(
        *event.decode_json::<Value>().unwrap(),
        json!({"pid": 4711, "name": "grüß"})
    );
    assert_eq!(event.payload().content_type(), &ContentType::Raw);
    assert_eq!(event.origin(), None);
    assert_eq!(event.get_headers(), None);
    let stats = events.stats();
    assert_eq!((stats.matched, stats.delivered), (1, 1));
}

fn the_documented_example_publishes(scene: &Scene) {
    let mut events = scene.subscribe("events.process.#");
    let _example = scene.python.example(scene.socket.to_str().unwrap());
    assert_eq!(scene.receive(&mut events).bytes().unwrap(), r#"{"pid": 1}"#);
}

/// Every field of the envelope, in each of its forms.
fn specimens() -> Vec<Event> {
    let topic = "events.process.new";
    let payload = |bytes: &[u8], content: ContentType| {
        Event::new(topic, Payload::new(bytes.to_vec(), content)).unwrap()
    };
    let origin = Origin {
        publisher: PublisherId([0xAB; 16]),
        epoch: 7,
        sequence: 1 << 40,
    };
    vec![
        Event::json(topic, &json!({"pid": 1})).unwrap(),
        payload(b"\x08\x01", ContentType::Protobuf),
        payload(b"\0\xFF\xEB\x05EF", ContentType::Raw),
        payload(b"", ContentType::Raw),
        payload(b"png", ContentType::Other("image/png".into())),
        Event::json(topic, &2)
            .unwrap()
            .header("trace", "ü")
            .correlation(Correlation::new("c").child("d").tag("k", "v")),
        Event::json(topic, &3).unwrap().given_origin(origin),
        payload(b"png", ContentType::Other("image/png".into()))
            .header("all", "of it")
            .given_origin(origin),
        Event::json(topic, &4)
            .unwrap()
            .delivery(Delivery::AtMostOnce),
        payload(&vec![0x5A; 1 << 20], ContentType::Raw),
    ]
}

/// What a peer says of an event that it has decoded, with `publisher` and `sequence` of its own.
fn told(event: &Event, publisher: &Value, sequence: u64) -> Value {
    let mut metadata = json!({});
    if let Some(headers) = event.get_headers() {
        metadata["headers"] = json!(headers);
    }
    if let Some(correlation) = event.get_correlation() {
        metadata["correlation"] = serde_json::to_value(correlation).unwrap();
    }
    let (publisher, sequence) = match event.origin() {
        Some(given) => (json!(given.publisher.to_string()), given.sequence),
        None => (publisher.clone(), sequence),
    };
    let hex: String = event
        .bytes()
        .unwrap()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    json!({
        "topic": format!("eb/{}", event.topic().as_str().replace('.', "/")),
        "publisher": publisher,
        "sequence": sequence,
        "content_type": event.payload().content_type().to_string(),
        "metadata": metadata,
        "payload": hex,
    })
}

/// Publishes the specimens and then a batch, and sees all of it told by the peer.
fn publish_and_compare(scene: &Scene, peer: &Peer) {
    let mut events = specimens();
    events.extend((0..3_000).map(|n| Event::json("events.other", &n).unwrap()));
    for event in &events[..10] {
        scene.publish(event.clone());
    }
    let batch = events[10..].to_vec();
    scene
        .runtime
        .block_on(scene.bus.publish_batch(batch))
        .unwrap_or_else(|refused| panic!("{refused}"));
    let mut publisher = None;
    // An event with a stamp of its own takes no sequence of the bus.
    let mut own = 0;
    for event in &events {
        let line: Value = serde_json::from_str(&peer.line()).unwrap();
        let publisher = publisher.get_or_insert_with(|| line["publisher"].clone());
        assert_eq!(line, told(event, publisher, own));
        own += u64::from(event.origin().is_none());
    }
    assert_eq!(publisher.unwrap().as_str().unwrap().len(), 32);
}

fn our_events_are_read(scene: Scene) {
    let peer = scene.peer(&["subscribe", "eb/events/#"]);
    assert_eq!(peer.line(), "ready");
    publish_and_compare(&scene, &peer);
}

/// The same frames carry link entries once somebody of ours subscribes; the peer reads them alike,
/// and it is nobody that a receipt waits for.
fn a_foreign_subscriber_takes_part_in_no_link(scene: Scene) {
    let peer = scene.peer(&["subscribe", "eb/events/#"]);
    assert_eq!(peer.line(), "ready");
    // They read while it is published: a subscription that nobody reads holds its publisher up.
    let reading = [("events.#", 3_010), ("events.process.*", 10)].map(|(filter, events)| {
        let mut subscription = scene.subscribe(filter);
        scene.runtime.spawn(async move {
            for _ in 0..events {
                subscription.recv().await.expect("the bus has ended");
            }
            subscription
        })
    });
    publish_and_compare(&scene, &peer);
    let _subscriptions = reading.map(|task| {
        let read = async { tokio::time::timeout(PATIENCE, task).await };
        scene
            .runtime
            .block_on(read)
            .expect("no event came")
            .unwrap()
    });
    let last = Event::json("events.process.new", &()).unwrap();
    let receipt = scene.runtime.block_on(scene.bus.publish(last)).unwrap();
    let confirmed = scene.runtime.block_on(receipt.confirmed(PATIENCE)).unwrap();
    assert_eq!(confirmed.deliveries, 2);
}

/// The request that peers make.
fn from_python(call: &Call) -> Result<Reply, Failure> {
    let request = call.decode_json::<Value>()?;
    match &*call.method {
        "health_check" => Ok(Reply::json(&json!({"status": "ok", "asked": *request}))?),
        "fails" => Err(Failure::new(12, "grün ist es nicht")),
        _ => Err(Failure::NoMethod),
    }
}

fn it_calls_a_service_of_ours(scene: Scene) {
    let service = Service::new("procmond", |call: Call| async move { from_python(&call) });
    let serving = async { scene.bus.serve(service).await };
    let _serving = scene.runtime.block_on(serving).unwrap();
    let told = |method: &str| -> Value {
        let peer = scene.peer(&["call", "procmond", method]);
        serde_json::from_str(&peer.line()).unwrap()
    };
    let reply = json!({"status": "ok", "asked": {"from": "python"}});
    assert_eq!(told("health_check"), json!({ "reply": reply }));
    let failed = json!({"code": 12, "message": "grün ist es nicht"});
    assert_eq!(told("fails"), failed);
    let none = told("nothing");
    assert_eq!(none["code"], json!(-32601));
    let nobody = scene.peer(&["call", "nobody", "health_check"]).line();
    // busrt's own code for a client that is not there.
    assert!(nobody.contains("-32113"), "{nobody}");
    assert_eq!(scene.bus.stats().services[0].running, 0);
}

fn we_call_a_service_of_its(scene: Scene) {
    let peer = scene.peer(&["serve", "python"]);
    assert_eq!(peer.line(), "ready");
    let call = |method: &str| {
        let call = Call::json("python", method, &[1, 2, 39]).unwrap();
        scene
            .runtime
            .block_on(scene.bus.call(call.deadline(PATIENCE)))
    };
    let sum = call("sum").unwrap();
    assert_eq!(*sum.decode_json::<i64>().unwrap(), 42);
    let service = || "python".to_owned();
    let failed = CallError::Failed {
        service: service(),
        code: 77,
        message: "python has failed".to_owned(),
    };
    assert_eq!(call("fail"), Err(failed));
    let method = "none".to_owned();
    assert_eq!(
        call("none"),
        Err(CallError::NoMethod {
            service: service(),
            method
        })
    );
    drop(peer);
    let gone = loop {
        // It may answer once more.
        if let Err(error) = call("sum") {
            break error;
        }
    };
    let went = matches!(
        gone,
        CallError::NoService { .. } | CallError::CalleeGone { .. }
    );
    assert!(went, "{gone}");
    assert_eq!(scene.bus.stats().calls.outstanding, 0);
}
