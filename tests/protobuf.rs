//! prost's messages through every phase of this build: the bytes that were published, and nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests are outside of what clippy takes for tests"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conformance::fault::BrokerProcess;
use eventbus::codec::Protobuf;
use eventbus::rpc::{Call, CallError, INVALID_REQUEST, Methods, Reply, Service};
use eventbus::{BrokerMode, Config, ContentType, Event, EventBus, Payload, Phase, Subscribe};
use prost::Message as _;

const PATIENCE: Duration = Duration::from_secs(30);

/// What was there before the bus: some parts optional, nested and repeated.
#[derive(Clone, PartialEq, prost::Message)]
struct Started {
    #[prost(uint32, tag = "1")]
    pid: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, optional, tag = "3")]
    parent: Option<Parent>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    arguments: Vec<Vec<u8>>,
    #[prost(sint64, tag = "5")]
    nice: i64,
    #[prost(double, tag = "6")]
    load: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Parent {
    #[prost(uint32, tag = "1")]
    pid: u32,
}

fn started() -> Started {
    Started {
        pid: 4711,
        name: "sshd \u{fc}".to_owned(),
        parent: Some(Parent { pid: 1 }),
        arguments: vec![vec![], vec![0, 0xff], vec![7; 300]],
        nice: -20,
        load: f64::MIN_POSITIVE,
    }
}

/// What a writer of a later version, or another library, may make: a field that is not known here, the
/// fields in another order, and numbers longer than they need be.
fn by_others() -> Vec<u8> {
    let mut bytes = vec![0x12, 4];
    bytes.extend(b"sshd");
    bytes.extend([0xf8, 0x07, 0x2a]); // field 127: 42
    bytes.extend([0x08, 0xe7, 0xa4, 0x80, 0x80, 0x00]); // pid: 4711, in five bytes
    bytes
}

async fn through(bus: &Arc<dyn EventBus>, phase: &str) {
    let far = bus.connect(None).await.unwrap();
    let mut events = far
        .subscribe(Subscribe::to("events.#").unwrap())
        .await
        .unwrap();
    let topic = "events.process.new";
    let known = started();
    let bytes = known.encode_to_vec();
    let as_bytes = |bytes: &[u8]| Payload::new(bytes.to_vec(), ContentType::Protobuf);
    let sent = [
        (Event::protobuf(topic, &known).unwrap(), bytes.clone()),
        (
            Event::new(topic, Payload::typed::<Started, Protobuf>(known.clone())).unwrap(),
            bytes.clone(),
        ),
        (Event::new(topic, as_bytes(&bytes)).unwrap(), bytes.clone()),
        (Event::protobuf(topic, &Started::default()).unwrap(), vec![]),
        (
            Event::new(topic, as_bytes(&by_others())).unwrap(),
            by_others(),
        ),
        (
            Event::new(topic, as_bytes(b"\xff\xff")).unwrap(),
            b"\xff\xff".to_vec(),
        ),
    ];
    for (event, bytes) in sent {
        bus.publish(event).await.unwrap();
        let came = events.recv().await.unwrap();
        assert_eq!(
            came.payload().content_type().as_str(),
            "application/x-protobuf",
            "{phase}"
        );
        assert_eq!(came.bytes().unwrap(), bytes, "{phase}");
        match Started::decode(&*bytes) {
            Ok(value) => assert_eq!(*came.decode_protobuf::<Started>().unwrap(), value),
            Err(_) => assert!(came.decode_protobuf::<Started>().is_err()),
        }
        // Passed on as it came, it is still the same.
        bus.publish(came).await.unwrap();
        assert_eq!(
            events.recv().await.unwrap().bytes().unwrap(),
            bytes,
            "{phase}"
        );
    }
    called(bus, &*far, phase).await;
}

/// A request and a reply are messages too.
async fn called(bus: &Arc<dyn EventBus>, far: &dyn EventBus, phase: &str) {
    let methods = Methods::new().on("older", |call: Call| async move {
        assert_eq!(*call.payload.content_type(), ContentType::Protobuf);
        let asked = call.decode_protobuf::<Started>()?;
        Ok(Reply::protobuf(&Started {
            pid: asked.pid - 1,
            ..(*asked).clone()
        })?)
    });
    let _serving = bus.serve(Service::new("ages", methods)).await.unwrap();
    let call = Call::protobuf("ages", "older", &started())
        .unwrap()
        .deadline(PATIENCE);
    let reply = far.call(call.clone()).await.unwrap();
    assert_eq!(
        *reply.payload.content_type(),
        ContentType::Protobuf,
        "{phase}"
    );
    let want = Started {
        pid: 4710,
        ..started()
    };
    assert_eq!(
        reply.payload.bytes().unwrap(),
        want.encode_to_vec(),
        "{phase}"
    );
    assert_eq!(
        *reply.decode_protobuf::<Started>().unwrap(),
        want,
        "{phase}"
    );
    let mut bad = call;
    bad.payload = Payload::new(Bytes::from_static(b"\xff"), ContentType::Protobuf);
    let error = far.call(bad).await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Failed {
                code: INVALID_REQUEST,
                ..
            }
        ),
        "{phase}: {error}"
    );
}

fn run(config: &Config, phase: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let work = async {
            let bus = eventbus::open(config).await.unwrap();
            through(&bus, phase).await;
            bus.shutdown().await.unwrap();
        };
        tokio::time::timeout(PATIENCE, work).await.unwrap();
    });
}

#[test]
fn in_process_and_behind_a_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = Phase::Unix(directory.path().join("run/bus.sock"));
    run(&Config::default().phase(Phase::InProcess), "in-process");
    run(&Config::default().phase(socket), "unix");
}

#[cfg(feature = "crossbeam")]
#[test]
fn on_crossbeam_and_under_a_shadow() {
    run(&Config::default().phase(Phase::Crossbeam), "crossbeam");
    let shadow = Config::default().shadow(Phase::Crossbeam, Phase::InProcess);
    run(&shadow.unwrap(), "shadow");
    let shadow = Config::default().shadow(Phase::InProcess, Phase::Crossbeam);
    run(&shadow.unwrap(), "shadow the other way");
}

#[cfg(feature = "rollout")]
#[test]
fn in_a_rollout() {
    let directory = tempfile::tempdir().unwrap();
    let phases = vec![Phase::Crossbeam, Phase::InProcess];
    let rollout = eventbus::rollout::Rollout::new(phases, directory.path().join("journal"));
    run(&Config::default().rollout(rollout), "rollout");
}

/// A broker that knows nothing of us.
#[test]
fn at_a_stock_busrtd() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("bus.sock");
    let _busrtd = BrokerProcess::busrtd(&socket, PATIENCE).unwrap();
    let config = Config::default().phase(Phase::Unix(socket)).wait(true);
    run(&config.broker_mode(BrokerMode::External), "busrtd");
}
