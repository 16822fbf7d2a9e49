//! `docs/performance.md` and its pictures are what the stored results make of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops")]

#[allow(dead_code, reason = "a terminal's tables are the benchmark's alone")]
#[path = "../benches/peers/report/mod.rs"]
mod report;

use std::collections::BTreeSet;
use std::fs::{read_dir, read_to_string};
use std::path::Path;

use report::document;
use report::results::Results;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
const AGAIN: &str = "cargo bench -p conformance --bench peers -- --stored --docs";

fn stored() -> Results {
    let text = read_to_string(Path::new(DOCS).join("performance.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_page_is_what_its_results_make() {
    let files = document::files(&stored()).unwrap();
    assert!(files.len() > 1, "there are pictures");
    for (name, text) in files {
        let there = read_to_string(Path::new(DOCS).join(&name)).unwrap_or_default();
        assert!(
            there == text,
            "docs/{name} is not what its results make; {AGAIN}"
        );
    }
}

#[test]
fn there_is_no_picture_of_anything_else() {
    let made = document::files(&stored()).unwrap();
    let made: BTreeSet<_> = made.into_iter().map(|(name, _)| name).collect();
    for entry in read_dir(Path::new(DOCS).join("performance")).unwrap() {
        let name = entry.unwrap().file_name();
        let name = format!("performance/{}", name.display());
        assert!(made.contains(&name), "docs/{name} belongs to nothing");
    }
}

#[test]
fn the_results_are_of_a_whole_run() {
    let results = stored();
    assert!(results.headline.is_some());
    assert!(!results.matrix.is_empty() && !results.latency.is_empty());
    assert!(!results.curves.is_empty() && !results.targets.is_empty());
    assert!(results.method.rounds >= 5, "a median of fewer says little");
}
