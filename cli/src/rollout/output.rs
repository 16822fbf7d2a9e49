//! Answers of a rollout, in words.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{Table, presets};
use eventbus::rollout::admin::Answer;
use eventbus::rollout::{Direction, HistoryEntry, Plan, Status, What};

use crate::failure::Failure;
use crate::shadow::output;

/// Entries of the history that are shown.
const NEWEST: usize = 10;

/// Prints an answer to standard output.
pub(super) fn print(answer: &Answer, json: bool) -> Result<(), Failure> {
    let text = if json {
        let document = serde_json::to_string_pretty(answer);
        document.map_err(|reason| Failure::io("print the answer", reason))? + "\n"
    } else {
        words(answer)
    };
    output::print(&text)
}

/// Prints that a plan has nowhere to go.
pub(super) fn nowhere(from: &str, way: Direction) -> Result<(), Failure> {
    let beyond = match way {
        Direction::Advance => "beyond",
        Direction::Back => "before",
    };
    output::print(&format!("there is no stage {beyond} `{from}`\n"))
}

fn words(answer: &Answer) -> String {
    match answer {
        Answer::Status(status) => standing(status),
        Answer::Plan(plan) => planned(plan),
        Answer::Done(entry) => entry_line(entry) + "\n",
        Answer::Aborting => "the move under way is given up\n".to_owned(),
        Answer::Refused(reason) => format!("no: {reason}\n"),
        _ => "an answer that this version does not know; try `--json`\n".to_owned(),
    }
}

fn standing(status: &Status) -> String {
    let mut text = String::new();
    for (at, stage) in status.stages.iter().enumerate() {
        let here = if at == status.stage { ">" } else { " " };
        let _ = writeln!(text, "{here} {} {}", at + 1, stage.name);
    }
    let _ = writeln!(text, "\nphase     {}", status.phase);
    let _ = writeln!(text, "rollout   {}, {}", status.mode, status.activity);
    if let Some(cutover) = &status.cutover {
        let (number, step) = (cutover.step.number(), cutover.step);
        let _ = writeln!(text, "cutover   to {}, step {number} ({step})", cutover.to);
    }
    let longest = Duration::from_micros(status.longest_publish_delay_us);
    let cutovers = status.cutovers;
    let _ = writeln!(
        text,
        "cutovers  {cutovers}, publishers held up for {longest:?} at most"
    );
    if let Some(error) = &status.last_error {
        let _ = writeln!(text, "error     {error}");
    }
    if !status.gates.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_header(["gate", "wanted", "measured", "verdict"]);
        for gate in &status.gates {
            let measured = gate.measured.as_deref().unwrap_or("nothing yet");
            table.add_row([
                &gate.name,
                &gate.wanted,
                measured,
                &gate.verdict.to_string(),
            ]);
        }
        let _ = writeln!(text, "\n{table}");
        let wanted = status.successes_wanted;
        let done = status.successes.min(wanted);
        let _ = writeln!(text, "{done} of {wanted} evaluations in a row passed");
    }
    text.push('\n');
    let skip = status.history.len().saturating_sub(NEWEST);
    for entry in status.history.iter().skip(skip) {
        text += &entry_line(entry);
        text.push('\n');
    }
    text
}

fn entry_line(entry: &HistoryEntry) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(entry.at_ms);
    let at = humantime::format_rfc3339_seconds(at);
    let way = if entry.from == entry.to {
        entry.to.clone()
    } else {
        format!("{} -> {}", entry.from, entry.to)
    };
    let what = match entry.what {
        What::WentBack => "went back".to_owned(),
        what => format!("{what:?}").to_lowercase(),
    };
    let mut line = format!("{at} {what}: {way}; {}", entry.reason);
    if entry.took_us > 0 {
        let took = Duration::from_micros(entry.took_us);
        let held = Duration::from_micros(entry.publish_delay_us);
        let _ = write!(
            line,
            "; took {took:?}, publishers held up for {held:?} at most"
        );
    }
    line
}

fn planned(plan: &Plan) -> String {
    let to = plan.to.as_deref().unwrap_or("nowhere");
    let mut text = format!("{} -> {to}\n", plan.from);
    for step in &plan.steps {
        let number = step.step.map_or("-".to_owned(), |s| s.number().to_string());
        let _ = writeln!(text, "  {number} {}", step.what);
    }
    for objection in &plan.objections {
        let _ = writeln!(text, "against it: {objection}");
    }
    text
}
