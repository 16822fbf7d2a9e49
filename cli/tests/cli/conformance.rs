//! `eventbus conformance`: the suite from the program, and at a broker that runs.

use std::path::Path;
use std::process::{Command, Stdio};

use ::conformance::certificate::{Certificate, Word};
use serde_json::Value;

use crate::program::{Ended, Place, Running};

#[track_caller]
fn refused(ended: &Ended, sentence: &str) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr, format!("eventbus: {sentence}\n"));
}

fn certificate(place: &Place, file: &str) -> Certificate {
    let text = std::fs::read_to_string(place.path().join(file)).unwrap();
    Certificate::from_json(&text).unwrap()
}

/// The clauses that were run and kept.
fn kept(certificate: &Certificate) -> Vec<&str> {
    let clauses = certificate.clauses.iter();
    let kept = clauses.filter(|entry| entry.verdict == Word::Pass);
    kept.map(|entry| entry.id.as_str()).collect()
}

/// A broker with a socket and a port, where they are, and certificates in `certs`.
fn broker(place: &Place) -> (Running, [String; 2]) {
    for words in ["init", "issue broker --server", "issue prober"] {
        assert_eq!(place.run(&format!("certs {words}")).code, Some(0));
    }
    let words = "broker --json --unix run/bus.sock --tcp 127.0.0.1:0 --tls-ca certs/ca.pem \
                 --tls-cert certs/broker.pem --tls-key certs/broker.key";
    let running = place.start(words, &[("EVENTBUS_LOG", "off")]);
    let ready: Value = serde_json::from_str(&running.first_line()).unwrap();
    let at = |key: &str, scheme| format!("{scheme}://{}", ready[key][0].as_str().unwrap());
    let places = [at("unix", "unix"), at("tcp", "tcp")];
    (running, places)
}

#[test]
fn a_few_clauses_on_two_phases_leave_certificates_and_a_table() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("certificates")).unwrap();
    let ended = place.run(
        "conformance --phase crossbeam --phase unix --clause DEL-001 --clause sub-003 --clause obs-002 --seed 7 \
         --certificate certificates",
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "", "nothing but results in a pipe");
    for told in [
        "DEL-001",
        "SUB-003",
        "crossbeam",
        "6 pass, 0 FAIL",
        "seed 7",
    ] {
        assert!(ended.stdout.contains(told), "{}", ended.stdout);
    }
    for phase in ["crossbeam", "unix"] {
        let certificate = certificate(&place, &format!("certificates/{phase}.partial.json"));
        assert_eq!(certificate.phase, phase);
        assert_eq!(kept(&certificate), ["DEL-001", "SUB-003", "OBS-002"]);
        assert!(certificate.passed && !certificate.complete);
        assert_eq!(certificate.seed, 7);
        let page = place
            .path()
            .join(format!("certificates/{phase}.partial.html"));
        assert!(std::fs::read_to_string(page).unwrap().contains(phase));
    }
}

#[test]
fn a_phase_is_certified_in_files_and_on_standard_output_alike() {
    let place = Place::new();
    let (document, code) = place.json(
        "conformance --phase in-process --clause TOP --certificate it.json \
         --certificate it.html --json",
    );
    assert_eq!(code, Some(0), "{document:#}");
    assert_eq!(document["passed"], true);
    let printed = document["certificates"][0].to_string();
    let certificate = certificate(&place, "it.json");
    assert_eq!(Certificate::from_json(&printed), Ok(certificate.clone()));
    assert_eq!(kept(&certificate).len(), 5);
    let page = std::fs::read_to_string(place.path().join("it.html")).unwrap();
    assert_eq!(page, certificate.to_html());
}

#[test]
fn brokers_that_are_killed_are_the_program_again() {
    let place = Place::new();
    let words = "conformance --phase unix --phase tcp --clause FLT-001 --certificate .";
    let ended = place.run(words);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for phase in ["unix", "tcp"] {
        let certificate = certificate(&place, &format!("{phase}.partial.json"));
        assert_eq!(kept(&certificate), ["FLT-001"]);
        let mut entries = certificate.clauses.iter();
        let entry = entries.find(|entry| entry.id == "FLT-001").unwrap();
        assert!(entry.faults > 0 && entry.delivered > 0, "{entry:?}");
    }
}

#[test]
fn a_running_broker_is_tested_beside_what_others_do_there() {
    let place = Place::new();
    let (running, [unix, tcp]) = broker(&place);
    // An application that looks closely at what it gets.
    let application = place.start(
        &format!(
            "shadow --primary {unix} --candidate crossbeam --source synthetic --rate 2000 \
             --events 8000 --topics 3 --json"
        ),
        &[("EVENTBUS_BROKER__MODE", "external")],
    );
    let tls = "--ca certs/ca.pem --cert certs/prober.pem --key certs/prober.key";
    for at in [unix.clone(), format!("{tcp} {tls}")] {
        let words = format!(
            "conformance --at {at} --clause TOP --clause DEL --clause SUB --clause LIF-006 \
             --clause FLT-001 --json"
        );
        let (document, code) = place.json(&words);
        assert_eq!(code, Some(0), "{document:#}");
        let counts = &document["certificates"][0]["counts"];
        assert_eq!(counts["fail"], 0);
        assert_eq!(
            counts["not_applicable"], 2,
            "FLT-001 and SUB-007: {document:#}"
        );
        let text = document.to_string();
        assert!(
            text.contains("a broker that others use is not hurt"),
            "{text}"
        );
        assert!(counts["pass"].as_u64() >= Some(20), "{counts}");
    }
    let application = application.end();
    assert_eq!(application.code, Some(0), "{application:?}");
    running.signal("TERM");
    assert_eq!(running.end().code, Some(0));
}

#[test]
fn a_broken_clause_is_a_1_and_what_cannot_run_a_2() {
    let place = Place::new();
    let words = "broker --json --unix run/bus.sock --max-connections 1";
    let running = place.start(words, &[("EVENTBUS_LOG", "off")]);
    running.first_line();
    let socket = place.path().canonicalize().unwrap().join("run/bus.sock");
    let at = format!("conformance --at unix://{}", socket.display());
    // One handle is all that there is room for.
    let words = format!("{at} --clause DEL-001 --certificate it.json");
    let ended = place.run(&words);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("FAIL DEL-001"), "{}", ended.stdout);
    let certificate = certificate(&place, "it.json");
    assert!(!certificate.passed);
    assert_eq!(certificate.counts.fail, 1);
    running.signal("TERM");
    assert_eq!(running.end().code, Some(0));
    let ended = place.run(&at);
    let told = "eventbus: cannot run the clauses: unix broker does not start: ";
    assert!(ended.stderr.starts_with(told), "{ended:?}");
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1));
}

#[test]
fn a_list_runs_nothing() {
    let place = Place::new();
    let ended = place.run("conformance --list --clause ord");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended
            .stdout
            .starts_with("phases: crossbeam in-process unix tcp"),
        "{ended:?}"
    );
    assert!(ended.stdout.contains("ORD-001 must"), "{ended:?}");
    assert!(!ended.stdout.contains("DEL-001"), "{ended:?}");
    let (list, code) = place.json("conformance --list --phase tcp --json");
    assert_eq!(code, Some(0));
    assert_eq!(list["phases"], serde_json::json!(["tcp"]));
    assert_eq!(list["clauses"][0]["id"], "TOP-001");
}

#[test]
fn nobody_who_reads_on_is_no_failure() {
    let place = Place::new();
    for words in [
        &["--list"][..],
        &["--phase", "crossbeam", "--clause", "TOP"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_eventbus"))
            .arg("conformance")
            .args(words)
            .current_dir(place.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert_eq!(ended.stderr, b"", "{ended:?}");
    }
}

#[test]
fn a_mistake_is_one_sentence() {
    let place = Place::new();
    assert!(!Path::new("/nowhere").exists());
    for (words, sentence) in [
        (
            "--clause DEL-999",
            "no clause `DEL-999`; expected an id such as `DEL-003`, or one of the families TOP, \
             DEL, ORD, SUB, FLW, RPC, CTL, LIF, SEC, FLT, OBS, MIG",
        ),
        (
            "--phase unix --certificate it.txt",
            "--certificate `it.txt` is neither a directory nor a file that ends in `.json` or \
             `.html`",
        ),
        (
            "--certificate it.json",
            "--certificate `it.json` has room for one phase; give one --phase, or a directory",
        ),
        (
            "--phase busrtd",
            "--phase busrtd needs busrtd 0.5.6; set EVENTBUS_BUSRTD to its path",
        ),
        (
            "--at crossbeam",
            "no broker runs at `crossbeam`; expected `unix:///path` or `tcp://host:port`",
        ),
        (
            "--at tcp://127.0.0.1:1",
            "phase `tcp://127.0.0.1:1` needs TLS, so `tls.ca`, `tls.cert` and `tls.key` must be \
             set",
        ),
        (
            "--phase crossbeam --clause TOP-004 --certificate /nowhere/it.json",
            "cannot write `/nowhere/it.json`: No such file or directory (os error 2)",
        ),
    ] {
        refused(&place.run(&format!("conformance {words}")), sentence);
    }
}

#[test]
fn a_phase_that_is_none_is_told_which_there_are() {
    let ended = Place::new().run("conformance --phase pigeon");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    let told =
        "eventbus: no phase `pigeon`; expected one of `crossbeam`, `in-process`, `unix`, `tcp`";
    assert!(ended.stderr.starts_with(told), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1);
}
