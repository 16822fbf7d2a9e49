//! Proving a suite: every clause on every mutant, and exactly those fail that are expected to.
//!
//! A clause that is expected to fail may do so by waiting for what never comes, so it is given
//! little patience; one that is expected to pass has as much as ever, so that a slow machine makes
//! no clause fail that should not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Mutant, MutantHarness};
use crate::clause::Clause;
use crate::harness::Harness;
use crate::runner::run_clause_within;
use crate::stage::Patience;
use crate::verdict::Verdict;

/// How long is waited for anything where a clause is expected to fail.
const SHORT: Patience = Patience(Duration::from_millis(1500));

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
    let verdicts = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            scope.spawn(|| {
                while let Some(job) = beside.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let verdict = job.run();
                    verdicts.lock().insert(job.at, verdict);
                }
            });
        }
    });
    // What measures the process runs when no worker is left that could disturb it.
    for job in alone {
        let verdict = job.run();
        verdicts.lock().insert(job.at, verdict);
    }
    judge(&jobs, &verdicts.into_inner(), mutants.len())
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
    fn run(&self) -> Verdict {
        let patience = match self.mutant.fails.contains(&self.clause.id) {
            true => SHORT,
            false => Patience::default(),
        };
        run_clause_within(patience, &self.harness, self.clause)
    }

    /// Whether this is how it was to end. The phase inside may break a SHOULD, now and then.
    fn is_due(&self, verdict: &Verdict) -> bool {
        let id = self.clause.id;
        let may = self.mutant.may_fail.iter().any(|(may, _)| *may == id);
        let due = self.mutant.fails.contains(&id);
        may || due == fails(verdict) || (!due && matches!(verdict, Verdict::FailShould(_)))
    }
}

fn fails(verdict: &Verdict) -> bool {
    verdict.fails_the_run() || matches!(verdict, Verdict::FailShould(_))
}

fn judge(
    jobs: &[Job],
    verdicts: &BTreeMap<(usize, &'static str), Verdict>,
    mutants: usize,
) -> Proof {
    let mut proof = Proof {
        mutants,
        ..Proof::default()
    };
    for job in jobs {
        let Some(verdict) = verdicts.get(&job.at) else {
            continue;
        };
        if matches!(verdict, Verdict::NotApplicable(_)) {
            continue;
        }
        proof.runs += 1;
        proof.failures += usize::from(fails(verdict));
        if !job.is_due(verdict) {
            proof.surprises.push(Surprise {
                mutant: job.mutant,
                clause: job.clause.id,
                verdict: verdict.clone(),
            });
        }
    }
    proof
}

impl fmt::Display for Surprise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match fails(&self.verdict) {
            true => write!(f, "unexpected {}: {}", self.clause, self.verdict),
            false => write!(f, "missing {}: it survives", self.clause),
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
