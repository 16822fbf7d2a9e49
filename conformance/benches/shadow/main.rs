//! What a shadow costs the application: `cargo bench -p conformance --bench shadow`.
//!
//! A primary alone takes turns with the same primary under a shadow, A B A B, in one run: what else
//! the machine does meets both alike. Printed are the medians of both, and the shadow's share of the
//! throughput (wanted: at least 0.8) and of the 99th percentile of a publish (at most 1.1).
//! Throughput is at full speed, latency at a pace. Candidates: one that works, one whose contents are
//! sampled at 1 in 100, one that hangs, one that panics, one whose broker is killed in the middle, and
//! none, which is a bus that could be given one.
//!
//! Exit 1 if a target is missed. Options, after `--`: `--rounds N` (7), `--millis N` (250, for each
//! measurement), `--pace N` (10000 events a second), `--only CANDIDATE`, `--only-primary PHASE`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on stops"
)]

mod candidate;
mod measure;

use std::process::ExitCode;
use std::time::Duration;

use candidate::Kind;
use measure::{Pace, Sample};

/// Least share of the throughput.
const THROUGHPUT: f64 = 0.8;
/// Most of the 99th percentile.
const P99: f64 = 1.1;
const PRIMARIES: [&str; 2] = ["crossbeam", "in-process"];

struct Asked {
    rounds: usize,
    time: Duration,
    pace: u64,
    candidate: Option<String>,
    primary: Option<String>,
}

fn main() -> ExitCode {
    if let Some(path) = std::env::var_os(candidate::BROKER) {
        candidate::serve(path.into());
        return ExitCode::SUCCESS;
    }
    let asked = match arguments() {
        Ok(asked) => asked,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    println!(
        "| primary | candidate | alone, events/s | under shadow | ratio | p99 alone, us | under shadow | ratio | compared |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut good = true;
    for primary in PRIMARIES {
        for kind in Kind::ALL {
            let wanted = |asked: &Option<String>, name: &str| {
                asked.as_ref().is_none_or(|asked| asked == name)
            };
            if wanted(&asked.candidate, kind.name()) && wanted(&asked.primary, primary) {
                good &= compare(primary, kind, &asked);
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
fn compare(primary: &str, kind: Kind, asked: &Asked) -> bool {
    let at = Pace::PerSecond(asked.pace);
    let (mut fast, mut paced) = ([vec![], vec![]], [vec![], vec![]]);
    for _ in 0..asked.rounds {
        for (side, kind) in [None, Some(kind)].into_iter().enumerate() {
            fast[side].push(measure::run(primary, kind, Pace::Full, asked.time));
            paced[side].push(measure::run(primary, kind, at, asked.time));
        }
    }
    let rate = fast.each_ref().map(|s| median(s, |s| s.events_per_second));
    let p99 = paced.each_ref().map(|s| median(s, |s| s.p99_us));
    let share = |samples: &[Sample]| median(samples, |s| s.compared);
    let (throughput, latency) = (rate[1] / rate[0], p99[1] / p99[0]);
    println!(
        "| {primary} | {} | {:.0} | {:.0} | {throughput:.2} | {:.2} | {:.2} | {latency:.2} | {:.0} % at full speed, {:.0} % at {} /s |",
        kind.name(),
        rate[0],
        rate[1],
        p99[0],
        p99[1],
        100.0 * share(&fast[1]),
        100.0 * share(&paced[1]),
        asked.pace,
    );
    throughput >= THROUGHPUT && latency <= P99
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
        candidate: None,
        primary: None,
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
            "--only" => asked.candidate = Some(value()?),
            "--only-primary" => asked.primary = Some(value()?),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    let candidates = Kind::ALL.map(Kind::name);
    for (one, all) in [
        (&asked.candidate, &candidates[..]),
        (&asked.primary, &PRIMARIES),
    ] {
        if let Some(one) = one
            && !all.contains(&one.as_str())
        {
            return Err(format!("`{one}` is none of {}", all.join(", ")));
        }
    }
    Ok(asked)
}
