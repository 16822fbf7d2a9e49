//! Drawing programs, running them, and shrinking those that fail.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conformance::check::{self, Findings, Within};
use conformance::seed::{Seed, replay_command};
use conformance::stage::{Reader, Stage};
use conformance::{Checked, Context, Unmet};
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestCaseError, TestRunner};
use proptest_state_machine::ReferenceStateMachine;

/// What a program ended in; an error is a finding.
pub(crate) type Outcome = Result<(), String>;

/// Most operations of a program.
const LONGEST: usize = 60;

/// How far a program has come, which shrinking wants to know.
pub(crate) struct Progress(Option<Arc<AtomicUsize>>);

impl Progress {
    /// The next operation is about to be performed.
    pub(crate) fn step(&self) {
        if let Some(seen) = &self.0 {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Runs `cases` random programs of the model `M`, unless `PROPTEST_CASES` says otherwise. Panics
/// with the smallest failing program that was found, and how to find it again.
///
/// `test` is the name of the test, `machine::name`; what failed once is in `machine.regressions`.
pub(crate) fn check<M>(
    test: &str,
    cases: u32,
    run: impl Fn(&M::State, &[M::Transition], &Progress) -> Outcome,
) where
    M: ReferenceStateMachine,
    M::State: Debug + Clone + 'static,
    M::Transition: Debug + Clone + 'static,
{
    check_up_to::<M>(test, cases, LONGEST, run);
}

/// As [`check`], of programs of fewer operations than `longest`.
pub(crate) fn check_up_to<M>(
    test: &str,
    cases: u32,
    longest: usize,
    run: impl Fn(&M::State, &[M::Transition], &Progress) -> Outcome,
) where
    M: ReferenceStateMachine,
    M::State: Debug + Clone + 'static,
    M::Transition: Debug + Clone + 'static,
{
    let mut runner = TestRunner::new(config(test, cases));
    let programs = M::sequential_strategy(1..longest);
    let result = runner.run(&programs, |(state, operations, seen)| {
        run(&state, &operations, &Progress(seen)).map_err(TestCaseError::fail)
    });
    if let Err(error) = result {
        let replay = replay_command(test, Seed::of_run());
        panic!("{error}\nto replay: {replay}");
    }
}

fn config(test: &str, cases: u32) -> Config {
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config.max_shrink_iters = 500;
    // A program that hangs takes long to shrink; a larger one is found sooner.
    config.max_shrink_time = 120_000;
    config.rng_seed = RngSeed::Fixed(Seed::of_run().of(test).0);
    let machine = test.split("::").next().unwrap_or(test);
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/properties")
        .join(format!("{machine}.regressions"));
    // The only place that is `'static` and known at run time; there are as many as tests.
    let regressions: &'static str = Box::leak(regressions.display().to_string().into_boxed_str());
    config.failure_persistence = Some(Box::new(FileFailurePersistence::Direct(regressions)));
    config
}

/// Runs what a program does on a runtime of its own, ends what it has started, and asks those that
/// have found something themselves.
pub(crate) fn on_a_runtime(context: &Context, program: impl Future<Output = Checked>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let checked = runtime.block_on(async {
        let checked = context.judge(program.await).await;
        context.clean().await;
        checked
    });
    runtime.shutdown_timeout(context.patience());
    checked.map_err(|unmet| unmet.to_string())
}

/// Reads on for a little. Nothing may come of what was refused, and of what was given up nothing or
/// once; a bus that goes on by itself gets a chance to show it.
pub(crate) async fn read_until_quiet(readers: &mut [Reader]) {
    const QUIET: usize = 5;
    let mut beat = tokio::time::interval(Duration::from_millis(1));
    let mut quiet = 0;
    while quiet < QUIET {
        beat.tick().await;
        let taken: usize = readers.iter_mut().map(Reader::take).sum();
        quiet = if taken == 0 { quiet + 1 } else { 0 };
    }
}

/// Judges the history of a program by every checker that there is, order across topics included.
pub(crate) fn judge(stage: &Stage) -> Checked {
    let history = stage.history();
    unless_empty(&check::lost(&history))?;
    judge_what_came(stage)?;
    unless_empty(&check::skips(&history, Within::Author))?;
    unless_empty(&check::uncounted(&history))
}

/// The same where subscriptions filter, which a history knows nothing of: whatever came is judged.
pub(crate) fn judge_what_came(stage: &Stage) -> Checked {
    let history = stage.history();
    for findings in [
        check::duplicates(&history),
        check::phantoms(&history),
        check::refused(&history),
        check::corrupted(&history),
        check::nonmonotonic(&history, Within::Author),
        check::stamps(&history, Within::Author),
    ] {
        unless_empty(&findings)?;
    }
    Ok(())
}

/// A program in which nothing happened is in order.
pub(crate) fn unless_empty(findings: &Findings) -> Checked {
    match findings.verdict() {
        Err(Unmet::Unexercised(_)) if findings.unjudgeable.is_none() => Ok(()),
        verdict => verdict,
    }
}

/// The operations of some programs of the model `M`, always the same ones.
pub(crate) fn some<M>(programs: usize) -> Vec<M::Transition>
where
    M: ReferenceStateMachine,
    M::State: Debug + Clone + 'static,
    M::Transition: Debug + Clone + 'static,
{
    let mut runner = TestRunner::deterministic();
    let mut operations = Vec::new();
    for _ in 0..programs {
        let strategy = M::sequential_strategy(1..LONGEST);
        let program = strategy.new_tree(&mut runner).expect("a program");
        operations.extend(program.current().1);
    }
    operations
}

/// Asserts that `outcome` is the anomaly that `word` names.
pub(crate) fn assert_named(what: &dyn Debug, outcome: &Outcome, word: &str) {
    let Err(text) = outcome else {
        panic!("{what:?} was not found");
    };
    assert!(text.contains(word), "{what:?}: {text}");
    assert!(
        text.contains("smallest history") || !text.contains("anomalies in"),
        "{what:?} without its history: {text}"
    );
}
