//! The document and the suite say the same: every id of the contract is a clause or is named as
//! not built with a reason, and neither has an id that the contract has not.

use std::collections::{BTreeMap, BTreeSet};

use conformance::{CLAUSES, Level, UNBUILT};

/// The families of ids, in the document's order.
pub(crate) const FAMILIES: &[&str] = &[
    "TOP", "DEL", "ORD", "SUB", "FLW", "RPC", "CTL", "LIF", "SEC", "FLT", "MIG", "OBS",
];

/// The rows of the contract by id, each with its columns after the id.
pub(crate) fn rows() -> BTreeMap<&'static str, Vec<&'static str>> {
    let document: &'static str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/contract.md"));
    let mut rows = BTreeMap::new();
    for line in document.lines() {
        let columns: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if is_id(columns[0]) {
            let row = columns[1..].to_vec();
            assert!(
                rows.insert(columns[0], row).is_none(),
                "{} has two rows",
                columns[0]
            );
        }
    }
    rows
}

/// `DEL-003`, and nothing like a sentence.
fn is_id(text: &str) -> bool {
    text.len() == 7 && super::source::ids(text).next().is_some()
}

#[test]
fn every_id_is_a_clause_or_unbuilt_and_the_other_way_round() {
    let document: BTreeSet<&str> = rows().into_keys().collect();
    let clauses: BTreeSet<&str> = CLAUSES.iter().map(|clause| clause.id).collect();
    let unbuilt: BTreeSet<&str> = UNBUILT.iter().map(|unbuilt| unbuilt.id).collect();
    assert_eq!(
        clauses.len(),
        CLAUSES.len(),
        "a clause stands twice in the table"
    );
    assert_eq!(unbuilt.len(), UNBUILT.len(), "an id is unbuilt twice");
    let both: Vec<_> = clauses.intersection(&unbuilt).collect();
    assert!(both.is_empty(), "both checked and unbuilt: {both:?}");
    let suite: BTreeSet<&str> = clauses.union(&unbuilt).copied().collect();
    assert_eq!(document, suite);
}

#[test]
fn the_document_says_how_far_each_clause_is_held() {
    let rows = rows();
    for clause in CLAUSES {
        let row = &rows[clause.id];
        assert!(
            row[2].starts_with("checked"),
            "{} is checked, but: {}",
            clause.id,
            row[2]
        );
    }
    for unbuilt in UNBUILT {
        let row = &rows[unbuilt.id];
        assert!(
            row[2].starts_with("not built"),
            "{} is not built, but: {}",
            unbuilt.id,
            row[2]
        );
        assert!(
            unbuilt.reason.starts_with("not built: "),
            "{}: {}",
            unbuilt.id,
            unbuilt.reason
        );
    }
}

#[test]
fn every_row_has_a_promise_and_an_intent() {
    let rows = rows();
    for (id, row) in &rows {
        assert_eq!(row.len(), 3, "{id} has columns {row:?}");
        assert!(
            row.iter().all(|column| !column.is_empty()),
            "{id} has an empty column"
        );
    }
    for clause in CLAUSES {
        let should = rows[clause.id][0].starts_with("SHOULD");
        assert_eq!(clause.level == Level::Should, should, "{}", clause.id);
    }
}

/// Ids count from 001 in each family, so that a clause that was taken out is missed.
#[test]
fn families_have_no_gaps() {
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    for id in rows().keys() {
        let number: u32 = id[4..].parse().unwrap();
        let before = last.insert(&id[..3], number).unwrap_or_default();
        assert_eq!(number, before + 1, "{id}");
    }
    assert_eq!(last.len(), FAMILIES.len(), "families: {last:?}");
}
