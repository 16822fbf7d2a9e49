//! `eventbus rollout soak`: a loaded bus moved through all phases and back, every event counted.
//!
//! The rollout is automatic on the way up; on the way down it is told to go back, because nothing is
//! wrong. With shadows, each phase is compared with the next one on the way up and on the way down. Publishers number their events, so what a subscriber has had is one number a stream
//! (`conformance::check::stream`), in memory that does not grow.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::conformance::Stop;
use ::conformance::check::stream::{StreamCheck, StreamId, Tally};
use ::conformance::fault::Reserved;
use bytes::Bytes;
use eventbus::rollout::status::StageStatus;
use eventbus::rollout::{
    self, Activity, Controller, Mode, PhasedBus, Rollout, RolloutError, Status, What,
};
use eventbus::{BrokerMode, Config, EventBus, Phase, PublishError, Subscribe, Subscription, Topic};
use serde::Serialize;
use tokio::task::JoinHandle;

use super::args::SoakArgs;
use crate::certs;
use crate::failure::Failure;
use crate::shadow::output;
use crate::signals;

const TOPICS: u32 = 2;
/// How long each stage is loaded before it is left.
const STAY: Duration = Duration::from_millis(500);
/// How long a publish may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How late a busy machine may run a task whose deadline has come.
const SLACK: Duration = Duration::from_millis(250);
/// How often the rollout is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    verdict: &'static str,
    reasons: Vec<String>,
    seconds: f64,
    events: u64,
    events_per_second: f64,
    rounds: u32,
    cutovers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<Compared>,
    longest_publish_delay_us: u64,
    longest_publish_us: u64,
    deadline_us: u64,
    subscribers: Vec<Subscriber>,
}

/// What the shadows of a soak have found, as far as each was looked at last.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Compared {
    shadows: u64,
    matched: u64,
    divergences: u64,
    /// More than the candidate could take, or not decided when its shadow ended.
    unverified: u64,
}

/// What one subscriber had.
#[derive(Debug, Serialize)]
struct Subscriber {
    received: u64,
    lost: u64,
    unseen: u64,
    duplicates: u64,
    out_of_order: u64,
    phantoms: u64,
    corrupted: u64,
    examples: Vec<String>,
}

/// What one publisher sent.
#[derive(Debug)]
struct Sent {
    number: u32,
    accepted: [u64; TOPICS as usize],
    longest: Duration,
}

pub(super) fn run(args: &SoakArgs) -> Result<u8, Failure> {
    let args = args.clone();
    // It ends with the runtime, whose threads may be about to write into the directory.
    signals::in_directory(move |directory, stop| {
        crate::runtime()?.block_on(soak(&args, directory, stop))
    })
}

async fn soak(args: &SoakArgs, directory: &Path, stop: &Stop) -> Result<u8, Failure> {
    let port = Reserved::new().map_err(|reason| Failure::io("find a free port", reason))?;
    let config = configuration(directory, &port, args.shadow)?;
    // What is being opened is waited for.
    let bus = rollout::open(&config).await?;
    tokio::select! {
        ended = loaded(args, &bus) => ended,
        () = stop.asked() => Err(Failure::Interrupted),
    }
}

async fn loaded(args: &SoakArgs, bus: &Arc<PhasedBus>) -> Result<u8, Failure> {
    let controller = bus.controller().clone();
    let all: Arc<dyn EventBus> = bus.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let (mut readers, mut reading) = (vec![Arc::clone(&all)], Vec::new());
    for _ in 0..args.subscribers {
        let handle = all.connect(None).await?;
        let subscription = handle.subscribe(to_everything()?).await?;
        readers.push(handle);
        reading.push(tokio::spawn(read(subscription)));
    }
    let mut writing = Vec::new();
    for number in 0..args.publishers {
        let (handle, stop) = (all.connect(None).await?, Arc::clone(&stop));
        writing.push(tokio::spawn(write(handle, number, args.payload, stop)));
    }
    let begun = Instant::now();
    let mut looking = Looking::new(bus);
    let moved = rounds(&controller, args, begun, &mut looking).await;
    let compared = looking.end();
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let sent = joined(writing)
        .await?
        .into_iter()
        .collect::<Result<Vec<_>, Failure>>()?;
    let status = controller.status();
    // What is accepted is still read; then the streams end.
    let mut closed = Ok(());
    for handle in readers.iter().rev() {
        closed = closed.and(handle.shutdown().await);
    }
    let checks = joined(reading).await?;
    let mut report = judged(args, &sent, checks, seconds);
    report.cutovers = status.cutovers;
    report.compared = args.shadow.then_some(compared);
    if args.shadow && (compared.matched == 0 || compared.divergences > 0) {
        let told = format!("the shadows found {compared:?}");
        report.reasons.push(told);
    }
    report.longest_publish_delay_us = status.longest_publish_delay_us;
    match moved {
        Ok(rounds) => report.rounds = rounds,
        Err(reason) => report.reasons.push(reason),
    }
    report
        .reasons
        .extend(closed.err().map(|error| error.to_string()));
    if !report.reasons.is_empty() {
        report.verdict = "fail";
    }
    print(&report, args.json)?;
    Ok(u8::from(report.verdict != "pass"))
}

fn to_everything() -> Result<Subscribe, Failure> {
    Subscribe::to("soak.#").map_err(|reason| Failure::io("subscribe", reason))
}

/// All phases, at places of this run's own.
fn configuration(directory: &Path, port: &Reserved, shadow: bool) -> Result<Config, Failure> {
    let place = |name: &str| directory.join(name);
    let phases = vec![
        Phase::Crossbeam,
        Phase::InProcess,
        Phase::Unix(place("bus.sock")),
        format!("tcp://{}", port.address()).parse()?,
    ];
    let mut rollout = Rollout::new(phases, place("journal"));
    rollout.mode = Mode::Automatic;
    rollout.shadow = shadow;
    // How fast a candidate is under full load is not what is counted here, nor how much it takes.
    rollout.gates.latency_ratio = f64::MAX;
    rollout.gates.throughput_ratio = 0.0;
    rollout.hold = DEADLINE;
    rollout.gates.min_events = 1_000;
    rollout.gates.min_time = STAY;
    rollout.gates.successes = 1;
    rollout.gates.interval = LOOK;
    let mut config = Config::load()?
        .broker_mode(BrokerMode::Embedded)
        .tls(certs::private(directory)?)
        .rollout(rollout);
    config.limits.publish_deadline = DEADLINE;
    config.limits.rate = None;
    Ok(config)
}

/// Up by itself and down when told to, until it was enough; how many rounds.
async fn rounds(
    controller: &Controller,
    args: &SoakArgs,
    begun: Instant,
    looking: &mut Looking<'_>,
) -> Result<u32, String> {
    let mut rounds = 0;
    while rounds < args.rounds || begun.elapsed() < args.duration {
        controller.resume().await.map_err(in_words)?;
        loop {
            let status = controller.status();
            match status.activity {
                Activity::Done => break,
                Activity::Halted | Activity::Paused => {
                    return Err(status
                        .last_error
                        .unwrap_or("the rollout stands still".to_owned()));
                }
                _ => {}
            }
            if status
                .history
                .last()
                .is_some_and(|e| e.what == What::Aborted)
            {
                return Err(status
                    .last_error
                    .unwrap_or("a move was given up".to_owned()));
            }
            looking.look(&status);
            pass(LOOK).await;
        }
        controller.pause().await.map_err(in_words)?;
        while controller.status().stage > 0 {
            controller.back().await.map_err(in_words)?;
            controller.pause().await.map_err(in_words)?;
            pass(STAY).await;
            looking.look(&controller.status());
        }
        rounds += 1;
    }
    Ok(rounds)
}

fn in_words(error: RolloutError) -> String {
    error.to_string()
}

async fn pass(time: Duration) {
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

/// Looks at the shadow of each stage until it ends.
struct Looking<'a> {
    bus: &'a PhasedBus,
    stage: usize,
    now: Compared,
    before: Compared,
}

impl<'a> Looking<'a> {
    fn new(bus: &'a PhasedBus) -> Self {
        let (stage, now, before) = (0, Compared::default(), Compared::default());
        Self {
            bus,
            stage,
            now,
            before,
        }
    }

    fn look(&mut self, status: &Status) {
        let stage = status.stage;
        if stage != self.stage {
            self.before = self.end();
            (self.stage, self.now) = (stage, Compared::default());
        }
        // The next one's begins a moment before its stage does.
        let compares = |stage: &StageStatus| stage.candidate.is_some();
        if status.stages.get(stage).is_some_and(compares)
            && let Some(report) = self.bus.comparison()
        {
            self.now = Compared {
                shadows: 1,
                matched: report.matched,
                divergences: report.diverged(),
                unverified: report.unverified,
            };
        }
    }

    fn end(&self) -> Compared {
        let (before, now) = (self.before, self.now);
        Compared {
            shadows: before.shadows + now.shadows,
            matched: before.matched + now.matched,
            divergences: before.divergences + now.divergences,
            unverified: before.unverified + now.unverified,
        }
    }
}

async fn joined<T>(tasks: Vec<JoinHandle<T>>) -> Result<Vec<T>, Failure> {
    let mut all = Vec::with_capacity(tasks.len());
    for task in tasks {
        let ended = task.await;
        all.push(ended.map_err(|reason| Failure::io("finish a task", reason))?);
    }
    Ok(all)
}

fn topic(number: u32) -> String {
    format!("soak.{number}")
}

/// Publisher, topic, number on the topic, number in all; then filler.
fn payload(publisher: u32, topic: u32, number: u64, overall: u64, bytes: u32) -> Bytes {
    let mut payload = Vec::with_capacity(bytes as usize);
    payload.extend(publisher.to_be_bytes());
    payload.extend(topic.to_be_bytes());
    payload.extend(number.to_be_bytes());
    payload.extend(overall.to_be_bytes());
    payload.resize(payload.len().max(bytes as usize), (overall % 251) as u8);
    payload.into()
}

fn read_payload(bytes: &[u8]) -> Option<(StreamId, u64, u64)> {
    let (publisher, rest) = bytes.split_first_chunk::<4>()?;
    let (topic, rest) = rest.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (overall, filler) = rest.split_first_chunk::<8>()?;
    let overall = u64::from_be_bytes(*overall);
    let id = StreamId {
        publisher: u32::from_be_bytes(*publisher),
        topic: u32::from_be_bytes(*topic),
    };
    let whole = filler.iter().all(|byte| *byte == (overall % 251) as u8);
    whole.then_some((id, u64::from_be_bytes(*number), overall))
}

async fn write(
    bus: Arc<dyn EventBus>,
    number: u32,
    bytes: u32,
    stop: Arc<AtomicBool>,
) -> Result<Sent, Failure> {
    let topics = (0..TOPICS).map(|n| Topic::new(topic(n)).map(|topic| bus.publisher(topic)));
    let topics: Vec<_> = topics
        .collect::<Result<_, _>>()
        .map_err(|reason| Failure::io("publish", reason))?;
    let mut sent = Sent {
        number,
        accepted: [0; TOPICS as usize],
        longest: Duration::ZERO,
    };
    let mut overall = 0;
    while !stop.load(Ordering::Relaxed) {
        for (at, publisher) in topics.iter().enumerate() {
            let next = sent.accepted[at];
            let mut event = publisher.event(payload(number, at as u32, next, overall, bytes));
            let mut begun = Instant::now();
            // A refused event goes on under its number: it was delivered to nobody (DEL-004).
            while let Err(refused) = publisher.publish(event).await {
                let (back, reason) = refused.into_parts();
                sent.longest = sent.longest.max(begun.elapsed());
                if !matches!(reason, PublishError::Backpressure { .. }) {
                    return Err(Failure::io("publish", reason));
                }
                (event, begun) = (back, Instant::now());
            }
            sent.longest = sent.longest.max(begun.elapsed());
            sent.accepted[at] += 1;
            overall += 1;
        }
        // Channels alone never make a publisher wait that has room.
        if overall.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
    }
    bus.shutdown()
        .await
        .map_err(|reason| Failure::io("end a publisher", reason))?;
    Ok(sent)
}

/// Reads until the subscriber's handle is shut down and everything is read.
async fn read(mut subscription: Subscription) -> StreamCheck {
    const NOBODY: StreamId = StreamId {
        publisher: u32::MAX,
        topic: u32::MAX,
    };
    let mut check = StreamCheck::default();
    while let Some(event) = subscription.recv().await {
        match event.bytes().ok().as_deref().and_then(read_payload) {
            Some((id, number, overall)) if *event.topic().as_str() == topic(id.topic) => {
                check.came(id, number, overall);
            }
            _ => check.came_altered(NOBODY, 0),
        }
    }
    check
}

fn judged(args: &SoakArgs, sent: &[Sent], checks: Vec<StreamCheck>, seconds: f64) -> Report {
    let accepted: Vec<_> = sent
        .iter()
        .flat_map(|sent| {
            (0..TOPICS).zip(sent.accepted).map(|(topic, events)| {
                let publisher = sent.number;
                (StreamId { publisher, topic }, events)
            })
        })
        .collect();
    let events = accepted.iter().map(|(_, events)| events).sum();
    let tallies: Vec<Tally> = checks
        .into_iter()
        .map(|check| check.finish(accepted.iter().copied()))
        .collect();
    let mut reasons = Vec::new();
    for (number, tally) in tallies.iter().enumerate() {
        let anomalies = tally.anomalies();
        if anomalies > 0 {
            reasons.push(format!("subscriber {number} found {anomalies} anomalies"));
        }
    }
    let longest = sent
        .iter()
        .map(|sent| sent.longest)
        .max()
        .unwrap_or_default();
    if longest > DEADLINE + SLACK {
        reasons.push(format!(
            "a publish took {longest:?}, which is over its deadline"
        ));
    }
    if events == 0 || tallies.len() != args.subscribers as usize {
        reasons.push("nothing was counted".to_owned());
    }
    Report {
        verdict: "pass",
        reasons,
        seconds,
        events,
        events_per_second: if seconds > 0.0 {
            events as f64 / seconds
        } else {
            0.0
        },
        rounds: 0,
        cutovers: 0,
        compared: None,
        longest_publish_delay_us: 0,
        longest_publish_us: micros(longest),
        deadline_us: micros(DEADLINE),
        subscribers: tallies.into_iter().map(Subscriber::from).collect(),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl From<Tally> for Subscriber {
    fn from(tally: Tally) -> Self {
        Self {
            received: tally.received,
            lost: tally.lost,
            unseen: tally.unseen,
            duplicates: tally.duplicates,
            out_of_order: tally.nonmonotonic,
            phantoms: tally.phantoms,
            corrupted: tally.corrupted,
            examples: tally.examples,
        }
    }
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    let text = if json {
        let document = serde_json::to_string_pretty(report);
        document.map_err(|reason| Failure::io("print the report", reason))? + "\n"
    } else {
        words(report)
    };
    output::print(&text)
}

fn words(report: &Report) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let Report {
        seconds,
        events,
        events_per_second,
        rounds,
        cutovers,
        ..
    } = report;
    let _ = writeln!(
        text,
        "events           {events} in {seconds:.1} s, {events_per_second:.0}/s"
    );
    let _ = writeln!(
        text,
        "rollout          {rounds} times up and down, {cutovers} cutovers"
    );
    if let Some(compared) = report.compared {
        let Compared {
            shadows,
            matched,
            divergences,
            unverified,
        } = compared;
        let _ = writeln!(
            text,
            "compared         {matched} deliveries matched in {shadows} shadows, {divergences} \
             divergences, {unverified} not compared"
        );
    }
    let held = Duration::from_micros(report.longest_publish_delay_us);
    let longest = Duration::from_micros(report.longest_publish_us);
    let _ = writeln!(text, "held up          {held:?} at most, by a cutover");
    let _ = writeln!(
        text,
        "longest publish  {longest:?}, of a deadline of {DEADLINE:?}"
    );
    for (number, found) in report.subscribers.iter().enumerate() {
        let Subscriber {
            received,
            lost,
            unseen,
            duplicates,
            out_of_order,
            phantoms,
            corrupted,
            examples,
        } = found;
        let _ = writeln!(
            text,
            "subscriber {number}     {received} received, {lost} lost, {unseen} unseen, \
             {duplicates} duplicates, {out_of_order} out of order, {phantoms} phantoms, \
             {corrupted} corrupted"
        );
        for example in examples {
            let _ = writeln!(text, "  {example}");
        }
    }
    for reason in &report.reasons {
        let _ = writeln!(text, "{reason}");
    }
    let _ = writeln!(text, "{}", report.verdict);
    text
}
