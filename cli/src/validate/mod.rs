//! `eventbus validate`: each transport measured, and one recommended for each use.
//!
//! Nothing is simulated: events are published and read through the bus that an application opens,
//! every one of them is counted, and brokers are killed. What one process measures is a [`Plan`];
//! the process that was asked starts one for each transport, and tells.

pub(crate) mod args;
mod child;
mod document;
mod errors;
mod findings;
mod latencies;
mod measure;
mod memory;
mod output;
mod pace;
mod page;
mod payload;
mod plan;
mod plot;
mod progress;
mod properties;
mod recommend;
mod stage;
mod stream;
mod words;

use std::path::Path;
use std::thread;
use std::time::{Instant, SystemTime};

use ::conformance::Stop;

pub(crate) use child::life_as_a_child;

use crate::failure::Failure;
use crate::shadow::output::print;
use args::ValidateArgs;
use child::{Child, TURNS};
use document::{Asked, Document, Machine};
use findings::Findings;
use page::Page;
use plan::Plan;
use progress::Bar;

/// Measures and prints; returns the exit code.
pub(crate) fn run(args: &ValidateArgs, stop: &Stop) -> Result<u8, Failure> {
    let plans = args.plans()?;
    let (began, machine) = ((SystemTime::now(), Instant::now()), Machine::here());
    let (found, failed) = measure_all(&plans, stop);
    if stop.is_asked() {
        return Err(Failure::Interrupted);
    }
    if found.is_empty()
        && let Some(failure) = failed
    {
        return Err(failure);
    }
    let asked = Asked {
        messages: args.messages,
        payload_bytes: args.payload,
        rate: args.rate,
        sabotage: args.sabotage.map(|asked| asked.kind.to_string()),
    };
    let document = Document::new(asked, machine, began.0, began.1.elapsed(), found);
    // What was found is told, whatever becomes of the file.
    print(&if args.json {
        json(&document)?
    } else {
        output::text(&document)
    })?;
    if let Some(file) = &args.report {
        write(&document, file)?;
    }
    match failed {
        // Found is found, whatever went wrong beside it.
        Some(failure) if !document.passed => {
            crate::complain(&failure.to_string());
            Ok(1)
        }
        Some(failure) => Err(failure),
        None => Ok(u8::from(!document.passed)),
    }
}

/// What was found of those that could be measured, and the first reason why one could not.
fn measure_all(plans: &[Plan], stop: &Stop) -> (Vec<Findings>, Option<Failure>) {
    let bar = Bar::new(TURNS * plans.len() as u64);
    let (mut children, mut found, mut failed) = (Vec::new(), Vec::new(), None);
    for plan in plans {
        match Child::start(plan) {
            Ok(child) => children.push(child),
            Err(failure) => failed = failed.or(Some(failure)),
        }
    }
    for turn in 0..TURNS {
        let what = match turn {
            0 => "set-up",
            last if last + 1 == TURNS => "recovery",
            _ => "throughput and latency",
        };
        children.retain_mut(|child| {
            bar.step(format!("{}: {what}", child.transport));
            match child.turn(stop) {
                Ok(None) => true,
                Ok(Some(findings)) => {
                    found.push(findings);
                    false
                }
                Err(Failure::Interrupted) => true,
                Err(failure) => {
                    failed.get_or_insert(failure);
                    false
                }
            }
        });
    }
    thread::scope(|scope| {
        // Those that are left were interrupted.
        for child in &mut children {
            scope.spawn(|| child.end());
        }
    });
    (found, failed)
}

fn json(document: &Document) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|reason| Failure::io("write the result as JSON", reason))?;
    Ok(text + "\n")
}

fn write(document: &Document, file: &Path) -> Result<(), Failure> {
    std::fs::write(file, Page(document).to_string())
        .map_err(|reason| Failure::io(format!("write `{}`", file.display()), reason))
}
