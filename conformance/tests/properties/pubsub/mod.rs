//! Publishing and subscribing: DEL-001, DEL-002, DEL-003, DEL-005, DEL-006, DEL-008, DEL-010,
//! ORD-001, ORD-002, SUB-001, SUB-004, SUB-005, FLW-001, FLW-002, LIF-002.
//!
//! A program connects, subscribes, publishes by each of the calls that there are, gives publishes
//! up, reads a little, unsubscribes and shuts handles down, in any order.

mod known;
mod machine;
mod model;

use std::sync::Arc;

use conformance::Harness;
use conformance::mutants::{Defect, MutantHarness};
use conformance::phases::{Crossbeam, InProcess, Shadow, Unix, phases};

use crate::programs::{self, assert_named};
use machine::run;
use model::{Model, Operation};

fn programs_on(phase: Arc<dyn Harness>, test: &str, cases: u32) {
    programs::check::<Model>(test, cases, |_, program, progress| {
        run(Arc::clone(&phase), program, || progress.step())
    });
}

tests! {
    #[test]
    fn programs_on_crossbeam() {
        programs_on(Arc::new(Crossbeam), "pubsub::programs_on_crossbeam", 256);
    }

    #[test]
    fn programs_on_in_process() {
        programs_on(Arc::new(InProcess), "pubsub::programs_on_in_process", 96);
    }

    #[test]
    fn programs_on_unix() {
        programs_on(Arc::new(Unix), "pubsub::programs_on_unix", 64);
    }

    #[test]
    fn programs_on_shadow() {
        programs_on(Arc::new(Shadow::CrossbeamInProcess), "pubsub::programs_on_shadow", 24);
    }

    /// A failure that proptest has written down by its seed is found again only as long as nobody
    /// changes the generator; these are kept as what they are.
    #[test]
    fn known_programs_on_every_phase() {
        for phase in phases() {
            for (wrong, program) in known::programs() {
                for _ in 0..20 {
                    let outcome = run(Arc::clone(&phase), &program, || {});
                    assert_eq!(outcome, Ok(()), "{}: {wrong}", phase.name());
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
            (Defect::Overstates, "a receipt for"),
            // What nobody counted as matched was delivered.
            (Defect::RepeatsCancelled, "for counters"),
        ] {
            let mutant = Arc::new(MutantHarness::new(Arc::new(Crossbeam), defect));
            assert_named(&defect, &run(mutant, &known::busy(), || {}), anomaly);
        }
        let sound = Arc::new(MutantHarness::new(Arc::new(Crossbeam), Defect::None));
        assert_eq!(run(sound, &known::busy(), || {}), Ok(()));
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
