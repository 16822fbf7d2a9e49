//! Faults in the middle of programs: DEL-001, DEL-002, DEL-003, DEL-006, DEL-008, ORD-001, SUB-007,
//! FLT-001, FLT-002, FLT-003.
//!
//! A reset, a broker that is killed and started again, a partition: they are operations like any
//! other, so that a failing program shrinks to the faults that it needs.

mod machine;
mod model;

use std::sync::Arc;

use conformance::mutants::{Defect, MutantHarness};
use conformance::phases::{Busrtd, Unix};
use conformance::{Fault, Harness};

use crate::programs::{self, assert_named};
use machine::run;
use model::{Model, Operation};

/// Each fault takes its time.
const LONGEST: usize = 16;

fn programs_on(phase: Arc<dyn Harness>, test: &str, cases: u32) {
    programs::check_up_to::<Model>(test, cases, LONGEST, |_, program, progress| {
        run(&phase, program, || progress.step())
    });
}

/// Each fault once, with events before, during and after it.
fn known() -> Vec<Operation> {
    let subscribe = |handle| Operation::Subscribe {
        handle,
        filter: "a.#",
    };
    let publish = |handle| Operation::Publish {
        handle,
        topic: "a.b",
        events: 30,
    };
    let both = || [publish(0), publish(1)];
    let mut program = vec![subscribe(0), subscribe(1)];
    program.extend(both());
    program.push(Operation::Strike(Fault::Reset));
    program.extend(both());
    for fault in [Fault::BrokerKilled, Fault::Partition] {
        program.push(Operation::Strike(fault));
        program.extend(both());
        program.push(Operation::Heal);
        program.extend(both());
    }
    program
}

tests! {
    #[test]
    fn programs_on_unix() {
        programs_on(Arc::new(Unix), "faults::programs_on_unix", 48);
    }

    #[test]
    fn programs_on_busrtd() {
        programs_on(Arc::new(Busrtd), "faults::programs_on_busrtd", 24);
    }

    /// The machine can fail: a program on a bus with a defect ends in the anomaly.
    #[test]
    fn mutants_are_caught() {
        let mutant = |defect| -> Arc<dyn Harness> {
            Arc::new(MutantHarness::new(Arc::new(Unix), defect))
        };
        for (defect, anomaly) in [
            (Defect::Drops, "lost in"),
            (Defect::Duplicates, "duplicate in"),
            (Defect::ReordersTopic, "nonmonotonic in"),
            (Defect::Corrupts, "corrupted in"),
        ] {
            assert_named(&defect, &run(&mutant(defect), &known(), || {}), anomaly);
        }
        assert_eq!(run(&mutant(Defect::None), &known(), || {}), Ok(()));
    }

    /// The generator reaches every operation, and every fault.
    #[test]
    fn programs_are_varied() {
        let operations = programs::some::<Model>(40);
        let seen: std::collections::BTreeSet<_> =
            operations.iter().map(Operation::name).collect();
        assert_eq!(seen.len(), 7, "{seen:?}");
    }
}
