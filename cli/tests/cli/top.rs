//! `eventbus top`, on a real comparison.

use serde_json::Value;

use crate::program::{Place, until};

#[test]
fn in_a_pipe_it_says_once_what_there_is_to_see() {
    let place = Place::new();
    let running = place.start(
        "shadow --source synthetic --rate 2000 --duration 1h --candidate crossbeam \
         --observe unix:run/seen.sock",
        &[],
    );
    running.await_line("to be seen at ");
    let ended = place.run("top unix:run/seen.sock");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    assert!(
        ended.stdout.starts_with("eventbus shadow (eventbus "),
        "{}",
        ended.stdout
    );
    assert!(
        ended
            .stdout
            .contains("comparison   crossbeam with crossbeam: "),
        "{}",
        ended.stdout
    );
    let (document, code) = place.json("top --json unix:run/seen.sock");
    assert_eq!((code, &document["schema"]), (Some(0), &Value::from(1)));
    until("something is compared", || {
        let (document, _) = place.json("top --json unix:run/seen.sock");
        document["shadow"]["report"]["matched"].as_u64() > Some(0)
    });
    running.signal("INT");
    assert_eq!(running.end().code, Some(0));
    let ended = place.run("top unix:run/seen.sock");
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
    assert!(
        ended
            .stderr
            .starts_with("eventbus: cannot ask `unix:run/seen.sock`: "),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("`observe.listen`"), "{ended:?}");
    assert!(
        !place.path().join("run/seen.sock").exists(),
        "the socket is left"
    );
}

#[test]
fn an_address_that_is_none_is_one_sentence() {
    let place = Place::new();
    let ended = place.run("top nowhere");
    assert_eq!(ended.code, Some(2));
    let told = "expected `http://HOST:PORT/`, `HOST:PORT` or `unix:PATH`";
    assert!(ended.stderr.contains(told), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}
