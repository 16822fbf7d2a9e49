//! What a clause's run leaves behind: the verdict, and what was done to come to it.
//!
//! A verdict alone cannot be weighed: "pass" after a thousand events and three faults says more
//! than "pass" after none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clause::{Level, Unbuilt};
use crate::clauses::{CLAUSES, UNBUILT};
use crate::harness::Harness;
use crate::seed::Seed;
use crate::verdict::Verdict;

/// What one clause did on one phase, as its history has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Events that the bus accepted from the clause's authors.
    pub published: u64,
    /// Events that the clause's readers got.
    pub delivered: u64,
    /// Faults that really touched something.
    pub struck: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.struck += other.struck;
    }
}

/// How one clause's run on one phase went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// How binding the clause is.
    pub level: Level,
    /// Whether the watchdog ended it, before it had come to a verdict.
    pub hung: bool,
    /// From its start until its verdict; zero for what did not run.
    pub took: Duration,
    /// What it did.
    pub tally: Tally,
    /// The seed of the run that it was part of.
    pub seed: Seed,
}

impl Outcome {
    /// That of a clause that did not run, because its verdict was known before.
    #[must_use]
    pub fn known(verdict: Verdict, level: Level, seed: Seed) -> Self {
        Self {
            verdict,
            level,
            hung: false,
            took: Duration::ZERO,
            tally: Tally::default(),
            seed,
        }
    }
}

impl Outcome {
    /// That of an id that nothing can check yet.
    pub(crate) fn waived(unbuilt: &Unbuilt, seed: Seed) -> Self {
        let waived = Verdict::Waived(unbuilt.reason.to_owned());
        Self::known(waived, Level::Must, seed)
    }
}

/// One line of the contract: a clause, or an id that nothing can check yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) id: &'static str,
    /// The clause's name; the id again, if there is no clause.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) level: Level,
}

/// The whole contract: its clauses, then what is not built.
pub(crate) fn lines() -> impl Iterator<Item = Line> {
    let clauses = CLAUSES.iter().map(|clause| Line {
        id: clause.id,
        name: clause.name,
        title: clause.title,
        level: clause.level,
    });
    clauses.chain(UNBUILT.iter().map(|unbuilt| Line {
        id: unbuilt.id,
        name: unbuilt.id,
        title: "not built",
        level: Level::Must,
    }))
}

/// Two phases have one name, so that what is found of one would stand in place of what is found of
/// the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two phases are named `{0}`; give each harness a name of its own")]
pub(crate) struct SameName(String);

/// Refuses phases of one name.
pub(crate) fn distinct(harnesses: &[Arc<dyn Harness>]) -> Result<(), SameName> {
    let mut names = BTreeSet::new();
    let again = harnesses.iter().map(|harness| harness.name());
    match again.into_iter().find(|name| !names.insert(*name)) {
        Some(name) => Err(SameName(name.to_owned())),
        None => Ok(()),
    }
}

/// Outcomes by phase, and by the name of a line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcomes(BTreeMap<(String, &'static str), Outcome>);

impl Outcomes {
    pub(crate) fn enter(&mut self, phase: &str, name: &'static str, outcome: Outcome) {
        self.0.insert((phase.to_owned(), name), outcome);
    }

    pub(crate) fn get(&self, phase: &str, name: &'static str) -> Option<&Outcome> {
        self.0.get(&(phase.to_owned(), name))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Outcome> {
        self.0.values()
    }
}
