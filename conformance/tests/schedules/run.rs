//! Running a cast under many schedules, and seeing a broken one fail.
//!
//! Invariant: a seed and the name of a cast say which schedules are run.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

use conformance::Seed;
use shuttle::scheduler::{
    PctScheduler, RandomScheduler, Scheduler, UncontrolledNondeterminismCheckScheduler,
};
use shuttle::{Config, MaxSteps, Runner};

use crate::record::{forget, record};

/// Changes of thread in a schedule that has few.
const DEPTH: usize = 4;
/// Steps of an execution, beyond which something spins.
const MOST_STEPS: usize = 100_000;
/// Schedules that are run twice.
const SCHEDULES_TO_REPLAY: usize = 50;
/// Schedules, of each kind, within which a twin's bug is found.
const SCHEDULES_FOR_TWINS: usize = 2_000;

/// Runs `cast` under this many schedules of each kind, and records how many there were.
pub(crate) fn explore(
    name: &str,
    covers: &[&str],
    schedules: usize,
    cast: impl Fn() + Send + Sync + 'static,
) {
    let cast = Arc::new(cast);
    let seed = Seed::of_run();
    let test = std::thread::current().name().unwrap_or(name).to_owned();
    println!(
        "to replay: CONFORMANCE_SEED={seed} cargo test -p conformance --test schedules -- {test}"
    );
    forget(name);
    let executions = both_ways(seed.of(name), schedules, &cast);
    println!("{name}: {executions} executions");
    assert_eq!(executions, 2 * schedules, "fewer than were asked for");
    record(name, covers, executions, 2 * schedules);
}

/// Runs a cast with a bug, and expects it to fail in the way that its bug fails.
pub(crate) fn must_fail(expected: &str, cast: impl Fn() + Send + Sync + 'static) {
    must_fail_by(&[expected], cast);
}

/// The same with a bug that fails in one of several ways, whichever schedule comes first.
pub(crate) fn must_fail_by(expected: &[&str], cast: impl Fn() + Send + Sync + 'static) {
    let cast = Arc::new(cast);
    let seed = Seed::of_run().of(&expected.join(" or "));
    listen();
    SAID.take();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        both_ways(seed, SCHEDULES_FOR_TWINS, &cast)
    }));
    assert!(outcome.is_err(), "the schedules show the twin's bug");
    let said = SAID.take();
    let is_expected = |message: &String| expected.iter().any(|one| message.contains(one));
    assert!(
        said.iter().any(is_expected),
        "not {expected:?} but: {said:?}"
    );
}

thread_local! {
    /// What panics on this thread have said. Shuttle reports some in words of its own.
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Has panics write down what they say.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let text = info.payload_as_str().unwrap_or_default().to_owned();
            let _ = SAID.try_with(|said| said.borrow_mut().push(text));
            before(info);
        }));
    });
}

/// Runs each of a few schedules twice, and fails if the second time is another: a seed would be of
/// no use then.
pub(crate) fn must_replay(cast: impl Fn() + Send + Sync + 'static) {
    let by_chance = RandomScheduler::new_from_seed(Seed::of_run().0, SCHEDULES_TO_REPLAY);
    run(
        UncontrolledNondeterminismCheckScheduler::new(by_chance),
        &Arc::new(cast),
    );
}

fn both_ways(seed: Seed, schedules: usize, cast: &Arc<impl Fn() + Send + Sync + 'static>) -> usize {
    let by_chance = RandomScheduler::new_from_seed(seed.0, schedules);
    let few_changes = PctScheduler::new_from_seed(seed.0, DEPTH, schedules);
    run(by_chance, cast) + run(few_changes, cast)
}

fn run(
    scheduler: impl Scheduler + 'static,
    cast: &Arc<impl Fn() + Send + Sync + 'static>,
) -> usize {
    let mut config = Config::new();
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    // It says that atomics are explored as if sequentially consistent: loom has the other orders.
    config.silence_warnings = true;
    config.stack_size = 1 << 18;
    config
        .ungraceful_shutdown_config
        .immediately_return_on_panic = true;
    let cast = Arc::clone(cast);
    Runner::new(scheduler, config).run(move || cast())
}
