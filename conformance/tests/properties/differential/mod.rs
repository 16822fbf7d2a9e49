//! The same program on two phases: DEL-001, DEL-003, DEL-004, DEL-006, DEL-007, DEL-010, ORD-001,
//! ORD-002, SUB-003, SUB-004, SUB-005, SUB-009, LIF-001, MIG-001, MIG-005.
//!
//! What an application can observe must be the same: how each call ended, what each subscription
//! yielded of each author and in which order, what it counted. How authors' events interleave is
//! nobody's promise and left out.

mod known;
mod machine;
mod model;

use std::sync::Arc;

use conformance::Harness;
use conformance::mutants::{Defect, MutantHarness};
use conformance::phases::{Crossbeam, InProcess, Shadow, Unix};

use crate::programs::{self, Outcome, assert_named};
use machine::run;
use model::{Model, Operation};

/// Runs a program on both and says where they differ.
fn compare(phases: [&Arc<dyn Harness>; 2], program: &[Operation], step: impl Fn()) -> Outcome {
    let [first, second] = phases;
    let with = |phase: &Arc<dyn Harness>, error| format!("{}: {error}", phase.name());
    let have = run(first, program, step).map_err(|error| with(first, error))?;
    let want = run(second, program, || {}).map_err(|error| with(second, error))?;
    match have.differs(&want) {
        None => Ok(()),
        Some(where_) => Err(format!("{} and {}: {where_}", first.name(), second.name())),
    }
}

fn same_on(second: impl Harness + 'static, test: &str, cases: u32) {
    let phases: [Arc<dyn Harness>; 2] = [Arc::new(Crossbeam), Arc::new(second)];
    programs::check::<Model>(test, cases, |_, program, progress| {
        compare(phases.each_ref(), program, || progress.step())
    });
}

tests! {
    #[test]
    fn crossbeam_and_in_process() {
        same_on(InProcess, "differential::crossbeam_and_in_process", 64);
    }

    #[test]
    fn crossbeam_and_unix() {
        same_on(Unix, "differential::crossbeam_and_unix", 48);
    }

    #[test]
    fn crossbeam_and_shadow() {
        let shadow = Shadow::CrossbeamInProcess;
        same_on(shadow, "differential::crossbeam_and_shadow", 24);
    }

    /// The comparison can fail: a defect shows as a difference, or is named by the checkers.
    #[test]
    fn mutants_are_caught() {
        let sound: Arc<dyn Harness> = Arc::new(Crossbeam);
        let outcome = |defect| {
            let mutant: Arc<dyn Harness> = Arc::new(MutantHarness::new(Arc::new(Crossbeam), defect));
            compare([&mutant, &sound], &known::busy(), || {})
        };
        for (defect, says) in [
            (Defect::Drops, "lost in"),
            (Defect::Duplicates, "duplicate in"),
            (Defect::ReordersTopic, "nonmonotonic in"),
            (Defect::Overstates, "result 0 differs"),
            (Defect::SharesNames, "NameInUse: Ok"),
            (Defect::SwallowsLarge, "unseen in"),
            (Defect::NeverCloses, "unseen in"),
        ] {
            assert_named(&defect, &outcome(defect), says);
        }
        assert_eq!(outcome(Defect::None), Ok(()));
    }

    /// The generator reaches every operation.
    #[test]
    fn programs_are_varied() {
        let operations = programs::some::<Model>(60);
        let seen: std::collections::BTreeSet<_> =
            operations.iter().map(Operation::name).collect();
        assert_eq!(seen.len(), Operation::NAMES, "{seen:?}");
    }
}
