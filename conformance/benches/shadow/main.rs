//! What a shadow costs the application: `cargo bench -p conformance --bench shadow`.
//!
//! A primary alone and the same primary under a shadow take turns every 20 ms, on processors that are
//! kept awake. Printed are the medians of both, and of their ratios: of each round, the shadow's share of
//! the throughput (wanted: at least 0.8), at full speed; and of each 0.2 s at a pace, twice as long, the
//! 99th percentile of a publish (at most 1.1). The first eight publishes after a turn are not among them:
//! they find the caches full of the other side, and are 4 in 100. The last ratio is of the percentiles of
//! all publishes, these too: no target, since it wavers with what the machine does.
//!
//! Candidates: one that works, one that hangs, one that panics, and one whose broker is killed, each
//! with all contents compared and with 1 in 100; and none, which is a bus that could be given one. What
//! goes wrong is measured once the shadow gives the candidate nothing more, which is a second after it
//! hangs.
//!
//! A candidate that works has no target: it does everything once more, on the same processors.
//!
//! Exit 1 if a target is missed. Options, after `--`: `--rounds N` (7), `--millis N` (1000, for each
//! measurement), `--pace N` (10000 events a second, at least 1000), `--only CANDIDATE`, `--only-primary PHASE`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on stops"
)]

mod candidate;
mod measure;
#[path = "../paced/mod.rs"]
mod paced;

use std::process::ExitCode;
use std::slice;
use std::time::Duration;

use candidate::Case;
use measure::{Sample, empty, p99_us};
use paced::{Asked, median};

/// Least share of the throughput.
const THROUGHPUT: f64 = 0.8;
/// Most of the 99th percentile.
const P99: f64 = 1.1;
/// How long each measurement takes.
const TIME: Duration = Duration::from_secs(1);
/// Least events a second at a pace.
const LEAST_PACE: u64 = 1000;
const PRIMARIES: [&str; 2] = ["crossbeam", "in-process"];

fn main() -> ExitCode {
    if let Some(path) = std::env::var_os(candidate::BROKER) {
        candidate::serve(path.into());
        return ExitCode::SUCCESS;
    }
    let candidates = Case::ALL.map(Case::name);
    let picks: [(&str, &[&str]); 2] = [("--only", &candidates), ("--only-primary", &PRIMARIES)];
    let asked = match Asked::read(TIME, &picks) {
        Ok(asked) => asked,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    if asked.pace < LEAST_PACE {
        eprintln!(
            "--pace {} is less than {LEAST_PACE}: too few events for a percentile",
            asked.pace
        );
        return ExitCode::from(2);
    }
    let _awake = paced::awake();
    println!(
        "| primary | candidate | alone, events/s | under shadow | ratio | p99 alone, us | under shadow | ratio | of all | compared |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut good = true;
    for primary in PRIMARIES {
        for case in Case::ALL {
            if asked.wants(0, case.name()) && asked.wants(1, primary) {
                good &= compare(primary, case, &asked);
            }
        }
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Measures one candidate, prints its line, and says whether it meets the targets.
fn compare(primary: &str, case: Case, asked: &Asked) -> bool {
    let (mut fast, mut paced) = ([vec![], vec![]], [vec![], vec![]]);
    for _ in 0..asked.rounds {
        let pace = Some(asked.pace);
        for rate in [None, pace, pace] {
            let sides = if rate.is_none() {
                &mut fast
            } else {
                &mut paced
            };
            let both = measure::run(primary, case, rate, asked.time);
            for (samples, sample) in sides.iter_mut().zip(both) {
                samples.push(sample);
            }
        }
    }
    let rates = all(&fast, |s| slice::from_ref(&s.events_per_second));
    let p99s = all(&paced, |s| &s.p99_us);
    let [rate, p99] = [&rates, &p99s].map(|sides| sides.each_ref().map(|s| middle(s)));
    let [throughput, latency] = [ratio(&rates), ratio(&p99s)];
    let share = |samples: &[Sample]| median(samples, |s| s.compared);
    println!(
        "| {primary} | {} | {:.0} | {:.0} | {throughput:.2} | {:.2} | {:.2} | {latency:.2} | {:.2} | {:.0} % at full speed, {:.0} % at {} /s |",
        case.name(),
        rate[0],
        rate[1],
        p99[0],
        p99[1],
        of_all(&paced),
        100.0 * share(&fast[1]),
        100.0 * share(&paced[1]),
        asked.pace,
    );
    !case.has_target() || (throughput >= THROUGHPUT && latency <= P99)
}

/// What each side measured in all rounds.
fn all(sides: &[Vec<Sample>; 2], of: impl Fn(&Sample) -> &[f64]) -> [Vec<f64>; 2] {
    sides
        .each_ref()
        .map(|samples| samples.iter().flat_map(&of).copied().collect())
}

/// The ratio of the percentiles of all publishes of all rounds.
fn of_all(paced: &[Vec<Sample>; 2]) -> f64 {
    let [alone, under] = paced.each_ref().map(|samples| {
        let mut all = empty();
        for sample in samples {
            all.add(&sample.latencies).unwrap();
        }
        p99_us(&all)
    });
    under / alone
}

/// The median of the ratios, each of what was measured in turns.
fn ratio([alone, under]: &[Vec<f64>; 2]) -> f64 {
    let ratios: Vec<f64> = alone.iter().zip(under).map(|(a, b)| b / a).collect();
    middle(&ratios)
}

fn middle(values: &[f64]) -> f64 {
    median(values, |value| *value)
}
