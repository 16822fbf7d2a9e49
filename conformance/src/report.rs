//! The table at the end of a run: which clause holds in which phase.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::{Cell, Color, ContentArrangement, Table as Grid, presets};

use crate::clauses::{CLAUSES, UNBUILT};
use crate::runner::Verdicts;
use crate::verdict::Verdict;

/// Clauses by phases, totals, and the reason for each verdict that is no pass.
pub(crate) struct Table<'a> {
    phases: &'a [&'a str],
    verdicts: &'a Verdicts,
}

impl<'a> Table<'a> {
    pub(crate) fn new(phases: &'a [&'a str], verdicts: &'a Verdicts) -> Self {
        Self { phases, verdicts }
    }

    fn verdict(&self, phase: &str, clause: &'static str) -> Option<&Verdict> {
        self.verdicts.get(&(phase.to_owned(), clause))
    }

    fn grid(&self) -> Grid {
        let mut grid = grid();
        let header = ["clause", "says"]
            .into_iter()
            .chain(self.phases.iter().copied());
        grid.set_header(header.collect::<Vec<_>>());
        for (id, name, title) in rows() {
            let cells: Vec<_> = self
                .phases
                .iter()
                .map(|phase| self.verdict(phase, name))
                .collect();
            if cells.iter().any(Option::is_some) {
                let row = [Cell::new(id), Cell::new(title)].into_iter();
                grid.add_row(row.chain(cells.into_iter().map(cell)).collect::<Vec<_>>());
            }
        }
        grid
    }

    /// Reasons, each with the clauses and phases that it holds for.
    fn reasons(&self) -> Vec<String> {
        let mut reasons: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
        for (id, name, _) in rows() {
            for phase in self.phases {
                let verdict = self.verdict(phase, name);
                if let Some((verdict, reason)) = verdict.and_then(|v| Some((v, v.reason()?))) {
                    reasons
                        .entry((verdict.word(), id, reason))
                        .or_default()
                        .push(phase);
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
        for verdict in self.verdicts.values() {
            *totals.entry(verdict.word()).or_default() += 1;
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
        counted.join(", ")
    }
}

/// Id, key in the verdicts and title of each row: the clauses, then what is not built.
fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let clauses = CLAUSES.iter().map(|c| (c.id, c.name, c.title));
    clauses.chain(UNBUILT.iter().map(|u| (u.id, u.id, "not built")))
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

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.verdicts.is_empty() {
            return Ok(());
        }
        writeln!(f, "{}", self.grid())?;
        for reason in self.reasons() {
            writeln!(f, "  {reason}")?;
        }
        writeln!(f, "{}", self.totals())
    }
}
