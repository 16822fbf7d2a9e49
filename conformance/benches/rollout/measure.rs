//! One measurement: a publisher and a subscriber on threads of their own, for a while.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus::rollout::{self, Rollout};
use eventbus::{BrokerMode, Config, EventBus, Phase, Publisher, Subscribe, Subscription, Topic};
use hdrhistogram::Histogram;
use tokio::runtime::Runtime;

use crate::paced::block_on;

const PAYLOAD: usize = 100;
/// How long to run before it counts.
const WARM_UP: Duration = Duration::from_millis(50);

/// How a phase is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    Plain,
    Phased,
    Shadowable,
}

impl Variant {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Phased, Self::Shadowable];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "by itself",
            Self::Phased => "phased",
            Self::Shadowable => "phased, shadows",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    Full,
    PerSecond(u64),
}

/// What came of it.
pub(crate) struct Sample {
    pub(crate) events_per_second: f64,
    /// 99th percentile of one publish.
    pub(crate) publish_p99_us: f64,
    /// 99th percentile of the time from a publish to its subscriber.
    pub(crate) way_p99_us: f64,
}

/// Measures a phase.
pub(crate) fn run(phase: &str, variant: Variant, pace: Pace, time: Duration) -> Sample {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let private = std::fs::Permissions::from_mode(0o700);
    let directory = tempfile::Builder::new().permissions(private).tempdir();
    let directory = directory.unwrap();
    let bus = open(phase, variant, directory.path(), &runtime);
    let sample = drive(&bus, pace, time);
    runtime.block_on(bus.shutdown()).unwrap();
    drop(bus);
    runtime.shutdown_background();
    sample
}

fn open(phase: &str, variant: Variant, directory: &Path, runtime: &Runtime) -> Arc<dyn EventBus> {
    let phase = match phase {
        "unix" => Phase::Unix(directory.join("bus.sock")),
        name => name.parse().unwrap(),
    };
    let config = Config::default().broker_mode(BrokerMode::Embedded);
    if variant == Variant::Plain {
        let config = config.phase(phase);
        return runtime.block_on(eventbus::open(&config)).unwrap();
    }
    let mut rollout = Rollout::new(vec![phase], directory.join("journal"));
    rollout.shadow = variant == Variant::Shadowable;
    let config = config.rollout(rollout);
    runtime.block_on(rollout::open(&config)).unwrap()
}

fn drive(bus: &Arc<dyn EventBus>, pace: Pace, time: Duration) -> Sample {
    let subscription = block_on(bus.subscribe(Subscribe::to("bench.#").unwrap()));
    let epoch = Instant::now();
    let reader = std::thread::spawn(move || read(subscription.unwrap(), epoch));
    let publisher = bus.publisher(Topic::new("bench.events").unwrap());
    publish(&publisher, pace, WARM_UP, None);
    let begun = Instant::now();
    let (published, latencies) = publish(&publisher, pace, time, Some(epoch));
    let elapsed = begun.elapsed();
    block_on(bus.publish(publisher.event(vec![]))).unwrap();
    let ways = reader.join().unwrap();
    let p99 = |latencies: &Histogram<u64>| latencies.value_at_quantile(0.99) as f64 / 1000.0;
    Sample {
        events_per_second: published as f64 / elapsed.as_secs_f64(),
        publish_p99_us: p99(&latencies),
        way_p99_us: p99(&ways),
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).unwrap()
}

/// Publishes for `time`; how many, and how long each took, in nanoseconds. With an epoch, events say
/// when they were published.
fn publish(
    publisher: &Publisher,
    pace: Pace,
    time: Duration,
    epoch: Option<Instant>,
) -> (u64, Histogram<u64>) {
    let mut latencies = histogram();
    let payload = bytes::Bytes::from(vec![0_u8; PAYLOAD]);
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
                    let started = Instant::now();
                    let mut payload = payload.to_vec();
                    if let Some(epoch) = epoch {
                        let at = (started - epoch).as_nanos() as u64;
                        payload[..8].copy_from_slice(&at.to_be_bytes());
                    }
                    publisher.publish(publisher.event(payload)).await.unwrap();
                    latencies.saturating_record(started.elapsed().as_nanos() as u64);
                    published += 1;
                }
            }
        }
    };
    block_on(work);
    (published, latencies)
}

/// Reads until an empty event; how long those were on their way that say when they were published.
fn read(mut subscription: Subscription, epoch: Instant) -> Histogram<u64> {
    let mut ways = histogram();
    while let Some(event) = subscription.recv_blocking() {
        let bytes = event.bytes().unwrap();
        let Some(at) = bytes.first_chunk::<8>() else {
            break;
        };
        let at = u64::from_be_bytes(*at);
        if at > 0 {
            let now = epoch.elapsed().as_nanos() as u64;
            ways.saturating_record(now.saturating_sub(at));
        }
    }
    ways
}
