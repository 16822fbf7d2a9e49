//! `eventbus tail`: it looks on, tells what it drops, and ends when nobody looks.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use eventbus::codec::ContentType;
use eventbus::{Correlation, Event, Payload, PublishError};
use serde_json::Value;

use crate::program::until;
use crate::scene::Scene;

const TAIL: &str = "tail events.# --at unix:run/bus.sock";

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn shows_events(scene: &Scene) {
    let plain = scene.place.start(&format!("{TAIL} --count 4"), &[]);
    scene.await_subscription("events.hello");
    let long = scene
        .place
        .start(&format!("{TAIL} health.* --count 4 --json"), &[]);
    scene.await_subscription("health.hello");
    let hostile = "\u{1b}]0;owned\u{7}\n12:00:00.000 events.b forged";
    let text = Payload::new(hostile, ContentType::parse("text/plain"));
    let protobuf = Payload::new(&b"\x08\x96\x01"[..], ContentType::Protobuf);
    for event in [
        Event::json("events.a", &serde_json::json!({"pid": 1})).unwrap(),
        Event::new("events.text", text).unwrap(),
        Event::new("events.proto", protobuf)
            .unwrap()
            .header("host", "a")
            .correlation(Correlation::new("scan-7")),
        Event::json("control.x", "not asked for").unwrap(),
    ] {
        scene.publish(event);
    }
    let ended = plain.end();
    assert_eq!(ended.stderr, "", "quiet in a pipe");
    let told: Vec<_> = ended
        .stdout
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let words: Vec<_> = told.iter().map(|(_, words)| *words).collect();
    let escaped = "events.text \\u{1b}]0;owned\\u{7}\\n12:00:00.000 events.b forged";
    assert_eq!(words.len(), 4, "{ended:?}");
    assert_eq!(
        words[1..],
        ["events.a {\"pid\":1}", escaped, "events.proto 0x089601"]
    );
    assert!(
        told.iter()
            .all(|(time, _)| time.len() == "12:00:00.000".len()),
        "{ended:?}"
    );
    let documents = lines(&long.end().stdout);
    assert_eq!(documents[0]["payload"], "are you there");
    assert_eq!(documents[1]["payload"]["pid"], 1);
    assert_eq!(documents[2]["payload_text"], hostile);
    let last = &documents[3];
    assert_eq!(last["payload_base64"], "CJYB");
    assert_eq!(last["content_type"], "application/x-protobuf");
    assert_eq!(last["headers"]["host"], "a");
    assert_eq!(last["correlation"]["id"], "scan-7");
    let sequence = |document: &Value| document["sequence"].as_u64().unwrap();
    assert_eq!(sequence(last), sequence(&documents[1]) + 2);
}

#[test]
fn it_shows_what_it_was_asked_for_and_nothing_of_it_controls_a_terminal() {
    shows_events(&Scene::new());
}

#[test]
fn it_works_at_a_stock_broker_too() {
    shows_events(&Scene::stock());
}

/// A reader that does not read.
fn stalled(scene: &Scene, words: &str) -> Child {
    let mut command = scene.place.command(&format!("{TAIL} {words}"));
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    scene.await_subscription("events.hello");
    child
}

#[test]
fn who_does_not_read_holds_nobody_up_and_is_told_what_was_dropped() {
    const MANY: u64 = 20_000;
    let scene = Scene::new();
    let mut child = stalled(&scene, "--json --capacity 100 --duration 1h --payload none");
    let publisher = scene.bus.publisher("events.many".parse().unwrap());
    scene.runtime.block_on(async {
        for _ in 0..MANY {
            publisher
                .publish(publisher.event(vec![b'x'; 100]))
                .await
                .unwrap();
        }
    });
    // What was sent last is what comes last, whatever was dropped before.
    scene.publish(Event::json("events.last", &1).unwrap());
    let mut text = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    while !text.contains("events.last") {
        assert!(stdout.read_line(&mut text).unwrap() > 0, "it ended");
    }
    signal(child.id(), "INT");
    stdout.read_to_string(&mut text).unwrap();
    let sums = |text: &str| {
        let mut seen = (0, 0);
        for line in lines(text) {
            match line["dropped"].as_u64() {
                Some(dropped) => seen.1 += dropped,
                None => seen.0 += u64::from(line["topic"] != "events.hello"),
            }
        }
        seen
    };
    let (shown, dropped) = sums(&text);
    assert_eq!(
        shown + dropped,
        MANY + 1,
        "shown {shown}, dropped {dropped}"
    );
    assert!(dropped > 0 && shown > 0, "shown {shown}, dropped {dropped}");
    let mut told = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    assert!(
        told.starts_with(&format!("{dropped} events dropped, ")),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_eq!(code(&mut child), Some(0));
}

/// The exit code, once it has ended by itself.
fn code(child: &mut Child) -> Option<i32> {
    let mut ended = None;
    until("it ends", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    ended.unwrap().code()
}

/// Sends a signal.
fn signal(pid: u32, name: &str) {
    let pid = pid.to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn lossless_has_publishers_wait() {
    let scene = Scene::new();
    let mut child = stalled(&scene, "--lossless --capacity 100");
    let refused = scene.runtime.block_on(async {
        for _ in 0..100_000 {
            let event = Event::new("events.many", vec![b'x'; 1_000]).unwrap();
            if let Err(refused) = scene.bus.publish(event).await {
                return refused;
            }
        }
        panic!("nobody waits");
    });
    assert!(
        matches!(refused.reason(), PublishError::Backpressure { .. }),
        "{refused}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn it_ends_when_nobody_reads_also_if_nothing_comes() {
    let scene = Scene::new();
    let mut child = stalled(&scene, "");
    drop(child.stdout.take());
    assert_eq!(code(&mut child), Some(0));
    let mut told = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    assert_eq!(told, "");
}

#[test]
fn it_ends_at_once_when_it_is_told_to_though_its_reader_is_stuck() {
    let scene = Scene::new();
    let mut child = stalled(&scene, "");
    let publisher = scene.bus.publisher("events.many".parse().unwrap());
    scene.runtime.block_on(async {
        for _ in 0..5_000 {
            publisher
                .publish(publisher.event(vec![b'x'; 1_000]))
                .await
                .unwrap();
        }
    });
    let pid = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-s", "TERM", &pid])
        .status();
    assert!(sent.unwrap().success());
    // Its output is still there, unread.
    assert_eq!(code(&mut child), Some(0));
}

#[test]
fn what_did_not_come_in_time_is_a_1() {
    let scene = Scene::new();
    let ended = scene
        .place
        .run(&format!("{TAIL} --count 1 --duration 200ms"));
    assert_eq!(
        (ended.code, &*ended.stdout, &*ended.stderr),
        (Some(1), "", "eventbus: 0 of 1 events came in time\n")
    );
    let ended = scene.place.run(&format!("{TAIL} --duration 200ms"));
    assert_eq!(
        (ended.code, &*ended.stdout, &*ended.stderr),
        (Some(0), "", "")
    );
}

#[test]
fn a_filter_that_is_none_is_one_sentence_and_a_2() {
    let scene = Scene::new();
    for (words, sentence) in [
        ("tail a.#.b", "invalid value 'a.#.b' for '<FILTER>...': "),
        (
            "tail",
            "the following required arguments were not provided: <FILTER>...",
        ),
        (
            "tail # --at unix:absent.sock",
            "cannot open phase `unix:///",
        ),
    ] {
        let ended = scene.place.run(words);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(
            ended.stderr.starts_with(&format!("eventbus: {sentence}")),
            "{ended:?}"
        );
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}
