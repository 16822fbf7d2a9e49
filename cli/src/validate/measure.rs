//! One transport, measured: set-up, throughput, latency, recovery, memory.
//!
//! Each stream has handles of its own, so that a bus that stood still in one is not in the next one's
//! way. Throughput and latency are measured in rounds, between which other transports have theirs, so
//! that what else the machine does meets all of them alike.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus::Subscribe;
use eventbus::shadow::sabotage::SabotageBus;

use super::errors::Errors;
use super::findings::{Findings, Latency, Memory, Recovered, Recovery, Setup, Throughput};
use super::latencies::{Rounds, median};
use super::memory::{peak, resident};
use super::pace::Pace;
use super::payload::Delivery;
use super::plan::{Plan, Transport};
use super::stage::Stage;
use super::stream::{Order, Outcome, Pair, Stream};
use crate::failure::Failure;

/// How long events are published for throughput, and for latency.
const WITHIN: Duration = Duration::from_secs(3);
/// Rounds, in turn with other transports, that this time and the events are shared among.
pub(super) const ROUNDS: u64 = 5;
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
/// A transport, and what has been found of it so far.
pub(super) struct Measurement<'a> {
    plan: &'a Plan,
    stage: Stage,
    before: u64,
    setup: Setup,
    /// Events per second of each round.
    rates: Vec<f64>,
    latencies: Rounds,
    /// Of throughput, and of latency.
    streams: [Sum; 2],
    delivery: Delivery,
    errors: Errors,
    failures: Vec<String>,
    stood_still: bool,
    /// Pairs of handles that were sabotaged: what each saboteur chooses by.
    pairs: u64,
    /// Resident memory with both handles open, at the end of the last stream.
    after: u64,
    broker: Option<u64>,
}

/// What streams of one kind have done.
#[derive(Debug, Default)]
struct Sum {
    delivery: Delivery,
    took: Duration,
    publishing: Duration,
}

impl<'a> Measurement<'a> {
    /// Starts the broker, and sets handles up.
    pub(super) async fn set_up(plan: &'a Plan) -> Result<Self, Failure> {
        let before = resident(None);
        let stage = Stage::new(plan)?;
        let setup = set_up(&stage).await?;
        let latencies = Rounds::new();
        Ok(Self {
            plan,
            stage,
            before,
            setup,
            rates: Vec::new(),
            latencies: latencies.map_err(|reason| Failure::io("keep latencies", reason))?,
            streams: Default::default(),
            delivery: Delivery::default(),
            errors: Errors::default(),
            failures: Vec::new(),
            stood_still: false,
            pairs: 0,
            after: before,
            broker: None,
        })
    }

    /// One of [`ROUNDS`]: throughput, then latency.
    pub(super) async fn round(&mut self, round: u64) -> Result<(), Failure> {
        let share = |events: u64| events * (round + 1) / ROUNDS - events * round / ROUNDS;
        let within = WITHIN / ROUNDS as u32;
        self.throughput(share(self.plan.messages), within).await?;
        let rate = u64::from(self.plan.rate);
        let most = self.plan.messages.min(rate * WITHIN.as_secs());
        // A bus that does not keep up is given as long again.
        self.latency(share(most), within * 2).await?;
        let broker = self.stage.own_broker();
        self.broker = broker.map(|broker| resident(Some(broker.id())));
        Ok(())
    }

    async fn throughput(&mut self, events: u64, within: Duration) -> Result<(), Failure> {
        let order = Order {
            topic: "validate.throughput",
            payload: self.plan.payload,
            events,
            within,
            pace: None,
        };
        if let Some(outcome) = self.stream(0, "throughput", order).await? {
            let rate = per_second(outcome.delivery.delivered, outcome.took);
            self.rates.push(rate);
        }
        Ok(())
    }

    async fn latency(&mut self, events: u64, within: Duration) -> Result<(), Failure> {
        let order = Order {
            topic: "validate.latency",
            payload: self.plan.payload,
            events,
            within,
            pace: Some(Pace::new(self.plan.rate)),
        };
        if let Some(outcome) = self.stream(1, "latency", order).await? {
            self.latencies.add(&outcome.latencies);
        }
        Ok(())
    }

    /// Runs a stream on handles of its own; none of no events, and none on a bus that stood still.
    async fn stream(
        &mut self,
        kind: usize,
        step: &str,
        order: Order,
    ) -> Result<Option<Outcome>, Failure> {
        // What stood still once would cost as long again each time.
        if order.events == 0 || self.stood_still {
            return Ok(None);
        }
        let pair = self.pair().await?;
        let outcome = Stream::start(&pair, order).await?.finish().await?;
        self.close(step, &outcome, &pair).await;
        let sum = &mut self.streams[kind];
        sum.delivery.add(outcome.delivery);
        sum.took += outcome.took;
        sum.publishing += outcome.publishing;
        Ok(Some(outcome))
    }

    /// Kills the broker, if there is one to kill, and tells everything.
    pub(super) async fn findings(mut self) -> Result<Findings, Failure> {
        let after = self.after;
        let sums = [("throughput", 0), ("latency", 1)];
        for (step, kind) in sums {
            self.fail(step, self.streams[kind].delivery);
        }
        let recovery = self.recovery().await?;
        let plan = self.plan;
        let [throughput, latency] = &self.streams;
        let [p50_typical_us, p99_typical_us] = self.latencies.typical();
        Ok(Findings {
            transport: plan.transport,
            against: plan.against.as_ref().map(|(url, _)| url.clone()),
            passed: self.failures.is_empty(),
            setup: self.setup,
            throughput: Throughput {
                events_per_second: median(&self.rates),
                rounds: self.rates,
                seconds: throughput.took.as_secs_f64(),
                delivery: throughput.delivery,
            },
            latency: Latency {
                rate: plan.rate,
                accepted_rate: per_second(latency.delivery.accepted, latency.publishing),
                p50_us: self.latencies.at(0.5),
                p99_us: self.latencies.at(0.99),
                p50_typical_us,
                p99_typical_us,
                p999_us: self.latencies.at(0.999),
                max_us: self.latencies.at(1.0),
                distribution: self.latencies.curve(),
                delivery: latency.delivery,
            },
            success_rate: self.delivery.success_rate(),
            delivery: self.delivery,
            errors: self.errors,
            failures: self.failures,
            recovery,
            memory: Memory {
                before: self.before,
                after,
                peak: peak(),
                broker: self.broker,
            },
            properties: plan.transport.properties(),
        })
    }

    async fn pair(&mut self) -> Result<Pair, Failure> {
        let mut pair = self.stage.pair().await?;
        if let Some((kind, rate)) = &self.plan.sabotage {
            let kind = kind.parse();
            let kind = kind.map_err(|reason| Failure::io("misbehave", reason))?;
            self.pairs += 1;
            pair.subscriber = SabotageBus::new(pair.subscriber, kind, *rate, self.pairs);
        }
        Ok(pair)
    }

    async fn recovery(&mut self) -> Result<Recovery, Failure> {
        if self.stage.own_broker().is_none() {
            return Ok(Recovery::NotMeasured {
                not_measured: no_recovery(self.plan).to_owned(),
            });
        }
        let pair = self.pair().await?;
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
        let (killed, listens) = self.stage.strike(|| shared.fault())?;
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
        let stats = [pair.publisher.stats(), pair.subscriber.stats()];
        self.close("recovery", &outcome, &pair).await;
        self.fail("recovery", outcome.delivery);
        Ok(Recovery::Measured(Recovered {
            broker_seconds: listens.as_secs_f64(),
            seconds: recovered.map(|at| at.saturating_duration_since(killed).as_secs_f64()),
            longest_publish_seconds: outcome.longest_publish.as_secs_f64(),
            reconnects: stats.iter().map(|stats| stats.reconnects).sum(),
            resent: stats.iter().map(|stats| stats.resends).sum(),
            delivery: outcome.delivery,
        }))
    }

    fn fail(&mut self, step: &str, delivery: Delivery) {
        let faults = delivery.faults().into_iter();
        self.failures
            .extend(faults.map(|fault| format!("{step}: {fault}")));
    }

    /// Takes what came of a stream into account, and ends its handles.
    async fn close(&mut self, step: &str, outcome: &Outcome, pair: &Pair) {
        self.after = resident(None);
        self.delivery.add(outcome.delivery);
        self.errors.add(outcome.errors);
        if outcome.stood_still {
            self.stood_still = true;
            self.failures.push(format!("{step}: the bus stood still"));
        }
        for bus in [&pair.publisher, &pair.subscriber] {
            ended(bus.shutdown().await, &mut self.errors);
            self.errors.counted(&bus.stats());
        }
    }
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
        open_seconds: middle(&opens),
        subscribe_seconds: middle(&subscribes),
        samples: SETUPS,
    })
}

fn middle(times: &[Duration]) -> f64 {
    let times: Vec<_> = times.iter().map(Duration::as_secs_f64).collect();
    median(&times)
}

fn ended(shutdown: Result<(), eventbus::ShutdownError>, errors: &mut Errors) {
    errors.unconfirmed += u64::from(shutdown.is_err());
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
