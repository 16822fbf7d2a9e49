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

/// Events a second until the shadow turns them away.
const SLOWLY: u64 = 10_000;
/// How long one side publishes before it is the other one's turn.
const SLICE: Duration = Duration::from_millis(20);
/// Slices that a percentile is of: long enough for one, and short enough to be of one mood of the machine,
/// for one publish in a hundred is where those begin that wake a thread on another processor.
const STRETCH: usize = 10;
/// Publishes of a slice that no stretch has: they find the processor's caches full of the other side.
const COLD: u64 = 8;

/// Most that a candidate may take to be given up.
const WATCHDOG: Duration = Duration::from_secs(30);

/// What came of it.
pub(crate) struct Sample {
    pub(crate) events_per_second: f64,
    /// 99th percentile of one publish, of each stretch.
    pub(crate) p99_us: Vec<f64>,
    /// What each publish took, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Share of the expected deliveries that was compared.
    pub(crate) compared: f64,
}

/// Publishes for `time` on each side, a slice of the one after a slice of the other, `rate` events a
/// second or as many as it can: how fast the machine wakes a thread, and whether a reader ever sleeps,
/// changes from one tenth of a second to the next, and decides both figures.
pub(crate) fn run(primary: &str, case: Case, rate: Option<u64>, time: Duration) -> [Sample; 2] {
    let runtime = runtime();
    let plain = Load::start(open(primary, &runtime));
    let mut shadowed = Shadowed::open(primary, case, &runtime);
    for load in [&plain, &shadowed.load] {
        load.publish(rate, WARM_UP, &mut Total::new());
    }
    if let Some(candidate) = &mut shadowed.candidate {
        candidate.strike();
    }
    if case.ends_up_alone() {
        shadowed.until_alone();
    }
    let mut totals = [Total::new(), Total::new()];
    let slices = time.div_duration_f64(SLICE).ceil() as usize;
    for slice in 0..slices.next_multiple_of(STRETCH) {
        if slice % STRETCH == 0 {
            totals.iter_mut().for_each(Total::begin_stretch);
        }
        plain.publish(rate, SLICE, &mut totals[0]);
        shadowed.load.publish(rate, SLICE, &mut totals[1]);
        if !case.ends_up_alone() {
            // What is left to do would be done at the expense of the other side.
            block_on(shadowed.shadow.settle(WATCHDOG));
        }
    }
    plain.end(&runtime);
    let compared = shadowed.end(&runtime);
    runtime.shutdown_background();
    let [alone, under] = totals;
    [alone.sample(0.0), under.sample(compared)]
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// What one side has done.
struct Total {
    published: u64,
    time: Duration,
    /// In nanoseconds.
    latencies: Histogram<u64>,
    stretches: Vec<Histogram<u64>>,
}

impl Total {
    fn new() -> Self {
        Self {
            published: 0,
            time: Duration::ZERO,
            latencies: empty(),
            stretches: Vec::new(),
        }
    }

    fn begin_stretch(&mut self) {
        self.stretches.push(empty());
    }

    /// Takes note of the `nth` publish of a slice.
    fn note(&mut self, nth: u64, took: Duration) {
        let took = took.as_nanos() as u64;
        self.latencies.saturating_record(took);
        if let Some(stretch) = self.stretches.last_mut().filter(|_| nth >= COLD) {
            stretch.saturating_record(took);
        }
    }

    fn sample(self, compared: f64) -> Sample {
        Sample {
            events_per_second: self.published as f64 / self.time.as_secs_f64(),
            p99_us: self.stretches.iter().map(p99_us).collect(),
            latencies: self.latencies,
            compared,
        }
    }
}

/// Of up to 10 s.
pub(crate) fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).unwrap()
}

pub(crate) fn p99_us(latencies: &Histogram<u64>) -> f64 {
    latencies.value_at_quantile(0.99) as f64 / 1000.0
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

    /// Publishes for `time`, `rate` events a second or as many as it can.
    fn publish(&self, rate: Option<u64>, time: Duration, total: &mut Total) {
        let begun = Instant::now();
        block_on(async {
            match rate {
                Some(rate) => self.publish_at(rate, begun, time, total).await,
                None => self.publish_fast(begun, time, total).await,
            }
        });
        total.time += begun.elapsed();
    }

    async fn publish_fast(&self, begun: Instant, time: Duration, total: &mut Total) {
        while begun.elapsed() < time {
            // The clock is read once for many, since it costs as much as a publish.
            for _ in 0..64 {
                let event = self.publisher.event(self.payload.clone());
                self.publisher.publish(event).await.unwrap();
            }
            total.published += 64;
        }
    }

    /// Notes how long each took.
    async fn publish_at(&self, rate: u64, begun: Instant, time: Duration, total: &mut Total) {
        let mut published = 0;
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
            total.note(published, started.elapsed());
            published += 1;
        }
        total.published += published;
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
    fn until_alone(&self) {
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
            self.load.publish(Some(SLOWLY), SLICE, &mut Total::new());
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
