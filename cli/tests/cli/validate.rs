//! `eventbus validate`: what it measures for real, and what it says of it.

use std::fs;

use serde_json::Value;

use crate::program::{Ended, Place, Running, until};

#[track_caller]
fn refused(ended: &Ended, sentence: &str) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr, format!("eventbus: {sentence}\n"));
}

fn schema() -> Value {
    let schema = include_str!("../../../docs/validate.schema.json");
    serde_json::from_str(schema).unwrap()
}

/// The document is as documented, down to the last field.
#[track_caller]
fn satisfies_the_schema(document: &Value) {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let problems: Vec<_> = validator
        .iter_errors(document)
        .map(|problem| format!("{} at {}", problem, problem.instance_path()))
        .collect();
    assert!(problems.is_empty(), "{problems:#?} in {document:#}");
}

fn number(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no number at {path} in {value:#}"))
}

/// Everything arrived, and the figures are of this world.
#[track_caller]
fn measured(found: &Value, messages: u64) {
    assert_eq!(found["passed"], true, "{found:#}");
    assert_eq!(found["failures"].as_array().unwrap().len(), 0);
    assert_eq!(number(found, "/success_rate"), 1.0);
    for measurement in ["throughput", "latency"] {
        let delivery = &found[measurement]["delivery"];
        assert_eq!(delivery["accepted"], messages, "{measurement}: {found:#}");
        assert_eq!(delivery["delivered"], messages);
    }
    assert!(number(found, "/throughput/events_per_second") > 0.0);
    assert!(number(found, "/setup/open_seconds") > 0.0);
    let curve = found["latency"]["distribution"].as_array().unwrap();
    let told: Vec<_> = curve.iter().map(|point| number(point, "/us")).collect();
    assert!(told.is_sorted(), "{told:?}");
    let quantiles = ["p50_us", "p99_us", "p999_us", "max_us"];
    let quantiles = quantiles.map(|name| number(&found["latency"], &format!("/{name}")));
    assert!(quantiles.is_sorted() && quantiles[0] > 0.0, "{quantiles:?}");
    assert!(number(found, "/memory/after") > 0.0);
}

#[test]
fn all_transports_are_measured_and_told_in_json_and_on_a_page() {
    let place = Place::new();
    let (document, code) = place.json("validate --messages 2000 --json --report it.html");
    assert_eq!(code, Some(0), "{document:#}");
    satisfies_the_schema(&document);
    assert_eq!(document["passed"], true);
    let found = document["transports"].as_array().unwrap();
    let names: Vec<_> = found.iter().map(|found| &found["transport"]).collect();
    assert_eq!(names, ["crossbeam", "in-process", "unix", "tcp"]);
    for found in found {
        measured(found, 2000);
    }
    for found in &found[..2] {
        assert!(found["recovery"]["not_measured"].is_string(), "{found:#}");
        assert!(found["memory"]["broker"].is_null());
    }
    for found in &found[2..] {
        let recovery = &found["recovery"];
        assert!(number(recovery, "/seconds") >= number(recovery, "/broker_seconds"));
        assert!(
            number(recovery, "/reconnects") >= 2.0,
            "both lost it: {found:#}"
        );
        // It went on before, during and after.
        assert!(
            number(recovery, "/delivery/accepted") >= 1000.0,
            "{found:#}"
        );
        assert_eq!(number(recovery, "/delivery/lost"), 0.0);
        assert_eq!(number(recovery, "/delivery/doubled"), 0.0);
        assert!(number(found, "/memory/broker") > 0.0);
    }
    let page = fs::read_to_string(place.path().join("it.html")).unwrap();
    assert_eq!(page.matches("<svg ").count(), 2, "{page}");
    assert_eq!(page.matches("class=\"line ").count(), 4);
    for absent in ["<script", "http://", "https://", "NaN", "inf\""] {
        assert!(!page.contains(absent), "{absent} in {page}");
    }
    assert!(page.ends_with("</html>\n"));
}

#[test]
fn one_transport_is_told_in_a_table_and_the_rest_is_not_recommended() {
    let place = Place::new();
    let words = "validate --transport in-process --transport in-process --messages 500 \
                 --payload 8 --rate 5000";
    let ended = place.run(words);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "", "nothing but results in a pipe");
    for told in [
        "transport",
        "p99.9",
        "100 %",
        "payloads of 8 bytes",
        "at 5.00 k events/s",
        "in-process: recovery not measured: the broker ends with its process",
        "for one process: in-process\n",
        "for an untrusted network: none of those measured",
        "not tcp: it was not measured",
        "verdict: passed",
    ] {
        assert!(ended.stdout.contains(told), "{told}: {}", ended.stdout);
    }
    assert_eq!(ended.stdout.matches("for one process").count(), 1);
}

#[test]
fn a_transport_that_fails_is_a_1_and_not_recommended() {
    let place = Place::new();
    for (sabotage, fault) in [("drop=2%", "lost"), ("duplicate=2%", "doubled")] {
        let words =
            format!("validate --transport unix --messages 2000 --sabotage {sabotage} --json");
        let (document, code) = place.json(&words);
        assert_eq!(code, Some(1), "{document:#}");
        satisfies_the_schema(&document);
        assert_eq!(document["passed"], false);
        let found = &document["transports"][0];
        assert!(
            number(found, &format!("/delivery/{fault}")) > 0.0,
            "{found:#}"
        );
        let failures = found["failures"].as_array().unwrap();
        assert!(!failures.is_empty());
        for recommendation in document["recommendations"].as_array().unwrap() {
            assert!(recommendation["transport"].is_null(), "{document:#}");
        }
        assert!(document.to_string().contains(failures[0].as_str().unwrap()));
    }
    let ended = place.run("validate --transport crossbeam --messages 500 --sabotage drop=5%");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for told in [
        "sabotaged on purpose, by drop",
        "FAILED: throughput: ",
        "verdict: FAILED",
    ] {
        assert!(ended.stdout.contains(told), "{told}: {}", ended.stdout);
    }
}

/// A broker at a socket and a port, and the flags that lead to each.
fn broker(place: &Place) -> (Running, [String; 2]) {
    for words in ["init", "issue broker --server", "issue prober"] {
        assert_eq!(place.run(&format!("certs {words}")).code, Some(0));
    }
    let words = "broker --json --unix run/bus.sock --tcp 127.0.0.1:0 --tls-ca certs/ca.pem \
                 --tls-cert certs/broker.pem --tls-key certs/broker.key";
    let running = place.start(words, &[("EVENTBUS_LOG", "off")]);
    let ready: Value = serde_json::from_str(&running.first_line()).unwrap();
    let at = |key: &str| ready[key][0].as_str().unwrap().to_owned();
    let files = "--ca certs/ca.pem --cert certs/prober.pem --key certs/prober.key";
    let places = [
        format!("unix://{}", at("unix")),
        format!("tcp://{} {files}", at("tcp")),
    ];
    (running, places)
}

#[test]
fn a_running_broker_is_measured_and_left_running() {
    let place = Place::new();
    let (running, places) = broker(&place);
    for (at, name) in places.iter().zip(["unix", "tcp"]) {
        let words = format!("validate --json --messages 1000 --against {at}");
        let (document, code) = place.json(&words);
        assert_eq!(code, Some(0), "{document:#}");
        satisfies_the_schema(&document);
        let found = &document["transports"][0];
        assert_eq!(found["transport"], name);
        assert!(
            at.starts_with(found["against"].as_str().unwrap()),
            "{found:#}"
        );
        measured(found, 1000);
        let why = &found["recovery"]["not_measured"];
        assert_eq!(why, "a running broker is not ours to stop");
        assert!(found["setup"]["broker_seconds"].is_null());
    }
    // The configuration may say what flags do.
    let tls = "[tls]\nca = 'certs/ca.pem'\ncert = 'certs/prober.pem'\nkey = 'certs/prober.key'\n";
    fs::write(place.path().join("other.toml"), tls).unwrap();
    let tcp = places[1].split(' ').next().unwrap();
    let words = format!("validate --json --messages 100 --config other.toml --against {tcp}");
    assert_eq!(place.json(&words).1, Some(0));
    running.signal("TERM");
    assert_eq!(running.end().code, Some(0));
}

#[test]
fn what_cannot_be_measured_is_one_sentence_and_a_2() {
    let place = Place::new();
    let socket = place.path().join("absent.sock");
    let words = format!(
        "validate --messages 10 --against unix://{}",
        socket.display()
    );
    let ended = place.run(&words);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(2), ""),
        "{ended:?}"
    );
    let told = "eventbus: cannot measure `unix`: cannot open a bus: ";
    assert!(ended.stderr.starts_with(told), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

/// Sockets and keys are in private directories, which must not outlive the run.
#[test]
fn being_told_to_end_leaves_nothing_behind() {
    let place = Place::new();
    let private = place.path().join("private");
    fs::create_dir(&private).unwrap();
    let there = || fs::read_dir(&private).unwrap().count();
    let variables = [("TMPDIR", private.to_str().unwrap())];
    let running = place.start("validate --transport tcp --messages 100000000", &variables);
    until("a private directory", || there() > 0);
    running.signal("TERM");
    assert_eq!(running.end().stdout, "");
    until("no private directory", || there() == 0);
}

#[test]
fn a_mistake_is_one_sentence() {
    let place = Place::new();
    for (words, sentence) in [
        (
            "--transport pigeon",
            "invalid value 'pigeon' for '--transport <NAME>': expected `crossbeam`, `in-process`, \
             `unix` or `tcp`",
        ),
        (
            "--payload 7",
            "--payload 7 is not within 8 to 1048576 bytes",
        ),
        (
            "--messages 0",
            "invalid value '0' for '--messages <N>': 0 is not in 1..=100000000",
        ),
        (
            "--report it.txt",
            "--report `it.txt` does not end in `.html`",
        ),
        (
            "--report /nowhere/it.html",
            "cannot write `/nowhere/it.html`: No such file or directory (os error 2)",
        ),
        (
            "--against crossbeam",
            "no broker runs at `crossbeam`; expected `unix:///path` or `tcp://host:port`",
        ),
        (
            "--against tcp://127.0.0.1:1",
            "phase `tcp://127.0.0.1:1` needs TLS, so `tls.ca`, `tls.cert` and `tls.key` must be \
             set",
        ),
    ] {
        refused(&place.run(&format!("validate {words}")), sentence);
    }
}
