//! A subscriber that stops reading: `cargo bench -p conformance --bench stall`.
//!
//! For each phase a subscriber reads nothing for 10 s while an at-least-once publisher goes at full
//! speed; then it reads on. Printed is what the publisher got rid of, how long it was made to wait,
//! and the memory before, when the queues were full, and at the end of the stall. Exit 1 if an
//! event was lost, repeated or out of order, if the publisher never waited, or if memory grew while
//! the queues were full.
//!
//! Options, after `--`: `--seconds N` (10), `--only PHASE`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on stops"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use busrt_backend::{Address, BrokerMode, Options};
use crossbeam_backend::CrossbeamBus;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use eventbus_trait::{EventBus, Limits, Subscribe, Subscription, Topic};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const PHASES: [&str; 3] = ["crossbeam", "in-process", "unix"];
/// Bytes of each payload; the first eight are the event's number.
const PAYLOAD: usize = 100;
/// Events read after the stall before the publisher is told to stop.
const AFTERWARDS: u64 = 200_000;
/// How often published events and memory are looked at during the stall.
const SAMPLE: Duration = Duration::from_millis(100);
/// How long an accepted event may take to come before it is called lost.
const WATCHDOG: Duration = Duration::from_secs(30);
/// Memory that may come and go while nothing is accepted: stacks, allocator, page cache of maps.
const SLACK: u64 = 16 << 20;

/// What one phase did.
struct Outcome {
    published: u64,
    stalled_at: u64,
    longest_wait: Duration,
    memory: Memory,
    faults: u64,
}

/// Resident bytes.
struct Memory {
    before: u64,
    full: u64,
    end: u64,
}

/// A publisher at full speed on a thread of its own.
struct Publishing {
    thread: JoinHandle<Duration>,
    published: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    /// Disconnects when the publisher has ended.
    ended: Receiver<()>,
}

fn main() -> ExitCode {
    let (seconds, only) = match arguments() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    println!(
        "| phase | accepted in {seconds} s | longest publish | RSS before | full | end | published | lost or astray |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut good = true;
    for phase in PHASES {
        if only.as_ref().is_some_and(|only| only != phase) {
            continue;
        }
        let stall = Duration::from_secs(seconds);
        let outcome = run(phase, stall);
        println!("{}", outcome.row(phase));
        good &= outcome.is_good(stall);
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn arguments() -> Result<(u64, Option<String>), String> {
    let (mut seconds, mut only) = (10, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            // `cargo bench` adds it.
            "--bench" => {}
            "--seconds" => {
                let parsed = value()?.parse().ok().filter(|seconds| *seconds > 0);
                seconds = parsed.ok_or("--seconds needs a positive number")?;
            }
            "--only" => only = Some(value()?),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    match only {
        Some(only) if !PHASES.contains(&only.as_str()) => Err(format!("no phase is called {only}")),
        only => Ok((seconds, only)),
    }
}

fn run(phase: &str, stall: Duration) -> Outcome {
    let runtime = runtime();
    let limits = Limits {
        publish_deadline: stall * 10,
        ..Limits::default()
    };
    let (bus, _directory) = open(&runtime, phase, limits);
    let source = runtime.block_on(bus.connect(None)).unwrap();
    let mut subscription = runtime
        .block_on(bus.subscribe(Subscribe::to("stall.#").unwrap()))
        .unwrap();
    let before = resident();
    let publishing = publish(&source);
    let (stalled_at, full) = stand_still(&publishing, stall);
    let memory = Memory {
        before,
        full,
        end: resident(),
    };
    let mut faults = read(&runtime, &mut subscription, 0, AFTERWARDS);
    publishing.stop.store(true, Ordering::Release);
    // The publisher may be waiting for room: read on until it has ended.
    let mut at = AFTERWARDS;
    while publishing.ended.try_recv() != Err(crossbeam_channel::TryRecvError::Disconnected)
        || at < publishing.published.load(Ordering::Acquire)
    {
        if at < publishing.published.load(Ordering::Acquire) {
            faults += read(&runtime, &mut subscription, at, 1);
            at += 1;
        } else {
            std::thread::yield_now();
        }
    }
    let published = publishing.published.load(Ordering::Acquire);
    let longest_wait = publishing.thread.join().unwrap();
    faults += u64::from(subscription.try_recv().is_ok());
    faults += u64::from(!subscription.stats().is_conserved());
    runtime.block_on(source.shutdown()).unwrap();
    runtime.block_on(bus.shutdown()).unwrap();
    Outcome {
        published,
        stalled_at,
        longest_wait,
        memory,
        faults,
    }
}

fn open(runtime: &Runtime, phase: &str, limits: Limits) -> (Arc<dyn EventBus>, Option<TempDir>) {
    let directory = (phase == "unix").then(|| tempfile::tempdir().unwrap());
    let address = match &directory {
        _ if phase == "crossbeam" => return (CrossbeamBus::new(limits), None),
        Some(directory) => Address::Unix(directory.path().join("bus/bus.sock")),
        None => Address::InProcess,
    };
    let mut options = Options::new(address);
    options.limits = limits;
    options.broker = BrokerMode::Embedded;
    let bus = runtime.block_on(busrt_backend::open(options)).unwrap();
    (bus, directory)
}

fn publish(bus: &Arc<dyn EventBus>) -> Publishing {
    let publisher = bus.publisher(Topic::new("stall.events").unwrap());
    let published = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (end, ended) = bounded::<()>(1);
    let thread = std::thread::spawn({
        let (published, stop) = (Arc::clone(&published), Arc::clone(&stop));
        move || {
            let _end = end;
            let mut longest = Duration::ZERO;
            runtime().block_on(async {
                for number in 0_u64.. {
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    let mut payload = vec![7_u8; PAYLOAD];
                    payload[..8].copy_from_slice(&number.to_be_bytes());
                    let started = Instant::now();
                    publisher.publish(publisher.event(payload)).await.unwrap();
                    longest = longest.max(started.elapsed());
                    published.store(number + 1, Ordering::Release);
                }
            });
            longest
        }
    });
    Publishing {
        thread,
        published,
        stop,
        ended,
    }
}

/// Lets the time pass; returns how many events were accepted in it, and the memory when the
/// number had stopped growing.
fn stand_still(publishing: &Publishing, stall: Duration) -> (u64, u64) {
    let until = Instant::now() + stall;
    let (mut accepted, mut full) = (0, None);
    while Instant::now() < until {
        let waited = publishing.ended.recv_timeout(SAMPLE);
        assert_eq!(waited, Err(RecvTimeoutError::Timeout), "publishing failed");
        let now = publishing.published.load(Ordering::Acquire);
        if now == accepted && full.is_none() {
            full = Some(resident());
        }
        accepted = now;
    }
    (accepted, full.unwrap_or_else(resident))
}

/// Reads `count` events and returns how many were not the next in order.
fn read(runtime: &Runtime, subscription: &mut Subscription, first: u64, count: u64) -> u64 {
    runtime.block_on(async {
        let mut faults = 0;
        for expected in first..first + count {
            let next = tokio::time::timeout(WATCHDOG, subscription.recv()).await;
            let Some(event) = next.ok().flatten() else {
                panic!("event {expected} did not come; {:?}", subscription.stats());
            };
            let bytes = event.bytes().unwrap();
            faults += u64::from(bytes.len() != PAYLOAD || bytes[..8] != expected.to_be_bytes());
        }
        faults
    })
}

impl Outcome {
    fn row(&self, phase: &str) -> String {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        format!(
            "| {phase} | {} | {:.2} s | {} | {} | {} | {} | {} |",
            self.stalled_at,
            self.longest_wait.as_secs_f64(),
            mib(self.memory.before),
            mib(self.memory.full),
            mib(self.memory.end),
            self.published,
            self.faults,
        )
    }

    fn is_good(&self, stall: Duration) -> bool {
        self.faults == 0
            && self.longest_wait > stall / 2
            && self.memory.end <= self.memory.full + SLACK
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<u64>().unwrap() * 1024
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
