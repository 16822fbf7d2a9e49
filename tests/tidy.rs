//! The house rules that no compiler checks: who may import whom, how a file begins, how long it
//! gets, and that no test sleeps.
// Helpers of tests are outside of what clippy takes for tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::Dict;

/// A file longer than this is two things; a list of tests may be a little longer.
const MOST_LINES: usize = 550;
const MOST_LINES_OF_TESTS: usize = 800;

/// Which members of the workspace each member may import; what is not listed may not be imported.
const IMPORTS: [(&str, &[&str]); 11] = [
    ("eventbus-trait", &[]),
    ("crossbeam-backend", &["eventbus-trait"]),
    ("busrt-backend", &["eventbus-trait"]),
    ("shadow", &["eventbus-trait"]),
    ("control", &["eventbus-trait"]),
    ("eventbus-fuzz", &["busrt-backend"]),
    (
        "eventbus",
        &[
            "eventbus-trait",
            "crossbeam-backend",
            "busrt-backend",
            "shadow",
        ],
    ),
    // What is above the trait, but for `control`, is for its feature `phases` and its program `soak` alone.
    (
        "conformance",
        &[
            "eventbus-trait",
            "crossbeam-backend",
            "busrt-backend",
            "shadow",
            "control",
            "eventbus",
        ],
    ),
    ("eventbus-cli", &["eventbus", "conformance"]),
    // An application like any other.
    ("migration", &["eventbus"]),
    ("agent", &["eventbus", "control"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below the root that end so, without what is built or git's.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    open.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    assert!(
        !found.is_empty(),
        "no {ending} found: the check checks nothing"
    );
    found
}

fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|c| c.as_os_str() == "tests")
}

fn manifest(path: &Path) -> Dict {
    Figment::from(Toml::string(&read(path))).extract().unwrap()
}

fn table<'a>(dict: &'a Dict, key: &str) -> Option<&'a Dict> {
    dict.get(key)?.as_dict()
}

/// Names of the normal and build dependencies, also those of one target only.
fn dependencies(manifest: &Dict) -> Vec<String> {
    let mut places = vec![manifest];
    if let Some(targets) = table(manifest, "target") {
        places.extend(targets.values().filter_map(|target| target.as_dict()));
    }
    places
        .into_iter()
        .flat_map(|place| {
            [
                table(place, "dependencies"),
                table(place, "build-dependencies"),
            ]
        })
        .flatten()
        .flat_map(|dependencies| dependencies.keys().cloned())
        .collect()
}

#[test]
fn imports_run_one_way() {
    let allowed: BTreeMap<_, _> = IMPORTS.into_iter().collect();
    let mut seen = Vec::new();
    for path in files("Cargo.toml") {
        let manifest = manifest(&path);
        let package = table(&manifest, "package").expect("every manifest has a package");
        let name = package["name"].as_str().unwrap().to_owned();
        let may = allowed
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} is new: say in IMPORTS what it may import"));
        for dependency in dependencies(&manifest) {
            let inner = allowed.contains_key(dependency.as_str());
            assert!(
                !inner || may.contains(&dependency.as_str()),
                "{name} may not import {dependency}"
            );
        }
        seen.push(name);
    }
    assert_eq!(seen.len(), IMPORTS.len(), "{seen:?}");
}

#[test]
fn every_source_file_says_first_what_it_is_for() {
    for path in files(".rs") {
        assert!(
            read(&path).starts_with("//! "),
            "{} does not begin with `//! `",
            path.display()
        );
    }
}

#[test]
fn no_source_file_is_two_things() {
    for path in files(".rs") {
        let lines = read(&path).lines().count();
        let most = if is_test(&path) {
            MOST_LINES_OF_TESTS
        } else {
            MOST_LINES
        };
        assert!(lines <= most, "{}: {lines} lines", path.display());
    }
}

#[test]
fn no_test_sleeps_or_is_skipped() {
    // Put together here, so that this file does not find itself.
    let banned = [["sle", "ep("].concat(), ["#[ign", "ore"].concat()];
    for path in files(".rs") {
        let text = read(&path);
        let tests = match text.find("#[cfg(test)]") {
            _ if is_test(&path) => &text[..],
            Some(at) => &text[at..],
            None => continue,
        };
        for word in &banned {
            // `about_to_sl…` is another word.
            let found = tests
                .match_indices(word.as_str())
                .any(|(at, _)| !tests[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
            assert!(!found, "{}: {word}", path.display());
        }
    }
}

/// What `main` returns is shown as a Rust value, and a user is told in sentences.
#[test]
fn no_program_ends_in_a_rust_value() {
    let starts = |path: &&PathBuf, with: [&str; 2]| {
        let text = read(path);
        text.lines()
            .any(|line| with.iter().any(|w| line.starts_with(w)))
    };
    let all = files(".rs");
    let programs = all.iter().filter(|path| !is_test(path));
    let main = ["fn main() ", "async fn main() "];
    let programs: Vec<_> = programs.filter(|path| starts(path, main)).collect();
    assert!(programs.len() > 5, "{programs:?}");
    let value = ["fn main() -> Result", "async fn main() -> Result"];
    let found: Vec<_> = programs.iter().filter(|path| starts(path, value)).collect();
    assert!(found.is_empty(), "return an `ExitCode`: {found:?}");
}

#[test]
fn links_in_documents_lead_somewhere() {
    for path in files(".md") {
        let text = read(&path);
        for (at, _) in text.match_indices("](") {
            let Some(link) = text[at + 2..].split(')').next() else {
                continue;
            };
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || link.contains("://") {
                continue;
            }
            let target = path.parent().unwrap().join(file);
            assert!(target.exists(), "{}: dead link {link}", path.display());
        }
    }
}
