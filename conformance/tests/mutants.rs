//! The suite can fail: each mutant is caught by the clause that is there for it, and the wrapper
//! without a defect by none.

mod support;

use std::sync::Arc;

use conformance::mutants::{Defect, MUTANTS, MutantHarness};
use conformance::{
    CLAUSES, Capability, Harness, Patience, Verdict, clause_of, run_clause, run_clause_within,
};
use support::Crossbeam;

/// Some mutants hang, which is how they are caught; the crossbeam phase answers well within this.
const SHORT: Patience = Patience(std::time::Duration::from_secs(2));

fn mutant(defect: Defect) -> Arc<dyn Harness> {
    Arc::new(MutantHarness::new(Arc::new(Crossbeam), defect))
}

#[test]
fn each_mutant_fails_its_clause() {
    let mut survivors = Vec::new();
    for (defect, id) in MUTANTS {
        let clause = clause_of(id).unwrap_or_else(|| panic!("no clause {id}"));
        match run_clause_within(SHORT, &mutant(*defect), clause) {
            Verdict::Fail(message) => println!("{id} {defect:?}: {message}"),
            other => survivors.push(format!("{defect:?} survives {id}: {other}")),
        }
    }
    assert!(survivors.is_empty(), "{}", survivors.join("\n"));
}

#[test]
fn the_wrapper_alone_fails_nothing() {
    let harness = mutant(Defect::None);
    for clause in CLAUSES
        .iter()
        .filter(|clause| !clause.needs.contains(&Capability::Shadow))
    {
        assert_eq!(
            run_clause(&harness, clause),
            Verdict::Pass,
            "{}",
            clause.name
        );
    }
}

#[test]
fn an_anomaly_is_named() {
    for (defect, id, word) in [
        (Defect::Drops, "DEL-001", "lost in"),
        (Defect::Invents, "DEL-002", "phantom in"),
        (Defect::Duplicates, "DEL-003", "duplicate in"),
        (
            Defect::DeliversRefused,
            "DEL-004",
            "refused but delivered in",
        ),
        (Defect::ReordersTopic, "ORD-001", "reordered in"),
        (Defect::HidesLosses, "FLW-002", "losses counted and told"),
    ] {
        let verdict = run_clause_within(SHORT, &mutant(defect), clause_of(id).unwrap());
        let text = verdict.to_string();
        assert!(text.contains(word), "{id} with {defect:?} says: {text}");
    }
}

#[test]
fn a_phase_that_lacks_a_capability_is_not_applicable() {
    let verdict = run_clause(&mutant(Defect::None), clause_of("MIG-001").unwrap());
    assert_eq!(
        verdict,
        Verdict::NotApplicable("the phase doubles nothing".into())
    );
}
