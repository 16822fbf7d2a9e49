//! Certificates: what a run found of one phase, for others to read, as JSON and as a page.
//!
//! `docs/certificate.md` describes the fields. A certificate says of every line of the contract how
//! it went, so that what was not asked cannot be taken for what was kept.
//!
//! Invariant: a run that left clauses out never takes the place of one that did not: it has another
//! file name.

mod about;
mod models;
mod page;
mod store;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub use about::Versions;
pub use models::Model;
pub(crate) use models::explored;
pub use store::{directory, target_directory};

use crate::clause::Level;
use crate::outcome::{Line, Outcome, lines};
use crate::report::{Phase, Report};
use crate::verdict::Verdict;

/// The version of the fields. A field may be added under the same one.
pub const SCHEMA: u32 = 1;

/// What a run found of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The phase.
    pub phase: String,
    /// Whether, of what was asked, no MUST was broken and no clause inconclusive. What is waived
    /// stands in `waived_must`.
    pub passed: bool,
    /// The ids of the MUSTs that are waived: nobody has seen them kept.
    #[serde(default)]
    pub waived_must: Vec<String>,
    /// Whether every line of the contract was asked for. Otherwise the run was filtered.
    pub complete: bool,
    /// When the run began: RFC 3339, UTC.
    pub started: String,
    /// How long the run took, over all its phases.
    pub seconds: f64,
    /// The seed of the run; `CONFORMANCE_SEED` takes it.
    pub seed: u64,
    /// Of what, by what, and where.
    pub versions: Versions,
    /// How many clauses ended how.
    pub counts: Counts,
    /// Every line of the contract.
    pub clauses: Vec<Entry>,
    /// How far the models of the phase's concurrent parts were explored, if they have been since
    /// the suite was built.
    pub models: Vec<Model>,
}

/// How many clauses ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Kept.
    pub pass: usize,
    /// MUST, and broken.
    pub fail: usize,
    /// SHOULD, and broken.
    pub fail_should: usize,
    /// Never exercised.
    pub inconclusive: usize,
    /// Not kept yet, by the phase's own word.
    pub waived: usize,
    /// Without an object in this phase.
    pub not_applicable: usize,
    /// Not asked for.
    pub not_run: usize,
}

/// How one line of the contract went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The contract's id.
    pub id: String,
    /// The name of its test; the id again, if there is none.
    pub name: String,
    /// What it says, in one line.
    pub title: String,
    /// How binding it is.
    pub level: Binding,
    /// How it ended.
    pub verdict: Word,
    /// Why, unless it passed or was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// Events that the bus accepted from it.
    pub published: u64,
    /// Events that it got.
    pub delivered: u64,
    /// Faults that really touched something.
    pub faults: u64,
}

/// How binding a clause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// A bus that breaks it is not a bus.
    Must,
    /// A bus may break it.
    Should,
}

/// How a clause ended, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Exercised, and held.
    Pass,
    /// A MUST that was broken.
    Fail,
    /// A SHOULD that was broken.
    FailShould,
    /// Never exercised.
    Inconclusive,
    /// Not held yet, by the phase's own word.
    Waived,
    /// The phase has no such thing.
    NotApplicable,
    /// Not asked for.
    NotRun,
}

impl Certificate {
    /// What `report` says of `phase`, if anything of it was asked for.
    pub(crate) fn of(report: &Report, phase: &Phase) -> Option<Self> {
        let outcome = |line: &Line| report.outcomes.get(&phase.name, line.name);
        let clauses: Vec<Entry> = lines()
            .map(|line| Entry::of(line, outcome(&line)))
            .collect();
        let mut counts = Counts::default();
        for entry in &clauses {
            *counts.of(entry.verdict) += 1;
        }
        if counts.not_run == clauses.len() {
            return None;
        }
        Some(Self {
            schema: SCHEMA,
            phase: phase.name.clone(),
            passed: counts.fail == 0 && counts.inconclusive == 0,
            waived_must: waived_must(&clauses),
            complete: counts.not_run == 0,
            started: in_utc(report.started),
            seconds: seconds(report.took),
            seed: report.seed.0,
            versions: Versions::here(phase.backend.clone()),
            counts,
            clauses,
            models: match phase.modelled {
                true => report.models.clone(),
                false => Vec::new(),
            },
        })
    }

    /// As JSON, for programs.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists of them cannot fail to be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// What is missing, or of another [`SCHEMA`].
    pub fn from_json(text: &str) -> Result<Self, String> {
        let certificate: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if certificate.schema == SCHEMA {
            Ok(certificate)
        } else {
            let schema = certificate.schema;
            Err(format!("schema {schema} is not known, only {SCHEMA}"))
        }
    }

    /// As a page of its own, for people: nothing is loaded and nothing runs.
    #[must_use]
    pub fn to_html(&self) -> String {
        page::Page(self).to_string()
    }
}

fn waived_must(clauses: &[Entry]) -> Vec<String> {
    let waived = |entry: &&Entry| entry.verdict == Word::Waived && entry.level == Binding::Must;
    let waived = clauses.iter().filter(waived);
    waived.map(|entry| entry.id.clone()).collect()
}

impl Counts {
    fn of(&mut self, word: Word) -> &mut usize {
        match word {
            Word::Pass => &mut self.pass,
            Word::Fail => &mut self.fail,
            Word::FailShould => &mut self.fail_should,
            Word::Inconclusive => &mut self.inconclusive,
            Word::Waived => &mut self.waived,
            Word::NotApplicable => &mut self.not_applicable,
            Word::NotRun => &mut self.not_run,
        }
    }
}

impl Entry {
    fn of(line: Line, outcome: Option<&Outcome>) -> Self {
        let tally = outcome.map(|outcome| outcome.tally).unwrap_or_default();
        Self {
            id: line.id.to_owned(),
            name: line.name.to_owned(),
            title: line.title.to_owned(),
            level: match line.level {
                Level::Must => Binding::Must,
                Level::Should => Binding::Should,
            },
            verdict: outcome.map_or(Word::NotRun, |outcome| Word::of(&outcome.verdict)),
            reason: outcome.and_then(|outcome| outcome.verdict.reason().map(str::to_owned)),
            seconds: outcome.map_or(0.0, |outcome| seconds(outcome.took)),
            published: tally.published,
            delivered: tally.delivered,
            faults: tally.struck,
        }
    }
}

impl Word {
    fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Fail(_) => Self::Fail,
            Verdict::FailShould(_) => Self::FailShould,
            Verdict::Inconclusive(_) => Self::Inconclusive,
            Verdict::Waived(_) => Self::Waived,
            Verdict::NotApplicable(_) => Self::NotApplicable,
        }
    }

    /// As the table at the end of a run has it.
    #[must_use]
    pub fn shown(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::FailShould => "FAIL (should)",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Waived => "waived",
            Self::NotApplicable => "n/a",
            Self::NotRun => "not run",
        }
    }
}

/// To the millisecond: more would only be noise.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000.0).round() / 1_000.0
}

fn in_utc(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests;
