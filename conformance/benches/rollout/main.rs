//! What a bus that can be moved costs while it is not: `cargo bench -p conformance --bench rollout`.
//!
//! A phase by itself takes turns with the same phase under a rollout that rests there, in one run, so
//! that what else the machine does meets all alike: without shadows (`phased`), and where a candidate
//! could be attached (`phased, shadows`). Printed are medians, and the ratios to the phase by itself:
//! throughput at full speed; at a pace, the 99th percentile of a publish, and of the way from there to
//! the subscriber.
//!
//! Options, after `--`: `--rounds N` (7), `--millis N` (250, for each measurement), `--pace N` (10000
//! events a second), `--only PHASE`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on stops"
)]

mod measure;
#[path = "../paced/mod.rs"]
mod paced;

use std::process::ExitCode;
use std::time::Duration;

use measure::{Pace, Variant};
use paced::{Asked, median};

/// How long each measurement takes.
const TIME: Duration = Duration::from_millis(250);
const PHASES: [&str; 3] = ["crossbeam", "in-process", "unix"];

fn main() -> ExitCode {
    let asked = match Asked::read(TIME, &[("--only", &PHASES)]) {
        Ok(asked) => asked,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let _awake = paced::awake();
    println!(
        "| phase | as | events/s | ratio | publish p99, us | ratio | one way p99, us | ratio |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for phase in PHASES {
        if asked.wants(0, phase) {
            compare(phase, &asked);
        }
    }
    ExitCode::SUCCESS
}

/// Measures a phase in each variant, and prints a line for each.
fn compare(phase: &str, asked: &Asked) {
    let mut fast = Variant::ALL.map(|_| Vec::new());
    let mut paced = Variant::ALL.map(|_| Vec::new());
    for _ in 0..asked.rounds {
        for (at, variant) in Variant::ALL.into_iter().enumerate() {
            fast[at].push(measure::run(phase, variant, Pace::Full, asked.time));
            let pace = Pace::PerSecond(asked.pace);
            paced[at].push(measure::run(phase, variant, pace, asked.time));
        }
    }
    let rates = fast.each_ref().map(|s| median(s, |s| s.events_per_second));
    let publish = paced.each_ref().map(|s| median(s, |s| s.publish_p99_us));
    let way = paced.each_ref().map(|s| median(s, |s| s.way_p99_us));
    for (at, variant) in Variant::ALL.into_iter().enumerate() {
        println!(
            "| {phase} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.1} | {:.2} |",
            variant.name(),
            rates[at],
            rates[at] / rates[0],
            publish[at],
            publish[at] / publish[0],
            way[at],
            way[at] / way[0],
        );
    }
}
