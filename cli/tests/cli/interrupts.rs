//! Ctrl-C in the middle of a long command: one sentence, an exit code, and nothing left behind.

use std::fs;

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
    let temporary = place.path().join("tmp");
    until("nothing is left", || {
        fs::read_dir(&temporary).unwrap().next().is_none()
    });
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
fn a_run_that_is_not_over_says_so() {
    for words in ["validate", "conformance --phase unix --phase tcp"] {
        let place = Place::new();
        let running = begun(&place, words);
        until("interrupts are noticed", || running.notices_interrupts());
        running.signal("INT");
        is_interrupted(&running.end());
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
    let words = "shadow --duration 1h --candidate in-process --candidate unix --json";
    let running = begun(&place, words);
    running.await_log("first events published");
    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let document: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(document["runs"].as_array().unwrap().len(), 1);
    assert_eq!(document["verdict"], "match");
    for sentence in [
        "interrupted: what was published is compared; once more ends it at once\n",
        "eventbus: interrupted before `unix` was compared\n",
    ] {
        assert!(ended.stderr.contains(sentence), "{ended:?}");
    }
    nothing_is_left(&place);
}

#[test]
fn a_calibration_that_is_not_over_calibrates_nothing() {
    let place = Place::new();
    let running = begun(&place, "shadow --calibrate 1h --candidate in-process");
    running.await_log("first events published");
    running.signal("INT");
    is_interrupted(&running.end());
}
