//! The tests of the workspace, and the contract's ids that they name.
//!
//! A test names an id by its function's name (`sub_008_…`), in its doc comment, or in the first
//! comment of its file, which is for all tests there; a model or schedule besides in what it says it
//! covers, itself or for its whole file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What kind of evidence a test is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// All interleavings, by loom.
    Model,
    /// Random schedules.
    Schedule,
    /// Random programs.
    Property,
    /// Any other test.
    Test,
}

/// Tests of the properties that are about the properties: that they find bugs, and look far enough.
const SHOWS_BUGS: [&str; 2] = ["mutants_are_caught", "programs_are_varied"];

/// A test.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) kind: Kind,
    /// From the root of the workspace.
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) ids: BTreeSet<String>,
    /// Whether it shows that a bug is found, in a twin of what another test is about, and is itself
    /// no evidence for the clause.
    pub(crate) twin: bool,
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Every test of the workspace but those of this program.
pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for file in sources(&root()) {
        let name = file.strip_prefix(root()).unwrap().to_str().unwrap();
        if !name.starts_with("conformance/tests/traceability/") {
            tests_of(name, &fs::read_to_string(&file).unwrap(), &mut tests);
        }
    }
    tests
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn kind(file: &str) -> Kind {
    match file.strip_prefix("conformance/tests/") {
        Some(file) if file.starts_with("models/") => Kind::Model,
        Some(file) if file.starts_with("schedules/") => Kind::Schedule,
        Some(file) if file.starts_with("properties/") => Kind::Property,
        _ => Kind::Test,
    }
}

fn tests_of(file: &str, text: &str, tests: &mut Vec<Test>) {
    let header = text.lines().take_while(|line| line.starts_with("//!"));
    let covers = text.lines().filter(|line| line.contains("const COVERS"));
    let of_all: BTreeSet<String> = header.chain(covers).flat_map(ids).collect();
    let lines: Vec<&str> = text.lines().collect();
    let is_clause = file.starts_with("conformance/src/clauses");
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function(line) else { continue };
        let before = lines[..at].iter().rev().take_while(|line| {
            let line = line.trim_start();
            line.starts_with("#[") || line.starts_with("///")
        });
        // A program that lists its own tests has no attributes.
        let is_test = before.clone().any(|line| is_attribute(line)) || id_of_name(name).is_some();
        if !is_test || is_clause {
            continue;
        }
        let body = lines[at..].iter();
        let body: Vec<_> = body
            .take_while(|line| !line.trim_end().ends_with("#[test]"))
            .collect();
        let twin = SHOWS_BUGS.contains(&name) || body.iter().any(|line| line.contains("must_fail"));
        let covered = body.into_iter().filter(|_| kind(file) < Kind::Property);
        let mut named: BTreeSet<String> =
            before.chain(covered).flat_map(|line| ids(line)).collect();
        named.extend(of_all.iter().cloned());
        named.extend(id_of_name(name));
        tests.push(Test {
            kind: kind(file),
            file: file.to_owned(),
            name: name.to_owned(),
            ids: named,
            twin,
        });
    }
}

/// Whether the line makes a test of the function below it.
fn is_attribute(line: &str) -> bool {
    let line = line.trim();
    line == "#[test]" || line.starts_with("#[tokio::test")
}

fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("async ").unwrap_or(line);
    let name = line.strip_prefix("fn ")?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

/// `sub_008_a_stall` is of SUB-008.
fn id_of_name(name: &str) -> Option<String> {
    let id = format!("{}-{}", name.get(..3)?.to_uppercase(), name.get(4..7)?);
    ids(&id).next()
}

/// The ids in a text.
pub(crate) fn ids(text: &str) -> impl Iterator<Item = String> {
    let families = super::contract::FAMILIES.iter();
    let found = families.flat_map(move |family| {
        text.match_indices(family).filter_map(move |(at, _)| {
            let rest = text[at + 3..].strip_prefix('-')?;
            let number = rest.get(..3)?;
            let whole = !text[..at].ends_with(|c: char| c.is_alphanumeric())
                && number.bytes().all(|b| b.is_ascii_digit())
                && !rest[3..].starts_with(|c: char| c.is_ascii_digit());
            whole.then(|| format!("{family}-{number}"))
        })
    });
    found.collect::<Vec<_>>().into_iter()
}

#[test]
fn ids_are_found_where_they_are_named() {
    let text = "\
//! On FLW-001 and flow.

/// SUB-008, with
/// two lines.
#[test]
fn a_stall() {
}

#[tokio::test]
async fn del_003_twice() {}

fn no_test() {} // DEL-001
";
    let mut tests = Vec::new();
    tests_of("x/tests/y.rs", text, &mut tests);
    let named: Vec<String> = tests
        .iter()
        .map(|t| format!("{} {:?}", t.name, t.ids))
        .collect();
    assert_eq!(
        named,
        [
            r#"a_stall {"FLW-001", "SUB-008"}"#,
            r#"del_003_twice {"DEL-003", "FLW-001"}"#
        ]
    );
    let mut properties = Vec::new();
    let property = "//! DEL-003\n#[test]\nfn holds() {}\n#[test]\nfn mutants_are_caught() {}\n";
    tests_of(
        "conformance/tests/properties/p.rs",
        property,
        &mut properties,
    );
    assert_eq!(
        properties.iter().map(|t| t.twin).collect::<Vec<_>>(),
        [false, true]
    );
    let mut models = Vec::new();
    let model = "#[test]\nfn m() {\n Model::new(\"m\", &[\"DEL-010\"]);\n}\n";
    tests_of("conformance/tests/models/m.rs", model, &mut models);
    assert_eq!(models[0].ids, BTreeSet::from(["DEL-010".to_owned()]));
    assert!(ids("RUSTSEC-2024 XDEL-001 DEL-0012").next().is_none());
}
