//! What the program says when it is asked wrongly: one sentence, on standard error, and a 2.

use crate::program::{Ended, Place};

#[track_caller]
fn refused(ended: &Ended, sentence: &str) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr, format!("eventbus: {sentence}\n"));
}

#[test]
fn a_bad_flag_is_one_sentence_and_a_2() {
    let place = Place::new();
    for (words, sentence) in [
        (
            "",
            "no command given; try `eventbus shadow`, or `eventbus --help`",
        ),
        ("certs", "no command given; try `eventbus certs --help`"),
        ("config", "no command given; try `eventbus config --help`"),
        ("rollout", "no command given; try `eventbus rollout --help`"),
        (
            "certs init --name=",
            "a value is required for '--name <NAME>' but none was supplied",
        ),
        (
            "certs init --dir /dev/null",
            "cannot lock directory `/dev/null`: Not a directory (os error 20)",
        ),
        (
            "certs init --dir /proc",
            "cannot write `/proc/ca.key`: No such file or directory (os error 2)",
        ),
        (
            "shadow --divergences nowhere/x.jsonl --candidate crossbeam",
            "cannot write `nowhere/x.jsonl`: No such file or directory (os error 2)",
        ),
        (
            "shadow --record nowhere/x.jsonl --candidate crossbeam",
            "cannot write `nowhere/x.jsonl`: No such file or directory (os error 2)",
        ),
        (
            "shadow --primari crossbeam",
            "unexpected argument '--primari' found; tip: a similar argument exists: '--primary'",
        ),
        (
            "shadow --candidate pigeon",
            "invalid value 'pigeon' for '--candidate <PHASE>': unknown phase `pigeon`; expected \
             `crossbeam`, `in-process`, `unix:///path`, `ipc:///path` or `tcp://host:port`",
        ),
        (
            "shadow --duration soon",
            "invalid value 'soon' for '--duration <TIME>': expected a duration such as `10s` or \
             `500ms`",
        ),
        (
            "shadow --source psychic",
            "invalid value 'psychic' for '--source <SOURCE>': expected `proc`, `synthetic`, or a \
             file that ends in `.jsonl`",
        ),
        (
            "shadow --sabotage drop=2",
            "invalid value 'drop=2' for '--sabotage <KIND[=RATE]>': expected a share such as \
             `0.001` or `0.1%`, more than 0 and at most 1",
        ),
        (
            "shadow --payload 5",
            "--payload is for `--source synthetic`",
        ),
        (
            "shadow --rate 5",
            "--rate is for `--source synthetic` and recordings",
        ),
        (
            "shadow --source synthetic --payload 2000000",
            "--payload 2000000 is over the limit of 1048576 bytes per event",
        ),
        (
            "shadow --record x.jsonl",
            "--record needs exactly one --candidate, since each comparison has its own events",
        ),
        (
            "shadow --source x.jsonl --record x.jsonl --candidate crossbeam",
            "--record would overwrite the recording that is read",
        ),
        (
            "shadow --source x.jsonl --divergences ./x.jsonl --candidate crossbeam",
            "--divergences would overwrite the recording that is read",
        ),
        (
            "shadow --source x.jsonl --report x.jsonl --candidate crossbeam",
            "--report would overwrite the recording that is read",
        ),
        (
            "shadow --record a.jsonl --divergences ./a.jsonl --candidate crossbeam",
            "--divergences would overwrite the file of --record",
        ),
        (
            "shadow --source absent.jsonl --candidate crossbeam",
            "cannot read `absent.jsonl`: No such file or directory (os error 2)",
        ),
        (
            "shadow --candidate tcp://host:1",
            "phase `tcp://host:1` needs TLS, so `tls.ca`, `tls.cert` and `tls.key` must be set",
        ),
        (
            "shadow --primary unix:///tmp/x.sock --candidate ipc:///tmp/x.sock",
            "primary and candidate are both `unix:///tmp/x.sock`; two sides of a shadow need a \
             socket each",
        ),
    ] {
        refused(&place.run(words), sentence);
    }
}

#[test]
fn a_bad_configuration_is_one_sentence_and_a_2() {
    let place = Place::new();
    let running = place.start("shadow", &[("EVENTBUS_BROKER__MODE", "maybe")]);
    refused(
        &running.end(),
        "bad value `maybe` for `broker.mode` in the environment (`EVENTBUS_BROKER__MODE`); \
         expected `auto`, `embedded`, `external`",
    );
    std::fs::write(place.path().join("eventbus.toml"), "phase = [").unwrap();
    let ended = place.run("shadow");
    assert_eq!(ended.code, Some(2));
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

#[test]
fn help_is_an_answer_and_hides_the_sabotage_at_first() {
    let place = Place::new();
    let short = place.run("shadow -h");
    assert_eq!(short.code, Some(0));
    assert!(short.stdout.contains("--candidate") && !short.stdout.contains("--sabotage"));
    let long = place.run("shadow --help");
    assert!(long.stdout.contains("--sabotage"));
    assert_eq!(place.run("--version").code, Some(0));
}

#[test]
fn a_bad_recording_names_its_line() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("d.jsonl")).unwrap();
    refused(
        &place.run("shadow --source d.jsonl --candidate crossbeam"),
        "cannot read `d.jsonl`: Is a directory (os error 21)",
    );
    let line = r#"{"at_us":1,"publisher":0,"topic":"a","content_type":"x","text":"y"}"#;
    std::fs::write(place.path().join("x.jsonl"), format!("{line}\n\n{{}}\n")).unwrap();
    let words = "shadow --source x.jsonl --candidate crossbeam";
    refused(
        &place.run(words),
        "line 3 of `x.jsonl` is no recorded event: missing field `at_us` at line 1 column 2",
    );
}
