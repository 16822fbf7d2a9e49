//! Running clauses: one by one, each under a watchdog.
//!
//! Each clause has a runtime of its own, on threads of its own: whatever hangs in it, the watchdog
//! stands outside.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use parking_lot::RwLock;

use crate::clause::Clause;
use crate::harness::{Capability, FaultHarness, Harness};
use crate::outcome::{Outcome, Tally};
use crate::panics::caught;
use crate::seed::Seed;
use crate::stage::{Context, Patience};
use crate::stop::Stop;
use crate::verdict::{Checked, Unmet, Verdict};

/// How many times the patience of a single wait a whole clause may take before it counts as hung.
const WATCHDOG: u32 = 4;

/// Taken for writing by the clauses that measure the process.
static PROCESS: RwLock<()> = RwLock::new(());

/// How a clause is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long it may wait for anything.
    pub patience: Patience,
    /// The seed of the run, from which its own is derived.
    pub seed: Seed,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            patience: Patience::default(),
            seed: Seed::of_run(),
        }
    }
}

/// Runs one clause for one phase and waits for its verdict.
#[must_use]
pub fn run_clause(harness: &Arc<dyn Harness>, clause: &Clause) -> Verdict {
    run_clause_within(Patience::default(), harness, clause)
}

/// As [`run_clause`], with another patience: for buses that are known to hang.
#[must_use]
pub fn run_clause_within(
    patience: Patience,
    harness: &Arc<dyn Harness>,
    clause: &Clause,
) -> Verdict {
    let settings = Settings {
        patience,
        ..Settings::default()
    };
    outcome_of(settings, harness, clause).verdict
}

/// As [`run_clause`], with all that the run leaves behind.
#[must_use]
pub fn outcome_of(settings: Settings, harness: &Arc<dyn Harness>, clause: &Clause) -> Outcome {
    outcome_until(&Stop::default(), settings, harness, clause)
}

/// As [`outcome_of`]. A clause that is stopped is given up where it waits, and cleaned up after.
pub(crate) fn outcome_until(
    stop: &Stop,
    settings: Settings,
    harness: &Arc<dyn Harness>,
    clause: &Clause,
) -> Outcome {
    crate::logs::install();
    let known = |verdict| Outcome::known(verdict, clause.level, settings.seed);
    if let Some(reason) = not_applicable(&**harness, clause, |need| harness.has(need)) {
        return known(Verdict::NotApplicable(reason));
    }
    let run = || {
        let started = Instant::now();
        let Watched {
            verdict,
            tally,
            hung,
        } = watched(stop, settings, harness, clause);
        let verdict = as_declared(verdict);
        Outcome {
            took: started.elapsed(),
            hung,
            tally,
            ..known(verdict.at(clause.level))
        }
    };
    if clause.alone {
        let _alone = PROCESS.write();
        run()
    } else {
        let _shared = PROCESS.read();
        run()
    }
}

/// What the watchdog saw.
struct Watched {
    verdict: Verdict,
    tally: Tally,
    hung: bool,
}

impl Watched {
    fn ended(verdict: Verdict, tally: Tally) -> Self {
        let hung = false;
        Self {
            verdict,
            tally,
            hung,
        }
    }
}

fn watched(
    stop: &Stop,
    settings: Settings,
    harness: &Arc<dyn Harness>,
    clause: &Clause,
) -> Watched {
    let watchdog = settings.patience.0 * WATCHDOG;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(clause.id)
        // Short, so that a clause can see that threads of blocking calls go away.
        .thread_keep_alive(Duration::from_millis(10))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let verdict = Verdict::Inconclusive(format!("no runtime: {error}"));
            return Watched::ended(verdict, Tally::default());
        }
    };
    let context = Context::new(Arc::clone(harness), settings.patience);
    let context = context.seeded(settings.seed, clause.name);
    let (verdict, verdicts) = sync_channel(1);
    let (cleaned, cleaning) = sync_channel(1);
    let running = caught((clause.run)(context.clone()));
    let (of_clause, stop) = (context.clone(), stop.clone());
    runtime.spawn(async move {
        let checked = async { of_clause.judge(running.await).await };
        let checked = until(&stop, checked).await;
        // The receivers are gone only if the watchdog has spoken already. What is found is told
        // before anything is cleaned up: a bus that hangs in that has nothing to do with it.
        let _ = verdict.send(Verdict::from(checked));
        of_clause.clean().await;
        let _ = cleaned.send(());
    });
    let verdict = verdicts.recv_timeout(watchdog);
    let tally = context.tally();
    match verdict {
        Ok(verdict) => {
            let _ = cleaning.recv_timeout(settings.patience.0);
            drop(context);
            runtime.shutdown_timeout(Duration::from_secs(5));
            Watched::ended(verdict, tally)
        }
        Err(RecvTimeoutError::Timeout) => {
            let progress = context.progress();
            runtime.shutdown_background();
            let text = format!("{} hung for {watchdog:?}, {progress}", clause.name);
            Watched {
                hung: true,
                ..Watched::ended(Verdict::Fail(text), tally)
            }
        }
        Err(RecvTimeoutError::Disconnected) => {
            let text = format!("{} ended without a verdict", clause.name);
            Watched::ended(Verdict::Fail(text), tally)
        }
    }
}

async fn until(stop: &Stop, clause: impl Future<Output = Checked>) -> Checked {
    match select(pin!(stop.asked()), pin!(clause)).await {
        Either::Left(_) => Err(Unmet::unexercised("the run was stopped")),
        Either::Right((checked, _)) => checked,
    }
}

/// What a phase says it has, a clause has to find: that it is missing is known before or it is a
/// check that never happened.
fn as_declared(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::NotApplicable(reason) => Verdict::Inconclusive(format!(
            "the phase declares what the clause needs, but: {reason}"
        )),
        other => other,
    }
}

/// Why the clause does not apply to the phase, by what it has.
fn not_applicable(
    harness: &dyn Harness,
    clause: &Clause,
    has: impl Fn(Capability) -> bool,
) -> Option<String> {
    let lacking = clause.needs.iter().find(|need| !has(**need))?;
    Some(harness.lack(*lacking).to_owned())
}

/// The verdict that is known before the clause runs: not applicable, or waived.
#[must_use]
pub fn declared(harness: &dyn Harness, clause: &Clause) -> Option<Verdict> {
    declared_with(harness, clause, |need| harness.has(need))
}

/// As [`declared`], on a machine where whatever a phase can make use of is installed: the same on
/// every machine.
#[must_use]
pub fn declared_where_installed(harness: &dyn Harness, clause: &Clause) -> Option<Verdict> {
    declared_with(harness, clause, |need| match need {
        Capability::Clock => harness
            .faults()
            .is_some_and(FaultHarness::could_turn_clocks),
        Capability::Proc => true,
        other => harness.has(other),
    })
}

fn declared_with(
    harness: &dyn Harness,
    clause: &Clause,
    has: impl Fn(Capability) -> bool,
) -> Option<Verdict> {
    if let Some(reason) = not_applicable(harness, clause, has) {
        return Some(Verdict::NotApplicable(reason));
    }
    let waiver = harness
        .waivers()
        .into_iter()
        .find(|waiver| waiver.id == clause.id)?;
    Some(Verdict::Waived(waiver.reason.to_owned()))
}

#[cfg(all(test, feature = "phases"))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::clause::clause;
    use crate::mutants::{Defect, MutantHarness};
    use crate::phases::{Crossbeam, phases};
    use crate::verdict::{Checked, Unmet};

    mod within {
        use super::*;

        pub(super) async fn finds_nothing(_: Context) -> Checked {
            Err(Unmet::NotApplicable("there is no such thing".to_owned()))
        }

        pub(super) async fn finds_something(context: Context) -> Checked {
            let stage = context.stage().await?;
            for _ in 0..2 * WATCHDOG {
                stage.connect().await?;
            }
            Err(Unmet::broken("an anomaly"))
        }

        pub(super) async fn waits_for_an_end(context: Context) -> Checked {
            let stage = context.stage().await?;
            let mut reader = stage.reader(&stage.bus(), "a.#").await?;
            let waited = reader.expect().await.err();
            let end = reader.read_to_end().await.err();
            Err(Unmet::broken(format_args!("{waited:?}, {end:?}")))
        }

        pub(super) static BEGUN: AtomicBool = AtomicBool::new(false);

        pub(super) async fn never_ends(context: Context) -> Checked {
            let _stage = context.stage().await?;
            BEGUN.store(true, Ordering::SeqCst);
            std::future::pending().await
        }

        pub(super) async fn panics(_: Context) -> Checked {
            panic!("in the middle")
        }
    }

    #[test]
    fn handles_that_do_not_shut_down_change_no_verdict() {
        let clause = clause!("DEL-001", within::finds_something, "nothing");
        let harness = MutantHarness::new(Arc::new(Crossbeam), Defect::NeverShutsDown);
        let patience = Patience(Duration::from_millis(200));
        let began = Instant::now();
        let verdict = run_clause_within(patience, &(Arc::new(harness) as _), &clause);
        assert_eq!(verdict, Verdict::Fail("an anomaly".to_owned()));
        // All handles one by one would take twice as long as the watchdog.
        assert!(began.elapsed() < patience.0 * 2 * WATCHDOG);
    }

    #[test]
    fn who_waits_names_the_subscription() {
        let clause = clause!("DEL-001", within::waits_for_an_end, "nothing");
        let patience = Patience(Duration::from_millis(50));
        let verdict = run_clause_within(patience, &(Arc::new(Crossbeam) as _), &clause);
        let said = verdict.to_string();
        for of in ["an event in `sub-", "the end of the stream of `sub-"] {
            assert!(said.contains(of), "{said}");
        }
    }

    #[test]
    fn a_clause_that_is_stopped_is_given_up_where_it_waits() {
        let clause = clause!("DEL-001", within::never_ends, "nothing");
        let harness = Arc::new(Crossbeam) as Arc<dyn Harness>;
        let stop = Stop::default();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !within::BEGUN.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                stop.ask();
            });
            outcome_until(&stop, Settings::default(), &harness, &clause)
        });
        let stopped = Verdict::Inconclusive("the run was stopped".to_owned());
        assert_eq!((outcome.verdict, outcome.hung), (stopped, false));
    }

    #[test]
    fn a_panic_says_where() {
        let clause = clause!("DEL-001", within::panics, "nothing");
        let verdict = run_clause(&(Arc::new(Crossbeam) as Arc<dyn Harness>), &clause);
        let said = verdict.to_string();
        let file = file!();
        assert!(
            said.starts_with(&format!("FAIL: panicked at {file}:")),
            "{said}"
        );
        assert!(said.ends_with(": in the middle"), "{said}");
    }

    #[test]
    fn what_is_declared_and_not_there_is_inconclusive() {
        let clause = clause!("DEL-001", within::finds_nothing, "nothing");
        let verdict = run_clause(&(Arc::new(Crossbeam) as Arc<dyn Harness>), &clause);
        let said = verdict.to_string();
        assert!(verdict.fails_the_run(), "{said}");
        assert!(said.ends_with("but: there is no such thing"), "{said}");
    }

    #[test]
    fn what_is_declared_of_a_door_or_a_clock_is_so() {
        let has = |phase: &str, id: &str| {
            let phases = phases();
            let phase = phases.iter().find(|p| p.name() == phase).unwrap();
            let clause = crate::clauses::clause_of(id).unwrap();
            declared_where_installed(&**phase, clause).is_none()
        };
        assert!(has("unix", "SEC-001") && !has("tcp", "SEC-001"));
        assert!(has("tcp", "SEC-002") && !has("unix", "SEC-002"));
        assert!(has("tcp", "SEC-003") && !has("unix", "SEC-003"));
        assert!(has("unix", "FLT-007") && has("tcp", "FLT-007"));
        assert!(!has("busrtd", "FLT-007"));
    }
}
