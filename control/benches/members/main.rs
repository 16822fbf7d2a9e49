//! 500 members on one broker at a UNIX socket: `cargo bench -p control --bench members`.
//!
//! The broker, the members and the agent are three processes. Members have as many connections as a broker
//! takes by default, less those that the agent needs, and share them evenly. Printed is what agent and broker
//! take while there is nothing but heartbeats, and what they take, and how long a task takes from when it
//! was due until its result is there, at a steady rate of tasks. Exit 1 if a member was lost, or a task was not
//! done at its first attempt.
//!
//! Options, after `--`: `--members N` (500), `--seconds N` (10, for each of the two), `--rate N` (1000 tasks/s).

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on stops"
)]

mod life;
mod usage;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::dispatch::{Dispatcher, Options, TaskSpec};
use control::registry::{Registry, Rules};
use eventbus::{BrokerMode, Payload};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hdrhistogram::Histogram;

use life::{CONNECTIONS, Child, INTERVAL, open};
use usage::{Spent, Usage};

/// Longer than it takes until all members are known.
const WATCHDOG: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if let Some(told) = life::told() {
        runtime.block_on(life::play(told));
        return ExitCode::SUCCESS;
    }
    let members = option("--members", 500);
    let seconds = Duration::from_secs(option("--seconds", 10));
    let rate = option("--rate", 1000);
    match runtime.block_on(agent(members, seconds, rate)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn option(name: &str, default: u64) -> u64 {
    let mut words = std::env::args().skip_while(|word| word != name);
    let value = words.nth(1);
    value.map_or(default, |value| value.parse().unwrap())
}

async fn agent(members: u64, seconds: Duration, rate: u64) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("run/bus.sock");
    let broker = Child::start("broker", 0, &socket).await;
    let bus = open(&socket, BrokerMode::External).await;
    let registry = Registry::start(Arc::clone(&bus), Rules::default())
        .await
        .unwrap();
    let dispatcher = Dispatcher::start(bus, "agent", &registry, Options::default());
    let dispatcher = dispatcher.await.unwrap();
    let began = Instant::now();
    let theirs = Child::start("members", members, &socket).await;
    let mut watch = registry.watch();
    while (registry.members().len() as u64) < members {
        let change = tokio::time::timeout(WATCHDOG, watch.next()).await;
        change.map_err(|_| "not all members were heard".to_owned())?;
    }
    println!(
        "{members} members over {} connections, a heartbeat each {INTERVAL:?}; all known after {:.2?}",
        CONNECTIONS.min(members),
        began.elapsed(),
    );
    let usage = [Usage::of(std::process::id()), Usage::of(broker.id())];
    tokio::time::interval_at(tokio::time::Instant::now() + seconds, seconds)
        .tick()
        .await;
    tell("heartbeats only", &usage);
    let usage = [Usage::of(std::process::id()), Usage::of(broker.id())];
    let took = tasks(&dispatcher, seconds, rate).await?;
    tell(&format!("{rate} tasks/s"), &usage);
    let at = |quantile| Duration::from_nanos(took.value_at_quantile(quantile));
    println!(
        "  {} tasks, from due to done: p50 {:.2?}, p99 {:.2?}, max {:.2?}",
        took.len(),
        at(0.5),
        at(0.99),
        Duration::from_nanos(took.max()),
    );
    let (stats, counts) = (registry.stats(), dispatcher.counts());
    drop(theirs);
    if stats.members as u64 != members || stats.silent > 0 || counts.retries > 0 {
        return Err(format!("not as it should be: {stats:?}, {counts:?}"));
    }
    Ok(())
}

/// Submits tasks at a rate, whatever becomes of those before, and measures each from when it was due.
async fn tasks(
    dispatcher: &Dispatcher,
    seconds: Duration,
    rate: u64,
) -> Result<Histogram<u64>, String> {
    let mut took = Histogram::new(3).unwrap();
    let period = Duration::from_secs(1) / u32::try_from(rate).unwrap();
    let total = u64::try_from(seconds.as_micros() / period.as_micros()).unwrap();
    let mut pace = tokio::time::interval(period);
    let (mut submitted, mut waiting) = (0, FuturesUnordered::new());
    while submitted < total || !waiting.is_empty() {
        tokio::select! {
            due = pace.tick(), if submitted < total => {
                submitted += 1;
                let spec = TaskSpec::new("work", Payload::raw("x"));
                let handle = dispatcher.submit(spec).map_err(|error| error.to_string())?;
                waiting.push(async move { (due, handle.outcome().await) });
            }
            Some((due, outcome)) = waiting.next() => {
                outcome.map_err(|error| error.to_string())?;
                let nanos = u64::try_from(due.elapsed().as_nanos()).unwrap();
                took.record(nanos).unwrap();
            }
        }
    }
    Ok(took)
}

fn tell(what: &str, [agent, broker]: &[Usage; 2]) {
    println!("{what}:");
    for (name, usage) in [("agent", agent), ("broker", broker)] {
        let Spent { cpu, resident } = usage.spent();
        println!(
            "  {name}: {:.1} % of one core, {:.1} MiB resident",
            cpu * 100.0,
            resident as f64 / f64::from(1 << 20),
        );
    }
}
