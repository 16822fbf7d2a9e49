//! `eventbus shadow`: what it compares, what it counts, and what it answers.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::program::Place;

fn number(value: &Value, path: &str) -> u64 {
    let found = value.pointer(path).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no number at {path} in {value:#}"))
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    let found = value.pointer(path).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no text at {path} in {value:#}"))
}

/// The class that each kind of sabotage ends in: its counter, and its name at a place.
const KINDS: [(&str, &str, &str); 6] = [
    ("drop", "missing", "missing"),
    ("duplicate", "duplicates", "duplicate"),
    ("reorder", "reordered", "reordered"),
    ("corrupt", "differs", "differs"),
    ("phantom", "phantoms", "phantom"),
    ("delay", "late", "late"),
];

/// Everything that was published was compared, and nothing else happened.
#[track_caller]
fn all_matched(run: &Value, published: u64, subscribers: u64) {
    assert_eq!(number(run, "/published"), published);
    assert_eq!(number(run, "/report/published"), published);
    assert_eq!(number(run, "/report/expected"), published * subscribers);
    assert_eq!(number(run, "/report/matched"), published * subscribers);
    for class in [
        "missing",
        "late",
        "reordered",
        "differs",
        "unverified",
        "in_flight",
        "duplicates",
        "phantoms",
    ] {
        assert_eq!(
            number(run, &format!("/report/{class}")),
            0,
            "{class}: {run:#}"
        );
    }
    for at in 0..subscribers {
        let received = number(run, &format!("/subscriptions/{at}/received"));
        assert_eq!(received, published);
    }
}

#[test]
fn synthetic_events_match_in_process_and_over_unix() {
    let place = Place::new();
    for candidate in ["in-process", "unix"] {
        let words = format!(
            "shadow --source synthetic --events 20001 --publishers 3 --subscribers 2 \
             --candidate {candidate} --json"
        );
        let (document, code) = place.json(&words);
        assert_eq!(code, Some(0), "{document:#}");
        assert_eq!(text(&document, "/verdict"), "match");
        assert_eq!(text(&document, "/runs/0/candidate"), candidate);
        all_matched(&document["runs"][0], 20_001, 2);
    }
}

#[test]
fn restarts_and_sampling_hide_nothing_and_the_file_says_the_same() {
    let place = Place::new();
    for kind in ["drop", "reorder"] {
        let file = place.path().join(format!("{kind}.jsonl"));
        let file = file.display();
        let words = format!(
            "shadow --source synthetic --events 20000 --publishers 3 --restart-every 2000 \
             --subscribers 1 --sample 5% --candidate in-process --json --sabotage {kind}=0.2% \
             --divergences {file}"
        );
        let (document, code) = place.json(&words);
        assert_eq!(code, Some(1), "{kind}: {document:#}");
        let run = &document["runs"][0];
        let injected = number(run, "/sabotage/injected");
        assert!(injected > 0, "{kind}: {run:#}");
        assert_eq!(number(run, "/sabotage/located"), injected, "{kind}");
        assert_eq!(number(run, "/sabotage/otherwise"), 0, "{kind}");
        assert!(number(run, "/report/unsampled") > 15_000, "{kind}");
        let written = number(run, "/report/divergence_file/written");
        assert!(written >= injected, "{kind}: {run:#}");
        let (again, code) = place.json(&format!("shadow replay {file} --json"));
        assert_eq!(code, Some(0), "{kind}: {again:#}");
        assert_eq!(number(&again, "/reproduced"), written, "{kind}");
    }
    let nothing = place.run("shadow replay nowhere.jsonl");
    assert_eq!(nothing.code, Some(2));
}

#[test]
fn what_two_primaries_differ_by_is_told_and_judged_by() {
    let place = Place::new();
    let calibrated = |candidate: &str, limits: &str| {
        place.json(&format!(
            "shadow --source synthetic --rate 5000 --events 5000 --publishers 3 --subscribers 1 \
             --candidate {candidate} --calibrate 1s {limits} --json"
        ))
    };
    let lenient = "--latency-limit 1000000 --inversion-limit 100%";
    let (document, code) = calibrated("in-process", lenient);
    assert_eq!(code, Some(0), "{document:#}");
    all_matched(&document["runs"][0], 5_000, 1);
    let noise = &document["runs"][0]["report"]["noise"];
    assert_eq!(text(noise, "/floor/backend"), "crossbeam");
    assert!(number(noise, "/floor/samples") >= 100, "{noise:#}");
    assert!(number(noise, "/floor/inversions/pairs") > 0, "{noise:#}");
    assert_eq!(noise["beyond"].as_array().unwrap().len(), 0, "{noise:#}");
    let (document, code) = calibrated("unix", "--latency-limit 1 --inversion-limit 100%");
    assert_eq!(code, Some(2), "{document:#}");
    assert_eq!(text(&document, "/verdict"), "inconclusive");
    let beyond = text(&document, "/runs/0/report/noise/beyond/0");
    assert!(beyond.contains("times the noise floor"), "{beyond}");
    let alone = place.run("shadow --latency-limit 2");
    assert_eq!(alone.code, Some(2));
}

#[test]
fn each_sabotage_is_found_counted_and_located() {
    let place = Place::new();
    for (kind, counter, class) in KINDS {
        let words = format!(
            "shadow --source synthetic --events 20000 --candidate in-process --json \
             --sabotage {kind}=0.2%"
        );
        let (document, code) = place.json(&words);
        assert_eq!(code, Some(1), "{kind}: {document:#}");
        assert_eq!(text(&document, "/verdict"), "diverged");
        let run = &document["runs"][0];
        let injected = number(run, "/sabotage/injected");
        assert!(injected > 0, "{kind}: {run:#}");
        assert_eq!(
            number(run, "/sabotage/counted"),
            injected,
            "{kind}: {run:#}"
        );
        assert_eq!(
            number(run, "/sabotage/located"),
            injected,
            "{kind}: {run:#}"
        );
        assert_eq!(number(run, "/sabotage/otherwise"), 0, "{kind}: {run:#}");
        assert_eq!(number(run, &format!("/report/{counter}")), injected);
        let places = run["report"]["divergences"].as_array().unwrap();
        let places: Vec<_> = places
            .iter()
            .filter(|place| place["class"] == class)
            .collect();
        assert_eq!(places.len() as u64, injected, "{kind}");
        for place in places {
            assert_eq!(text(place, "/publisher").len(), 32, "{place}");
            assert!(text(place, "/topic").starts_with("synthetic."), "{place}");
            number(place, "/sequence");
        }
    }
}

#[test]
fn process_events_match_over_unix() {
    let place = Place::new();
    let words = "shadow --candidate unix --events 500 --json";
    let (document, code) = place.json(words);
    assert_eq!(code, Some(0), "{document:#}");
    assert_eq!(text(&document, "/source/kind"), "proc");
    let run = &document["runs"][0];
    assert_eq!(number(run, "/published"), 500);
    assert_eq!(text(run, "/subscriptions/0/filter"), "events.process.#");
    assert_eq!(number(run, "/subscriptions/0/received"), 500);
    assert_eq!(text(run, "/subscriptions/1/filter"), "events.process.new");
    let new = number(run, "/subscriptions/1/received");
    assert_eq!(number(run, "/report/matched"), 500 + new);
    assert_eq!(number(run, "/report/unverified"), 0);
}

#[test]
fn events_match_over_tcp() {
    let place = Place::new();
    let words = "shadow --candidate tcp --source synthetic --events 500 --json";
    let (document, code) = place.json(words);
    assert_eq!(code, Some(0), "{document:#}");
    let run = &document["runs"][0];
    assert_eq!(text(run, "/candidate"), "tcp");
    assert_eq!(number(run, "/published"), 500);
    assert_eq!(number(run, "/report/unverified"), 0);
}

#[test]
fn without_a_candidate_both_are_compared_and_told_in_tables() {
    let place = Place::new();
    let ended = place.run("shadow --events 300 --report both.json");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "", "nothing but results in a pipe");
    for told in [
        "crossbeam and in-process: 300 events",
        "crossbeam and unix: 300 events",
    ] {
        assert!(ended.stdout.contains(told), "{}", ended.stdout);
    }
    assert_eq!(ended.stdout.matches("verdict: match").count(), 2);
    let file = std::fs::read_to_string(place.path().join("both.json")).unwrap();
    let document: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(document["runs"].as_array().unwrap().len(), 2);
}

#[test]
fn what_was_found_is_told_although_the_report_cannot_be_written() {
    let place = Place::new();
    let words = "shadow --source synthetic --events 2000 --candidate in-process --sabotage drop=1% \
                 --report /dev/full --json";
    let ended = place.run(words);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(text(&document, "/verdict"), "diverged");
    let sentence = "eventbus: cannot write `/dev/full`: No space left on device (os error 28)\n";
    assert_eq!(ended.stderr, sentence);
}

#[test]
fn a_recording_is_published_again_as_it_was() {
    let place = Place::new();
    let (first, code) = place.json(
        "shadow --source synthetic --events 3000 --publishers 3 --topics 5 --payload 33 \
         --candidate in-process --record first.jsonl --json",
    );
    assert_eq!(code, Some(0), "{first:#}");
    let (again, code) = place
        .json("shadow --source first.jsonl --candidate in-process --record again.jsonl --json");
    assert_eq!(code, Some(0), "{again:#}");
    all_matched(&again["runs"][0], 3_000, 2);
    assert_eq!(text(&again, "/source/kind"), "recording");

    // The same events by the same publishers, in each one's order; the clock may differ.
    let by_publisher = |name: &str, publisher: u64| {
        let file = std::fs::read_to_string(place.path().join(name)).unwrap();
        let lines = file.lines().map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("at_us");
            line
        });
        let own = lines.filter(|line| number(line, "/publisher") == publisher);
        own.collect::<Vec<_>>()
    };
    let mut sum = 0;
    for publisher in 0..3 {
        let events = by_publisher("first.jsonl", publisher);
        assert_eq!(events, by_publisher("again.jsonl", publisher));
        sum += events.len();
    }
    assert_eq!(sum, 3_000);
}

#[test]
fn a_recording_may_be_cut_short_and_paced() {
    let place = Place::new();
    place.run("shadow --events 200 --candidate crossbeam --record x.jsonl");
    let (document, code) =
        place.json("shadow --source x.jsonl --events 50 --rate 5000 --candidate crossbeam --json");
    assert_eq!(code, Some(0), "{document:#}");
    all_matched(&document["runs"][0], 50, 2);
}

#[test]
fn nothing_compared_is_neither_match_nor_divergence() {
    let place = Place::new();
    std::fs::write(place.path().join("empty.jsonl"), "").unwrap();
    let (document, code) = place.json("shadow --source empty.jsonl --candidate crossbeam --json");
    assert_eq!(code, Some(2), "{document:#}");
    assert_eq!(text(&document, "/verdict"), "inconclusive");
}

#[test]
fn an_interrupt_ends_the_source_and_what_was_published_is_compared() {
    let place = Place::new();
    let running = place.start(
        "shadow --duration 1h --candidate in-process --json",
        &[("EVENTBUS_LOG", "eventbus=info")],
    );
    running.await_log("first events published");
    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(number(&document, "/runs/0/report/matched") > 0);
}

#[test]
fn a_configured_shadow_is_compared_without_flags() {
    let place = Place::new();
    let file = "phase = 'shadow'\nprimary = 'in-process'\ncandidate = 'crossbeam'\n";
    std::fs::write(place.path().join("eventbus.toml"), file).unwrap();
    let (document, code) = place.json("shadow --events 100 --json");
    assert_eq!(code, Some(0), "{document:#}");
    assert_eq!(document["runs"].as_array().unwrap().len(), 1);
    assert_eq!(text(&document, "/runs/0/primary"), "in-process");
    assert_eq!(text(&document, "/runs/0/candidate"), "crossbeam");
}

/// The keys that `docs/shadow.md` promises; more may come, none may go.
#[test]
fn the_json_document_has_the_keys_that_are_documented() {
    let place = Place::new();
    let (document, _) = place.json(
        "shadow --source synthetic --events 1000 --candidate crossbeam --sabotage drop=5% --json",
    );
    let keys = |value: &Value| -> BTreeSet<String> {
        let keys = value.as_object().unwrap().keys();
        keys.cloned().collect()
    };
    let documented = include_str!("../../../docs/shadow.md");
    let schema = documented.split("```json").nth(1).unwrap();
    let schema: Value = serde_json::from_str(schema.split("```").next().unwrap()).unwrap();
    for path in [
        "",
        "/source",
        "/runs/0",
        "/runs/0/subscriptions/0",
        "/runs/0/sabotage",
        "/runs/0/report",
        "/runs/0/report/latency",
        "/runs/0/report/divergences/0",
    ] {
        let [promised, found] = [&schema, &document].map(|v| keys(v.pointer(path).unwrap()));
        let gone: Vec<_> = promised.difference(&found).collect();
        assert!(gone.is_empty(), "{path}: {gone:?} not in {document:#}");
        let untold: Vec<_> = found.difference(&promised).collect();
        assert!(untold.is_empty(), "{path}: {untold:?} not documented");
    }
}

#[test]
fn being_told_to_end_is_no_verdict() {
    let place = Place::new();
    let running = place.start(
        "shadow --duration 1h --candidate in-process",
        &[("EVENTBUS_LOG", "eventbus=info")],
    );
    running.await_log("first events published");
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert!(
        ended.stderr.ends_with("eventbus: interrupted\n"),
        "{ended:?}"
    );
}
