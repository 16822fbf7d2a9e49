//! One transport, measured: set-up, throughput, latency, recovery, memory.
//!
//! Each measurement has handles of its own, so that a bus that stood still in one is not in the
//! next one's way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::conformance::fault::BrokerProcess;
use eventbus::Subscribe;
use hdrhistogram::Histogram;

use super::errors::Errors;
use super::findings::{Findings, Latency, Memory, Point, Recovered, Recovery, Setup, Throughput};
use super::memory::{peak, resident};
use super::pace::Pace;
use super::payload::Delivery;
use super::plan::{Plan, Transport};
use super::stage::Stage;
use super::stream::{Order, Outcome, Pair, Shared, Stream};
use crate::failure::Failure;

/// How long events are published for throughput, and for latency.
const WITHIN: Duration = Duration::from_secs(3);
/// How often a bus is set up.
const SETUPS: u64 = 5;
/// Events per second under which a broker is killed.
const RATE_UNDER_FAULT: u32 = 2_000;
/// Events that arrive before it is, and that are accepted after the bus has recovered.
const AROUND_FAULT: u64 = 500;
/// A bus that has not recovered by then will not.
const RECOVERY: Duration = Duration::from_secs(20);
/// Time between two looks at whether it has.
const LOOK: Duration = Duration::from_millis(1);
/// Quantiles of the curve, up to the maximum.
const QUANTILES: [f64; 19] = [
    0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9975, 0.999, 0.9995, 0.99975,
    0.9999, 0.99995, 0.99999, 0.999_999, 1.0,
];

/// What has been found so far.
struct Account<'a> {
    plan: &'a Plan,
    delivery: Delivery,
    errors: Errors,
    failures: Vec<String>,
    /// Resident memory with both handles open, at the end of the last measurement.
    after: u64,
}

/// Measures what `plan` says; tells the name of each step as it begins.
pub(super) async fn run(plan: &Plan, step: impl Fn(&str)) -> Result<Findings, Failure> {
    let before = resident(None);
    let mut account = Account {
        plan,
        delivery: Delivery::default(),
        errors: Errors::default(),
        failures: Vec::new(),
        after: before,
    };
    step("set-up");
    let mut stage = Stage::new(plan)?;
    let setup = set_up(&stage).await?;
    step("throughput");
    let throughput = account.throughput(&stage).await?;
    step("latency");
    let latency = account.latency(&stage).await?;
    let broker = stage.own_broker().map(|broker| resident(Some(broker.id())));
    let after = account.after;
    step("recovery");
    let recovery = account.recovery(&mut stage).await?;
    let recovery = recovery.map_or_else(
        || Recovery::NotMeasured {
            not_measured: no_recovery(plan).to_owned(),
        },
        Recovery::Measured,
    );
    Ok(Findings {
        transport: plan.transport,
        against: plan.against.as_ref().map(|(url, _)| url.clone()),
        passed: account.failures.is_empty(),
        failures: account.failures,
        setup,
        throughput,
        latency,
        success_rate: account.delivery.success_rate(),
        delivery: account.delivery,
        errors: account.errors,
        recovery,
        memory: Memory {
            before,
            after,
            peak: peak(),
            broker,
        },
        properties: plan.transport.properties(),
    })
}

fn no_recovery(plan: &Plan) -> &'static str {
    match plan.transport {
        _ if plan.against.is_some() => "a running broker is not ours to stop",
        Transport::Crossbeam => "there is no broker",
        _ => "the broker ends with its process",
    }
}

async fn set_up(stage: &Stage) -> Result<Setup, Failure> {
    if let Stage::Elsewhere(_) = stage {
        // The first also looks whether the broker lets us do what is needed.
        let first = stage.open().await?;
        ended(first.shutdown().await, &mut Errors::default());
    }
    let (mut opens, mut subscribes) = (Vec::new(), Vec::new());
    for _ in 0..SETUPS {
        let began = Instant::now();
        let bus = stage.open().await?;
        opens.push(began.elapsed());
        let began = Instant::now();
        let filter = Subscribe::to("validate.setup.#");
        let filter = filter.map_err(|reason| Failure::io("name a topic", reason))?;
        let subscription = bus.subscribe(filter).await?;
        subscribes.push(began.elapsed());
        drop(subscription);
        ended(bus.shutdown().await, &mut Errors::default());
    }
    Ok(Setup {
        broker_seconds: match stage {
            Stage::Own(own) => Some(own.started_in.as_secs_f64()),
            Stage::Alone(_) | Stage::Elsewhere(_) => None,
        },
        open_seconds: median(opens),
        subscribe_seconds: median(subscribes),
        samples: SETUPS,
    })
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    let middle = times.get(times.len() / 2);
    middle.map_or(0.0, Duration::as_secs_f64)
}

fn ended(shutdown: Result<(), eventbus::ShutdownError>, errors: &mut Errors) {
    errors.unconfirmed += u64::from(shutdown.is_err());
}

impl Account<'_> {
    async fn throughput(&mut self, stage: &Stage) -> Result<Throughput, Failure> {
        let order = Order {
            topic: "validate.throughput",
            payload: self.plan.payload,
            events: self.plan.messages,
            within: WITHIN,
            pace: None,
        };
        let pair = stage.pair().await?;
        let outcome = Stream::start(&pair, order).await?.finish().await?;
        self.close("throughput", &outcome, &pair).await;
        let seconds = outcome.took.as_secs_f64();
        Ok(Throughput {
            events_per_second: per_second(outcome.delivery.delivered, outcome.took),
            seconds,
            delivery: outcome.delivery,
        })
    }

    async fn latency(&mut self, stage: &Stage) -> Result<Latency, Failure> {
        let rate = self.plan.rate;
        let order = Order {
            topic: "validate.latency",
            payload: self.plan.payload,
            events: self.plan.messages.min(u64::from(rate) * WITHIN.as_secs()),
            // A bus that does not keep up is given as long again.
            within: WITHIN * 2,
            pace: Some(Pace::new(rate)),
        };
        let pair = stage.pair().await?;
        let outcome = Stream::start(&pair, order).await?.finish().await?;
        self.close("latency", &outcome, &pair).await;
        let at = |quantile| micros(&outcome.latencies, quantile);
        Ok(Latency {
            rate,
            accepted_rate: per_second(outcome.delivery.accepted, outcome.publishing),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
            distribution: curve(&outcome.latencies),
            delivery: outcome.delivery,
        })
    }

    /// `None` if there is no broker to kill.
    async fn recovery(&mut self, stage: &mut Stage) -> Result<Option<Recovered>, Failure> {
        if stage.own_broker().is_none() {
            return Ok(None);
        }
        let pair = stage.pair().await?;
        let Stage::Own(own) = stage else {
            return Ok(None);
        };
        let order = Order {
            topic: "validate.recovery",
            payload: self.plan.payload,
            events: u64::from(RATE_UNDER_FAULT) * RECOVERY.as_secs() * 3,
            within: RECOVERY * 3,
            pace: Some(Pace::new(RATE_UNDER_FAULT)),
        };
        let stream = Stream::start(&pair, order).await?;
        let shared = Arc::clone(&stream.shared);
        until(|| shared.received() >= AROUND_FAULT).await;
        let (killed, listens) = strike(&mut own.broker, &shared)?;
        until(|| shared.recovered().is_some()).await;
        let recovered = shared.recovered();
        let more = shared.accepted() + AROUND_FAULT;
        if recovered.is_some() {
            until(|| shared.accepted() >= more).await;
        } else {
            let waited = RECOVERY.as_secs();
            self.failures
                .push(format!("recovery: no event within {waited} s"));
        }
        shared.end();
        let outcome = stream.finish().await?;
        let resent = pair.publisher.stats().resends;
        self.close("recovery", &outcome, &pair).await;
        Ok(Some(Recovered {
            broker_seconds: listens.as_secs_f64(),
            seconds: recovered.map(|at| at.saturating_duration_since(killed).as_secs_f64()),
            longest_publish_seconds: outcome.longest_publish.as_secs_f64(),
            resent,
            delivery: outcome.delivery,
        }))
    }

    /// Takes what came of a stream into account, and ends its handles.
    async fn close(&mut self, step: &str, outcome: &Outcome, pair: &Pair) {
        self.after = resident(None);
        self.delivery.add(outcome.delivery);
        self.errors.add(outcome.errors);
        if outcome.stood_still {
            self.failures.push(format!("{step}: the bus stood still"));
        }
        let faults = outcome.delivery.faults().into_iter();
        self.failures
            .extend(faults.map(|fault| format!("{step}: {fault}")));
        for bus in [&pair.publisher, &pair.subscriber] {
            ended(bus.shutdown().await, &mut self.errors);
            self.errors.counted(&bus.stats());
        }
    }
}

/// Kills the broker, and starts it again; when that was, and how long until it listened.
fn strike(broker: &mut BrokerProcess, shared: &Shared) -> Result<(Instant, Duration), Failure> {
    let killed = Instant::now();
    broker.kill();
    shared.fault();
    let started = broker.start();
    started.map_err(|reason| Failure::io("start the broker again", reason))?;
    Ok((killed, killed.elapsed()))
}

/// Waits for a condition, but no longer than a recovery may take.
async fn until(met: impl Fn() -> bool) {
    let mut looks = tokio::time::interval(LOOK);
    let began = Instant::now();
    while !met() && began.elapsed() < RECOVERY {
        looks.tick().await;
    }
}

fn per_second(events: u64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    events as f64 / time.as_secs_f64()
}

fn micros(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1_000.0
}

/// As far as there are events to tell quantiles apart by.
fn curve(latencies: &Histogram<u64>) -> Vec<Point> {
    let events = latencies.len() as f64;
    let known = |quantile: &f64| *quantile == 1.0 || (1.0 - quantile) * events >= 1.0;
    let known = QUANTILES.into_iter().filter(known);
    known
        .map(|quantile| Point {
            quantile,
            us: micros(latencies, quantile),
        })
        .collect()
}
