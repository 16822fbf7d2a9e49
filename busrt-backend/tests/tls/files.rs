//! Mistakes in the files of a TLS end, each told at the start, with the file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use busrt_backend::broker::{Broker, BrokerError, BrokerOptions, Listener};
use busrt_backend::tls::{TlsError, TlsOptions, own_names};
use busrt_backend::{OpenError, open};
use rcgen::ExtendedKeyUsagePurpose;

use crate::support::{Authority, DAY, options, run};

/// What a session is told that is to be opened with these.
async fn told(tls: &TlsOptions) -> TlsError {
    match open(options(1, tls.clone())).await.unwrap_err() {
        OpenError::Tls(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_is_not_there_or_empty_or_something_else() {
    run(async {
        let ca = Authority::new();
        let good = ca.client("one");
        let absent = ca.dir.path().join("absent");
        let mut tls = good.clone();
        tls.cert.clone_from(&absent);
        let error = told(&tls).await.to_string();
        let told_it =
            error.starts_with(&format!("cannot read certificate `{}`: ", absent.display()));
        assert!(told_it, "{error}");

        type Pick = fn(&mut TlsOptions) -> &mut PathBuf;
        let cases: [(Pick, &str); 3] = [
            (|tls| &mut tls.ca, "no PEM certificate in CA file"),
            (|tls| &mut tls.cert, "no PEM certificate in certificate"),
            (|tls| &mut tls.key, "no PEM private key in key"),
        ];
        let nothing = ca.dir.path().join("nothing");
        fs::write(&nothing, "nothing PEM").unwrap();
        fs::set_permissions(&nothing, fs::Permissions::from_mode(0o600)).unwrap();
        for (file, expected) in cases {
            let mut tls = good.clone();
            file(&mut tls).clone_from(&nothing);
            let error = told(&tls).await.to_string();
            assert_eq!(error, format!("{expected} `{}`", nothing.display()));
        }
        let error = told(&good.clone().crl(&nothing)).await;
        assert!(matches!(error, TlsError::Empty { .. }), "{error}");
        // A key where certificates should be.
        let mut tls = good.clone();
        tls.ca.clone_from(&good.key);
        assert!(matches!(told(&tls).await, TlsError::Empty { .. }));
    });
}

#[test]
fn a_key_of_another_certificate_or_open_to_others() {
    run(async {
        let ca = Authority::new();
        let mut tls = ca.client("one");
        tls.key = ca.client("two").key;
        let error = TlsError::KeyMismatch {
            key: tls.key.clone(),
            cert: tls.cert.clone(),
        };
        assert_eq!(told(&tls).await, error);

        let tls = ca.client("one");
        fs::set_permissions(&tls.key, fs::Permissions::from_mode(0o604)).unwrap();
        let path = tls.key.clone();
        assert_eq!(told(&tls).await, TlsError::OpenKey { path, mode: 0o604 });
    });
}

#[test]
fn a_certificate_out_of_its_time_is_told_with_the_date() {
    run(async {
        let ca = Authority::new();
        let old = ca.issue_with("old", &["127.0.0.1", "old"], |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 2, 3);
        });
        let path = old.cert.clone();
        let at = "2021-02-03T00:00:00Z".to_owned();
        let expired = TlsError::Expired { path, at };
        assert_eq!(told(&old).await, expired);
        assert_eq!(
            expired.to_string(),
            format!(
                "certificate `{}` expired at 2021-02-03T00:00:00Z; have it issued again",
                old.cert.display()
            )
        );
        // The broker's start is the same.
        let mut options = BrokerOptions::new();
        let address = ([127, 0, 0, 1], 0).into();
        options.listeners.push(Listener::Tcp { address, tls: old });
        assert_eq!(
            Broker::start(options).await.unwrap_err(),
            BrokerError::Tls(expired)
        );

        let early = ca.issue_with("early", &["early"], |params| {
            params.not_before = (SystemTime::now() + DAY).into();
        });
        assert!(matches!(told(&early).await, TlsError::NotYetValid { .. }));
    });
}

#[test]
fn a_certificate_for_something_else() {
    run(async {
        let ca = Authority::new();
        let server_only = ca.issue_with("one", &["one"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        let path = server_only.cert.clone();
        let purpose = "client";
        assert_eq!(
            told(&server_only).await,
            TlsError::Purpose { path, purpose }
        );

        let client_only = ca.issue_with("two", &["127.0.0.1"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let mut options = BrokerOptions::new();
        let address = ([127, 0, 0, 1], 0).into();
        let path = client_only.cert.clone();
        let tls = client_only;
        options.listeners.push(Listener::Tcp { address, tls });
        let purpose = "server";
        let error = BrokerError::Tls(TlsError::Purpose { path, purpose });
        assert_eq!(Broker::start(options).await.unwrap_err(), error);
    });
}

#[test]
fn names_come_from_the_certificate() {
    let ca = Authority::new();
    let tls = ca.issue("one", &["dotted.name", "one", "10.0.0.1", "two"]);
    let names = own_names(&tls).unwrap();
    assert_eq!(names.iter().collect::<Vec<_>>(), ["one", "two"]);
    let nameless = ca.issue("nameless", &["dotted.name"]);
    let path = nameless.cert.clone();
    assert_eq!(own_names(&nameless), Err(TlsError::Nameless { path }));
}

#[test]
fn a_server_name_that_is_none() {
    run(async {
        let ca = Authority::new();
        let name = "not a name".to_owned();
        let error = told(&ca.client("one").server_name(&name)).await;
        assert_eq!(error, TlsError::ServerName { name });
    });
}
