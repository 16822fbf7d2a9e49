//! First impressions: what a new user may run into, and the one sentence that says what it is.
//!
//! The world is made as it would be: another view of `/proc`, a machine without IPv6, a directory that
//! cannot be written to, a full disk. Where a machine lets nobody make such a world, that is printed.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::program::{Ended, Place, Running};

#[track_caller]
fn refused(ended: &Ended, sentence: &str) {
    assert_eq!(ended.stderr, format!("eventbus: {sentence}\n"));
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""));
}

/// One sentence that has all of these in it.
#[track_caller]
fn names(ended: &Ended, parts: &[&str]) {
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(ended.stderr.starts_with("eventbus: "), "{ended:?}");
    for part in parts {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The same command behind another one.
fn behind(mut outer: Command, inner: &Command) -> Command {
    outer.arg(inner.get_program()).args(inner.get_args());
    outer
        .current_dir(inner.get_current_dir().unwrap())
        .stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Without the rights that root has beyond those of a file's owner.
fn unprivileged(inner: &Command) -> Command {
    if !is_root() {
        return behind(Command::new("env"), inner);
    }
    let mut outer = Command::new("setpriv");
    // The group of root sees all of `/proc`.
    outer.args(["--regid=65534", "--clear-groups"]);
    outer.args([
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--ambient-caps=-all",
    ]);
    behind(outer, inner)
}

/// In namespaces of its own, after `prepare`; `None`, and why, if this machine lets nobody do that.
fn unshared(flags: &str, prepare: &str, inner: &Command) -> Option<Command> {
    let unshare = || {
        let mut command = Command::new("unshare");
        if !is_root() {
            command.arg("--map-root-user");
        }
        command.args(flags.split_whitespace());
        command
    };
    let tried = unshare().args(["sh", "-c", prepare]).output().unwrap();
    if !tried.status.success() {
        let why = String::from_utf8_lossy(&tried.stderr).into_owned();
        eprintln!("not tried, because this machine does not let us: {why}");
        return None;
    }
    let mut outer = unshare();
    outer.args(["sh", "-c", &format!("{prepare} && exec \"$0\" \"$@\"")]);
    Some(behind(outer, inner))
}

#[test]
fn proc_that_shows_only_ones_own_is_told() {
    let place = Place::new();
    let words = "shadow --candidate crossbeam --events 20 --json";
    let command = unprivileged(&place.command(words));
    let mount = "mount -t proc -o hidepid=2 proc /proc";
    // A new root directory of processes would begin with one of ours; so only the mount is new.
    let Some(command) = unshared("--mount", mount, &command) else {
        return;
    };
    let ended = Running::of(command).end();
    let note = "/proc shows only processes of this user (hidepid), so only those are compared; `--source \
                synthetic` needs none\n";
    assert_eq!((ended.code, &*ended.stderr), (Some(0), note), "{ended:?}");
    let document: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(document["verdict"], "match");
}

#[test]
fn no_proc_is_told() {
    let place = Place::new();
    let words = place.command("shadow --candidate crossbeam --events 20");
    let Some(command) = unshared("--mount", "mount -t tmpfs none /proc", &words) else {
        return;
    };
    names(
        &Running::of(command).end(),
        &["cannot look at /proc: ", "`--source synthetic` needs none"],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_no_answer() {
    let place = Place::new();
    fs::write(place.path().join("latin.toml"), b"name = '\xe9'\n").unwrap();
    fs::write(place.path().join("shut.toml"), "").unwrap();
    let shut = place.path().join("shut.toml");
    fs::set_permissions(shut, Permissions::from_mode(0o000)).unwrap();
    fs::create_dir(place.path().join("directory.toml")).unwrap();
    for file in ["latin", "shut", "directory", "absent"] {
        let sentence = format!("cannot read configuration file `{file}.toml`: ");
        for words in ["config check", "config show", "broker --config"] {
            let command = place.command(&format!("{words} {file}.toml"));
            names(&Running::of(unprivileged(&command)).end(), &[&sentence]);
        }
    }
}

#[test]
fn a_socket_of_another_user_says_who_may_come() {
    let place = Place::new();
    let shut = place.path().join("shut");
    fs::create_dir(&shut).unwrap();
    fs::set_permissions(&shut, Permissions::from_mode(0o000)).unwrap();
    let command = place.command("call a b --at unix:shut/bus.sock");
    names(
        &Running::of(unprivileged(&command)).end(),
        &[
            "nothing answers at ",
            "run as the broker's user, or come over TCP",
        ],
    );
}

#[test]
fn a_machine_without_ipv6_is_told() {
    let place = with_certificates();
    let files = "--tls-ca certs/ca.pem --tls-cert certs/broker.pem --tls-key certs/broker.key";
    let no_ipv6 = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
    for (words, listening) in [
        (
            format!("broker --tcp [::1]:7777 {files}"),
            "cannot listen at `[::1]:7777`",
        ),
        (
            "broker --unix run/bus.sock --metrics [::1]:9100".to_owned(),
            "cannot listen at `[::1]:9100`",
        ),
        (
            "shadow --source synthetic --events 9 --observe [::1]:9600".to_owned(),
            "cannot listen at `[::1]:9600`",
        ),
    ] {
        let Some(command) = unshared("--net", no_ipv6, &place.command(&words)) else {
            return;
        };
        let way_out = "; this machine has no such IPv6 address; take one that `ip address` shows, or \
                       `127.0.0.1`";
        names(&Running::of(command).end(), &[listening, way_out]);
    }
}

fn with_certificates() -> Place {
    let place = Place::new();
    for words in ["init", "issue broker --server", "issue collector"] {
        assert_eq!(place.run(&format!("certs {words}")).code, Some(0));
    }
    place
}

#[test]
fn a_directory_that_cannot_be_written_to_is_named() {
    let place = Place::new();
    let shut = place.path().canonicalize().unwrap().join("shut");
    fs::create_dir(&shut).unwrap();
    fs::set_permissions(&shut, Permissions::from_mode(0o500)).unwrap();
    let run = |words: &str| {
        let mut command = place.command(words);
        command.current_dir(&shut);
        Running::of(unprivileged(&command)).end()
    };
    let denied = "Permission denied (os error 13)";
    let directory = format!("`{}/run`: {denied}", shut.display());
    names(
        &run("broker --unix run/bus.sock"),
        &["cannot create directory ", &directory],
    );
    names(
        &run("broker --unix bus.sock"),
        &["cannot open lock file ", denied],
    );
    names(&run("certs init"), &["`certs", denied]);
    let record = "shadow --source synthetic --events 9 --candidate crossbeam --record x.jsonl";
    names(&run(record), &["`x.jsonl`", denied]);
    // Told before the work whose result it is.
    for words in [
        "shadow --source synthetic --events 9 --candidate crossbeam --report x.html",
        "validate --transport crossbeam --messages 9 --report x.html",
        "conformance --phase crossbeam --clause TOP --certificate x.html",
    ] {
        names(&run(words), &["cannot write `x.html`: ", denied]);
    }
    let set = format!(
        "config check --set broker.unix={}/run/bus.sock",
        shut.display()
    );
    let ended = run(&set);
    let sentence = format!(
        "broker.unix: cannot write in directory `{}`: {denied}\n",
        shut.display()
    );
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(1), &*sentence),
        "{ended:?}"
    );
}

#[test]
fn a_socket_path_that_is_too_long_is_told_with_the_limit() {
    let place = Place::new();
    let long = format!("{}/bus.sock", "x".repeat(100));
    let whole = place.path().canonicalize().unwrap().join(&long);
    let expected = "expected an absolute path of at most 107 bytes";
    let flag = format!(
        "bad value `{}` for `broker.unix` in flag `--unix`; {expected}",
        whole.display()
    );
    refused(&place.run(&format!("broker --unix {long}")), &flag);
    let bytes = whole.as_os_str().len();
    let limit = format!("socket path of {bytes} bytes is over the limit of 107");
    for words in ["call a b", "tail #"] {
        names(&place.run(&format!("{words} --at unix:{long}")), &[&limit]);
    }
    let phase = format!("unix://{}", whole.display());
    let ended = place.start("shadow", &[("EVENTBUS_PHASE", &phase)]).end();
    names(&ended, &["`EVENTBUS_PHASE`", &limit]);
}

#[test]
fn a_port_in_use_is_named_with_a_way_to_find_whose() {
    let place = with_certificates();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let files = "--tls-ca certs/ca.pem --tls-cert certs/broker.pem --tls-key certs/broker.key";
    let sentence = format!(
        "cannot listen at `{port}`: Address already in use (os error 98); another program listens there, \
         which `ss -ltnp` shows"
    );
    refused(
        &place.run(&format!("broker --tcp {port} {files}")),
        &sentence,
    );
    refused(
        &place.run(&format!("broker --unix run/bus.sock --metrics {port}")),
        &sentence,
    );
    let observe = place.run(&format!(
        "shadow --source synthetic --events 9 --observe {port}"
    ));
    refused(&observe, &sentence);
}

/// An authority whose certificates were good until 2021.
fn expired(place: &Place) {
    let params = |name: &str| {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 2, 3);
        params
    };
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = params("authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.not_after = date_time_ymd(2999, 1, 1);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let cert = params("localhost")
        .signed_by(&key, &Issuer::new(ca, ca_key))
        .unwrap();
    let write = |name: &str, text: String| fs::write(place.path().join(name), text).unwrap();
    write("ca.pem", ca_pem);
    write("old.pem", cert.pem());
    write("old.key", key.serialize_pem());
    let key = place.path().join("old.key");
    fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_certificate_that_has_expired_and_a_key_that_does_not_fit_are_named() {
    let place = with_certificates();
    expired(&place);
    let old = "certificate `old.pem` expired at 2021-02-03T00:00:00Z; have it issued again";
    let broker = "broker --tcp 127.0.0.1:0 --tls-ca ca.pem --tls-cert old.pem --tls-key old.key";
    refused(&place.run(broker), old);
    let call = "call a b --at tcp://localhost:1 --ca ca.pem --cert old.pem --key old.key";
    refused(
        &place.run(call),
        &format!("cannot open phase `tcp://localhost:1`: {old}"),
    );
    let check = place.run(
        "config check --offline --set phase=tcp://localhost:1 --set tls.ca=ca.pem --set \
         tls.cert=old.pem --set tls.key=old.key",
    );
    assert_eq!(
        (check.code, &*check.stdout),
        (Some(1), &*format!("tls: {old}\n"))
    );
    let other = "key `certs/collector.key` is not that of certificate `certs/broker.pem`";
    let broker = "broker --tcp 127.0.0.1:0 --tls-ca certs/ca.pem --tls-cert certs/broker.pem --tls-key \
                  certs/collector.key";
    refused(&place.run(broker), other);
    let call = "call a b --at tcp://localhost:1 --ca certs/ca.pem --cert certs/broker.pem --key \
                certs/collector.key";
    refused(
        &place.run(call),
        &format!("cannot open phase `tcp://localhost:1`: {other}"),
    );
}

#[test]
fn it_needs_neither_home_nor_terminal_nor_environment() {
    let place = Place::new();
    for words in [
        "shadow --source synthetic --events 100 --candidate in-process",
        "config show",
        "--help",
    ] {
        let mut outer = Command::new("setsid");
        outer.args(["--wait", "env", "-i"]);
        let mut command = behind(outer, &place.command(words));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        let ended = Running::of(command).end();
        assert_eq!(
            (ended.code, &*ended.stderr),
            (Some(0), ""),
            "{words}: {ended:?}"
        );
        assert!(
            !ended.stdout.contains('\u{1b}'),
            "no colours in a pipe: {words}"
        );
    }
}

/// Commands whose answer is long, short, and made by clap.
const ANSWERS: [&str; 6] = [
    "--help",
    "completions bash",
    "config show",
    "certs show certs/ca.pem",
    "conformance --list",
    "shadow --source synthetic --events 9 --candidate crossbeam",
];

#[test]
fn a_reader_that_has_left_is_no_failure() {
    let place = with_certificates();
    for words in ANSWERS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.command(words);
        let output = command
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{words}: {output:?}");
        assert!(output.stderr.is_empty(), "{words}: {output:?}");
        // And closed from the beginning, as `>&-` does.
        let mut outer = Command::new("sh");
        outer.args(["-c", "exec \"$0\" \"$@\" >&-"]);
        let ended = Running::of(behind(outer, &place.command(words))).end();
        assert_eq!(
            (ended.code, &*ended.stderr),
            (Some(0), ""),
            "{words}: {ended:?}"
        );
    }
}

#[test]
fn a_full_disk_is_a_sentence_and_a_2() {
    let place = with_certificates();
    for words in ANSWERS {
        let mut command = place.command(words);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        let sentence =
            "eventbus: cannot write to standard output: No space left on device (os error 28)\n";
        assert_eq!(
            (output.status.code(), &*told),
            (Some(2), sentence),
            "{words}"
        );
    }
}

#[test]
fn what_nobody_knows_is_named_with_what_is_known() {
    let place = Place::new();
    names(
        &place.run("shadw"),
        &["unrecognized subcommand 'shadw'", "'shadow'"],
    );
    names(
        &place.run("rollout status --at x"),
        &["unexpected argument '--at'"],
    );
    let phase = "unknown phase `pigeon`; expected `crossbeam`, `in-process`, `unix:///path`";
    names(&place.run("shadow --primary pigeon"), &[phase]);
    names(
        &place.run("completions tcsh"),
        &["expected `bash`, `zsh` or `fish`"],
    );
    let ended = place
        .start("config show", &[("EVENTBUS_PHASE", "pigeon")])
        .end();
    names(
        &ended,
        &[
            "bad value `pigeon` for `phase`",
            "`EVENTBUS_PHASE`",
            "or `shadow`",
        ],
    );
    fs::write(
        place.path().join("eventbus.toml"),
        "phase = 'crossbeam'\n[broker\nmode = 1\n",
    )
    .unwrap();
    for words in ["config show", "shadow", "broker", "tail #", "call a b"] {
        names(
            &place.run(words),
            &["cannot read file `eventbus.toml`: ", "line 2, column 8"],
        );
    }
}

#[test]
fn a_broker_that_is_not_there_or_is_none_is_named() {
    let place = with_certificates();
    let path = place.path().canonicalize().unwrap();
    let at = |name: &str| format!("unix://{}", path.join(name).display());
    let call = |at: &str| place.run(&format!("call a b --at {at}"));
    let absent = format!(
        "nothing answers at `{}`",
        path.join("absent.sock").display()
    );
    names(
        &call("unix:absent.sock"),
        &[&absent, "is a broker running there?"],
    );
    fs::write(path.join("file"), "").unwrap();
    names(
        &call("unix:file"),
        &[&format!(
            "nothing answers at `{}`",
            path.join("file").display()
        )],
    );

    // Whoever speaks first says something else, or whoever is spoken to hangs up.
    for (name, said) in [
        ("http.sock", &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]),
        ("busrt.sock", &[0xeb, 2, 0]),
        ("shut.sock", b""),
    ] {
        let listener = UnixListener::bind(path.join(name)).unwrap();
        let speaking = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // It may have gone already.
            let _ = stream.write_all(said);
            if !said.is_empty() {
                let _ = stream.read(&mut [0; 64]);
            }
        });
        names(&call(&format!("unix:{name}")), &[&at(name)]);
        speaking.join().unwrap();
    }
    let silent = UnixListener::bind(path.join("silent.sock")).unwrap();
    let words = "call a b --at unix:silent.sock";
    let ended = place
        .start(words, &[("EVENTBUS_CONNECT__TIMEOUT", "300ms")])
        .end();
    names(
        &ended,
        &[&format!(
            "no answer from `{}` within 300ms",
            at("silent.sock")
        )],
    );
    drop(silent);

    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap();
    let speaking = std::thread::spawn(move || {
        let (mut stream, _) = plain.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read(&mut [0; 4096]);
    });
    let files = "--ca certs/ca.pem --cert certs/collector.pem --key certs/collector.key";
    let ended = place.run(&format!("call a b --at tcp://{port} {files}"));
    names(
        &ended,
        &[
            &format!("no TLS with `tcp://{port}`: "),
            "does not speak TLS",
        ],
    );
    speaking.join().unwrap();
}
