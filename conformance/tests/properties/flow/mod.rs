//! Flow control: FLW-001, FLW-002, FLW-004, DEL-004, DEL-008, DEL-009, SUB-008.
//!
//! Programs of publishers that wait or do not, subscriptions of few places that wait or lose, and
//! room that comes while somebody waits for it. Where a phase's queues are as large as they were
//! asked to be, each outcome is predicted: who is refused and because of whom, what is read, what
//! is dropped.

mod known;
mod machine;
mod model;

use std::sync::Arc;

use conformance::Harness;
use conformance::mutants::{Defect, MutantHarness};
use conformance::phases::{Crossbeam, InProcess, Unix, phases};

use crate::programs::{self, assert_named};
use machine::run;
use model::{Model, Operation};

fn programs_on(phase: Arc<dyn Harness>, test: &str, cases: u32) {
    programs::check::<Model>(test, cases, |model, program, progress| {
        run(&phase, model, program, || progress.step())
    });
}

tests! {
    #[test]
    fn programs_on_crossbeam() {
        programs_on(Arc::new(Crossbeam), "flow::programs_on_crossbeam", 256);
    }

    #[test]
    fn programs_on_in_process() {
        programs_on(Arc::new(InProcess), "flow::programs_on_in_process", 64);
    }

    #[test]
    fn programs_on_unix() {
        programs_on(Arc::new(Unix), "flow::programs_on_unix", 32);
    }

    #[test]
    fn known_programs_on_every_phase() {
        for phase in phases() {
            for (patient, program) in [(false, known::full()), (true, known::relieved())] {
                let outcome = run(&phase, &Model::new(patient), &program, || {});
                assert_eq!(outcome, Ok(()), "{}", phase.name());
            }
        }
    }

    /// The machine can fail: a program on a bus with a defect ends in what it breaks.
    #[test]
    fn mutants_are_caught() {
        let full = known::full;
        let refused = known::refused;
        for (defect, program, says) in [
            (Defect::SwallowsBackpressure, full(), "which have no room"),
            (Defect::DeliversRefused, refused(), "refused but delivered in"),
            (Defect::WaitsAlways, full(), "which has some"),
            (Defect::HidesLosses, full(), "uncounted in"),
            (Defect::Miscounts, full(), "for counters"),
            (Defect::Duplicates, full(), "due is"),
        ] {
            let mutant: Arc<dyn Harness> =
                Arc::new(MutantHarness::new(Arc::new(Crossbeam), defect));
            let outcome = run(&mutant, &Model::new(false), &program, || {});
            assert_named(&defect, &outcome, says);
        }
        let sound: Arc<dyn Harness> =
            Arc::new(MutantHarness::new(Arc::new(Crossbeam), Defect::None));
        let outcome = run(&sound, &Model::new(false), &known::full(), || {});
        assert_eq!(outcome, Ok(()));
    }

    /// The generator reaches every operation.
    #[test]
    fn programs_are_varied() {
        let operations = programs::some::<Model>(40);
        let seen: std::collections::BTreeSet<_> =
            operations.iter().map(Operation::name).collect();
        assert_eq!(seen.len(), Operation::NAMES.len(), "{seen:?}");
    }
}
