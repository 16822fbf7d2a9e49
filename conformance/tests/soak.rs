//! The program `soak`: it passes where nothing is wrong, fails where something is, and says which.
// Helpers of tests are outside of what clippy takes for tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use serde_json::Value;

fn soak(arguments: &str) -> Output {
    let arguments = arguments.split_whitespace();
    let program = env!("CARGO_BIN_EXE_soak");
    Command::new(program).args(arguments).output().unwrap()
}

fn report(arguments: &str, code: i32) -> Value {
    let output = soak(&format!("{arguments} --json"));
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments}: {text}{errors}"
    );
    serde_json::from_str(&text).unwrap()
}

fn received(report: &Value) -> Vec<u64> {
    let subscribers = report["subscribers"].as_array().unwrap();
    subscribers
        .iter()
        .map(|subscriber| subscriber["received"].as_u64().unwrap())
        .collect()
}

#[test]
fn everything_arrives_over_unix() {
    let report = report("--events 6000", 0);
    assert_eq!(report["verdict"], "pass");
    assert_eq!(report["accepted"], 6000);
    assert_eq!(received(&report), [6000; 3]);
    let memory = report["peak_memory_bytes"].as_object().unwrap();
    assert_eq!(memory.len(), 7, "three, three, and the broker");
    assert!(memory.values().all(|bytes| bytes.as_u64() > Some(0)));
}

#[test]
fn everything_arrives_over_tcp() {
    let report = report(
        "--transport tcp --events 3001 --publishers 2 --subscribers 2",
        0,
    );
    assert_eq!(received(&report), [3001; 2]);
}

#[test]
fn a_stall_is_survived() {
    let arguments =
        "--events 3000 --subscribers 2 --stalls 1 --stall-seconds 0.3 --keepalive-seconds 5";
    let report = report(arguments, 0);
    assert_eq!(report["struck"]["stalls"], 1);
    assert_eq!(received(&report), [3000; 2]);
}

/// What each run is asked for, and how often that strikes.
const FAULTS: [(&str, &str); 3] = [
    ("--kills 2", "kills"),
    ("--resets 2", "resets"),
    ("--partitions 2 --keepalive-seconds 0.5", "partitions"),
];

fn survives(transport_or_broker: &str) {
    for (faults, kind) in FAULTS {
        let arguments = format!("{transport_or_broker} {faults} --events 6000 --subscribers 2");
        let report = report(&arguments, 0);
        assert_eq!(report["struck"][kind], 2, "{report:#}");
        assert!(report["reconnects"].as_u64() > Some(0), "{report:#}");
        assert_eq!(received(&report), [6000; 2]);
    }
}

#[test]
fn faults_are_survived_over_unix() {
    survives("--transport unix");
}

#[test]
fn faults_are_survived_over_tcp() {
    survives("--transport tcp");
}

#[test]
fn faults_are_survived_on_a_stock_broker() {
    survives("--broker busrtd");
}

#[test]
fn the_verdict_can_fail() {
    for (sabotage, count) in [
        ("lose", "lost"),
        ("repeat", "duplicates"),
        ("alter", "corrupted"),
    ] {
        let small = "--events 2000 --publishers 1 --subscribers 2 --patience-seconds 2";
        let report = report(&format!("{small} --sabotage {sabotage}"), 1);
        assert_eq!(report["verdict"], "fail");
        let found = &report["subscribers"];
        assert_eq!(found[0][count], 1, "{report:#}");
        assert_eq!(found[1][count], 0, "{report:#}");
        assert!(!found[0]["examples"].as_array().unwrap().is_empty());
    }
}

#[test]
fn it_reads_well() {
    let output = soak("--events 1000 --publishers 1 --subscribers 1 --seed 7");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("seed               7\n"), "{text}");
    assert!(text.ends_with("\npass\n"), "{text}");
    assert!(output.stderr.is_empty(), "quiet in a pipe");
}

#[test]
fn what_cannot_be_run_is_said() {
    for (arguments, says) in [
        ("--transport tcp --broker busrtd", "busrtd has no TLS"),
        ("--events 100 --kills 10", "use --events 660 or more"),
        ("--publishers 0", "--publishers"),
        ("--stall-seconds nan", "--stall-seconds"),
        ("--frobnicate", "--frobnicate"),
    ] {
        let output = soak(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains(says), "{arguments}: {errors}");
    }
}
