//! The report as a table for a terminal.

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::calls::Calls;
use crate::interleaving::Inversions;
use crate::noise::Noise;
use crate::report::{Divergence, Report};

/// How many divergences the table shows; the report itself has more.
const SHOWN: usize = 10;

impl Report {
    /// The report for people: the verdict, the counts, and the first divergences.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = self.counts();
        if !self.divergences.is_empty() {
            out.push('\n');
            out.push_str(&self.first_divergences());
        }
        out
    }

    fn counts(&self) -> String {
        let mut table = table();
        let names = format!("{} against {}", self.candidate, self.primary);
        table.set_header([self.verdict.to_string(), names]);
        let mut count = |name: &str, n: u64| row(&mut table, name, n.to_string());
        count("published", self.published);
        count("subscribers", self.subscribers);
        count("expected deliveries", self.expected);
        count("matched", self.matched);
        if self.unsampled > 0 {
            count("  contents not sampled", self.unsampled);
        }
        for (name, n) in [
            ("ignored", self.ignored),
            ("missing", self.missing),
            ("late", self.late),
            ("reordered", self.reordered),
            ("payload differs", self.differs),
            ("duplicates", self.duplicates),
            ("phantoms", self.phantoms),
        ] {
            count(name, n);
        }
        if let Some(why) = &self.disabled {
            row(&mut table, "shadow disabled", why.clone());
        }
        let mut count = |name: &str, n: u64| row(&mut table, name, n.to_string());
        count("unverified", self.unverified);
        for (reason, n) in &self.unverified_by_reason {
            count(&format!("  {reason}"), *n);
        }
        count("in flight", self.in_flight);
        if self.foreign > 0 {
            count("foreign events", self.foreign);
        }
        if self.earlier > 0 {
            count("published before", self.earlier);
        }
        for (kind, n) in &self.candidate_errors {
            count(&format!("candidate error {kind}"), *n);
        }
        for (hook, n) in &self.hook_errors {
            count(&format!("failures of hook {hook}"), *n);
        }
        if let Some(injected) = self.injected {
            count("divergences injected", injected);
            count("divergences found", self.diverged());
        }
        count("queue high water", self.queue_high_water);
        call_rows(&mut table, &self.calls);
        if self.displaced.events > 0 {
            let d = &self.displaced;
            let mean = d.sum as f64 / d.events as f64;
            let text = format!("{mean:.1} / {}", d.max);
            row(&mut table, "overtaken by events, mean / max", text);
        }
        if self.inversions.pairs > 0 {
            let Inversions { pairs, inverted } = self.inversions;
            let percent = 100.0 * self.inversions.rate();
            let text = format!("{inverted} of {pairs} ({percent:.2} %)");
            row(&mut table, "publishers inverted", text);
        }
        if let Some(file) = &self.divergence_file {
            let text = format!("{} in {}", file.written, file.path);
            row(&mut table, "divergences written", text);
            if file.dropped > 0 {
                let why = file.error.as_deref().unwrap_or("no room");
                row(
                    &mut table,
                    "  not written",
                    format!("{}: {why}", file.dropped),
                );
            }
        }
        if self.latency.samples > 0 {
            let l = &self.latency;
            let text = format!("{} / {} / {} us", l.p50_us, l.p99_us, l.max_us);
            row(&mut table, "candidate slower by p50 / p99 / max", text);
        }
        if let Some(noise) = &self.noise {
            noise_rows(&mut table, noise);
        }
        table.to_string()
    }

    fn first_divergences(&self) -> String {
        let mut table = table();
        table.set_header([
            "class",
            "side",
            "subscription",
            "topic",
            "publisher",
            "sequence",
            "detail",
        ]);
        for d in self.divergences.iter().take(SHOWN) {
            table.add_row([
                d.class.to_string(),
                d.side.to_string(),
                d.subscription.clone(),
                d.topic.clone(),
                d.publisher.chars().take(8).collect(),
                d.sequence.to_string(),
                detail(d),
            ]);
        }
        let hidden = self.diverged().saturating_sub(SHOWN as u64);
        if hidden > 0 {
            return format!("{table}\nand {hidden} more");
        }
        table.to_string()
    }
}

fn detail(divergence: &Divergence) -> String {
    let mut text = divergence.detail.clone();
    let shown = divergence.shown.as_ref();
    for (side, shown) in [
        ("primary", shown.and_then(|shown| shown.primary.as_ref())),
        (
            "candidate",
            shown.and_then(|shown| shown.candidate.as_ref()),
        ),
    ] {
        if let Some(shown) = shown {
            text.push_str(&format!("\n{side}: {shown}"));
        }
    }
    text
}

/// Nothing, where there are no calls.
fn call_rows(table: &mut Table, calls: &Calls) {
    if calls.made == 0 {
        return;
    }
    let mut count = |name: &str, n: u64| row(table, name, n.to_string());
    count("calls", calls.made);
    count("  not idempotent, not mirrored", calls.unmirrored);
    count("  same reply", calls.same);
    count("  other reply", calls.differs);
    count("  candidate failed", calls.failed);
    count("  not compared", calls.not_compared);
    for (reason, n) in &calls.not_compared_by_reason {
        count(&format!("    {reason}"), *n);
    }
    if calls.under_way > 0 {
        count("  under way", calls.under_way);
    }
    for difference in calls.differences.iter().take(SHOWN) {
        let name = format!("  {}.{}", difference.service, difference.method);
        row(table, &name, difference.detail.clone());
    }
}

fn noise_rows(table: &mut Table, noise: &Noise) {
    let floor = &noise.floor;
    let name = format!("noise floor of two {}: latency p50 / p99", floor.backend);
    let (l, ratio) = (&floor.latency, &floor.latency_ratio);
    let text = format!("{} / {} us, {:.2} times", l.p50_us, l.p99_us, ratio.p50);
    row(table, &name, text);
    let l = &floor.lateness;
    let text = format!("{} / {} us", l.p99_us, l.max_us);
    row(table, "  later by p99 / max", text);
    let text = format!("{:.2} %", 100.0 * floor.inversions.rate());
    row(table, "  publishers inverted", text);
    if let Some(times) = noise.latency {
        let text = format!("{times:.2} times");
        row(table, "median latency by the noise floor", text);
    }
    if let Some(rate) = noise.inversions {
        let text = format!("{:.2} %", 100.0 * rate);
        row(table, "inverted beyond the noise floor", text);
    }
    for what in &noise.beyond {
        row(table, "beyond the noise floor", what.clone());
    }
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table
}

fn row(table: &mut Table, name: &str, value: String) {
    table.add_row([
        Cell::new(name),
        Cell::new(value).set_alignment(CellAlignment::Right),
    ]);
}
