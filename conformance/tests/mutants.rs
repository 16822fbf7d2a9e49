//! The suite can fail: on each mutant exactly those clauses fail that are expected to, and on the
//! phase that the mutants are made of none does.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conformance::mutants::pretend::Pretend;
use conformance::mutants::{Defect, MUTANTS, Mutant, MutantHarness, UNBREAKABLE, control, prove};
use conformance::phases::{Crossbeam, Shadow};
use conformance::{
    CLAUSES, Clause, Harness, Level, Patience, Rig, Verdict, clause_of, run_clause,
    run_clause_within,
};
use eventbus_trait::Limits;
use parking_lot::{Mutex, MutexGuard};

/// Some clauses on mutants hang, which is how they fail.
const SHORT: Patience = Patience(Duration::from_secs(2));

/// What is run at once: clauses that hang keep no processor busy.
const WORKERS: usize = 6;

/// Clauses that measure the process would notice another test that begins or ends.
fn alone() -> MutexGuard<'static, ()> {
    static PROCESS: Mutex<()> = Mutex::new(());
    PROCESS.lock()
}

/// The phase that the mutants are made of.
fn pretend() -> Arc<dyn Harness> {
    Arc::new(Pretend::new(Arc::new(Crossbeam)).with_shadow(Arc::new(Shadow::CrossbeamInProcess)))
}

fn mutant(defect: Defect) -> Arc<dyn Harness> {
    Arc::new(MutantHarness::new(pretend(), defect))
}

/// The mutants that are asked for by the name of a defect, or all of them.
fn asked_for() -> &'static [Mutant] {
    let asked = std::env::var("CONFORMANCE_MUTANT").unwrap_or_default();
    let named = |mutant: &&Mutant| format!("{:?}", mutant.defect) == asked;
    match MUTANTS.iter().find(named) {
        Some(one) => std::slice::from_ref(one),
        None => MUTANTS,
    }
}

/// The clause that is asked for by its id, or all of them.
fn clauses_asked_for() -> &'static [Clause] {
    clauses(&std::env::var("CONFORMANCE_CLAUSE").unwrap_or_default())
}

/// The clause of this id, or all of them.
fn clauses(id: &str) -> &'static [Clause] {
    match CLAUSES.iter().find(|clause| clause.id == id) {
        Some(one) => std::slice::from_ref(one),
        None => CLAUSES,
    }
}

/// A phase that keeps the thread that starts it.
#[derive(Debug)]
struct Hangs;

#[async_trait]
impl Harness for Hangs {
    fn name(&self) -> &str {
        "hangs"
    }

    async fn start(&self, _: Limits) -> Result<Box<dyn Rig>, String> {
        loop {
            std::thread::park();
        }
    }
}

#[test]
fn exactly_the_clauses_expected_fail() {
    let _alone = alone();
    let proof = prove(&pretend(), asked_for(), clauses_asked_for(), WORKERS);
    println!("{proof}");
    assert!(proof.runs > 0);
    assert!(proof.surprises.is_empty(), "{proof}");
}

#[test]
fn the_wrapper_alone_fails_nothing() {
    let _alone = alone();
    for (id, verdict) in control(&pretend(), CLAUSES) {
        // A SHOULD that the bus inside breaks now and then is none of the wrapper's.
        let broken_inside = matches!(verdict, Verdict::FailShould(_));
        assert!(broken_inside || verdict == Verdict::Pass, "{id}: {verdict}");
    }
}

/// A phase that lacks what a clause needs, or on which it hangs, finds no mutant.
#[test]
fn what_does_not_run_or_hangs_finds_nothing() {
    let _alone = alone();
    let table = |defect: Defect| {
        let of = |m: &&Mutant| m.defect == defect;
        std::slice::from_ref(MUTANTS.iter().find(of).unwrap())
    };
    let crossbeam: Arc<dyn Harness> = Arc::new(Crossbeam);
    let proof = prove(&crossbeam, table(Defect::LosesAtRestart), CLAUSES, 1);
    let said = proof.to_string();
    assert!(
        said.contains("missing FLT-001: it is not found by n/a"),
        "{said}"
    );

    let hangs: Arc<dyn Harness> = Arc::new(Pretend::new(Arc::new(Hangs)));
    let proof = prove(
        &hangs,
        table(Defect::ConfusesOverflow),
        clauses("FLW-002"),
        1,
    );
    let said = proof.to_string();
    assert!(
        said.contains("missing FLW-002: it is not found by FAIL") && said.contains(" hung for "),
        "{said}"
    );
}

/// Memory in crumbs that the threads which come next find free, held open by what is returned.
fn crumbs_set_free() -> Vec<Vec<u8>> {
    let some = || {
        let mut crumbs: Vec<Vec<u8>> = (0..500_000).map(|_| vec![1; 64]).collect();
        crumbs.pop().unwrap()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(some)).collect();
        threads.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// What a bus keeps may lie where something else was, and make the process hold no more.
#[test]
fn what_was_free_before_hides_nothing_that_is_kept() {
    let _alone = alone();
    let held = crumbs_set_free();
    let crumbs = mutant(Defect::HoardsCrumbs);
    let patience = Patience(Duration::from_secs(10));
    let verdict = run_clause_within(patience, &crumbs, clause_of("FLW-006").unwrap());
    let said = verdict.to_string();
    assert!(said.contains("small events made it grow"), "{said}");
    drop(held);
}

#[test]
fn every_must_has_a_mutant_or_a_reason() {
    let musts: BTreeSet<&str> = CLAUSES
        .iter()
        .filter(|clause| clause.level == Level::Must)
        .map(|clause| clause.id)
        .collect();
    let broken: BTreeSet<&str> = MUTANTS.iter().map(|mutant| mutant.breaks).collect();
    let unbreakable: BTreeSet<&str> = UNBREAKABLE.iter().map(|(id, _)| *id).collect();
    for id in &musts {
        let (mutant, reason) = (broken.contains(id), unbreakable.contains(id));
        assert!(mutant != reason, "{id}: mutant {mutant}, reason {reason}");
    }
    let have = musts.intersection(&broken).count();
    println!("{have} of {} MUST clauses have a mutant; not:", musts.len());
    for (id, reason) in UNBREAKABLE {
        println!("  {id}: {reason}");
    }
    assert!(have * 10 >= musts.len() * 9, "{have} of {}", musts.len());
}

#[test]
fn the_table_names_clauses_and_no_defect_twice() {
    let mut seen = BTreeSet::new();
    for mutant in MUTANTS {
        let defect = format!("{:?}", mutant.defect);
        assert!(seen.insert(defect.clone()), "{defect} is there twice");
        let may = mutant.may_fail.iter().map(|(id, _)| *id);
        let mut ids = BTreeSet::new();
        for id in mutant.fails.iter().copied().chain(may) {
            let clause = clause_of(id).unwrap_or_else(|| panic!("{defect}: no clause {id}"));
            assert!(mutant.concerns(clause), "{defect}: {id} never meets it");
            assert!(ids.insert(id), "{defect}: {id} is there twice");
        }
        assert!(mutant.fails.contains(&mutant.breaks), "{defect}");
    }
}

#[test]
fn a_fault_that_never_strikes_is_inconclusive() {
    let _alone = alone();
    let harness: Arc<dyn Harness> = Arc::new(Pretend::new(Arc::new(Crossbeam)).harmless());
    for id in ["FLT-001", "FLT-002", "FLT-003", "FLT-004"] {
        let verdict = run_clause_within(SHORT, &harness, clause_of(id).unwrap());
        assert!(
            matches!(&verdict, Verdict::Inconclusive(text) if text.contains("never struck")),
            "{id}: {verdict}"
        );
    }
}

#[test]
fn an_anomaly_is_named() {
    let _alone = alone();
    for (defect, id, word) in [
        (Defect::Drops, "DEL-001", "lost in"),
        (Defect::Invents, "DEL-002", "phantom in"),
        (Defect::Duplicates, "DEL-003", "duplicate in"),
        (
            Defect::DeliversRefused,
            "DEL-004",
            "refused but delivered in",
        ),
        (Defect::ReordersTopic, "ORD-001", "nonmonotonic in"),
        (Defect::HidesLosses, "FLW-002", "losses counted and told"),
        (Defect::AdmitsPlain, "SEC-002", "Plain was let in"),
        (Defect::NeverNotices, "LIF-007", "will never change"),
        (Defect::TakesAnyName, "MIG-005", "phases:\n  connect as"),
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
