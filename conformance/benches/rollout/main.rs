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

use std::process::ExitCode;
use std::time::Duration;

use measure::{Pace, Sample, Variant};

const PHASES: [&str; 3] = ["crossbeam", "in-process", "unix"];

struct Asked {
    rounds: usize,
    time: Duration,
    pace: u64,
    phase: Option<String>,
}

fn main() -> ExitCode {
    let asked = match arguments() {
        Ok(asked) => asked,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    println!(
        "| phase | as | events/s | ratio | publish p99, us | ratio | one way p99, us | ratio |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for phase in PHASES {
        if asked.phase.as_ref().is_none_or(|asked| asked == phase) {
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

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn arguments() -> Result<Asked, String> {
    let mut asked = Asked {
        rounds: 7,
        time: Duration::from_millis(250),
        pace: 10_000,
        phase: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| {
            let parsed = text.parse::<u64>().ok().filter(|n| *n > 0);
            parsed.ok_or(format!("`{text}` is no positive number"))
        };
        match word.as_str() {
            // `cargo bench` adds it.
            "--bench" => {}
            "--rounds" => asked.rounds = number(value()?)? as usize,
            "--millis" => asked.time = Duration::from_millis(number(value()?)?),
            "--pace" => asked.pace = number(value()?)?,
            "--only" => asked.phase = Some(value()?),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    match &asked.phase {
        Some(phase) if !PHASES.contains(&phase.as_str()) => {
            Err(format!("`{phase}` is none of {}", PHASES.join(", ")))
        }
        _ => Ok(asked),
    }
}
