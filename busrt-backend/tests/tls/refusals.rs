//! SEC-002: each way of not getting in, what the client is told, and what the broker counts and
//! logs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use busrt_backend::broker::{Broker, Listener};
use busrt_backend::tls::TlsOptions;
use busrt_backend::{Address, BrokerMode, OpenError, Options, open};
use eventbus_trait::{ConnectError, EventBus, TlsProblem};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{
    Authority, DAY, RawClient, TLS_1_2, alert, broker, broker_with, chain_and_key, logs, options,
    port, refused, run, until,
};

/// Why a session with these certificates does not get in.
async fn problem(port: u16, tls: TlsOptions) -> TlsProblem {
    match open(options(port, tls)).await.unwrap_err() {
        OpenError::Connect(ConnectError::Tls { problem, address }) => {
            assert_eq!(address, format!("tcp://127.0.0.1:{port}"));
            problem
        }
        other => panic!("{other:?}"),
    }
}

fn by_broker(reason: &str) -> TlsProblem {
    TlsProblem::RefusedByBroker {
        reason: reason.to_owned(),
    }
}

/// The alert that a raw client gets.
async fn alerted(broker: &Broker, raw: &RawClient, ca: &Authority) -> AlertDescription {
    match raw.connect(port(broker), &ca.file()).await {
        // In TLS 1.3 a client has shaken hands before it is judged.
        Ok(mut tls) => alert(&tls.read_u8().await.unwrap_err()),
        Err(error) => alert(&error),
    }
}

#[test]
fn plain_tcp() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.server()).await;
        let mut tcp = TcpStream::connect(("127.0.0.1", port(&broker)))
            .await
            .unwrap();
        // What a client of a stock broker would answer to a greeting.
        tcp.write_all(&[0xEB, 1, 0, 5, 0, b'a', b'l', b'i', b'c', b'e'])
            .await
            .unwrap();
        let mut rest = Vec::new();
        // At most an alert, and the end.
        let _ = tcp.read_to_end(&mut rest).await;
        assert!(!rest.contains(&0xEB), "greeted: {rest:?}");
        refused(&broker, "not_tls").await;
        broker.stop().await;
    });
}

/// A plain client of busrt says nothing until it is greeted.
#[test]
fn plain_tcp_that_waits_to_be_greeted() {
    run(async {
        let ca = Authority::new();
        let soon = Duration::from_millis(100);
        let broker = broker_with(ca.server(), |o| o.handshake_timeout = soon).await;
        let mut tcp = TcpStream::connect(("127.0.0.1", port(&broker)))
            .await
            .unwrap();
        let mut rest = Vec::new();
        tcp.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
        refused(&broker, "handshake_timeout").await;
        broker.stop().await;
    });
}

#[test]
fn no_client_certificate() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.server()).await;
        let raw = RawClient {
            show: None,
            versions: rustls::ALL_VERSIONS,
        };
        let told = alerted(&broker, &raw, &ca).await;
        assert_eq!(told, AlertDescription::CertificateRequired);
        refused(&broker, "no_certificate").await;
        let raw = RawClient {
            show: None,
            versions: TLS_1_2,
        };
        alerted(&broker, &raw, &ca).await;
        refused(&broker, "no_certificate").await;
        broker.stop().await;
    });
}

#[test]
fn a_client_of_an_unknown_authority() {
    run(async {
        let (ca, other) = (Authority::new(), Authority::new());
        let broker = broker(ca.server()).await;
        let mut client = other.client("one");
        client.ca = ca.file();
        let told = problem(port(&broker), client).await;
        let reason = "this client's certificate is signed by no authority of the broker's";
        assert_eq!(told, by_broker(reason));
        refused(&broker, "unknown_authority").await;
        broker.stop().await;
    });
}

#[test]
fn a_broker_of_an_unknown_authority() {
    run(async {
        let (ca, other) = (Authority::new(), Authority::new());
        let broker = broker(other.server()).await;
        let told = problem(port(&broker), ca.client("one")).await;
        assert_eq!(told, TlsProblem::UnknownAuthority);
        refused(&broker, "client_refused_us").await;
        broker.stop().await;
    });
}

#[test]
fn an_expired_client() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.server()).await;
        let expired = ca.issue_with("old", &["old"], |params| {
            params.not_after = (SystemTime::now() - DAY).into();
        });
        let told = alerted(&broker, &RawClient::showing(&expired), &ca).await;
        assert_eq!(told, AlertDescription::CertificateExpired);
        refused(&broker, "expired").await;
        broker.stop().await;
    });
}

#[test]
fn a_client_before_its_time() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.server()).await;
        let early = ca.issue_with("early", &["early"], |params| {
            params.not_before = (SystemTime::now() + DAY).into();
        });
        alerted(&broker, &RawClient::showing(&early), &ca).await;
        refused(&broker, "not_yet_valid").await;
        broker.stop().await;
    });
}

/// Ours does not start with an expired certificate, so a raw broker shows one.
#[test]
fn an_expired_broker() {
    run(async {
        let ca = Authority::new();
        let expired = ca.issue_with("server", &["127.0.0.1"], |params| {
            params.not_after = (SystemTime::now() - DAY).into();
        });
        let (chain, key) = chain_and_key(&expired);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let raw = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            TlsAcceptor::from(Arc::new(config))
                .accept(tcp)
                .await
                .map(drop)
        });
        assert_eq!(problem(port, ca.client("one")).await, TlsProblem::Expired);
        let told = alert(&raw.await.unwrap().unwrap_err());
        assert_eq!(told, AlertDescription::CertificateExpired);
    });
}

#[test]
fn a_broker_of_another_name() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.issue("server", &["127.0.0.2", "other.example"])).await;
        let expected = "127.0.0.1".to_owned();
        let told = problem(port(&broker), ca.client("one")).await;
        assert_eq!(told, TlsProblem::WrongName { expected });
        let named = ca.client("one").server_name("bus.example");
        let expected = "bus.example".to_owned();
        let told = problem(port(&broker), named).await;
        assert_eq!(told, TlsProblem::WrongName { expected });
        refused(&broker, "client_refused_us").await;
        broker.stop().await;
    });
}

#[test]
fn a_revoked_client() {
    run(async {
        let ca = Authority::new();
        let list = ca.revoke(&["mallory"]);
        let broker = broker(ca.server().crl(list)).await;
        let alice = open(options(port(&broker), ca.client("alice")))
            .await
            .unwrap();
        let told = problem(port(&broker), ca.client("mallory")).await;
        assert_eq!(told, by_broker("this client's certificate was revoked"));
        refused(&broker, "revoked").await;
        alice.shutdown().await.unwrap();
        broker.stop().await;
    });
}

/// A list whose time is over still bars whom it bars, and the log says that it is old.
#[test]
fn a_list_whose_time_is_over_is_used_and_told() {
    run(async {
        let ca = Authority::new();
        let crl = ca.revoke_until(&["one"], SystemTime::now() - DAY / 2);
        let broker = broker(ca.server().crl(crl.clone())).await;
        let told = format!("crl={}", crl.display());
        let lines = logs().lock().unwrap().clone();
        assert!(lines.lines().any(|line| {
            line.contains("the time of the revocation list is over") && line.contains(&told)
        }));
        let told = by_broker("this client's certificate was revoked");
        assert_eq!(problem(port(&broker), ca.client("one")).await, told);
        let two = open(options(port(&broker), ca.client("two")))
            .await
            .unwrap();
        two.shutdown().await.unwrap();
        broker.stop().await;
    });
}

#[test]
fn a_revoked_broker() {
    run(async {
        let ca = Authority::new();
        let list = ca.revoke(&["server"]);
        let broker = broker(ca.server()).await;
        let told = problem(port(&broker), ca.client("one").crl(list)).await;
        assert_eq!(told, TlsProblem::Revoked);
        refused(&broker, "client_refused_us").await;
        broker.stop().await;
    });
}

#[test]
fn a_certificate_that_is_not_for_clients() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.server()).await;
        let server_only = ca.issue_with("one", &["one"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        alerted(&broker, &RawClient::showing(&server_only), &ca).await;
        refused(&broker, "wrong_purpose").await;
        broker.stop().await;
    });
}

#[test]
fn a_certificate_without_a_client_name() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.server()).await;
        let nameless = ca.issue("nameless", &["a.b", "10.0.0.1", "eb-directory", "x--y"]);
        let raw = RawClient::showing(&nameless);
        let mut tls = raw.connect(port(&broker), &ca.file()).await.unwrap();
        let mut rest = Vec::new();
        let _ = tls.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{rest:?}");
        refused(&broker, "no_client_name").await;
        broker.stop().await;
    });
}

/// Hellos as TLS 1.0 and 1.1 write them, and as a newer one does that was told to be old.
#[test]
fn tls_below_1_2() {
    const HANDSHAKE_FAILURE: u8 = 40;
    const PROTOCOL_VERSION: u8 = 70;
    run(async {
        let ca = Authority::new();
        for (minor, newer, alert) in [
            (1, false, HANDSHAKE_FAILURE),
            (2, false, HANDSHAKE_FAILURE),
            (1, true, PROTOCOL_VERSION),
            (2, true, PROTOCOL_VERSION),
        ] {
            let broker = broker(ca.server()).await;
            let mut tcp = TcpStream::connect(("127.0.0.1", port(&broker)))
                .await
                .unwrap();
            tcp.write_all(&hello(minor, newer)).await.unwrap();
            let mut answer = Vec::new();
            let _ = tcp.read_to_end(&mut answer).await;
            assert_eq!(answer.first(), Some(&0x15), "no alert: {answer:?}");
            assert_eq!(answer.get(5..7), Some(&[2, alert][..]), "{answer:?}");
            refused(&broker, "old_tls").await;
            broker.stop().await;
        }
    });
}

/// The first record of a client that offers TLS 1.`minor - 1`; a `newer` one says which
/// signatures it knows.
fn hello(minor: u8, newer: bool) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    // No session; two cipher suites; no compression.
    body.extend([0, 0, 4, 0x00, 0x2f, 0xc0, 0x09, 1, 0]);
    if newer {
        // One extension: signature_algorithms, with ecdsa_secp256r1_sha256.
        body.extend([0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    }
    let length = |bytes: usize| u8::try_from(bytes).unwrap();
    let (outer, inner) = (length(body.len() + 4), length(body.len()));
    let mut record = vec![0x16, 3, 1, 0, outer, 1, 0, 0, inner];
    record.extend(body);
    record
}

/// SEC-006: strangers who say nothing take nobody's place, over TCP or beside it, and the oldest of
/// them makes room for whoever comes.
#[test]
fn strangers_at_the_port_take_no_place() {
    run(async {
        let ca = Authority::new();
        let dir = tempfile::tempdir_in(ca.dir.path()).unwrap();
        let unix = dir.path().join("run/bus.sock");
        let broker = broker_with(ca.server(), |options| {
            options.listeners.push(Listener::Unix(unix.clone()));
            options.max_connections = 2;
            // Longer than this test waits for anything.
            options.handshake_timeout = Duration::from_secs(120);
        })
        .await;
        let Some(Address::Tcp { port, .. }) = broker.addresses().first().cloned() else {
            panic!("{:?}", broker.addresses());
        };
        let mut strangers = Vec::new();
        for _ in 0..100 {
            strangers.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
        until(|| broker.stats().refused.get("unfinished") == Some(&36)).await;
        let mut first = strangers.remove(0);
        let _ = first.read_to_end(&mut Vec::new()).await;
        let one = open(options(port, ca.client("one"))).await.unwrap();
        let mut local = Options::new(Address::Unix(unix));
        local.broker = BrokerMode::External;
        let two = open(local).await.unwrap();
        assert_eq!(broker.stats().connections, 2);
        assert_eq!(broker.stats().refused.get("too_many"), None);
        one.shutdown().await.unwrap();
        two.shutdown().await.unwrap();
        drop(strangers);
        broker.stop().await;
    });
}

/// What answers without TLS is no broker of ours.
#[test]
fn a_broker_without_tls() {
    run(async {
        let ca = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plain = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tcp.write_all(&[0xEB, 1, 0, 0xEB, 1, 0]).await.unwrap();
            let _ = tcp.read_to_end(&mut Vec::new()).await;
        });
        assert_eq!(problem(port, ca.client("one")).await, TlsProblem::NotTls);
        plain.await.unwrap();
    });
}
