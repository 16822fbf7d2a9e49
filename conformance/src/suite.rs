//! The clauses as a program runs them: some or all, on some phases, with somebody who looks on.
//!
//! Several clauses run at once, as tests do; a clause that measures the process runs alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Instant, SystemTime};

use eventbus_trait::Limits;
use parking_lot::Mutex;

use crate::clause::{Clause, Unbuilt};
use crate::clauses::{CLAUSES, UNBUILT};
use crate::harness::Harness;
use crate::outcome::{Outcome, Outcomes, distinct, lines};
use crate::report::{Phase, Report};
use crate::runner::{Settings, declared, outcome_until};
use crate::seed::Seed;
use crate::stop::Stop;

/// A run to come: clauses and phases.
pub struct Suite {
    harnesses: Vec<Arc<dyn Harness>>,
    clauses: Vec<&'static Clause>,
    unbuilt: Vec<&'static Unbuilt>,
    settings: Settings,
    stop: Stop,
    at_once: usize,
}

/// No clause has this id, and no id begins so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no clause `{asked}`; expected an id such as `DEL-003`, or one of the families {families}")]
pub struct UnknownClause {
    /// What was asked for.
    pub asked: String,
    /// The families there are, separated by commas.
    pub families: String,
}

/// One clause of a run has ended on one phase.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The phase.
    pub phase: &'a str,
    /// The clause.
    pub clause: &'static Clause,
    /// How it went.
    pub outcome: &'a Outcome,
    /// How many have ended.
    pub done: usize,
    /// How many there are.
    pub all: usize,
}

impl Suite {
    /// Every clause, on these phases.
    #[must_use]
    pub fn new(harnesses: Vec<Arc<dyn Harness>>) -> Self {
        Self {
            harnesses,
            clauses: CLAUSES.iter().collect(),
            unbuilt: UNBUILT.iter().collect(),
            settings: Settings::default(),
            stop: Stop::default(),
            at_once: thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// With this seed instead of the [process's](Seed::of_run).
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Until `stop` is asked: what runs then is given up and cleaned up after, nothing more is begun, and
    /// the report has what had ended before.
    #[must_use]
    pub fn until(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// At most so many clauses at once instead of one for each processor.
    #[must_use]
    pub fn at_once(mut self, clauses: usize) -> Self {
        self.at_once = clauses.max(1);
        self
    }

    /// Only the clauses whose id is one of `ids`, or begins with one: `DEL-003`, `DEL`. Empty, all.
    ///
    /// # Errors
    /// [`UnknownClause`], if one is and begins none.
    pub fn only<S: AsRef<str>>(mut self, ids: &[S]) -> Result<Self, UnknownClause> {
        let ids: Vec<String> = ids.iter().map(|id| id.as_ref().to_uppercase()).collect();
        for id in &ids {
            if id.is_empty() || !lines().any(|line| line.id.starts_with(id)) {
                return Err(UnknownClause {
                    asked: id.clone(),
                    families: families(),
                });
            }
        }
        let wanted = |id: &str| ids.is_empty() || ids.iter().any(|w| id.starts_with(w));
        self.clauses.retain(|clause| wanted(clause.id));
        self.unbuilt.retain(|unbuilt| wanted(unbuilt.id));
        Ok(self)
    }

    /// The clauses that will run.
    pub fn clauses(&self) -> impl Iterator<Item = &'static Clause> {
        self.clauses.iter().copied()
    }

    /// The phases that they will run on.
    pub fn phases(&self) -> impl Iterator<Item = &str> {
        self.harnesses.iter().map(|harness| harness.name())
    }

    /// Starts and ends one bus on each phase: what cannot be started at all cannot be judged.
    ///
    /// # Errors
    /// In words, which phase does not start, and why; or which two have one name.
    pub fn try_phases(&self) -> Result<(), String> {
        distinct(&self.harnesses).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime: {error}"))?;
        let mut until_stopped = self.harnesses.iter().take_while(|_| !self.stop.is_asked());
        let tried = until_stopped.try_for_each(|harness| {
            let one = async {
                let rig = harness.start(Limits::default()).await?;
                let ended = rig.bus().shutdown().await;
                ended.map_err(|error| error.to_string())
            };
            let one = async { tokio::time::timeout(self.settings.patience.0, one).await };
            let tried = runtime.block_on(one);
            let tried = tried.unwrap_or_else(|_| Err("it takes too long".to_owned()));
            tried.map_err(|reason| format!("{} does not start: {reason}", harness.name()))
        });
        runtime.shutdown_background();
        tried
    }

    /// Runs them, and tells `heard` of each as it ends.
    ///
    /// # Panics
    /// If two phases have one name: [`try_phases`](Self::try_phases) tells before.
    #[must_use]
    pub fn run(&self, heard: impl Fn(Progress<'_>) + Sync) -> Report {
        let named = distinct(&self.harnesses);
        assert_eq!(named, Ok(()), "phases are told apart by their names");
        let (started, began) = (SystemTime::now(), Instant::now());
        let outcomes = Mutex::new(self.known());
        let jobs = self
            .clauses
            .iter()
            .flat_map(|clause| self.harnesses.iter().map(move |harness| (*clause, harness)));
        let mut jobs: Vec<(&'static Clause, &Arc<dyn Harness>)> = jobs.collect();
        // Those that measure the process, before others leave memory in it.
        jobs.sort_by_key(|(clause, _)| !clause.alone);
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            while let Some((clause, harness)) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                let outcome = self.outcome(harness, clause);
                if self.stop.is_asked() {
                    break;
                }
                heard(Progress {
                    phase: harness.name(),
                    clause,
                    outcome: &outcome,
                    done: done.fetch_add(1, Ordering::SeqCst) + 1,
                    all: jobs.len(),
                });
                outcomes.lock().enter(harness.name(), clause.name, outcome);
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.at_once {
                scope.spawn(work);
            }
        });
        Report {
            phases: self
                .harnesses
                .iter()
                .map(|harness| Phase::of(&**harness))
                .collect(),
            outcomes: outcomes.into_inner(),
            seed: self.settings.seed,
            started,
            took: began.elapsed(),
            // Models run with the tests, and this may be any program.
            models: Vec::new(),
        }
    }

    fn outcome(&self, harness: &Arc<dyn Harness>, clause: &Clause) -> Outcome {
        match declared(&**harness, clause) {
            Some(verdict) => Outcome::known(verdict, clause.level, self.settings.seed),
            None => outcome_until(&self.stop, self.settings, harness, clause),
        }
    }

    fn known(&self) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for harness in &self.harnesses {
            for unbuilt in &self.unbuilt {
                let waived = Outcome::waived(unbuilt, self.settings.seed);
                outcomes.enter(harness.name(), unbuilt.id, waived);
            }
        }
        outcomes
    }
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phases: Vec<&str> = self
            .harnesses
            .iter()
            .map(|harness| harness.name())
            .collect();
        f.debug_struct("Suite")
            .field("phases", &phases)
            .field("clauses", &self.clauses)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn families() -> String {
    let mut families: Vec<&str> = Vec::new();
    for line in lines() {
        let family = line.id.split('-').next().unwrap_or_default();
        if !families.contains(&family) {
            families.push(family);
        }
    }
    families.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(asked: &[&str]) -> Vec<&'static str> {
        let suite = Suite::new(Vec::new()).only(asked).unwrap();
        suite.clauses().map(|clause| clause.id).collect()
    }

    #[cfg(feature = "phases")]
    #[test]
    fn two_phases_of_one_name_are_refused() {
        use crate::phases::{Crossbeam, InProcess};
        let crossbeam = || Arc::new(Crossbeam) as Arc<dyn Harness>;
        let twice = vec![crossbeam(), Arc::new(InProcess), crossbeam()];
        assert_eq!(distinct(&twice[..2]), Ok(()));
        let refused = Suite::new(twice).try_phases().unwrap_err();
        assert!(
            refused.contains("two phases are named `crossbeam`"),
            "{refused}"
        );
    }

    #[cfg(feature = "phases")]
    #[test]
    fn nothing_more_is_begun_in_a_run_that_is_stopped() {
        let (stop, ended) = (Stop::default(), AtomicUsize::new(0));
        let suite = Suite::new(vec![Arc::new(crate::phases::Crossbeam)]).only(&["TOP"]);
        let suite = suite.unwrap().at_once(1).until(stop.clone());
        let _ = suite.run(|_| {
            ended.fetch_add(1, Ordering::SeqCst);
            stop.ask();
        });
        assert_eq!(ended.into_inner(), 1);
    }

    #[test]
    fn a_clause_is_asked_for_by_its_id_or_by_how_it_begins() {
        assert_eq!(ids(&["DEL-003"]), ["DEL-003"]);
        assert_eq!(ids(&["top", "lif-001"]).len(), 6);
        assert_eq!(ids(&[]).len(), CLAUSES.len());
        for unknown in ["DEL-999", "X", ""] {
            let refused = Suite::new(Vec::new()).only(&[unknown]).unwrap_err();
            assert!(refused.to_string().contains("TOP, DEL"), "{refused}");
        }
    }
}
