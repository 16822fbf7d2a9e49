//! The suite names what is wrong with a bus that is none of ours: one over tokio's broadcast
//! channel, which forgets for receivers that fall behind.

#[path = "../examples/broadcast/bus.rs"]
mod bus;
#[path = "../examples/broadcast/harness.rs"]
mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conformance::{CLAUSES, Harness, Patience, Verdict, declared, run_clause_within};
use parking_lot::Mutex;

use harness::Broadcast;

/// What it waits for never comes; what it has, it has at once.
const SHORT: Patience = Patience(Duration::from_secs(3));

/// What does not hold, with a part of what the suite says: nothing is ever full, so that whatever
/// is about fullness is broken or cannot be shown; who falls behind loses, and counts begin where
/// an event is received.
const BROKEN: &[(&str, &str)] = &[
    ("DEL-001", "FAIL: "),
    ("DEL-004", "INCONCLUSIVE: took 100000 events"),
    ("DEL-005", "INCONCLUSIVE: took 100000 events"),
    ("DEL-008", "FAIL: waited 3s for counters"),
    ("DEL-009", "FAIL: waited 3s for counters"),
    (
        "DEL-010",
        "FAIL: confirmed with three subscriptions: have 5, want 3",
    ),
    (
        "DEL-011",
        "FAIL: flush failed: backend `broadcast` cannot flush",
    ),
    ("ORD-004", "INCONCLUSIVE: took 100000 events"),
    ("SUB-002", "INCONCLUSIVE: took 100000 events"),
    ("SUB-008", "INCONCLUSIVE: took 100000 events"),
    ("SUB-009", "FAIL: waited 3s for counters"),
    ("FLW-001", "FAIL: took 100000 events that nobody read"),
    ("FLW-002", "FAIL: waited 3s for counters"),
    ("FLW-003", "INCONCLUSIVE: took 100000 events"),
    ("FLW-004", "INCONCLUSIVE: took 100000 events"),
    ("FLW-005", "FAIL: took 12 events in"),
    ("FLW-006", "INCONCLUSIVE: "),
    ("LIF-001", "INCONCLUSIVE: took 100000 events"),
    // tokio lets a stream that has more be pending now and then, and the source takes that for its
    // end: a mistake that only this clause shows.
    ("LIF-002", "FAIL: events read after shutdown"),
    ("LIF-004", "INCONCLUSIVE: took 100000 events"),
    ("MIG-005", "INCONCLUSIVE: took 100000 events"),
    ("OBS-001", "FAIL: waited 3s for counters"),
    ("OBS-002", "INCONCLUSIVE: took 100000 events"),
];

#[test]
fn exactly_these_clauses_fail() {
    let harness: Arc<dyn Harness> = Arc::new(Broadcast);
    let applying = CLAUSES.iter().filter(|c| declared(&*harness, c).is_none());
    let waiting = Mutex::new(applying);
    let verdicts = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(clause) = waiting.lock().next() else {
                        return;
                    };
                    let verdict = run_clause_within(SHORT, &harness, clause);
                    verdicts.lock().insert(clause.id, verdict);
                }
            });
        }
    });
    let mut wrong = Vec::new();
    for (id, verdict) in verdicts.into_inner() {
        let expected = BROKEN.iter().find(|(broken, _)| *broken == id);
        match (expected, &verdict) {
            (None, Verdict::Pass) => {}
            (Some((_, says)), verdict) if verdict.to_string().contains(says) => {}
            _ => wrong.push(format!("{id}: {verdict}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
