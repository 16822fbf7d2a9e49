//! `eventbus config`: what holds, who says so, and what would fail.

pub(crate) mod args;
mod check;

use eventbus::config::{Setting, settings};
use eventbus::plain::Plain;
use serde::Serialize;

use crate::failure::Failure;
use crate::plain;
use crate::shadow::output::print;
use args::{CheckArgs, ConfigArgs, ConfigCommand, Layers};
use check::Problem;

/// Something would fail.
const WOULD_FAIL: u8 = 1;

/// Prints the answer; returns the exit code.
pub(crate) fn run(args: &ConfigArgs) -> Result<u8, Failure> {
    match &args.command {
        ConfigCommand::Show(layers) => show(layers),
        ConfigCommand::Check(args) => checked(args),
    }
}

fn show(layers: &Layers) -> Result<u8, Failure> {
    let settings = settings(&layers.figment()?)?;
    if layers.json {
        print_json(&settings)?;
        return Ok(0);
    }
    print(&table(&settings))?;
    Ok(0)
}

/// Key, value and layer, in columns.
fn table(settings: &[Setting]) -> String {
    let rows: Vec<[String; 3]> = settings
        .iter()
        .map(|setting| {
            let value = Plain::line(&setting.value).at_most(usize::MAX).to_string();
            [
                Plain::line(&setting.key).to_string(),
                value,
                setting.from.to_string(),
            ]
        })
        .collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        // What is longer pushes the rest of its own line only.
        widths.filter(|width| *width <= 40).max().unwrap_or(0)
    };
    let (keys, values) = (width(0), width(1));
    let line = |[key, value, from]: &[String; 3]| {
        format!("{key:keys$}  {value:values$}  {}\n", Plain::line(from))
    };
    rows.iter().map(line).collect()
}

#[derive(Debug, Serialize)]
struct Checked {
    ok: bool,
    problems: Vec<Problem>,
}

fn checked(args: &CheckArgs) -> Result<u8, Failure> {
    let problems = check::problems(&args.layers.figment()?, args.offline)?;
    let code = if problems.is_empty() { 0 } else { WOULD_FAIL };
    if args.layers.json {
        let ok = problems.is_empty();
        print_json(&Checked { ok, problems })?;
        return Ok(code);
    }
    let mut text = String::new();
    for Problem { key, problem } in &problems {
        let problem = Plain::line(problem);
        match key {
            Some(key) => text += &format!("{key}: {problem}\n"),
            None => text += &format!("{problem}\n"),
        }
    }
    if problems.is_empty() {
        text += "nothing would fail\n";
    }
    print(&text)?;
    Ok(code)
}

fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document);
    let text = text.map_err(|reason| Failure::io("print the configuration", reason))?;
    print(&(plain::json(&text) + "\n"))
}
