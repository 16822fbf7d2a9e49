//! The suite can fail: each mutant is caught by the clause that is there for it, and the wrapper
//! without a defect by none.

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conformance::mutants::{Defect, MUTANTS, MutantHarness};
use conformance::phases::Shadow;
use conformance::{
    CLAUSES, Capability, Clause, Comparison, Harness, Patience, Rig, ShadowHarness, ShadowRig,
    Verdict, Wrap, clause_of, run_clause, run_clause_within,
};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{EventBus, Limits};
use support::pretend::Pretend;

/// Some mutants hang, which is how they are caught; the crossbeam phase answers well within this.
const SHORT: Patience = Patience(Duration::from_secs(2));

fn mutant(defect: Defect) -> Arc<dyn Harness> {
    let inner = Arc::new(Pretend { strikes: true });
    Arc::new(MutantHarness::new(inner, defect))
}

/// What no bus in a process can do: notice that a connection is silent, find nobody there.
const FAR: [&str; 3] = ["LIF-007", "LIF-008", "SEC-007"];

#[test]
fn each_mutant_fails_its_clause() {
    let mut survivors = Vec::new();
    for (defect, id) in MUTANTS {
        let clause = clause_of(id).unwrap_or_else(|| panic!("no clause {id}"));
        match run_clause_within(SHORT, &mutant(*defect), clause) {
            Verdict::Fail(message) | Verdict::FailShould(message) => {
                println!("{id} {defect:?}: {message}")
            }
            other => survivors.push(format!("{defect:?} survives {id}: {other}")),
        }
    }
    assert!(survivors.is_empty(), "{}", survivors.join("\n"));
}

/// What a wrapper has no hand in: a shadow's comparison, and who comes in.
fn doubles_or_guards(clause: &Clause) -> bool {
    let outside = [Capability::Shadow, Capability::Door];
    outside.iter().any(|needed| clause.needs.contains(needed))
}

#[test]
fn the_wrapper_alone_fails_nothing() {
    let harness = mutant(Defect::None);
    for clause in CLAUSES
        .iter()
        .filter(|clause| !doubles_or_guards(clause) && !FAR.contains(&clause.id))
    {
        let verdict = run_clause(&harness, clause);
        // A SHOULD that the bus inside breaks now and then is none of the wrapper's.
        let broken_inside = matches!(verdict, Verdict::FailShould(_));
        let name = clause.name;
        assert!(
            broken_inside || verdict == Verdict::Pass,
            "{name}: {verdict}"
        );
    }
}

/// Some clauses check what no wrapper can break: what the types rule out, and what only a shadow
/// has, for which there are mutants below.
#[test]
fn every_clause_has_a_mutant() {
    let without = ["TOP-004", "LIF-005"];
    let without: Vec<&str> = without.into_iter().chain(FAR).collect();
    for clause in CLAUSES.iter().filter(|clause| !doubles_or_guards(clause)) {
        let has = MUTANTS.iter().any(|(_, id)| *id == clause.id);
        assert_eq!(has, !without.contains(&clause.id), "{}", clause.id);
    }
}

#[test]
fn a_shadow_that_sees_nothing_fails() {
    let blind: Arc<dyn Harness> = Arc::new(Crooked { blind: true });
    let verdict = run_clause_within(SHORT, &blind, clause_of("MIG-002").unwrap());
    assert!(
        matches!(&verdict, Verdict::Fail(text) if text.contains("Drops")),
        "{verdict}"
    );
}

#[test]
fn a_shadow_that_shows_the_candidate_fails() {
    let exposed: Arc<dyn Harness> = Arc::new(Crooked { blind: false });
    let verdict = run_clause_within(SHORT, &exposed, clause_of("MIG-001").unwrap());
    assert!(
        matches!(&verdict, Verdict::Fail(text) if text.contains("lost")),
        "{verdict}"
    );
}

#[test]
fn a_bus_that_notices_nothing_fails() {
    for (id, says) in
        FAR.into_iter()
            .zip(["will never change", "where nobody listens", "of CPU time"])
    {
        let verdict = run_clause_within(SHORT, &mutant(Defect::None), clause_of(id).unwrap());
        let text = verdict.to_string();
        assert!(
            matches!(verdict, Verdict::Fail(_)) && text.contains(says),
            "{id}: {text}"
        );
    }
}

#[test]
fn a_door_that_lets_everybody_in_fails() {
    let open: Arc<dyn Harness> = Arc::new(Pretend { strikes: true });
    let says = [
        ("SEC-001", "mode of the socket"),
        ("SEC-002", "Plain was let in"),
        ("SEC-003", "AnothersName was let in"),
        ("SEC-004", "publishing"),
        ("SEC-005", "was let in"),
        ("SEC-006", "there is always room"),
    ];
    for (id, says) in says {
        let verdict = run_clause_within(SHORT, &open, clause_of(id).unwrap());
        assert!(
            matches!(&verdict, Verdict::Fail(text) if text.contains(says)),
            "{id}: {verdict}"
        );
    }
}

#[test]
fn a_fault_that_never_strikes_is_inconclusive() {
    let harness: Arc<dyn Harness> = Arc::new(Pretend { strikes: false });
    for id in ["FLT-001", "FLT-002", "FLT-003", "FLT-004"] {
        let verdict = run_clause_within(SHORT, &harness, clause_of(id).unwrap());
        assert!(
            matches!(&verdict, Verdict::Inconclusive(text) if text.contains("never struck")),
            "{id}: {verdict}"
        );
    }
}

/// A shadow that finds everything in order, or that gives the application its candidate.
struct Crooked {
    blind: bool,
}

#[async_trait]
impl Harness for Crooked {
    fn name(&self) -> &str {
        "crooked"
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        Shadow::CrossbeamInProcess.start(limits).await
    }

    fn shadow(&self) -> Option<&dyn ShadowHarness> {
        Some(self)
    }
}

#[async_trait]
impl ShadowHarness for Crooked {
    async fn start_shadow(&self, limits: Limits, wrap: Wrap) -> Result<Box<dyn ShadowRig>, String> {
        if self.blind {
            return Ok(Box::new(Blind(
                Shadow::CrossbeamInProcess
                    .start_shadow(limits, wrap)
                    .await?,
            )));
        }
        let shown = wrap(CrossbeamBus::new(limits));
        let beside = Shadow::CrossbeamInProcess
            .start_shadow(Limits::default(), Box::new(|bus| bus))
            .await?;
        Ok(Box::new(Exposed { shown, beside }))
    }
}

struct Blind(Box<dyn ShadowRig>);

impl Rig for Blind {
    fn bus(&self) -> Arc<dyn EventBus> {
        self.0.bus()
    }
}

#[async_trait]
impl ShadowRig for Blind {
    async fn compare(&self, patience: Duration) -> Comparison {
        let expected = self.0.compare(patience).await.expected;
        Comparison {
            expected,
            matched: expected,
            ..Comparison::default()
        }
    }
}

struct Exposed {
    shown: Arc<dyn EventBus>,
    beside: Box<dyn ShadowRig>,
}

impl Rig for Exposed {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.shown)
    }
}

#[async_trait]
impl ShadowRig for Exposed {
    async fn compare(&self, patience: Duration) -> Comparison {
        self.beside.compare(patience).await
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
        (Defect::ReordersTopic, "ORD-001", "nonmonotonic in"),
        (Defect::HidesLosses, "FLW-002", "losses counted and told"),
    ] {
        let verdict = run_clause(&mutant(defect), clause_of(id).unwrap());
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
