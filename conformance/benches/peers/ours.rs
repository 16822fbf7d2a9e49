//! Ours, through `Arc<dyn EventBus>`: one publisher, one subscriber, at least once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use busrt_backend::{Address, BrokerMode, Options};
use bytes::Bytes;
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{EventBus, Limits, Subscribe, Topic};
use tokio::runtime::Runtime;

use crate::PAYLOAD;

/// The crossbeam phase.
pub(crate) fn crossbeam(events: u64) -> Duration {
    let runtime = runtime();
    let bus = CrossbeamBus::new(Limits::default());
    drive(&runtime, bus, events)
}

/// The in-process phase.
pub(crate) fn in_process(events: u64) -> Duration {
    let runtime = runtime();
    let bus = runtime
        .block_on(busrt_backend::open(Options::new(Address::InProcess)))
        .unwrap();
    drive(&runtime, bus, events)
}

/// The UNIX phase, with the broker in this process.
pub(crate) fn unix(events: u64) -> Duration {
    let runtime = runtime();
    let directory = tempfile::tempdir().unwrap();
    let mut options = Options::new(Address::Unix(directory.path().join("bus/bus.sock")));
    options.broker = BrokerMode::Embedded;
    let bus = runtime.block_on(busrt_backend::open(options)).unwrap();
    drive(&runtime, bus, events)
}

/// The TCP phase, with TLS, and the broker in this process.
pub(crate) fn tcp(events: u64) -> Duration {
    let runtime = runtime();
    let (tls, _directory) = conformance::phases::for_broker_and_client().unwrap();
    let mut options = Options::new(Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 0,
        tls,
    });
    options.broker = BrokerMode::Embedded;
    let bus = runtime.block_on(busrt_backend::open(options)).unwrap();
    drive(&runtime, bus, events)
}

fn drive(runtime: &Runtime, bus: Arc<dyn EventBus>, events: u64) -> Duration {
    let topic = Topic::new("bench.topic").unwrap();
    let source = runtime.block_on(bus.connect(None)).unwrap();
    let mut subscription = runtime
        .block_on(bus.subscribe(Subscribe::to("bench.#").unwrap()))
        .unwrap();
    let payload = Bytes::from(vec![7_u8; PAYLOAD]);
    let publisher = source.publisher(topic);
    let started = Instant::now();
    let publishing = std::thread::spawn(move || {
        let runtime = self::runtime();
        runtime.block_on(async {
            for _ in 0..events {
                let event = publisher.event(payload.clone());
                publisher.publish(event).await.unwrap();
            }
        });
    });
    for sequence in 0..events {
        let event = subscription.recv_blocking().expect("the bus is open");
        assert_eq!(event.payload().known_len(), Some(PAYLOAD));
        assert_eq!(event.origin().map(|origin| origin.sequence), Some(sequence));
    }
    let took = started.elapsed();
    publishing.join().unwrap();
    assert!(subscription.try_recv().is_err(), "nothing came twice");
    runtime.block_on(source.shutdown()).unwrap();
    runtime.block_on(bus.shutdown()).unwrap();
    took
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
