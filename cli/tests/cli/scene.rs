//! A bus that runs: a broker in a process of its own, and a program on it that is this test.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use conformance::fault::BrokerProcess;
use eventbus::{BrokerMode, Config, Event, EventBus, Phase};
use tokio::runtime::Runtime;

use crate::program::{Place, Running};

/// Reaching it is a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The broker ends, and the program with it, when this is dropped.
pub(crate) struct Scene {
    pub(crate) place: Place,
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) runtime: Runtime,
    _broker: Broker,
}

enum Broker {
    Ours(#[allow(dead_code, reason = "it is there to be dropped")] Running),
    Stock(#[allow(dead_code, reason = "it is there to be dropped")] Box<BrokerProcess>),
}

impl Scene {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let running = place.start("broker --unix run/bus.sock", &[]);
        assert!(running.first_line().starts_with("ready"));
        Self::at(place, Broker::Ours(running))
    }

    /// At a stock busrtd.
    pub(crate) fn stock() -> Self {
        let place = Place::new();
        std::fs::create_dir(place.path().join("run")).unwrap();
        let stock = BrokerProcess::busrtd(&socket(&place), Duration::from_secs(30)).unwrap();
        Self::at(place, Broker::Stock(Box::new(stock)))
    }

    fn at(place: Place, broker: Broker) -> Self {
        let runtime = Runtime::new().unwrap();
        let config = Config::default()
            .phase(Phase::Unix(socket(&place)))
            .broker_mode(BrokerMode::External);
        let bus = runtime.block_on(eventbus::open(&config)).unwrap();
        Self {
            place,
            bus,
            runtime,
            _broker: broker,
        }
    }

    /// Publishes it once, and waits until this many subscriptions have it.
    pub(crate) fn publish(&self, event: Event) -> u64 {
        self.runtime.block_on(async {
            let receipt = self.bus.publish(event).await.unwrap();
            receipt.confirmed(PATIENCE).await.unwrap().deliveries
        })
    }

    /// Publishes on a topic that `tail` takes, until it is there to take it.
    pub(crate) fn await_subscription(&self, topic: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.publish(Event::json(topic, "are you there").unwrap()) == 0 {
            assert!(std::time::Instant::now() < deadline, "nobody subscribes");
            std::thread::yield_now();
        }
    }
}

pub(crate) fn socket(place: &Place) -> PathBuf {
    place.path().canonicalize().unwrap().join("run/bus.sock")
}
