//! Proving a suite: every clause on every mutant, and exactly those fail that are expected to.
//!
//! A clause that is expected to fail may do so by waiting for what never comes, so it is given
//! little patience; one that is expected to pass has as much as ever, so that a slow machine makes
//! no clause fail that should not. That little is enough where nothing is wrong, [`control`] shows.
//!
//! Invariant: the clause that a mutant is there for comes to a verdict of its own. That the watchdog
//! ends it, that it is not exercised or that the phase lacks what it needs finds nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Defect, Mutant, MutantHarness};
use crate::clause::Clause;
use crate::harness::{Capability, Harness};
use crate::outcome::Outcome;
use crate::runner::{Settings, outcome_of, run_clause_within};
use crate::stage::Patience;
use crate::verdict::Verdict;

/// How long is waited for anything where a clause is expected to fail.
const SHORT: Patience = Patience(Duration::from_secs(3));

/// What became of every clause on every mutant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof {
    /// Mutants that were met.
    pub mutants: usize,
    /// Runs of a clause on a mutant.
    pub runs: usize,
    /// Runs in which the clause failed.
    pub failures: usize,
    /// What was not as the table has it.
    pub surprises: Vec<Surprise>,
}

/// A clause that passed or failed against expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surprise {
    /// The mutant's defect, and what it is.
    pub mutant: &'static Mutant,
    /// The clause's id.
    pub clause: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// Whether it was to fail.
    pub due: bool,
}

/// Runs each of `clauses` on each of `mutants` of the phase of `inner`, several at a time.
#[must_use]
pub fn prove(
    inner: &Arc<dyn Harness>,
    mutants: &'static [Mutant],
    clauses: &'static [Clause],
    workers: usize,
) -> Proof {
    let jobs: Vec<Job> = mutants
        .iter()
        .flat_map(|m| jobs_of(inner, m, clauses))
        .collect();
    let (alone, beside): (Vec<&Job>, Vec<&Job>) = jobs.iter().partition(|job| job.clause.alone);
    let outcomes = Mutex::new(BTreeMap::new());
    // What measures the process runs before any worker that could disturb it, or leaves memory behind
    // in which much is kept unseen.
    for job in alone {
        let outcome = job.run();
        outcomes.lock().insert(job.at, outcome);
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            scope.spawn(|| {
                while let Some(job) = beside.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let outcome = job.run();
                    outcomes.lock().insert(job.at, outcome);
                }
            });
        }
    });
    judge(&jobs, &outcomes.into_inner(), mutants.len())
}

/// Runs each of `clauses` on the phase of `inner` with a wrapper that has no defect, where there is
/// such, under the patience of one that is to fail, one by one: its id, and how it ended.
#[must_use]
pub fn control(
    inner: &Arc<dyn Harness>,
    clauses: &'static [Clause],
) -> Vec<(&'static str, Verdict)> {
    let wrapped: Arc<dyn Harness> = Arc::new(MutantHarness::new(Arc::clone(inner), Defect::None));
    let run = |clause: &'static Clause| {
        let wrapped_has = clause.needs.iter().all(|need| wrapped.has(*need));
        let harness = if wrapped_has { &wrapped } else { inner };
        (
            clause.id,
            run_clause_within(little(clause), harness, clause),
        )
    };
    clauses.iter().map(run).collect()
}

/// The patience of a clause that is to fail. One that turns clocks takes seconds by itself, and so
/// does a shadow that waits for its candidate; one that measures the process has work to do first.
fn little(clause: &Clause) -> Patience {
    let slow = [Capability::Clock, Capability::Shadow];
    let slow = slow.iter().any(|need| clause.needs.contains(need));
    match slow || clause.alone {
        true => Patience::default(),
        false => SHORT,
    }
}

struct Job {
    at: (usize, &'static str),
    mutant: &'static Mutant,
    clause: &'static Clause,
    harness: Arc<dyn Harness>,
}

fn jobs_of(
    inner: &Arc<dyn Harness>,
    mutant: &'static Mutant,
    clauses: &'static [Clause],
) -> Vec<Job> {
    let harness: Arc<dyn Harness> = Arc::new(MutantHarness::new(Arc::clone(inner), mutant.defect));
    let clauses = clauses.iter().filter(|clause| mutant.concerns(clause));
    clauses
        .map(|clause| Job {
            at: (std::ptr::from_ref(mutant) as usize, clause.name),
            mutant,
            clause,
            harness: Arc::clone(&harness),
        })
        .collect()
}

impl Job {
    /// Whether the clause is to fail.
    fn is_due(&self) -> bool {
        self.mutant.fails.contains(&self.clause.id)
    }

    fn run(&self) -> Outcome {
        let patience = match self.is_due() {
            true => little(self.clause),
            false => Patience::default(),
        };
        let settings = Settings {
            patience,
            ..Settings::default()
        };
        outcome_of(settings, &self.harness, self.clause)
    }

    /// Whether this is how it was to end. The phase inside may break a SHOULD, now and then.
    fn expects(&self, outcome: &Outcome) -> bool {
        let (id, verdict) = (self.clause.id, &outcome.verdict);
        if self.mutant.may_fail.iter().any(|(may, _)| *may == id) {
            return true;
        }
        if self.mutant.breaks == id {
            // What never returns can be found by nothing else.
            let hangs = self.mutant.defect == Defect::Deadlocks;
            let found = matches!(verdict, Verdict::Fail(_) | Verdict::FailShould(_));
            return found && (hangs || !outcome.hung);
        }
        match self.is_due() {
            true => fails(verdict),
            false => !verdict.fails_the_run(),
        }
    }
}

fn fails(verdict: &Verdict) -> bool {
    verdict.fails_the_run() || matches!(verdict, Verdict::FailShould(_))
}

fn judge(
    jobs: &[Job],
    outcomes: &BTreeMap<(usize, &'static str), Outcome>,
    mutants: usize,
) -> Proof {
    let mut proof = Proof {
        mutants,
        ..Proof::default()
    };
    for job in jobs {
        let Some(outcome) = outcomes.get(&job.at) else {
            continue;
        };
        let verdict = &outcome.verdict;
        let ran = !matches!(verdict, Verdict::NotApplicable(_));
        proof.runs += usize::from(ran);
        proof.failures += usize::from(fails(verdict));
        if !job.expects(outcome) {
            proof.surprises.push(Surprise {
                mutant: job.mutant,
                clause: job.clause.id,
                verdict: verdict.clone(),
                due: job.is_due(),
            });
        }
    }
    proof
}

impl fmt::Display for Surprise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            clause, verdict, ..
        } = self;
        match (self.due, verdict) {
            (false, _) => write!(f, "unexpected {clause}: {verdict}"),
            (true, Verdict::Pass) => write!(f, "missing {clause}: it survives"),
            (true, _) => write!(f, "missing {clause}: it is not found by {verdict}"),
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} mutants, {} runs of clauses on them, {} failed, {} against expectation",
            self.mutants,
            self.runs,
            self.failures,
            self.surprises.len()
        )?;
        let mut last = None;
        for surprise in &self.surprises {
            if last != Some(surprise.mutant.defect) {
                last = Some(surprise.mutant.defect);
                let Mutant { defect, what, .. } = surprise.mutant;
                writeln!(f, "{defect:?}: {what}")?;
            }
            writeln!(f, "  {surprise}")?;
        }
        Ok(())
    }
}
