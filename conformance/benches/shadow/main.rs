//! What a shadow costs the application: `cargo bench -p conformance --bench shadow`.
//!
//! A primary alone and the same primary under a shadow take turns every 20 ms, on processors that are
//! kept awake. Printed are the medians of both, and of each round's ratios: the shadow's share of the
//! throughput (wanted: at least 0.8), at full speed, and of the 99th percentile of a publish (at most
//! 1.1), at a pace.
//!
//! Candidates: one that works, one that hangs, one that panics, and one whose broker is killed, each
//! with all contents compared and with 1 in 100; and none, which is a bus that could be given one. What
//! goes wrong is measured once the shadow gives the candidate nothing more, which is a second after it
//! hangs.
//!
//! A candidate that works has no target: it does everything once more, on the same processors.
//!
//! Exit 1 if a target is missed. Options, after `--`: `--rounds N` (7), `--millis N` (1000, for each
//! measurement), `--pace N` (10000 events a second), `--only CANDIDATE`, `--only-primary PHASE`.

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
use std::time::Duration;

use candidate::Case;
use measure::Sample;
use paced::{Asked, median};

/// Least share of the throughput.
const THROUGHPUT: f64 = 0.8;
/// Most of the 99th percentile.
const P99: f64 = 1.1;
/// How long each measurement takes.
const TIME: Duration = Duration::from_secs(1);
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
    let _awake = paced::awake();
    println!(
        "| primary | candidate | alone, events/s | under shadow | ratio | p99 alone, us | under shadow | ratio | compared |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
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
        for (sides, rate) in [(&mut fast, None), (&mut paced, Some(asked.pace))] {
            let both = measure::run(primary, case, rate, asked.time);
            for (samples, sample) in sides.iter_mut().zip(both) {
                samples.push(sample);
            }
        }
    }
    let rate = fast.each_ref().map(|s| median(s, |s| s.events_per_second));
    let p99 = paced.each_ref().map(|s| median(s, |s| s.p99_us));
    let share = |samples: &[Sample]| median(samples, |s| s.compared);
    let throughput = ratio(&fast, |s| s.events_per_second);
    let latency = ratio(&paced, |s| s.p99_us);
    println!(
        "| {primary} | {} | {:.0} | {:.0} | {throughput:.2} | {:.2} | {:.2} | {latency:.2} | {:.0} % at full speed, {:.0} % at {} /s |",
        case.name(),
        rate[0],
        rate[1],
        p99[0],
        p99[1],
        100.0 * share(&fast[1]),
        100.0 * share(&paced[1]),
        asked.pace,
    );
    !case.has_target() || (throughput >= THROUGHPUT && latency <= P99)
}

/// The median of each round's ratio.
fn ratio([alone, under]: &[Vec<Sample>; 2], of: impl Fn(&Sample) -> f64) -> f64 {
    let rounds: Vec<f64> = alone
        .iter()
        .zip(under)
        .map(|(a, b)| of(b) / of(a))
        .collect();
    median(&rounds, |ratio| *ratio)
}
