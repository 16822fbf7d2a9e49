//! Random programs on a bus, for each phase, against a model of who subscribes to what.
//!
//! A program connects, subscribes, publishes, reads a little, unsubscribes and shuts handles down,
//! in any order; the model says which operations make sense, and the history of each program is
//! checked at its end. A program that fails is shrunk to a small one.
//!
//! `PROPTEST_CASES` sets the number of programs per phase.

#[path = "state_machine/known.rs"]
mod known;
#[path = "state_machine/machine.rs"]
mod machine;
#[path = "state_machine/model.rs"]
mod model;

use std::marker::PhantomData;
use std::sync::Arc;

use conformance::Harness;
use conformance::mutants::{Defect, MutantHarness};
use conformance::phases::{Crossbeam, InProcess, Shadow, Unix, phases};
use machine::Machine;
use model::{Model, Operation};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::FileFailurePersistence;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

/// A phase, by a type, as the macro below wants it.
trait Phase {
    fn harness() -> Arc<dyn Harness>;
}

macro_rules! phases {
    ($($phase:ident),*) => {
        $(impl Phase for $phase {
            fn harness() -> Arc<dyn Harness> {
                Arc::new($phase)
            }
        })*
    };
}

phases!(Crossbeam, InProcess, Unix);

impl Phase for Shadow {
    fn harness() -> Arc<dyn Harness> {
        Arc::new(Shadow::CrossbeamInProcess)
    }
}

struct On<P>(PhantomData<P>);

impl<P: Phase> StateMachineTest for On<P> {
    type SystemUnderTest = Machine;
    type Reference = Model;

    fn init_test(_: &Model) -> Machine {
        Machine::start(P::harness())
    }

    fn apply(mut machine: Machine, _: &Model, operation: Operation) -> Machine {
        machine.perform(&operation);
        machine
    }

    fn teardown(machine: Machine, _: Model) {
        machine.finish();
    }
}

/// So many programs, unless `PROPTEST_CASES` says otherwise.
fn cases(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config.max_shrink_iters = 500;
    // A program that hangs takes long to shrink; a larger one is found sooner.
    config.max_shrink_time = 120_000;
    config.failure_persistence = Some(Box::new(FileFailurePersistence::Direct(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/state_machine.regressions"
    ))));
    config
}

prop_state_machine! {
    #![proptest_config(cases(256))]
    #[test]
    fn programs_on_crossbeam(sequential 1..60 => On<Crossbeam>);
}

prop_state_machine! {
    #![proptest_config(cases(96))]
    #[test]
    fn programs_on_in_process(sequential 1..60 => On<InProcess>);
}

prop_state_machine! {
    #![proptest_config(cases(64))]
    #[test]
    fn programs_on_unix(sequential 1..60 => On<Unix>);
}

prop_state_machine! {
    #![proptest_config(cases(24))]
    #[test]
    fn programs_on_shadow(sequential 1..60 => On<Shadow>);
}

/// A failure that proptest has written down by its seed is found again only as long as nobody
/// changes the generator; these are kept as what they are.
#[test]
fn known_programs_on_every_phase() {
    for harness in phases() {
        for (wrong, program) in known::programs() {
            println!("{}: {wrong}", harness.name());
            for _ in 0..20 {
                let mut machine = Machine::start(Arc::clone(&harness));
                for operation in &program {
                    machine.perform(operation);
                }
                machine.finish();
            }
        }
    }
}

/// The machine can fail: a program on a bus with a defect ends in the anomaly.
#[test]
fn mutants_are_caught() {
    for (defect, anomaly) in [
        (Defect::Drops, "lost in"),
        (Defect::Duplicates, "duplicate in"),
        (Defect::Invents, "phantom in"),
        (Defect::Corrupts, "corrupted in"),
        (Defect::ReordersTopic, "nonmonotonic in"),
        (Defect::HidesLosses, "uncounted in"),
    ] {
        let mutant = Arc::new(MutantHarness::new(Arc::new(Crossbeam), defect));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut machine = Machine::start(mutant);
            for operation in &known::busy() {
                machine.perform(operation);
            }
            machine.finish();
        }));
        let panic = caught.expect_err("the program has to fail");
        let text = panic.downcast_ref::<String>().expect("a message");
        assert!(text.contains(anomaly), "{defect:?}: {text}");
    }
}

/// The generator reaches every operation, and programs in which queues fill.
#[test]
fn programs_are_varied() {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let program = Model::sequential_strategy(1..60)
            .new_tree(&mut runner)
            .unwrap();
        let (_, operations, _) = program.current();
        seen.extend(operations.iter().map(Operation::name));
    }
    assert_eq!(seen.len(), Operation::NAMES.len(), "{seen:?}");
}
