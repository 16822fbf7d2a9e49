//! `eventbus rollout`: an operator's words, and a soak.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::sync_channel;
use std::thread;

use eventbus::rollout::{self, Rollout};
use eventbus::{Config, Phase};
use serde_json::{Value, json};

use crate::program::Place;

#[test]
fn an_operator_moves_a_bus_of_another_process() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = Place::new();
    let admin = place.path().join("admin.sock");
    let mut rollout = Rollout::new(
        vec![Phase::Crossbeam, Phase::InProcess],
        place.path().join("journal"),
    );
    rollout.shadow = false;
    rollout.admin = Some(admin.clone());
    let config = Config::default().rollout(rollout);
    let bus = runtime.block_on(rollout::open(&config)).unwrap();
    let at = format!("--admin {}", admin.display());

    let status = place.run(&format!("rollout status {at}"));
    assert_eq!(status.code, Some(0), "{status:?}");
    assert!(
        status.stdout.starts_with("> 1 crossbeam\n  2 in-process\n"),
        "{status:?}"
    );
    for (words, said) in [
        ("back --dry-run", "there is no stage before `crossbeam`\n"),
        ("plan --back", "there is no stage before `crossbeam`\n"),
        (
            "back --dry-run --from 2",
            "no: the rollout is in stage `crossbeam` and not in number 2 any more, so nothing was \
             done; ask for its status and order again\n",
        ),
    ] {
        let told = place.run(&format!("rollout {words} {at}"));
        assert_eq!(told.stdout, said, "{told:?}");
        assert_eq!(
            told.code,
            Some(i32::from(said.starts_with("no"))),
            "{told:?}"
        );
    }
    for words in [
        "advance --force --from nosuch",
        "back --from nosuch",
        "advance --dry-run --from nosuch",
    ] {
        let told = place.run(&format!("rollout {words} {at}"));
        assert_eq!((told.code, &*told.stdout), (Some(2), ""), "{told:?}");
        assert_eq!(
            told.stderr,
            "eventbus: --from: the rollout has no stage `nosuch`; give the number or the name of one \
             of these: 1 `crossbeam`, 2 `in-process`\n"
        );
    }
    let dry = place.run(&format!("rollout advance --dry-run {at}"));
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert!(
        dry.stdout
            .contains("  5 note in the journal that the new phase holds"),
        "{dry:?}"
    );
    assert!(
        dry.stdout.contains("against it: events is inconclusive"),
        "{dry:?}"
    );
    let no = place.run(&format!("rollout advance {at}"));
    assert_eq!(no.code, Some(1), "{no:?}");
    assert!(
        no.stdout.starts_with("no: the gates do not allow it"),
        "{no:?}"
    );
    let (done, code) = place.json(&format!("rollout advance --force --json {at}"));
    assert_eq!(
        (code, done["with"]["what"].as_str()),
        (Some(0), Some("advanced"))
    );
    let (status, code) = place.json(&format!("rollout status --json {at}"));
    assert_eq!(
        (code, status["with"]["phase"].as_str()),
        (Some(0), Some("in-process"))
    );
    // The same order once more, of somebody who has not seen what came of it.
    for from in ["1", "crossbeam"] {
        let late = place.run(&format!("rollout advance --force --from {from} {at}"));
        assert_eq!(late.code, Some(1), "{late:?}");
        assert!(
            late.stdout
                .starts_with("no: the rollout is in stage `in-process` and not in "),
            "{late:?}"
        );
    }
    for word in ["pause", "resume", "back --from 2"] {
        let done = place.run(&format!("rollout {word} {at}"));
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    let abort = place.run(&format!("rollout abort {at}"));
    assert_eq!(
        (abort.code, &*abort.stdout),
        (Some(1), "no: no move is under way\n")
    );
    runtime
        .block_on(async { eventbus::EventBus::shutdown(&*bus).await })
        .unwrap();
    let gone = place.run(&format!("rollout status {at}"));
    assert_eq!(gone.code, Some(2), "{gone:?}");
    assert!(
        gone.stderr.starts_with("eventbus: no rollout answers at"),
        "{gone:?}"
    );
}

#[test]
fn a_dry_run_out_of_a_stage_that_is_left_meanwhile_shows_no_plan_of_another() {
    let place = Place::new();
    let admin = UnixListener::bind(place.path().join("admin.sock")).unwrap();
    let (asked, asks) = sync_channel(8);
    thread::spawn(move || {
        for stream in admin.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let request: Value = serde_json::from_str(&line).unwrap();
            let answer = match request["ask"].as_str() {
                Some("status") => json!({"answer": "status", "with": in_its_first_stage()}),
                _ => json!({"answer": "plan", "with": {
                    "from": "in-process", "to": null, "steps": [], "objections": []}}),
            };
            asked.send(request["ask"].clone()).unwrap();
            writeln!(stream, "{answer}").unwrap();
        }
    });
    let told = place.run("rollout advance --dry-run --from 1 --admin admin.sock");
    assert_eq!(
        (told.code, &*told.stdout),
        (
            Some(1),
            "no: the rollout is in stage `in-process` and not in number 1 any more, so nothing was \
             done; ask for its status and order again\n"
        ),
        "{told:?}"
    );
    assert_eq!(asks.try_iter().collect::<Vec<_>>(), ["status", "plan"]);
}

fn in_its_first_stage() -> Value {
    json!({
        "phase": "crossbeam", "stage": 0, "mode": "manual", "activity": "watching",
        "stages": [
            {"name": "crossbeam", "phase": "crossbeam", "candidate": null},
            {"name": "in-process", "phase": "in-process", "candidate": null},
        ],
        "cutover": null, "gates": [], "successes": 0, "successes_wanted": 3, "failures": 0,
        "failures_allowed": 1, "stage_since_ms": 1, "history": [], "last_error": null,
        "longest_publish_delay_us": 0, "cutovers": 0,
    })
}

#[test]
fn without_a_socket_it_says_how_to_name_one() {
    let ended = Place::new().run("rollout status");
    assert_eq!(ended.code, Some(2));
    assert_eq!(
        ended.stderr,
        "eventbus: no admin socket: give `--admin PATH`, or set `rollout.admin`\n"
    );
}

#[test]
fn a_short_soak_counts_every_event_through_all_phases() {
    passes("");
}

#[test]
fn a_short_soak_through_shadows_compares_and_counts_every_event() {
    let compared = &passes("--shadow")["compared"];
    // Up and down again.
    assert_eq!(compared["shadows"], 6, "{compared}");
    assert!(compared["matched"].as_u64() > Some(3_000), "{compared}");
    assert_eq!(compared["divergences"], 0, "{compared}");
}

fn passes(how: &str) -> Value {
    let words = format!("rollout soak --duration 1s --rounds 1 --json {how}");
    let (report, code) = Place::new().json(&words);
    assert_eq!(
        (code, report["verdict"].as_str()),
        (Some(0), Some("pass")),
        "{report}"
    );
    assert_eq!(report["cutovers"], 6, "{report}");
    let events = report["events"].as_u64().unwrap();
    assert!(events > 0);
    for subscriber in report["subscribers"].as_array().unwrap() {
        assert_eq!(subscriber["received"].as_u64(), Some(events), "{report}");
    }
    assert!(report["longest_publish_us"].as_u64() < report["deadline_us"].as_u64());
    report
}
