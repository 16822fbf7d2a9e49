//! Ctrl-C as soon as a long command listens to it, and in the middle of it: it ends in one sentence and an
//! exit code, and what it made for the time being is gone when it has ended.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::{Value, json};

use crate::program::{Ended, Place, Running, until};

/// In a directory for what is temporary, of which nothing may be left.
fn begun(place: &Place, words: &str) -> Running {
    let temporary = place.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    place.start(
        words,
        &[
            ("TMPDIR", temporary.to_str().unwrap()),
            ("EVENTBUS_LOG", "eventbus=info"),
        ],
    )
}

fn nothing_is_left(place: &Place) {
    let left = fs::read_dir(place.path().join("tmp")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[track_caller]
fn is_interrupted(ended: &Ended) {
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
    assert!(
        ended.stderr.ends_with("eventbus: interrupted\n"),
        "{ended:?}"
    );
}

#[test]
fn a_run_that_has_hardly_begun_says_so_and_clears_up() {
    for words in [
        "validate",
        "conformance --phase unix --phase tcp",
        "rollout soak --duration 1h",
    ] {
        let place = Place::new();
        let running = begun(&place, words);
        until("interrupts are noticed", || running.notices_interrupts());
        running.signal("INT");
        is_interrupted(&running.end());
        nothing_is_left(&place);
    }
}

#[test]
fn a_soak_that_is_not_over_says_so_and_clears_up() {
    let place = Place::new();
    let running = begun(&place, "rollout soak --duration 1h");
    running.await_log("what=Resumed");
    running.signal("INT");
    is_interrupted(&running.end());
    nothing_is_left(&place);
}

#[test]
fn a_comparison_that_had_not_begun_is_left_out_and_that_is_no_match() {
    let place = Place::new();
    let words =
        "shadow --duration 1h --candidate in-process --candidate unix --candidate tcp --json";
    let running = begun(&place, words);
    running.await_log("first events published");
    running.signal("INT");
    let ended = running.end();
    only_the_first_is_compared(&ended, &["unix", "tcp"]);
    for sentence in [
        "interrupted: what was published is compared; once more ends it at once\n",
        "eventbus: interrupted; `unix` and `tcp` were not compared\n",
    ] {
        assert!(ended.stderr.contains(sentence), "{ended:?}");
    }
    nothing_is_left(&place);
}

#[track_caller]
fn only_the_first_is_compared(ended: &Ended, left_out: &[&str]) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(document["runs"].as_array().unwrap().len(), 1);
    assert_eq!(document["runs"][0]["verdict"], "match");
    assert_eq!(document["verdict"], "inconclusive");
    let pair = |candidate| json!({"primary": "crossbeam", "candidate": candidate});
    let left_out: Vec<_> = left_out.iter().map(pair).collect();
    assert_eq!(document["left_out"], Value::from(left_out));
}

#[test]
fn an_interrupt_between_two_comparisons_ends_both() {
    let place = Place::new();
    let silent = place.path().join("silent.sock");
    let broker = UnixListener::bind(&silent).unwrap();
    broker.set_nonblocking(true).unwrap();
    fs::write(
        place.path().join("eventbus.toml"),
        "broker.mode = 'external'",
    )
    .unwrap();
    let silent = format!("unix://{}", silent.display());
    let words = format!(
        "shadow --source synthetic --events 1000 --candidate in-process --candidate {silent} --json"
    );
    let running = begun(&place, &words);
    let mut opening = None;
    until("the second comparison is being opened", || {
        opening = broker.accept().ok();
        opening.is_some()
    });
    running.signal("INT");
    running.await_log("interrupted: what has not begun is left out; once more ends it at once");
    drop((opening, broker));
    let ended = running.end();
    only_the_first_is_compared(&ended, &[&silent]);
    let sentence = format!("eventbus: interrupted; `{silent}` was not compared\n");
    assert!(ended.stderr.ends_with(&sentence), "{ended:?}");
    nothing_is_left(&place);
}

#[test]
fn what_could_not_be_opened_is_left_out_too() {
    let place = Place::new();
    let words = "shadow --source synthetic --events 1000 --json --candidate in-process \
                 --candidate unix:///dev/null/bus.sock --candidate unix --report run.html";
    let ended = begun(&place, words).end();
    only_the_first_is_compared(&ended, &["unix:///dev/null/bus.sock", "unix"]);
    let left_out = "`unix:///dev/null/bus.sock` and `unix` were not compared";
    let sentence = format!("; {left_out}\n");
    assert!(ended.stderr.ends_with(&sentence), "{ended:?}");
    let page = fs::read_to_string(place.path().join("run.html")).unwrap();
    let title = page.lines().find(|line| line.starts_with("<h1"));
    let told = format!("<h1 id=\"title\">eventbus shadow: inconclusive; {left_out}</h1>");
    assert_eq!(title, Some(&*told));
}

#[test]
fn being_told_to_end_names_what_was_left_out() {
    let place = Place::new();
    let words = "shadow --duration 1h --candidate in-process --candidate unix";
    let running = begun(&place, words);
    running.await_log("first events published");
    running.signal("TERM");
    let ended = running.end();
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
    let sentence = "eventbus: interrupted; `in-process` and `unix` were not compared\n";
    assert!(ended.stderr.ends_with(sentence), "{ended:?}");
}

#[test]
fn a_calibration_that_is_not_over_calibrates_nothing() {
    let place = Place::new();
    let running = begun(&place, "shadow --calibrate 1h --candidate in-process");
    running.await_log("first events published");
    running.signal("INT");
    is_interrupted(&running.end());
}

/// A child of the program that is stopped, so that it does not end, until this is dropped.
struct Stuck(String);

impl Stuck {
    fn of(running: &Running) -> Self {
        let mut child = None;
        until("it has a child", || {
            child = running.children().first().cloned();
            child.is_some()
        });
        let stuck = Self(child.unwrap());
        stuck.signal("STOP");
        stuck
    }

    fn signal(&self, name: &str) -> bool {
        let sent = Command::new("kill").args(["-s", name, &self.0]).output();
        sent.unwrap().status.success()
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.signal("KILL");
    }
}

#[test]
fn what_does_not_end_is_left_at_a_second_interrupt() {
    let place = Place::new();
    let running = begun(&place, "validate");
    let stuck = Stuck::of(&running);
    running.signal("INT");
    running.await_log("interrupted: what was begun is ended; once more leaves it at once");
    running.signal("INT");
    running.await_log("eventbus: interrupted");
    assert!(stuck.signal("0"), "it was waited for, and killed");
    // It has the same standard error, which ends with it.
    drop(stuck);
    assert_eq!(running.end().code, Some(2));
    nothing_is_left(&place);
}
