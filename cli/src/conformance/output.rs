//! What a run has found, and what there is to run, for people and for programs.
//!
//! The JSON of a certificate is described in `docs/certificate.md`.

use std::fmt::Write as _;

use ::conformance::certificate::Certificate;
use ::conformance::{Level, Report, Suite};
use serde::Serialize;

use crate::failure::Failure;

/// The whole result: a certificate for each phase.
#[derive(Debug, Serialize)]
struct Document<'a> {
    passed: bool,
    seed: u64,
    certificates: &'a [Certificate],
}

/// What there is.
#[derive(Debug, Serialize)]
struct List<'a> {
    phases: Vec<&'a str>,
    clauses: Vec<Listed>,
}

/// One clause.
#[derive(Debug, Serialize)]
struct Listed {
    id: &'static str,
    title: &'static str,
    level: &'static str,
}

pub(super) fn document(report: &Report, certificates: &[Certificate]) -> Result<String, Failure> {
    json(&Document {
        passed: report.passed(),
        seed: report.seed().0,
        certificates,
    })
}

/// The phases and clauses that would run.
pub(super) fn list(suite: &Suite, as_json: bool) -> Result<String, Failure> {
    let clauses = suite.clauses().map(|clause| Listed {
        id: clause.id,
        title: clause.title,
        level: match clause.level {
            Level::Must => "must",
            Level::Should => "should",
        },
    });
    let list = List {
        phases: suite.phases().collect(),
        clauses: clauses.collect(),
    };
    if as_json {
        return json(&list);
    }
    let mut text = format!("phases: {}\n", list.phases.join(" "));
    for Listed { id, title, level } in &list.clauses {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{id} {level:<6} {title}");
    }
    Ok(text)
}

fn json(document: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|reason| Failure::io("write the result as JSON", reason))?;
    Ok(text + "\n")
}
