//! The clauses as tests of a program: for the `main` of a test with `harness = false`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use parking_lot::Mutex;

use crate::clause::Clause;
use crate::clauses::{CLAUSES, UNBUILT};
use crate::harness::Harness;
use crate::outcome::{Outcome, Outcomes, distinct};
use crate::report::{Phase, Report};
use crate::runner::{Settings, declared, outcome_of};
use crate::seed::{Seed, replay_command};
use crate::verdict::Verdict;

/// Runs every clause for each phase as tests named `phase::clause`, with the arguments of the
/// process; ends with a table, and writes a [certificate](crate::certificate) for each phase below
/// `target/conformance`. For the `main` of a test with `harness = false`.
///
/// Fails if a clause that is a MUST was broken, or any was inconclusive. A waived clause is listed
/// as ignored; asked for with `--ignored`, it runs and is judged like any other. With `--exact`, as
/// a runner asks that starts a process per test, there is neither a table nor a certificate.
#[must_use]
pub fn run(harnesses: Vec<Arc<dyn Harness>>) -> ExitCode {
    run_with(&Arguments::from_args(), harnesses)
}

/// As [`run`], with these arguments. Two phases of one name are an error, and nothing runs.
#[must_use]
pub fn run_with(arguments: &Arguments, harnesses: Vec<Arc<dyn Harness>>) -> ExitCode {
    if let Err(error) = distinct(&harnesses) {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let settings = Settings::default();
    let (started, began) = (SystemTime::now(), Instant::now());
    let outcomes = Arc::new(Mutex::new(Outcomes::default()));
    let mut trials = Vec::new();
    // Those that measure the process, before others leave memory in it.
    let (alone, beside): (Vec<&Clause>, Vec<&Clause>) = CLAUSES.iter().partition(|c| c.alone);
    for clause in alone.into_iter().chain(beside) {
        for harness in &harnesses {
            trials.push(trial(harness, clause, settings, &outcomes, arguments));
        }
    }
    for harness in &harnesses {
        waive_unbuilt(harness.name(), settings.seed, arguments, &outcomes);
    }
    let conclusion = libtest_mimic::run(arguments, trials);
    if !arguments.list && !arguments.exact {
        let report = Report {
            phases: harnesses
                .iter()
                .map(|harness| Phase::of(&**harness))
                .collect(),
            outcomes: std::mem::take(&mut *outcomes.lock()),
            seed: settings.seed,
            started,
            took: began.elapsed(),
            models: crate::certificate::explored(),
        };
        println!("{report}");
        certify(&report);
    }
    conclusion.exit_code()
}

/// A run whose certificates cannot be written has still run.
fn certify(report: &Report) {
    let directory = crate::certificate::directory();
    for certificate in report.certificates() {
        if let Err(error) = certificate.write_into(&directory) {
            eprintln!("no certificate in {}: {error}", directory.display());
            return;
        }
    }
}

fn trial(
    harness: &Arc<dyn Harness>,
    clause: &'static Clause,
    settings: Settings,
    outcomes: &Arc<Mutex<Outcomes>>,
    arguments: &Arguments,
) -> Trial {
    let skipped = declared(&**harness, clause);
    let name = format!("{}::{}", harness.name(), clause.name);
    let (running, results) = (Arc::clone(harness), Arc::clone(outcomes));
    let replay = replay(&name, harness.name(), clause, settings.seed);
    let trial = Trial::ignorable_test(name, move || {
        let outcome = outcome_of(settings, &running, clause);
        let completion = completion(outcome.verdict.clone(), &replay);
        results.lock().enter(running.name(), clause.name, outcome);
        completion
    });
    let trial = trial.with_ignored_flag(skipped.is_some());
    if let Some(verdict) = skipped
        && arguments.is_ignored(&trial)
        && !arguments.is_filtered_out(&trial)
    {
        let known = Outcome::known(verdict, clause.level, settings.seed);
        outcomes.lock().enter(harness.name(), clause.name, known);
    }
    trial
}

/// Enters the ids that nothing can check yet, those of them that were asked for.
fn waive_unbuilt(phase: &str, seed: Seed, arguments: &Arguments, outcomes: &Mutex<Outcomes>) {
    for unbuilt in UNBUILT {
        let name = format!("{phase}::{}", unbuilt.id.to_lowercase().replace('-', "_"));
        let asked_for = !arguments.is_filtered_out(&Trial::test(name, || Ok(())));
        if asked_for {
            let waived = Outcome::waived(unbuilt, seed);
            outcomes.lock().enter(phase, unbuilt.id, waived);
        }
    }
}

/// Which clause a failure is of, and how to see it again.
fn replay(test: &str, phase: &str, clause: &Clause, seed: Seed) -> String {
    let command = replay_command(test, seed);
    format!(
        "{} in phase {phase}, seed {seed}; to replay: {command}",
        clause.id
    )
}

fn completion(verdict: Verdict, replay: &str) -> Result<Completion, Failed> {
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
