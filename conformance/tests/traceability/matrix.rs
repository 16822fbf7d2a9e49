//! The matrix: what stands behind each clause, and in which phases it is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::sync::LazyLock;

use conformance::mutants::MUTANTS;
use conformance::phases::phases;
use conformance::{CLAUSES, UNBUILT, Verdict, declared_where_installed};

use super::contract::{FAMILIES, rows};
use super::source::{Kind, Test, root, tests};

const BEGIN: &str = "<!-- matrix: written by `EVENTBUS_BLESS=1 cargo test -p conformance --test traceability` -->\n";
const END: &str = "<!-- end of the matrix -->";

static TESTS: LazyLock<Vec<Test>> = LazyLock::new(tests);

#[test]
fn every_test_of_the_models_schedules_and_properties_names_an_id() {
    let of_the_suite = TESTS.iter().filter(|test| test.kind != Kind::Test);
    let mut kinds = BTreeSet::new();
    for test in of_the_suite {
        kinds.insert(test.kind);
        let Test { file, name, .. } = test;
        assert!(!test.ids.is_empty(), "{file}: {name} names no clause");
    }
    assert!(kinds.contains(&Kind::Model), "{kinds:?}");
}

#[test]
fn every_id_that_a_test_names_is_in_the_contract() {
    let rows = rows();
    for test in TESTS.iter() {
        for id in &test.ids {
            let Test { file, name, .. } = test;
            assert!(rows.contains_key(id.as_str()), "{file}: {name} names {id}");
        }
    }
}

#[test]
fn every_clause_applies_somewhere() {
    let phases = phases();
    for clause in CLAUSES {
        let applies = phases
            .iter()
            .any(|phase| declared_where_installed(&**phase, clause).is_none());
        assert!(applies, "{} is checked in no phase", clause.id);
    }
}

#[test]
fn the_matrix_in_the_document_is_up_to_date() {
    let path = root().join("docs/conformance.md");
    let document = fs::read_to_string(&path).unwrap();
    let begin = document.find(BEGIN).expect("the matrix begins") + BEGIN.len();
    let end = document.find(END).expect("the matrix ends");
    let matrix = matrix();
    if document[begin..end] == matrix {
        return;
    }
    let anew = format!("{}{matrix}{}", &document[..begin], &document[end..]);
    assert!(
        std::env::var_os("EVENTBUS_BLESS").is_some(),
        "docs/conformance.md is stale; write it anew with EVENTBUS_BLESS=1"
    );
    fs::write(path, anew).unwrap();
}

fn matrix() -> String {
    let mut text = String::new();
    behind(&mut text);
    text.push('\n');
    across(&mut text);
    text
}

/// The ids in the document's order.
fn in_order() -> Vec<&'static str> {
    let mut ids: Vec<_> = rows().into_keys().collect();
    ids.sort_by_key(|id| FAMILIES.iter().position(|family| id.starts_with(family)));
    ids
}

/// Clause by kind of evidence.
fn behind(text: &mut String) {
    text.push_str("| id | clause | mutants | models | schedules | properties | further tests |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
    for id in in_order() {
        let clause = CLAUSES.iter().find(|clause| clause.id == id);
        let clause = clause.map_or("not built".to_owned(), |c| format!("`{}`", c.name));
        let mutants: BTreeSet<String> = MUTANTS
            .iter()
            .filter(|mutant| mutant.breaks == id)
            .map(|mutant| format!("`{:?}`", mutant.defect))
            .collect();
        let mutants = mutants.into_iter().collect::<Vec<_>>().join(" ");
        let _ = write!(text, "| {id} | {clause} | {mutants} |");
        for kind in [Kind::Model, Kind::Schedule, Kind::Property, Kind::Test] {
            let _ = write!(text, " {} |", places(id, kind));
        }
        text.push('\n');
    }
}

/// Files with tests that name `id`, and how many they have.
fn places(id: &str, kind: Kind) -> String {
    let mut files: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for test in TESTS
        .iter()
        .filter(|t| t.kind == kind && t.ids.contains(id))
    {
        let file = test.file.strip_prefix("conformance/tests/");
        let file = file.filter(|_| kind != Kind::Test).unwrap_or(&test.file);
        let (tests, twins) = files.entry(file).or_default();
        *if test.twin { twins } else { tests } += 1;
    }
    let listed = files.into_iter().map(|(file, (tests, twins))| match twins {
        0 => format!("`{file}` {tests}"),
        _ => format!("`{file}` {tests} + {twins}"),
    });
    listed.collect::<Vec<_>>().join(", ")
}

/// Clause by phase: what is checked where everything is installed that a phase can make use of, so
/// that it is the same on every machine.
fn across(text: &mut String) {
    let phases = phases();
    let names: Vec<&str> = phases.iter().map(|phase| phase.name()).collect();
    let _ = writeln!(text, "| id | {} |", names.join(" | "));
    let _ = writeln!(text, "|{}", " --- |".repeat(names.len() + 1));
    for id in in_order() {
        let clause = CLAUSES.iter().find(|clause| clause.id == id);
        let cells = phases.iter().map(|phase| match clause {
            None => "not built",
            Some(clause) => cell(declared_where_installed(&**phase, clause)),
        });
        let _ = writeln!(text, "| {id} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    let built = CLAUSES.len();
    let _ = writeln!(text, "\n{built} clauses, {} not built.", UNBUILT.len());
}

fn cell(declared: Option<Verdict>) -> &'static str {
    match declared {
        None => "checked",
        Some(Verdict::NotApplicable(_)) => "–",
        Some(_) => "waived",
    }
}
