//! `eventbus config`: what holds and why, and what would fail before it runs.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use conformance::fault::Reserved;
use serde_json::{Value, json};

use crate::program::{Ended, Place};

#[track_caller]
fn is(ended: &Ended, code: i32, stdout: &str) {
    assert_eq!(ended.stderr, "");
    assert_eq!(ended.stdout, stdout);
    assert_eq!(ended.code, Some(code));
}

/// A place with certificates, and the rest of a configuration in `eventbus.toml`.
fn with_certificates(file: &str) -> Place {
    let place = Place::new();
    for words in ["init", "issue broker --server", "issue collector"] {
        assert_eq!(place.run(&format!("certs {words}")).code, Some(0));
    }
    fs::write(place.path().join("eventbus.toml"), file).unwrap();
    place
}

const TLS: &str =
    "[tls]\nca = 'certs/ca.pem'\ncert = 'certs/collector.pem'\nkey = 'certs/collector.key'\n";

#[test]
fn each_value_is_shown_with_where_it_comes_from() {
    let place = with_certificates(&format!("phase = 'tcp://localhost:1'\n{TLS}"));
    let running = place.start(
        "config show --json --set broker.rate=5",
        &[("EVENTBUS_CONNECT__WAIT", "true")],
    );
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let all: Value = serde_json::from_str(&ended.stdout).unwrap();
    let told = |key: &str| {
        let mut all = all.as_array().unwrap().iter();
        all.find(|setting| setting["key"] == key).unwrap().clone()
    };
    let file = json!({"key": "phase", "value": "tcp://localhost:1", "from": "file", "path": "eventbus.toml"});
    assert_eq!(told("phase"), file);
    let variable = "EVENTBUS_CONNECT__WAIT";
    let environment =
        json!({"key": "connect.wait", "value": true, "from": "environment", "variable": variable});
    assert_eq!(told("connect.wait"), environment);
    let flag =
        json!({"key": "broker.rate", "value": 5, "from": "flag", "flag": "--set broker.rate"});
    assert_eq!(told("broker.rate"), flag);
    assert_eq!(
        told("name"),
        json!({"key": "name", "value": null, "from": "default"})
    );

    let shown = place.run("config show");
    let line = |key: &str| {
        let mut lines = shown.stdout.lines();
        lines
            .find(|line| line.starts_with(key))
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        line("phase "),
        "phase tcp://localhost:1 file `eventbus.toml`"
    );
    assert_eq!(line("broker.timeout "), "broker.timeout 30s default");
    // A key is a path, and what is in the file is nobody's business.
    assert_eq!(
        line("tls.key "),
        "tls.key certs/collector.key file `eventbus.toml`"
    );
    let key = fs::read_to_string(place.path().join("certs/collector.key")).unwrap();
    assert!(
        !key.lines().any(|line| shown.stdout.contains(line)),
        "{shown:?}"
    );
}

#[test]
fn a_mistake_is_named_with_the_nearest_key() {
    let place = Place::new();
    let file = |text: &str| fs::write(place.path().join("eventbus.toml"), text).unwrap();
    file("[broker]\nmax_conections = 5\n");
    let nearest = "unknown key `broker.max_conections` in file `eventbus.toml`; did you mean \
                   `broker.max_connections`? allowed are `mode`, ";
    let shown = place.run("config show");
    assert_eq!((shown.code, &*shown.stdout), (Some(2), ""));
    assert!(
        shown.stderr.starts_with(&format!("eventbus: {nearest}")),
        "{shown:?}"
    );
    let checked = place.run("config check");
    assert_eq!((checked.code, &*checked.stderr), (Some(1), ""));
    assert!(checked.stdout.starts_with(nearest), "{checked:?}");
    assert_eq!(checked.stdout.lines().count(), 1);
    file("");
    let flag = place.run("config show --set pahse=x");
    let nearest = "eventbus: unknown key `pahse` in flag `--set pahse`; did you mean `phase`? ";
    assert!(flag.stderr.starts_with(nearest), "{flag:?}");
    let absent = place.run("config check absent.toml");
    assert_eq!(absent.code, Some(2));
    assert_eq!(
        absent.stderr,
        "eventbus: cannot read configuration file `absent.toml`: No such file or directory (os error 2)\n"
    );
}

#[test]
fn nothing_that_would_fail_is_a_0_and_leaves_nothing_behind() {
    let place = Place::new();
    let run = place.path().join("run");
    let set = format!("--set broker.unix={}/deep/bus.sock", run.display());
    is(
        &place.run(&format!("config check {set}")),
        0,
        "nothing would fail\n",
    );
    assert!(!run.exists());
    let (document, code) = place.json(&format!("config check {set} --json"));
    assert_eq!(
        (document, code),
        (json!({"ok": true, "problems": []}), Some(0))
    );
    // What it says would work does.
    let broker = place.start("broker --unix run/deep/bus.sock", &[]);
    assert!(broker.first_line().starts_with("ready"));
    let socket = run.join("deep/bus.sock");
    let taken = format!(
        "broker.unix: another broker listens at `{}`\n",
        socket.display()
    );
    is(&place.run(&format!("config check {set}")), 1, &taken);
    let phase = format!("--set phase=unix://{} --set broker.mode", socket.display());
    is(
        &place.run(&format!("config check {phase}=external")),
        0,
        "nothing would fail\n",
    );
    is(
        &place.run(&format!("config check {phase}=auto")),
        0,
        "nothing would fail\n",
    );
    let embedded = format!("phase: another broker listens at `{}`\n", socket.display());
    is(
        &place.run(&format!("config check {phase}=embedded")),
        1,
        &embedded,
    );
}

#[test]
fn sockets_that_cannot_be_had_are_told() {
    let place = Place::new();
    let path = place.path().canonicalize().unwrap();
    let open = path.join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
    let own = path.join("own");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, Permissions::from_mode(0o700)).unwrap();
    fs::write(own.join("file"), "").unwrap();
    let long = own.join("x".repeat(108 - own.as_os_str().len() - 1));
    for (socket, sentence) in [
        (
            open.join("bus.sock"),
            format!(
                "broker.unix: directory `{}` has mode 0755; the socket needs one of its own with mode 0700",
                open.display()
            ),
        ),
        (
            own.join("file"),
            format!(
                "broker.unix: `{}` is not a socket; it is left as it is",
                own.join("file").display()
            ),
        ),
        (
            long.clone(),
            format!(
                "bad value `{}` for `broker.unix` in flag `--set broker.unix`; expected an absolute path \
                 of at most 107 bytes",
                long.display()
            ),
        ),
    ] {
        let ended = place.run(&format!(
            "config check --set broker.unix={}",
            socket.display()
        ));
        is(&ended, 1, &format!("{sentence}\n"));
    }
    let nobody = own.join("bus.sock");
    let phase = format!("phase=unix://{}", nobody.display());
    let words = format!("config check --set {phase} --set broker.mode=external");
    let ended = place.run(&words);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stdout
            .starts_with("phase: cannot open phase `unix://"),
        "{ended:?}"
    );
    is(
        &place.run(&format!("{words} --offline")),
        0,
        "nothing would fail\n",
    );
    is(
        &place.run(&format!("{words} --set connect.wait=true")),
        0,
        "nothing would fail\n",
    );
}

#[test]
fn ports_that_cannot_be_had_are_told() {
    let tls = "[tls]\nca = 'certs/ca.pem'\ncert = 'certs/broker.pem'\nkey = 'certs/broker.key'\n";
    let place = with_certificates(tls);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let words = format!("config check --set broker.tcp={port}");
    let sentence = format!(
        "broker.tcp: cannot listen at `{port}`: Address already in use (os error 98); another program \
         listens there, which `ss -ltnp` shows\n"
    );
    is(&place.run(&words), 1, &sentence);
    // TEST-NET-1 is nobody's.
    let nowhere = place.run("config check --set observe.listen=192.0.2.1:9");
    let sentence = "observe.listen: cannot listen at `192.0.2.1:9`: Cannot assign requested address \
                    (os error 99); this machine has no such address; take one that `ip address` shows, \
                    or `0.0.0.0` for all\n";
    is(&nowhere, 1, sentence);
    let reserved = Reserved::new().unwrap();
    let free = reserved.address();
    let both = place.run(&format!(
        "config check --set broker.tcp={free} --set broker.metrics={free}"
    ));
    assert_eq!(both.code, Some(1));
    assert!(
        both.stdout.starts_with("broker.metrics: cannot listen at "),
        "{both:?}"
    );
}

#[test]
fn certificates_that_cannot_be_used_are_told() {
    let place = with_certificates(&format!("phase = 'tcp://localhost:1'\n{TLS}"));
    let check = |set: &str| {
        let sets: Vec<_> = set
            .split_whitespace()
            .map(|set| format!("--set {set}"))
            .collect();
        place.run(&format!("config check --offline {}", sets.join(" ")))
    };
    is(&check(""), 0, "nothing would fail\n");
    for (set, sentence) in [
        (
            "tls.cert=absent.pem",
            "tls: cannot read certificate `absent.pem`: No such file or directory (os error 2)",
        ),
        (
            "tls.key=certs/broker.key",
            "tls: key `certs/broker.key` is not that of certificate `certs/collector.pem`",
        ),
        (
            "name=another",
            "tls: certificate `certs/collector.pem` does not entitle to client name `another`, only to \
             `collector`, `collector--…`",
        ),
        (
            "tls.server_name=a..b",
            "tls: server name `a..b` is neither a DNS name nor an IP address",
        ),
        (
            "broker.mode=embedded",
            "tls: certificate `certs/collector.pem` is not for TLS servers\n",
        ),
        (
            "broker.mode=embedded tls.cert=certs/broker.pem tls.key=certs/broker.key tls.server_name=other",
            "tls: certificate `certs/broker.pem` is not for `other`, which clients dial",
        ),
    ] {
        let ended = check(set);
        assert_eq!((ended.code, &*ended.stderr), (Some(1), ""), "{set}");
        assert!(ended.stdout.starts_with(sentence), "{set}: {ended:?}");
    }
    let key = place.path().join("certs/collector.key");
    fs::set_permissions(&key, Permissions::from_mode(0o604)).unwrap();
    let open =
        "tls: key `certs/collector.key` has mode 0604, so others can read it; `chmod 600` it\n";
    is(&check(""), 1, open);
}
