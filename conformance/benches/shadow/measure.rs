//! One measurement: a publisher and a subscriber on threads of their own, for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use busrt_backend::{Address, BrokerMode, Options};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{EventBus, Limits, Publisher, Subscribe, Subscription, Topic};
use hdrhistogram::Histogram;
use shadow::{Report, ShadowBus, ShadowOptions};
use tokio::runtime::Runtime;

use crate::candidate::{Candidate, Kind};
use crate::paced::{Pace, block_on};

const PAYLOAD: usize = 100;
/// How long to run before it counts.
const WARM_UP: Duration = Duration::from_millis(50);

/// What came of it.
pub(crate) struct Sample {
    pub(crate) events_per_second: f64,
    /// 99th percentile of one publish.
    pub(crate) p99_us: f64,
    /// Share of the expected deliveries that was compared.
    pub(crate) compared: f64,
}

/// Measures a primary: by itself, or under a shadow with a candidate.
pub(crate) fn run(primary: &str, kind: Option<Kind>, pace: Pace, time: Duration) -> Sample {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let plain = open(primary, &runtime);
    let Some(kind) = kind else {
        let sample = drive(&plain, None, pace, time);
        runtime.block_on(plain.shutdown()).unwrap();
        return sample;
    };
    let options = ShadowOptions {
        shutdown_wait: Duration::from_millis(1),
        ..kind.options()
    };
    let shadow = ShadowBus::alone(plain, options);
    let mut candidate = Candidate::open(kind, &runtime);
    if let Some(candidate) = &candidate {
        shadow.attach(Arc::clone(&candidate.bus)).unwrap();
    }
    let bus = Arc::clone(&shadow) as Arc<dyn EventBus>;
    let mut sample = drive(&bus, candidate.as_mut(), pace, time);
    let report = runtime.block_on(shadow.detach(Duration::from_millis(20)));
    runtime.block_on(shadow.shutdown()).unwrap();
    if let Some(report) = report {
        assert_eq!(report.diverged(), 0, "{report:#?}");
        sample.compared = compared(&report);
    }
    runtime.shutdown_background();
    sample
}

fn compared(report: &Report) -> f64 {
    report.matched as f64 / report.expected.max(1) as f64
}

fn open(phase: &str, runtime: &Runtime) -> Arc<dyn EventBus> {
    if phase == "crossbeam" {
        return CrossbeamBus::new(Limits::default());
    }
    let mut options = Options::new(Address::InProcess);
    options.broker = BrokerMode::Embedded;
    runtime.block_on(busrt_backend::open(options)).unwrap()
}

fn drive(
    bus: &Arc<dyn EventBus>,
    candidate: Option<&mut Candidate>,
    pace: Pace,
    time: Duration,
) -> Sample {
    let subscription = block_on(bus.subscribe(Subscribe::to("bench.#").unwrap()));
    let reader = std::thread::spawn(move || read(subscription.unwrap()));
    let publisher = bus.publisher(Topic::new("bench.events").unwrap());
    publish(&publisher, pace, WARM_UP);
    let (published, latencies, elapsed) = std::thread::scope(|scope| {
        if let Some(candidate) = candidate {
            scope.spawn(|| candidate.strike());
        }
        let begun = Instant::now();
        let (published, latencies) = publish(&publisher, pace, time);
        (published, latencies, begun.elapsed())
    });
    block_on(bus.publish(publisher.event(vec![]))).unwrap();
    reader.join().unwrap();
    Sample {
        events_per_second: published as f64 / elapsed.as_secs_f64(),
        p99_us: latencies.value_at_quantile(0.99) as f64 / 1000.0,
        compared: 0.0,
    }
}

/// Publishes for `time`; how many, and how long each took, in nanoseconds.
fn publish(publisher: &Publisher, pace: Pace, time: Duration) -> (u64, Histogram<u64>) {
    let mut latencies = Histogram::new_with_bounds(1, 10_000_000_000, 3).unwrap();
    let payload = bytes::Bytes::from(vec![7_u8; PAYLOAD]);
    let begun = Instant::now();
    let mut published = 0;
    let work = async {
        loop {
            let now = Instant::now();
            if now - begun >= time {
                break;
            }
            match pace {
                // The clock is read once for many, since it costs as much as a publish.
                Pace::Full => {
                    for _ in 0..64 {
                        let event = publisher.event(payload.clone());
                        publisher.publish(event).await.unwrap();
                    }
                    published += 64;
                }
                Pace::PerSecond(rate) => {
                    let due = begun + Duration::from_nanos(published * 1_000_000_000 / rate);
                    if now < due {
                        // Not to the point: a sleep that is too long would be a burst afterwards.
                        std::thread::park_timeout((due - now) / 2);
                        continue;
                    }
                    let event = publisher.event(payload.clone());
                    let started = Instant::now();
                    publisher.publish(event).await.unwrap();
                    latencies.saturating_record(started.elapsed().as_nanos() as u64);
                    published += 1;
                }
            }
        }
    };
    block_on(work);
    (published, latencies)
}

/// Reads until an empty event.
fn read(mut subscription: Subscription) {
    while let Some(event) = subscription.recv_blocking() {
        if event.payload().known_len() == Some(0) {
            return;
        }
    }
}
