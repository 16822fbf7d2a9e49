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
use std::time::{Instant, SystemTime};

pub(crate) use child::life_as_a_child;

use crate::failure::Failure;
use crate::shadow::output::print;
use args::ValidateArgs;
use child::STEPS;
use document::{Asked, Document, Machine};
use findings::Findings;
use page::Page;
use plan::Plan;
use progress::Bar;

/// Measures and prints; returns the exit code.
pub(crate) fn run(args: &ValidateArgs) -> Result<u8, Failure> {
    let plans = args.plans()?;
    let (began, machine) = ((SystemTime::now(), Instant::now()), Machine::here());
    let (found, failed) = measure_all(&plans);
    if found.is_empty()
        && let Some(failure) = failed
    {
        return Err(failure);
    }
    let asked = Asked {
        messages: args.messages,
        payload_bytes: args.payload,
        rate: args.rate,
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
fn measure_all(plans: &[Plan]) -> (Vec<Findings>, Option<Failure>) {
    let bar = Bar::new(STEPS * plans.len() as u64);
    let (mut found, mut failed) = (Vec::new(), None);
    let mut behind = 0;
    for plan in plans {
        let done = std::cell::Cell::new(behind);
        let step = |name: &str| {
            bar.step(done.get(), format!("{}: {name}", plan.transport));
            done.set(done.get() + 1);
        };
        match child::measured(plan, step) {
            Ok(findings) => found.push(findings),
            Err(failure) => failed = failed.or(Some(failure)),
        }
        behind += STEPS;
    }
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
