//! What was found is what stands in a certificate, and in both of its forms.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::clauses::{CLAUSES, UNBUILT};
use crate::outcome::{Outcomes, Tally};
use crate::seed::Seed;

const NASTY: &str = "lost `a:1` <script>alert(\"1\")</script> & 'more'\n\u{1b}[31mred";

fn outcome(verdict: Verdict) -> Outcome {
    Outcome {
        hung: false,
        took: Duration::from_micros(1_234_567),
        tally: Tally {
            published: 1_000,
            delivered: 999,
            struck: 3,
        },
        ..Outcome::known(verdict, Level::Must, Seed(7))
    }
}

/// Everything passes but for what `change` does.
fn report(change: impl FnOnce(&mut Outcomes)) -> Report {
    let mut outcomes = Outcomes::default();
    for clause in CLAUSES {
        outcomes.enter("unix", clause.name, outcome(Verdict::Pass));
    }
    for unbuilt in UNBUILT {
        outcomes.enter("unix", unbuilt.id, Outcome::waived(unbuilt, Seed(7)));
    }
    change(&mut outcomes);
    let phase = |name: &str| Phase {
        name: name.to_owned(),
        backend: Some("busrt-backend 0.1.0".to_owned()),
        modelled: name == "unix",
    };
    Report {
        phases: vec![phase("unix"), phase("tcp")],
        outcomes,
        seed: Seed(7),
        started: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        took: Duration::from_millis(61_500),
        models: vec![Model {
            model: "wake".to_owned(),
            covers: vec!["FLW-004".to_owned()],
            executions: 1_234,
            floor: 100,
        }],
    }
}

fn certificate(change: impl FnOnce(&mut Outcomes)) -> Certificate {
    let mut certificates = report(change).certificates();
    assert_eq!(certificates.len(), 1, "nothing was asked of tcp");
    certificates.remove(0)
}

fn broken(outcomes: &mut Outcomes) {
    outcomes.enter(
        "unix",
        CLAUSES[3].name,
        outcome(Verdict::Fail(NASTY.to_owned())),
    );
}

#[test]
fn a_certificate_reads_back() {
    let certificate = certificate(broken);
    assert_eq!(
        Certificate::from_json(&certificate.to_json()),
        Ok(certificate.clone())
    );
    let newer = Certificate {
        schema: SCHEMA + 1,
        ..certificate
    };
    let refused = Certificate::from_json(&newer.to_json()).unwrap_err();
    assert!(refused.contains("schema 2"), "{refused}");
    assert!(Certificate::from_json("{}").is_err());
}

#[test]
fn it_says_how_each_line_of_the_contract_went() {
    let whole = certificate(|_| {});
    assert!(whole.passed && whole.complete);
    assert_eq!(whole.clauses.len(), CLAUSES.len() + UNBUILT.len());
    assert_eq!(
        (whole.counts.pass, whole.counts.waived),
        (CLAUSES.len(), UNBUILT.len())
    );
    assert_eq!(whole.started, "2027-01-15T08:00:00Z");
    assert_eq!((whole.seconds, whole.seed), (61.5, 7));
    let first = &whole.clauses[0];
    assert_eq!(
        (first.published, first.delivered, first.faults),
        (1_000, 999, 3)
    );
    assert_eq!(first.seconds, 1.235);
    assert!(
        whole.versions.rustc.starts_with("rustc 1."),
        "{:?}",
        whole.versions
    );
    assert_eq!(
        whole.versions.commit.is_some(),
        whole.versions.dirty.is_some()
    );
}

#[test]
fn it_names_the_commit_that_the_suite_was_built_of() {
    let mut certificate = certificate(|_| {});
    let commit = "0123456789abcdef0123456789abcdef01234567";
    certificate.versions.commit = Some(commit.to_owned());
    certificate.versions.dirty = Some(false);
    let page = certificate.to_html();
    assert!(page.contains(&format!(" at {commit}<")), "{page}");
    certificate.versions.dirty = Some(true);
    let page = certificate.to_html();
    assert!(page.contains(&format!(" at {commit}, changed since<")));
    certificate.versions.commit = None;
    certificate.versions.dirty = None;
    assert!(!certificate.to_json().contains("dirty"));
}

#[test]
fn what_is_waived_is_in_the_headline() {
    let headline = |certificate: &Certificate| {
        let page = certificate.to_html();
        let line = page.lines().find(|line| line.contains("class=\"verdict"));
        line.unwrap().to_owned()
    };
    let unbuilt = UNBUILT.len();
    let whole = certificate(|_| {});
    let ids: Vec<&str> = UNBUILT.iter().map(|unbuilt| unbuilt.id).collect();
    assert_eq!(whole.waived_must, ids);

    let waived = certificate(|outcomes| {
        let verdict = Verdict::Waived("not yet".to_owned());
        outcomes.enter("unix", CLAUSES[0].name, outcome(verdict));
    });
    assert_eq!(waived.waived_must.len(), unbuilt + 1);
    assert_eq!(waived.waived_must[0], CLAUSES[0].id);
    let said = match unbuilt {
        0 => "warn\">conforming but for 1 waived<".to_owned(),
        _ => format!("but for {} waived ({unbuilt} not built)<", unbuilt + 1),
    };
    assert!(headline(&waived).contains(&said), "{}", headline(&waived));

    let kept = certificate(|outcomes| {
        for unbuilt in UNBUILT {
            let verdict = Verdict::NotApplicable("no such thing".to_owned());
            outcomes.enter("unix", unbuilt.id, outcome(verdict));
        }
    });
    assert_eq!(kept.waived_must, [""; 0]);
    let said = "pass\">conforming<";
    assert!(headline(&kept).contains(said), "{}", headline(&kept));
}

#[test]
fn a_broken_clause_is_shown_as_broken() {
    let certificate = certificate(broken);
    assert!(!certificate.passed && certificate.complete);
    assert_eq!(certificate.counts.fail, 1);
    let entry = &certificate.clauses[3];
    assert_eq!(entry.verdict, Word::Fail);
    assert_eq!(entry.reason.as_deref(), Some(NASTY));
    let page = certificate.to_html();
    assert!(page.contains("not conforming") && page.contains("<b class=\"word\">FAIL</b>"));
    assert!(page.contains(&format!("href=\"#{}\"", CLAUSES[3].id)));
}

#[test]
fn what_is_broken_and_no_must_does_not_make_it_fail() {
    let should = |outcomes: &mut Outcomes| {
        let verdict = Verdict::FailShould("late".to_owned());
        outcomes.enter("unix", CLAUSES[0].name, outcome(verdict));
    };
    let certificate = certificate(should);
    assert!(certificate.passed);
    assert_eq!(certificate.counts.fail_should, 1);
    assert!(certificate.to_html().contains("FAIL (should)"));
}

#[test]
fn an_inconclusive_clause_makes_it_fail() {
    let unexercised = |outcomes: &mut Outcomes| {
        let verdict = Verdict::Inconclusive("no fault struck".to_owned());
        outcomes.enter("unix", CLAUSES[0].name, outcome(verdict));
    };
    assert!(!certificate(unexercised).passed);
}

#[test]
fn a_page_has_no_markup_that_was_not_meant_and_loads_nothing() {
    let mut certificate = certificate(broken);
    certificate.phase = "<i>unix</i>".to_owned();
    certificate.models = vec![Model {
        model: "\"><img src=x>".to_owned(),
        covers: vec!["FLW-001".to_owned()],
        executions: 17,
        floor: 5,
    }];
    let page = certificate.to_html();
    assert!(
        page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;more&#39;")
    );
    assert!(page.contains("<td data-is=\"executions\">17</td>"));
    for markup in [
        "<script", "<i>", "<img", "src=", "http", "url(", "@import", "\u{1b}",
    ] {
        let meant = page.replace("&quot;&gt;&lt;img src=x&gt;", "");
        assert!(!meant.contains(markup), "{markup}");
    }
    for part in [
        "prefers-color-scheme: dark",
        "max-width: 44rem",
        "name=\"viewport\"",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn a_filtered_run_takes_no_whole_ones_place() {
    let directory = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    let whole = certificate(|_| {});
    whole.write_into(directory.path()).unwrap();
    let mut few = Outcomes::default();
    few.enter(
        "unix",
        CLAUSES[3].name,
        outcome(Verdict::Fail("lost".to_owned())),
    );
    let filtered = certificate(|outcomes| *outcomes = few);
    assert!(!filtered.complete && !filtered.passed);
    assert_eq!(filtered.counts.not_run, CLAUSES.len() + UNBUILT.len() - 1);
    filtered.write_into(directory.path()).unwrap();
    assert_eq!(read("unix.json"), whole.to_json());
    assert_eq!(read("unix.html"), whole.to_html());
    assert_eq!(
        Certificate::from_json(&read("unix.partial.json")),
        Ok(filtered)
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 4);
}

#[test]
fn only_a_phase_that_is_modelled_lists_models() {
    let mut report = report(|_| {});
    assert_eq!(report.certificates()[0].models, report.models);
    report.phases[0].modelled = false;
    assert_eq!(report.certificates()[0].models, []);
}

#[test]
fn the_models_are_read_and_anything_else_is_not() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(models::read(directory.path(), UNIX_EPOCH), []);
    let of = |name: &str| directory.path().join("models").join(name);
    std::fs::create_dir(directory.path().join("models")).unwrap();
    let record = r#"{"model":"wake","covers":["FLW-004"],"executions":1234,"floor":100}"#;
    std::fs::write(of("wake.json"), record).unwrap();
    std::fs::write(of("half.json"), &record[..20]).unwrap();
    let written = std::fs::metadata(of("wake.json")).unwrap();
    let written = written.modified().unwrap();
    let built_since = written + Duration::from_secs(1);
    assert_eq!(models::read(directory.path(), built_since), []);
    let read = models::read(directory.path(), written);
    assert_eq!(read.len(), 1);
    assert_eq!(
        (read[0].model.as_str(), read[0].executions),
        ("wake", 1_234)
    );
}

#[test]
fn a_file_is_a_page_if_its_name_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = certificate(|_| {});
    for (name, text) in [
        ("a.html", certificate.to_html()),
        ("a.json", certificate.to_json()),
    ] {
        let file = directory.path().join(name);
        certificate.write_to(&file).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), text);
    }
    assert!(
        certificate
            .write_to(&directory.path().join("absent/a.json"))
            .is_err()
    );
}
