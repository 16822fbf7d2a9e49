//! Instructions on the hot paths, held to a budget: `cargo bench -p conformance --bench paths`.
//!
//! Wall time on a shared machine says nothing about a change of a few hundredths; instructions do,
//! and callgrind counts them. Each path runs under it for some events and for twice as many: the
//! difference is what the events cost, without whatever comes before and after. Paths run on one
//! thread, so that the count is the same each time.
//!
//! Exit code 0: all within `budget.toml`. 1: a path costs more; `--bless` writes what it costs now
//! as the new budget. 2: it could not be counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on stops"
)]

mod paths;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;

use paths::PATHS;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/budget.toml");
/// Events of the shorter of two runs.
const EVENTS: u64 = 10_000;

/// Counts the instructions of the hot paths with callgrind, and holds them to conformance/benches/budget.toml.
#[derive(Debug, Parser)]
#[command(name = "paths")]
struct Args {
    /// Make what the paths cost now the budget
    #[arg(long)]
    bless: bool,
    /// Runs one path, for the parent
    #[arg(long, hide = true, num_args = 2, value_names = ["PATH", "EVENTS"])]
    run: Option<Vec<String>>,
    /// `cargo bench` adds it
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is stored.
#[derive(Debug, Deserialize)]
struct Budget {
    /// By how much a path may be over, and under before it is remarked upon.
    tolerance: f64,
    /// Per event, by path.
    instructions: BTreeMap<String, f64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some([path, events]) = args.run.as_deref() {
        let path = PATHS.iter().find(|one| one.name == path).unwrap();
        (path.run)(events.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let counted = PATHS.iter().map(|path| {
        let count = instructions(path.name)?;
        println!(
            "{:10} {count:8.1} instructions per event: {}",
            path.name, path.what
        );
        Ok((path.name.to_owned(), count))
    });
    let counted: BTreeMap<_, _> = match counted.collect::<Result<_, String>>() {
        Ok(counted) => counted,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let budget: Budget = Figment::from(Toml::file_exact(FILE)).extract().unwrap();
    if args.bless {
        std::fs::write(FILE, text(budget.tolerance, &counted)).unwrap();
        return ExitCode::SUCCESS;
    }
    let over: Vec<_> = counted
        .iter()
        .filter_map(|(name, count)| budget.verdict(name, *count).err())
        .collect();
    over.iter().for_each(|problem| eprintln!("{problem}"));
    if over.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Budget {
    fn verdict(&self, name: &str, count: f64) -> Result<(), String> {
        let again = "`cargo bench -p conformance --bench paths -- --bless` makes what the paths cost \
                     now the budget: commit it with the reason";
        let Some(budget) = self.instructions.get(name) else {
            return Err(format!("path `{name}` has no budget; {again}"));
        };
        let ratio = count / budget;
        if ratio > 1.0 + self.tolerance {
            return Err(format!(
                "path `{name}` takes {count:.1} instructions per event, {:.1} % over its budget of \
                 {budget:.1} ({:.0} % are allowed). Make it cheaper, or, if it is worth that, raise \
                 the budget: {again}",
                (ratio - 1.0) * 100.0,
                self.tolerance * 100.0,
            ));
        }
        if ratio < 1.0 - self.tolerance {
            println!(
                "{name} is {:.1} % under its budget; {again}",
                (1.0 - ratio) * 100.0
            );
        }
        Ok(())
    }
}

/// What an event costs on a path.
fn instructions(path: &str) -> Result<f64, String> {
    let (once, twice) = (run(path, EVENTS)?, run(path, 2 * EVENTS)?);
    Ok((twice as f64 - once as f64) / EVENTS as f64)
}

/// Instructions of a whole run.
fn run(path: &str, events: u64) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--run", path, &events.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind did not start: {error}; apt-get install valgrind"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("path `{path}` failed under valgrind:\n{said}"));
    }
    let count = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let count = count.and_then(|(_, count)| count.trim().parse().ok());
    count.ok_or_else(|| format!("valgrind did not say what it collected:\n{said}"))
}

fn text(tolerance: f64, counted: &BTreeMap<String, f64>) -> String {
    let paths = counted
        .iter()
        .map(|(name, count)| format!("{name} = {count:.1}\n"));
    format!(
        "# Instructions per event on the hot paths, as callgrind counts them in a release build.\n\
         # Written by `cargo bench -p conformance --bench paths -- --bless`; counted with\n\
         # {}. Another compiler may count otherwise.\n\
         tolerance = {tolerance}\n\n[instructions]\n{}",
        env!("CONFORMANCE_RUSTC"),
        paths.collect::<String>()
    )
}
