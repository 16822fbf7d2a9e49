//! Throughput beside the raw parts: `cargo bench -p conformance --bench peers`.
//!
//! One publisher, one subscriber, 100-byte payloads, nothing lost, every event counted where it
//! arrives. Absolute figures belong to a machine and an hour; so each of ours runs in turn with the
//! raw part that it stands on, and what counts is the median of the rounds' ratios.
//!
//! The machine should have two idle cores. Where publisher and subscriber share one, they take
//! turns: then the sum of their work is measured instead of the longer half, and a raw channel,
//! which works in its own cache until it is full, gains most. The load is printed for that reason.
//!
//! Options, after `--`: `--rounds N` (5), `--only NAME`, `--json FILE`, `--check` (exit 1 if a
//! ratio is below its floor).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on stops"
)]

mod ours;
mod raw;

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

/// Bytes of each payload.
const PAYLOAD: usize = 100;

/// One of ours and the raw part that it stands on.
struct Pair {
    name: &'static str,
    raw_name: &'static str,
    /// Ratio that this stage of the project holds.
    floor: f64,
    events: u64,
    raw_events: u64,
    raw: fn(u64) -> Duration,
    ours: fn(u64) -> Duration,
}

const PAIRS: [Pair; 4] = [
    Pair {
        name: "crossbeam",
        raw_name: "crossbeam bounded(8192), cloned Arc",
        floor: 0.3,
        events: 4_000_000,
        raw_events: 4_000_000,
        raw: raw::crossbeam,
        ours: ours::crossbeam,
    },
    Pair {
        name: "in-process",
        raw_name: "busrt in process, one event a frame",
        floor: 1.5,
        events: 1_000_000,
        raw_events: 400_000,
        raw: raw::in_process,
        ours: ours::in_process,
    },
    Pair {
        name: "unix",
        raw_name: "busrt UNIX, Processed, best window of 64, 256, 1024",
        floor: 3.0,
        events: 1_000_000,
        raw_events: 100_000,
        raw: raw::unix,
        ours: ours::unix,
    },
    Pair {
        name: "tcp",
        raw_name: "busrt TCP without TLS, Processed, best window of 64, 256, 1024",
        floor: 2.0,
        events: 1_000_000,
        raw_events: 100_000,
        raw: raw::tcp,
        ours: ours::tcp,
    },
];

/// What came of one pair.
#[derive(Debug, Serialize)]
struct Outcome {
    name: &'static str,
    raw_name: &'static str,
    /// Events per second, round by round.
    raw: Vec<f64>,
    ours: Vec<f64>,
    raw_median: f64,
    ours_median: f64,
    /// Median of the rounds' ratios.
    ratio: f64,
    floor: f64,
}

struct Arguments {
    rounds: usize,
    only: Option<String>,
    json: Option<String>,
    check: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    println!("load before: {}\n", load());
    let outcomes: Vec<_> = PAIRS
        .iter()
        .filter(|pair| arguments.only.as_ref().is_none_or(|only| only == pair.name))
        .map(|pair| run(pair, arguments.rounds))
        .collect();
    print!("{}", table(&outcomes));
    if let Some(file) = &arguments.json {
        let json = serde_json::to_vec_pretty(&outcomes).unwrap();
        std::fs::write(file, json).unwrap();
    }
    let below = outcomes.iter().any(|outcome| outcome.ratio < outcome.floor);
    if arguments.check && below {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn run(pair: &Pair, rounds: usize) -> Outcome {
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        raw.push(rate(pair.raw_events, (pair.raw)(pair.raw_events)));
        ours.push(rate(pair.events, (pair.ours)(pair.events)));
        eprintln!(
            "{} round {round}: raw {:.2} M/s, ours {:.2} M/s",
            pair.name,
            raw[round - 1] / 1e6,
            ours[round - 1] / 1e6,
        );
    }
    let (raw_median, ours_median) = (median(&raw), median(&ours));
    let ratios: Vec<_> = ours
        .iter()
        .zip(&raw)
        .map(|(ours, raw)| ours / raw)
        .collect();
    Outcome {
        name: pair.name,
        raw_name: pair.raw_name,
        raw,
        ours,
        raw_median,
        ours_median,
        ratio: median(&ratios),
        floor: pair.floor,
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let mut table = "| phase | events/s | raw part | events/s | ratio | floor |\n".to_owned();
    table += "| --- | ---: | --- | ---: | ---: | ---: |\n";
    for outcome in outcomes {
        table += &format!(
            "| {} | {:.2} M | {} | {:.2} M | {:.2} | {:.1} |\n",
            outcome.name,
            outcome.ours_median / 1e6,
            outcome.raw_name,
            outcome.raw_median / 1e6,
            outcome.ratio,
            outcome.floor,
        );
    }
    table
}

/// Processes that want a core, as an average over the last minute, and how many cores there are.
fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let minute = averages.split(' ').next().unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{minute} on {cores} cores")
}

fn rate(events: u64, took: Duration) -> f64 {
    events as f64 / took.as_secs_f64()
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            rounds: 5,
            only: None,
            json: None,
            check: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                // `cargo bench` adds it.
                "--bench" => {}
                "--check" => arguments.check = true,
                "--only" => arguments.only = Some(value()?),
                "--json" => arguments.json = Some(value()?),
                "--rounds" => {
                    let rounds = value()?.parse().ok().filter(|rounds| *rounds > 0);
                    arguments.rounds = rounds.ok_or("--rounds needs a positive number")?;
                }
                _ => return Err(format!("unknown option {word}")),
            }
        }
        if let Some(only) = &arguments.only
            && PAIRS.iter().all(|pair| pair.name != only)
        {
            return Err(format!("no phase is called {only}"));
        }
        Ok(arguments)
    }
}
