//! The table and the recommendations, for people.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::document::Document;
use super::findings::{Findings, Recovery};
use super::memory::mib;
use super::recommend::Recommendation;
use super::words::{micros, percent, rate, seconds};

/// What is told of each transport; the first column is its name.
pub(super) const COLUMNS: [&str; 12] = [
    "transport",
    "set-up",
    "events/s",
    "p50",
    "p99",
    "p99 typical",
    "p99.9",
    "max",
    "delivered",
    "errors",
    "recovery",
    "memory",
];

/// Widest line that is not a row of the table.
const WIDTH: usize = 96;

/// A transport's cells, below [`COLUMNS`].
pub(super) fn cells(found: &Findings) -> [String; 12] {
    let latency = &found.latency;
    [
        found.transport.to_string(),
        seconds(found.setup.seconds()),
        rate(found.throughput.events_per_second),
        micros(latency.p50_us),
        micros(latency.p99_us),
        micros(latency.p99_typical_us),
        micros(latency.p999_us),
        micros(latency.max_us),
        percent(found.success_rate),
        found.errors.total().to_string(),
        recovery(found),
        memory(found),
    ]
}

fn recovery(found: &Findings) -> String {
    match &found.recovery {
        Recovery::NotMeasured { .. } => "n/a".to_owned(),
        Recovery::Measured(recovered) => {
            recovered.seconds.map_or_else(|| "none".to_owned(), seconds)
        }
    }
}

/// What the handles took, and the broker's process.
fn memory(found: &Findings) -> String {
    let grown = mib(found.memory.growth());
    match found.memory.broker {
        Some(broker) => format!("{grown} + {}", mib(broker)),
        None => grown,
    }
}

/// Everything.
pub(super) fn text(document: &Document) -> String {
    let all: Vec<_> = document.transports.iter().map(cells).collect();
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled);
    // A row for each figure: four columns fit on any terminal.
    for (at, name) in COLUMNS.into_iter().enumerate() {
        let mut row = vec![name.to_owned()];
        row.extend(all.iter().map(|cells| cells[at].clone()));
        if at == 0 {
            table.set_header(row);
        } else {
            table.add_row(row);
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    // Writing to a string does not fail.
    let mut text = String::new();
    let _ = writeln!(text, "{table}");
    wrap(&mut text, "", &conditions(document));
    for note in notes(document) {
        wrap(&mut text, "", &note);
    }
    for recommendation in &document.recommendations {
        let _ = write!(text, "\n{}", paragraph(recommendation));
    }
    let _ = writeln!(
        text,
        "\nverdict: {} in {}",
        verdict(document),
        seconds(document.seconds)
    );
    text
}

pub(super) fn verdict(document: &Document) -> &'static str {
    if document.passed { "passed" } else { "FAILED" }
}

/// What the figures belong to.
pub(super) fn conditions(document: &Document) -> String {
    let (asked, machine) = (&document.asked, &document.machine);
    format!(
        "payloads of {} bytes, at-least-once, one publisher and one subscriber; latency one way at \
         {} events/s; {} build on {} cores",
        asked.payload_bytes,
        rate(f64::from(asked.rate)),
        machine.build,
        machine.cores
    )
}

/// Whatever the table has no room for.
pub(super) fn notes(document: &Document) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(sabotage) = &document.asked.sabotage {
        notes.push(format!(
            "sabotaged on purpose, by {sabotage}: the faults are not the bus's"
        ));
    }
    for found in &document.transports {
        let name = found.transport;
        if let Some(url) = &found.against {
            notes.push(format!("{name}: the broker at {url}"));
        }
        match &found.recovery {
            Recovery::NotMeasured { not_measured } => {
                notes.push(format!("{name}: recovery not measured: {not_measured}"));
            }
            Recovery::Measured(recovered) => {
                let delivery = recovered.delivery;
                notes.push(format!(
                    "{name}: broker killed, another one listens after {}; of {} events {} lost, {} \
                     delivered twice; the publisher was held up for {} at most",
                    seconds(recovered.broker_seconds),
                    delivery.accepted,
                    delivery.lost,
                    delivery.doubled,
                    seconds(recovered.longest_publish_seconds),
                ));
            }
        }
        if !found.latency.kept_up() {
            notes.push(format!(
                "{name}: took {} events/s while latency was measured, and not {}",
                rate(found.latency.accepted_rate),
                rate(f64::from(found.latency.rate)),
            ));
        }
        for (kind, count) in found.errors.kinds() {
            if count > 0 {
                notes.push(format!("{name}: error {kind} {count} times"));
            }
        }
        for failure in &found.failures {
            notes.push(format!("{name}: FAILED: {failure}"));
        }
    }
    let machine = &document.machine;
    if let Some(load) = machine.load
        && load > machine.cores as f64 / 2.0
    {
        notes.push(format!(
            "the machine was busy before (load {load} on {} cores): figures are worse than they would \
             be, and recommendations may be chance",
            machine.cores
        ));
    }
    if machine.build == "debug" {
        notes.push("a debug build: its figures say little of a release build's".to_owned());
    }
    notes
}

fn paragraph(recommendation: &Recommendation) -> String {
    let purpose = recommendation.purpose.words();
    let choice = recommendation.transport.map_or_else(
        || "none of those measured".to_owned(),
        |transport| transport.to_string(),
    );
    let mut text = format!("for {purpose}: {choice}\n");
    for reason in &recommendation.reasons {
        wrap(&mut text, "  + ", reason);
    }
    for drawback in &recommendation.drawbacks {
        wrap(&mut text, "  - ", drawback);
    }
    for other in &recommendation.others {
        let reasons = other.reasons.join("; ");
        wrap(
            &mut text,
            "  ",
            &format!("not {}: {reasons}", other.transport),
        );
    }
    text
}

/// Adds lines of at most [`WIDTH`]; the first begins with `lead`, the others below its text.
fn wrap(text: &mut String, lead: &str, told: &str) {
    let below = if lead.is_empty() { 2 } else { 4 };
    let mut line = lead.to_owned();
    let mut fresh = true;
    for word in told.split(' ') {
        if !fresh && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = " ".repeat(below);
            fresh = true;
        }
        if !fresh {
            line.push(' ');
        }
        line.push_str(word);
        fresh = false;
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_go_on_below_their_text() {
        let mut text = String::new();
        let told = "four ".repeat(40);
        wrap(&mut text, "  + ", told.trim_end());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("  + four") && lines[1].starts_with("    four"));
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(text.matches("four").count(), 40);
        let mut text = String::new();
        wrap(&mut text, "", &"long".repeat(40));
        assert_eq!(text.lines().count(), 1, "a word is not broken");
    }
}
