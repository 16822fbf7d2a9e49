//! Speed beside the raw parts: `cargo bench -p conformance --bench peers`.
//!
//! Nothing is lost, and every event is counted where it arrives. Absolute figures belong to a machine
//! and an hour; so each of ours runs in turn with the raw part that it stands on, each measurement in
//! a process of its own, and what counts is the median of the rounds' ratios.
//!
//! The machine should have two idle cores. Where publisher and subscriber share one, they take
//! turns: then the sum of their work is measured instead of the longer half, and a raw channel,
//! which works in its own cache until it is full, gains most. The load is printed for that reason.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on stops"
)]

mod args;
mod child;
mod load;
mod machine;
mod ours;
mod plan;
mod raw;
mod report;
mod rounds;
mod scenario;
mod targets;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use serde_json::Value;

use args::{Args, Part};
use report::document;
use report::results::Results;
use rounds::Rounds;

/// Where the documents are.
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(scenario) = &args.child {
        child::run(scenario);
        return ExitCode::SUCCESS;
    }
    let results = rounded(if args.stored {
        let stored = std::fs::read(Path::new(DOCS).join("performance.json"));
        serde_json::from_slice(&stored.unwrap()).unwrap()
    } else {
        measure(&args)
    });
    if std::io::stdout().is_terminal() {
        print!("{}", document::for_a_terminal(&results));
    } else {
        print!("{}", document::tables(&results));
    }
    write(&args, &results);
    if args.check && results.targets.iter().any(|target| !target.is_met()) {
        eprintln!("a target is missed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn measure(args: &Args) -> Results {
    eprintln!("load before: {}", machine::load());
    let (rounds, method) = (Rounds::new(args.rounds), args.method());
    let mut results = Results {
        machine: machine::here(),
        targets: Vec::new(),
        headline: None,
        matrix: Vec::new(),
        latency: Vec::new(),
        curves: Vec::new(),
        method,
    };
    if args.wants(Part::Headline) {
        results.headline = Some(plan::headline(&rounds, &results.method));
    }
    if args.wants(Part::Matrix) {
        results.matrix = plan::matrix(&rounds, &results.method);
    }
    if args.wants(Part::Latency) {
        results.latency = plan::latency(&rounds, &results.method);
    }
    if args.wants(Part::Curves) {
        results.curves = plan::curves(&rounds, &results.method);
    }
    results.targets = targets::of(&results);
    results
}

/// With figures of five digits: more would be noise, and would not survive being stored and read.
fn rounded(results: Results) -> Results {
    let mut value = serde_json::to_value(results).unwrap();
    round(&mut value);
    serde_json::from_value(value).unwrap()
}

fn round(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(round),
        Value::Object(fields) => fields.values_mut().for_each(round),
        Value::Number(number) if number.is_f64() => {
            let short = number.as_f64().map(|figure| format!("{figure:.4e}"));
            *value = short.and_then(|short| short.parse::<f64>().ok()).into();
        }
        _ => {}
    }
}

fn write(args: &Args, results: &Results) {
    let json = || serde_json::to_string_pretty(results).unwrap() + "\n";
    if let Some(file) = &args.json {
        std::fs::write(file, json()).unwrap();
    }
    if let Some(file) = &args.markdown {
        std::fs::write(file, document::tables(results)).unwrap();
    }
    if args.docs {
        let docs = Path::new(DOCS);
        std::fs::create_dir_all(docs.join("performance")).unwrap();
        std::fs::write(docs.join("performance.json"), json()).unwrap();
        for (name, text) in document::files(results).unwrap() {
            std::fs::write(docs.join(name), text).unwrap();
        }
    }
}
