//! What a run found, and the table at its end: which clause holds in which phase.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use comfy_table::{Cell, Color, ContentArrangement, Table as Grid, presets};

use crate::certificate::{Certificate, Model};
use crate::clause::Level;
use crate::harness::Harness;
use crate::outcome::{Line, Outcomes, lines};
use crate::seed::Seed;
use crate::verdict::Verdict;

/// What a run found. Printed, it is clauses by phases, the reason for each verdict that is no pass,
/// and totals.
#[derive(Debug, Clone)]
pub struct Report {
    pub(crate) phases: Vec<Phase>,
    pub(crate) outcomes: Outcomes,
    pub(crate) seed: Seed,
    pub(crate) started: SystemTime,
    pub(crate) took: Duration,
    /// What has been explored, for the phases that are modelled.
    pub(crate) models: Vec<Model>,
}

/// A phase that was part of a run.
#[derive(Debug, Clone)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) backend: Option<String>,
    pub(crate) modelled: bool,
}

impl Phase {
    pub(crate) fn of(harness: &dyn Harness) -> Self {
        Self {
            name: harness.name().to_owned(),
            backend: harness.backend(),
            modelled: harness.is_modelled(),
        }
    }
}

impl Report {
    /// Whether no MUST was broken and no clause was inconclusive.
    #[must_use]
    pub fn passed(&self) -> bool {
        let mut outcomes = self.outcomes.values();
        !outcomes.any(|outcome| outcome.verdict.fails_the_run())
    }

    /// The seed of the run.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// What was found, phase by phase; a phase of which nothing was asked has no certificate.
    #[must_use]
    pub fn certificates(&self) -> Vec<Certificate> {
        let phases = self.phases.iter();
        phases
            .filter_map(|phase| Certificate::of(self, phase))
            .collect()
    }

    fn verdict(&self, phase: &Phase, line: Line) -> Option<&Verdict> {
        let outcome = self.outcomes.get(&phase.name, line.name)?;
        Some(&outcome.verdict)
    }

    fn grid(&self) -> Grid {
        let mut grid = grid();
        let header = ["clause", "says"]
            .into_iter()
            .chain(self.phases.iter().map(|phase| phase.name.as_str()));
        grid.set_header(header.collect::<Vec<_>>());
        for line in lines() {
            let cells: Vec<_> = self
                .phases
                .iter()
                .map(|phase| self.verdict(phase, line))
                .collect();
            if cells.iter().any(Option::is_some) {
                let title = match line.level {
                    Level::Must => line.title.to_owned(),
                    Level::Should => format!("{} (should)", line.title),
                };
                let row = [Cell::new(line.id), Cell::new(title)].into_iter();
                grid.add_row(row.chain(cells.into_iter().map(cell)).collect::<Vec<_>>());
            }
        }
        grid
    }

    /// Reasons, each with the clauses and phases that it holds for.
    fn reasons(&self) -> Vec<String> {
        let mut reasons: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
        for line in lines() {
            for phase in &self.phases {
                let verdict = self.verdict(phase, line);
                if let Some((verdict, reason)) = verdict.and_then(|v| Some((v, v.reason()?))) {
                    reasons
                        .entry((verdict.word(), line.id, reason))
                        .or_default()
                        .push(&phase.name);
                }
            }
        }
        reasons
            .into_iter()
            .map(|((word, id, reason), phases)| {
                format!("{word} {id} ({}): {reason}", phases.join(", "))
            })
            .collect()
    }

    fn totals(&self) -> String {
        let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
        for outcome in self.outcomes.values() {
            *totals.entry(outcome.verdict.word()).or_default() += 1;
        }
        let order = [
            "pass",
            "FAIL",
            "FAIL (should)",
            "INCONCLUSIVE",
            "waived",
            "n/a",
        ];
        let counted = order.map(|word| format!("{} {word}", totals.get(word).unwrap_or(&0)));
        format!("{}; seed {}", counted.join(", "), self.seed)
    }
}

fn grid() -> Grid {
    let mut grid = Grid::new();
    grid.load_style(presets::UTF8_FULL_CONDENSED);
    grid.set_content_arrangement(ContentArrangement::Disabled);
    grid
}

fn cell(verdict: Option<&Verdict>) -> Cell {
    let Some(verdict) = verdict else {
        return Cell::new("not run").fg(Color::DarkGrey);
    };
    Cell::new(verdict.word()).fg(match verdict {
        Verdict::Pass => Color::Green,
        Verdict::Fail(_) | Verdict::Inconclusive(_) => Color::Red,
        Verdict::FailShould(_) | Verdict::Waived(_) => Color::Yellow,
        Verdict::NotApplicable(_) => Color::DarkGrey,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.outcomes.values().next().is_none() {
            return Ok(());
        }
        writeln!(f, "{}", self.grid())?;
        for reason in self.reasons() {
            writeln!(f, "  {reason}")?;
        }
        write!(f, "{}", self.totals())
    }
}
