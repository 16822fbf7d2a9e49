//! Running clauses: one by one under a watchdog, or all of them as tests.
//!
//! Each clause has a runtime of its own, on threads of its own: whatever hangs in it, the watchdog
//! stands outside.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use parking_lot::{Mutex, RwLock};

use crate::clause::Clause;
use crate::clauses::{CLAUSES, UNBUILT};
use crate::harness::Harness;
use crate::report::Table;
use crate::seed::{Seed, replay_command};
use crate::stage::{Context, Patience};
use crate::verdict::{Unmet, Verdict};

/// How many times the patience of a single wait a whole clause may take before it counts as hung.
const WATCHDOG: u32 = 4;

/// Taken for writing by the clauses that measure the process.
static PROCESS: RwLock<()> = RwLock::new(());

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
    if let Some(reason) = not_applicable(&**harness, clause) {
        return Verdict::NotApplicable(reason);
    }
    let verdict = if clause.alone {
        let _alone = PROCESS.write();
        watched(patience, harness, clause)
    } else {
        let _shared = PROCESS.read();
        watched(patience, harness, clause)
    };
    verdict.at(clause.level)
}

fn watched(patience: Patience, harness: &Arc<dyn Harness>, clause: &Clause) -> Verdict {
    let watchdog = patience.0 * WATCHDOG;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(clause.id)
        // Short, so that a clause can see that threads of blocking calls go away.
        .thread_keep_alive(Duration::from_millis(10))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Verdict::Inconclusive(format!("no runtime: {error}")),
    };
    let context = Context::new(Arc::clone(harness), patience).seeded(Seed::of_run(), clause.name);
    let (verdict, verdicts) = sync_channel(1);
    let running = runtime.spawn((clause.run)(context.clone()));
    let cleaning = context.clone();
    runtime.spawn(async move {
        let checked = running.await.unwrap_or_else(|error| Err(panicked(error)));
        let checked = cleaning.leave(checked).await;
        // The receiver is gone only if the watchdog has spoken already.
        let _ = verdict.send(Verdict::from(checked));
    });
    match verdicts.recv_timeout(watchdog) {
        Ok(verdict) => {
            drop(context);
            runtime.shutdown_timeout(Duration::from_secs(5));
            verdict
        }
        Err(RecvTimeoutError::Timeout) => {
            let progress = context.progress();
            runtime.shutdown_background();
            Verdict::Fail(format!("{} hung for {watchdog:?}, {progress}", clause.name))
        }
        Err(RecvTimeoutError::Disconnected) => {
            Verdict::Fail(format!("{} ended without a verdict", clause.name))
        }
    }
}

fn panicked(error: tokio::task::JoinError) -> Unmet {
    if !error.is_panic() {
        return Unmet::broken("the clause was cancelled");
    }
    let panic = error.into_panic();
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    Unmet::broken(format_args!("panicked: {}", text.unwrap_or("no message")))
}

fn not_applicable(harness: &dyn Harness, clause: &Clause) -> Option<String> {
    let lacking = clause.needs.iter().find(|need| !harness.has(**need))?;
    Some(lacking.lack().to_owned())
}

/// Verdicts by phase and clause name, or by phase and id of what is not built.
pub(crate) type Verdicts = BTreeMap<(String, &'static str), Verdict>;

/// Runs every clause for each phase as tests named `phase::clause`, with the arguments of the
/// process, and ends with a table. For the `main` of a test with `harness = false`.
///
/// Fails if a clause that is a MUST was broken, or any was inconclusive. A waived clause is listed as ignored; asked for
/// with `--ignored`, it runs and is judged like any other.
#[must_use]
pub fn run(harnesses: Vec<Arc<dyn Harness>>) -> ExitCode {
    run_with(&Arguments::from_args(), harnesses)
}

/// As [`run`], with these arguments.
#[must_use]
pub fn run_with(arguments: &Arguments, harnesses: Vec<Arc<dyn Harness>>) -> ExitCode {
    let verdicts = Arc::new(Mutex::new(Verdicts::new()));
    let mut trials = Vec::new();
    for clause in CLAUSES {
        for harness in &harnesses {
            trials.push(trial(harness, clause, &verdicts, arguments));
        }
    }
    for harness in &harnesses {
        waive_unbuilt(harness.name(), arguments, &mut verdicts.lock());
    }
    let conclusion = libtest_mimic::run(arguments, trials);
    // A runner that starts a process per test wants neither a list nor a table around it.
    if !arguments.list && !arguments.exact {
        let names: Vec<&str> = harnesses.iter().map(|harness| harness.name()).collect();
        println!("{}", Table::new(&names, &verdicts.lock()));
    }
    conclusion.exit_code()
}

fn trial(
    harness: &Arc<dyn Harness>,
    clause: &'static Clause,
    verdicts: &Arc<Mutex<Verdicts>>,
    arguments: &Arguments,
) -> Trial {
    let key = (harness.name().to_owned(), clause.name);
    let skipped = declared(&**harness, clause);
    let name = format!("{}::{}", harness.name(), clause.name);
    let (running, results) = (Arc::clone(harness), Arc::clone(verdicts));
    let result_key = key.clone();
    let replay = replay(&name, harness.name(), clause);
    let trial = Trial::ignorable_test(name, move || {
        let verdict = run_clause(&running, clause);
        results.lock().insert(result_key, verdict.clone());
        outcome(verdict, &replay)
    });
    let trial = trial.with_ignored_flag(skipped.is_some());
    if let Some(verdict) = skipped
        && arguments.is_ignored(&trial)
        && !arguments.is_filtered_out(&trial)
    {
        verdicts.lock().insert(key, verdict);
    }
    trial
}

/// Enters the ids that nothing can check yet, those of them that were asked for.
fn waive_unbuilt(phase: &str, arguments: &Arguments, verdicts: &mut Verdicts) {
    for unbuilt in UNBUILT {
        let name = format!("{phase}::{}", unbuilt.id.to_lowercase().replace('-', "_"));
        let asked_for = !arguments.is_filtered_out(&Trial::test(name, || Ok(())));
        if asked_for {
            let waived = Verdict::Waived(unbuilt.reason.to_owned());
            verdicts.insert((phase.to_owned(), unbuilt.id), waived);
        }
    }
}

/// The verdict that is known before the clause runs: not applicable, or waived.
#[must_use]
pub fn declared(harness: &dyn Harness, clause: &Clause) -> Option<Verdict> {
    if let Some(reason) = not_applicable(harness, clause) {
        return Some(Verdict::NotApplicable(reason));
    }
    let waiver = harness
        .waivers()
        .into_iter()
        .find(|waiver| waiver.id == clause.id)?;
    Some(Verdict::Waived(waiver.reason.to_owned()))
}

/// Which clause a failure is of, and how to see it again.
fn replay(test: &str, phase: &str, clause: &Clause) -> String {
    let seed = Seed::of_run();
    let command = replay_command(test, seed);
    format!(
        "{} in phase {phase}, seed {seed}; to replay: {command}",
        clause.id
    )
}

fn outcome(verdict: Verdict, replay: &str) -> Result<Completion, Failed> {
    match verdict {
        Verdict::Pass => Ok(Completion::Completed),
        Verdict::Fail(reason) => Err(format!("{reason}\n{replay}").into()),
        Verdict::Inconclusive(reason) => Err(format!("inconclusive: {reason}\n{replay}").into()),
        // No failure of the run, and no pass either.
        Verdict::FailShould(_) | Verdict::NotApplicable(_) | Verdict::Waived(_) => {
            Ok(Completion::ignored_with(verdict))
        }
    }
}
