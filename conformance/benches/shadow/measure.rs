//! One measurement: a publisher, and a subscriber on a thread of its own, for a while.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use busrt_backend::{Address, BrokerMode, Options};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{EventBus, Limits, Publisher, Subscribe, Subscription, Topic};
use hdrhistogram::Histogram;
use shadow::{Reason, ShadowBus, ShadowOptions};
use tokio::runtime::Runtime;

use crate::candidate::{Candidate, Case};
use crate::paced::block_on;

const PAYLOAD: usize = 100;
/// How long to run before it counts.
const WARM_UP: Duration = Duration::from_millis(50);

/// How long one side publishes at a pace before it is the other one's turn.
const SLICE: Duration = Duration::from_millis(20);

/// Most that a candidate may take to be given up.
const WATCHDOG: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Default)]
pub(crate) struct Sample {
    pub(crate) events_per_second: f64,
    /// 99th percentile of one publish.
    pub(crate) p99_us: f64,
    /// Share of the expected deliveries that was compared.
    pub(crate) compared: f64,
}

/// Publishes at full speed for `time`: on a primary by itself, or under a shadow with a candidate.
pub(crate) fn fast(primary: &str, case: Option<Case>, time: Duration) -> Sample {
    let runtime = runtime();
    let Some(case) = case else {
        let plain = Load::start(open(primary, &runtime));
        plain.publish(WARM_UP);
        let events_per_second = plain.publish(time);
        plain.end(&runtime);
        return Sample {
            events_per_second,
            ..Sample::default()
        };
    };
    let mut shadowed = Shadowed::open(primary, case, &runtime);
    shadowed.load.publish(WARM_UP);
    let events_per_second = std::thread::scope(|scope| {
        let candidate = shadowed.candidate.as_mut();
        scope.spawn(|| candidate.map(Candidate::strike));
        shadowed.load.publish(time)
    });
    let compared = shadowed.end(&runtime);
    runtime.shutdown_background();
    Sample {
        events_per_second,
        compared,
        ..Sample::default()
    }
}

/// Publishes `rate` events a second for `time` on each side, a slice of the one after a slice of the
/// other: how fast the machine wakes a thread changes from one tenth of a second to the next, and
/// decides the 99th percentile of either.
pub(crate) fn paced(primary: &str, case: Case, rate: u64, time: Duration) -> [Sample; 2] {
    let runtime = runtime();
    let plain = Load::start(open(primary, &runtime));
    let mut shadowed = Shadowed::open(primary, case, &runtime);
    let mut latencies = [histogram(), histogram()];
    for load in [&plain, &shadowed.load] {
        load.publish_at(rate, WARM_UP, &mut histogram());
    }
    if let Some(candidate) = &mut shadowed.candidate {
        candidate.strike();
    }
    if case.ends_up_alone() {
        shadowed.until_alone(rate);
    }
    for _ in 0..time.div_duration_f64(SLICE).ceil() as u64 {
        plain.publish_at(rate, SLICE, &mut latencies[0]);
        shadowed.load.publish_at(rate, SLICE, &mut latencies[1]);
    }
    plain.end(&runtime);
    let compared = [0.0, shadowed.end(&runtime)];
    runtime.shutdown_background();
    [0, 1].map(|side| Sample {
        p99_us: latencies[side].value_at_quantile(0.99) as f64 / 1000.0,
        compared: compared[side],
        ..Sample::default()
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).unwrap()
}

fn open(phase: &str, runtime: &Runtime) -> Arc<dyn EventBus> {
    if phase == "crossbeam" {
        return CrossbeamBus::new(Limits::default());
    }
    let mut options = Options::new(Address::InProcess);
    options.broker = BrokerMode::Embedded;
    runtime.block_on(busrt_backend::open(options)).unwrap()
}

/// A bus with a publisher, and a subscriber on a thread of its own.
struct Load {
    bus: Arc<dyn EventBus>,
    publisher: Publisher,
    payload: bytes::Bytes,
    reader: JoinHandle<()>,
}

impl Load {
    fn start(bus: Arc<dyn EventBus>) -> Self {
        let subscription = block_on(bus.subscribe(Subscribe::to("bench.#").unwrap()));
        let reader = std::thread::spawn(move || read(subscription.unwrap()));
        let publisher = bus.publisher(Topic::new("bench.events").unwrap());
        Self {
            bus,
            publisher,
            payload: vec![7_u8; PAYLOAD].into(),
            reader,
        }
    }

    /// Publishes as fast as it can for `time`; how many a second.
    fn publish(&self, time: Duration) -> f64 {
        let (begun, mut published) = (Instant::now(), 0_u64);
        block_on(async {
            while begun.elapsed() < time {
                // The clock is read once for many, since it costs as much as a publish.
                for _ in 0..64 {
                    let event = self.publisher.event(self.payload.clone());
                    self.publisher.publish(event).await.unwrap();
                }
                published += 64;
            }
        });
        published as f64 / begun.elapsed().as_secs_f64()
    }

    /// Publishes `rate` events a second for `time`, and notes how long each took, in nanoseconds.
    fn publish_at(&self, rate: u64, time: Duration, latencies: &mut Histogram<u64>) {
        let (begun, mut published) = (Instant::now(), 0);
        block_on(async {
            loop {
                let now = Instant::now();
                if now - begun >= time {
                    break;
                }
                let due = begun + Duration::from_nanos(published * 1_000_000_000 / rate);
                if now < due {
                    // Not to the point: a sleep that is too long would be a burst afterwards.
                    std::thread::park_timeout((due - now) / 2);
                    continue;
                }
                let event = self.publisher.event(self.payload.clone());
                let started = Instant::now();
                self.publisher.publish(event).await.unwrap();
                latencies.saturating_record(started.elapsed().as_nanos() as u64);
                published += 1;
            }
        });
    }

    /// Waits until everything is read, and ends the bus.
    fn end(self, runtime: &Runtime) {
        block_on(self.bus.publish(self.publisher.event(vec![]))).unwrap();
        self.reader.join().unwrap();
        runtime.block_on(self.bus.shutdown()).unwrap();
    }
}

/// The same under a shadow.
struct Shadowed {
    load: Load,
    shadow: Arc<ShadowBus>,
    candidate: Option<Candidate>,
}

impl Shadowed {
    fn open(primary: &str, case: Case, runtime: &Runtime) -> Self {
        let options = ShadowOptions {
            shutdown_wait: Duration::from_millis(1),
            ..case.options()
        };
        let shadow = ShadowBus::alone(open(primary, runtime), options);
        let candidate = Candidate::open(case.kind, runtime);
        if let Some(candidate) = &candidate {
            shadow.attach(Arc::clone(&candidate.bus)).unwrap();
        }
        Self {
            load: Load::start(Arc::clone(&shadow) as Arc<dyn EventBus>),
            shadow,
            candidate,
        }
    }

    /// Publishes until events are turned away.
    fn until_alone(&self, rate: u64) {
        let begun = Instant::now();
        loop {
            let report = self.shadow.report();
            let reasons = &report.unverified_by_reason;
            if [Reason::QueueFull, Reason::Unavailable]
                .iter()
                .any(|why| reasons.contains_key(why))
            {
                return;
            }
            assert!(begun.elapsed() < WATCHDOG, "{report:#?}");
            self.load.publish_at(rate, SLICE, &mut histogram());
        }
    }

    /// Ends it; the share of the expected deliveries that was compared.
    fn end(self, runtime: &Runtime) -> f64 {
        let report = runtime.block_on(self.shadow.detach(Duration::from_millis(20)));
        self.load.end(runtime);
        report.map_or(0.0, |report| {
            assert_eq!(report.diverged(), 0, "{report:#?}");
            report.matched as f64 / report.expected.max(1) as f64
        })
    }
}

/// Reads until an empty event.
fn read(mut subscription: Subscription) {
    while let Some(event) = subscription.recv_blocking() {
        if event.payload().known_len() == Some(0) {
            return;
        }
    }
}
