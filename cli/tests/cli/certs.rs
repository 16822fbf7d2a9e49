//! `eventbus certs`: what it writes, with which modes, and what it refuses to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::program::{Ended, Place};

#[track_caller]
fn refused(ended: &Ended, sentence: &str) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr, format!("eventbus: {sentence}\n"));
}

#[track_caller]
fn done(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "");
}

fn mode(place: &Place, path: &str) -> u32 {
    let metadata = fs::metadata(place.path().join(path)).unwrap();
    metadata.permissions().mode() & 0o7777
}

#[test]
fn an_authority_signs_certificates_whose_keys_are_their_owners() {
    let place = Place::new();
    done(&place.run("certs init"));
    done(&place.run("certs issue broker --server"));
    let issued = place.run("certs issue collector --days 30");
    done(&issued);
    let told = "certs/collector.pem  certificate of `collector` until ";
    assert!(issued.stdout.starts_with(told), "{issued:?}");
    assert_eq!(mode(&place, "certs"), 0o700);
    for name in ["ca", "broker", "collector"] {
        assert_eq!(mode(&place, &format!("certs/{name}.key")), 0o600);
        assert_eq!(mode(&place, &format!("certs/{name}.pem")), 0o644);
    }

    let (shown, code) = place.json("certs show certs/broker.pem --json");
    assert_eq!(code, Some(0));
    let broker = &shown[0];
    assert_eq!(broker["subject"], "CN=broker");
    assert_eq!(broker["issuer"], "CN=eventbus development CA");
    let names = ["broker", "localhost", "127.0.0.1", "::1"];
    assert_eq!(broker["names"], serde_json::json!(names));
    assert_eq!(broker["client_names"], serde_json::json!(names[..2]));
    assert_eq!(broker["uses"], serde_json::json!(["client", "server"]));
    assert_eq!(broker["valid_now"], true);

    let shown = place.run("certs show certs/collector.pem");
    done(&shown);
    assert!(
        shown
            .stdout
            .contains("client names `collector`, `collector--…`\n")
    );
    assert!(shown.stdout.contains("for          client\n"));
}

#[test]
fn a_broker_gets_the_names_that_are_dialled() {
    let place = Place::new();
    done(&place.run("certs init --dir x --name authority"));
    done(&place.run("certs issue broker --server --dir x --san bus.example --san [fe80::1]"));
    let (shown, _) = place.json("certs show x/broker.pem --json");
    assert_eq!(shown[0]["issuer"], "CN=authority");
    let names = ["broker", "bus.example", "fe80::1"];
    assert_eq!(shown[0]["names"], serde_json::json!(names));
    refused(
        &place.run("certs issue other --dir x --san a..b"),
        "`a..b` is neither a DNS name nor an IP address",
    );
}

#[test]
fn nothing_is_written_over_unless_forced() {
    let place = Place::new();
    done(&place.run("certs init"));
    done(&place.run("certs issue collector"));
    let key = || fs::read(place.path().join("certs/collector.key")).unwrap();
    let before = key();
    refused(
        &place.run("certs init"),
        "`certs/ca.pem` is there already; --force writes over it",
    );
    refused(
        &place.run("certs issue collector"),
        "`certs/collector.pem` is there already; --force writes over it",
    );
    assert_eq!(key(), before);
    done(&place.run("certs issue collector --force"));
    assert_ne!(key(), before);
    assert_eq!(mode(&place, "certs/collector.key"), 0o600);
    done(&place.run("certs init --force"));
}

#[test]
fn what_is_revoked_is_told_once() {
    let place = Place::new();
    done(&place.run("certs init"));
    for name in ["one", "two"] {
        done(&place.run(&format!("certs issue {name}")));
    }
    let told = |n: u32, name: &str| format!("certs/crl.pem  `{name}` revoked; {n} in the list\n");
    assert_eq!(place.run("certs revoke one").stdout, told(1, "one"));
    assert_eq!(place.run("certs revoke two").stdout, told(2, "two"));
    refused(&place.run("certs revoke one"), "`one` is revoked already");
}

#[test]
fn revoking_at_the_same_time_revokes_all() {
    let place = Place::new();
    done(&place.run("certs init"));
    let names: Vec<_> = (0..12).map(|n| format!("client{n}")).collect();
    for name in &names {
        done(&place.run(&format!("certs issue {name}")));
    }
    let running: Vec<_> = names
        .iter()
        .map(|name| place.start(&format!("certs revoke {name}"), &[]))
        .collect();
    running.into_iter().for_each(|one| done(&one.end()));
    for name in &names {
        let again = place.run(&format!("certs revoke {name}"));
        refused(&again, &format!("`{name}` is revoked already"));
    }
}

#[test]
fn a_certificate_that_was_replaced_can_be_revoked() {
    let place = Place::new();
    done(&place.run("certs init"));
    done(&place.run("certs issue one"));
    let old = fs::read(place.path().join("certs/one.pem")).unwrap();
    done(&place.run("certs issue one --force"));
    let kept: Vec<_> = fs::read_dir(place.path().join("certs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| file.starts_with("one.") && file.len() > "one.pem".len())
        .collect();
    let [kept] = &kept[..] else {
        panic!("{kept:?}");
    };
    assert_eq!(
        fs::read(place.path().join("certs").join(kept)).unwrap(),
        old
    );
    let kept = kept.strip_suffix(".pem").unwrap();
    let told = |n: u32, name: &str| format!("certs/crl.pem  `{name}` revoked; {n} in the list\n");
    let revoked = place.run(&format!("certs revoke {kept}"));
    assert_eq!(revoked.stdout, told(1, kept), "{revoked:?}");
    assert_eq!(place.run("certs revoke one").stdout, told(2, "one"));
}

#[test]
fn a_mistake_is_one_sentence_and_a_2() {
    let place = Place::new();
    refused(
        &place.run("certs issue collector"),
        "no authority in `certs`; make one with `eventbus certs init --dir certs`",
    );
    refused(
        &place.run("certs show absent.pem"),
        "cannot read `absent.pem`: No such file or directory (os error 2)",
    );
    fs::write(place.path().join("x.pem"), "no certificate").unwrap();
    refused(
        &place.run("certs show x.pem"),
        "no PEM certificate in `x.pem`",
    );
    refused(
        &place.run("certs issue two--hyphens"),
        "invalid value 'two--hyphens' for '<NAME>': expected 1 to 46 of A-Z a-z 0-9 _ - without \
         `--`, with no `-` at an end, and not beginning with `eb-`",
    );
}

#[test]
fn a_pipe_is_no_directory_and_nobody_waits_for_its_other_end() {
    let place = Place::new();
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, place.path().join("pipe"), FileType::Fifo, mode, 0).unwrap();
    refused(
        &place.run("certs init --dir pipe"),
        "cannot lock directory `pipe`: Not a directory (os error 20)",
    );
}
