//! Those who get in: sessions over TLS, their names, and who may not have another's.

use std::time::Duration;

use busrt_backend::broker::Listener;
use busrt_backend::tls::TlsError;
use busrt_backend::{Address, BrokerMode, OpenError, open};
use conformance::fault::Reserved;
use eventbus_trait::{BusState, ConnectError, Event, EventBus, Subscribe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{
    Authority, RawClient, TLS_1_2, broker, broker_with, options, port, refused, run, until,
};

/// One event each way between two handles.
async fn exchange(one: &dyn EventBus, other: &dyn EventBus) {
    let mut events = one.subscribe(Subscribe::to("a.#").unwrap()).await.unwrap();
    for (n, bus) in [one, other].into_iter().enumerate() {
        let payload = vec![u8::try_from(n).unwrap()];
        let event = Event::new("a.b", payload.clone()).unwrap();
        bus.publish(event).await.unwrap();
        assert_eq!(events.recv().await.unwrap().bytes().unwrap(), payload);
    }
}

#[test]
fn sessions_of_two_certificates_share_a_bus() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.server()).await;
        let one = open(options(port(&broker), ca.client("one")))
            .await
            .unwrap();
        let other = open(options(port(&broker), ca.client("other")))
            .await
            .unwrap();
        assert_eq!(one.backend(), "tcp");
        exchange(&*one, &*other).await;
        // A further handle has a name of its own, made of the certificate's.
        let third = one.connect(None).await.unwrap();
        exchange(&*other, &*third).await;
        let named = one.connect(Some("one--named")).await.unwrap();
        exchange(&*named, &*third).await;

        let large = vec![7; 1 << 20];
        let mut events = one.subscribe(Subscribe::to("big").unwrap()).await.unwrap();
        other
            .publish(Event::new("big", large.clone()).unwrap())
            .await
            .unwrap();
        assert!(events.recv().await.unwrap().bytes().unwrap() == large);

        for bus in [&one, &other] {
            bus.shutdown().await.unwrap();
        }
        third.shutdown().await.unwrap();
        named.shutdown().await.unwrap();
        until(|| broker.stats().connections == 0).await;
        assert!(broker.stats().refused.is_empty(), "{:?}", broker.stats());
        broker.stop().await;
    });
}

#[test]
fn a_name_in_the_options_stands_for_the_host() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.issue("server", &["bus.example"])).await;
        let tls = ca.client("one").server_name("bus.example");
        let one = open(options(port(&broker), tls)).await.unwrap();
        exchange(&*one, &*one).await;
        one.shutdown().await.unwrap();
        broker.stop().await;
    });
}

#[test]
fn a_peer_without_tls_1_3_is_served_with_1_2() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.server()).await;
        let mut raw = RawClient::showing(&ca.client("one"));
        raw.versions = TLS_1_2;
        let mut tls = raw.connect(port(&broker), &ca.file()).await.unwrap();
        let mut greeting = [0; 3];
        tls.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting[0], 0xEB);
        broker.stop().await;
    });
}

#[test]
fn a_name_that_the_certificate_does_not_entitle_to_is_not_even_asked_for() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.server()).await;
        let mut named = options(port(&broker), ca.client("alice"));
        named.name = Some("bob".to_owned());
        let error = open(named.clone()).await.unwrap_err();
        let OpenError::Tls(TlsError::NotEntitled { name, names, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(
            (name.as_str(), names.as_str()),
            ("bob", "`alice`, `alice--…`")
        );
        named.name = Some("alice".to_owned());
        let alice = open(named).await.unwrap();
        let refused = alice.connect(Some("alice-2")).await.unwrap_err();
        assert!(
            refused.to_string().contains("does not entitle"),
            "{refused}"
        );
        alice.shutdown().await.unwrap();
        broker.stop().await;
    });
}

/// SEC-003: a client that asks for another's name all the same is refused, and the other lives on.
#[test]
fn nobody_takes_a_name_of_another_certificate() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.server()).await;
        let mut bob = options(port(&broker), ca.client("bob"));
        bob.name = Some("bob".to_owned());
        let bob = open(bob).await.unwrap();
        let mut events = bob.subscribe(Subscribe::to("a.#").unwrap()).await.unwrap();
        let alice = RawClient::showing(&ca.client("alice"));
        for name in [
            "bob",
            "bob--2",
            "alice-2",
            "alice%%x",
            "bob%%x",
            "eb-directory",
            "Alice",
        ] {
            let mut tls = alice.connect(port(&broker), &ca.file()).await.unwrap();
            let answer = register(&mut tls, name).await;
            assert_ne!(answer, Some(1), "registered as {name}");
        }
        // Those that are no names at all, and those that are not alice's.
        until(|| broker.stats().refused.values().sum::<u64>() == 7).await;
        assert!(
            broker.stats().refused["identity"] >= 4,
            "{:?}",
            broker.stats()
        );
        for name in ["alice", "alice--2"] {
            let mut tls = alice.connect(port(&broker), &ca.file()).await.unwrap();
            assert_eq!(register(&mut tls, name).await, Some(1), "{name}");
        }
        bob.publish(Event::new("a.b", "x").unwrap()).await.unwrap();
        assert_eq!(events.recv().await.unwrap().bytes().unwrap(), "x");
        bob.shutdown().await.unwrap();
        broker.stop().await;
    });
}

/// busrt's handshake; the broker's last word of it, 1 for yes.
async fn register(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    name: &str,
) -> Option<u8> {
    let mut greeting = [0; 3];
    stream.read_exact(&mut greeting).await.ok()?;
    stream.write_all(&greeting).await.ok()?;
    if stream.read_u8().await.ok()? != 1 {
        return None;
    }
    let length = u16::try_from(name.len()).unwrap();
    stream.write_all(&length.to_le_bytes()).await.ok()?;
    stream.write_all(name.as_bytes()).await.ok()?;
    stream.flush().await.ok()?;
    stream.read_u8().await.ok()
}

/// Small frames go in one record, a large one fills many.
#[test]
fn frames_of_any_size_come_back_through_tls() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.server()).await;
        let alice = RawClient::showing(&ca.client("alice"));
        let mut tls = alice.connect(port(&broker), &ca.file()).await.unwrap();
        assert_eq!(register(&mut tls, "alice").await, Some(1));
        let sizes = [0, 1, 511, 512, 513, 16_384, 16_385, 70_000, 1 << 20, 3];
        let payload = |n: usize| vec![u8::try_from(n).unwrap(); sizes[n]];
        for n in 0..sizes.len() {
            let body = [&b"alice\0"[..], &payload(n)].concat();
            let length = u32::try_from(body.len()).unwrap().to_le_bytes();
            let frame = [&[0, 0, 0, 0, busrt::OP_MESSAGE][..], &length, &body].concat();
            tls.write_all(&frame).await.unwrap();
        }
        tls.flush().await.unwrap();
        for n in 0..sizes.len() {
            let mut head = [0; 6];
            tls.read_exact(&mut head).await.unwrap();
            let [kind, length @ .., realtime] = head;
            assert_eq!((kind, realtime), (busrt::OP_MESSAGE, 0));
            let mut body = vec![0; u32::from_le_bytes(length) as usize];
            tls.read_exact(&mut body).await.unwrap();
            assert!(body == [&b"alice\0"[..], &payload(n)].concat(), "{n}");
        }
        drop(tls);
        broker.stop().await;
    });
}

#[test]
fn a_program_may_be_the_broker_itself() {
    run(async {
        let ca = Authority::new();
        let reserved = Reserved::new().unwrap();
        let port = reserved.address().port();
        let mut host = options(port, ca.issue("host", &["127.0.0.1", "host"]));
        host.broker = BrokerMode::Embedded;
        let host = open(host).await.unwrap();
        let guest = open(options(port, ca.client("guest"))).await.unwrap();
        exchange(&*host, &*guest).await;
        guest.shutdown().await.unwrap();
        host.shutdown().await.unwrap();
    });
}

/// The connection is lost at once when the broker ends, and made again when it is back.
#[test]
fn a_session_survives_its_broker() {
    run(async {
        let ca = Authority::new();
        let server = ca.server();
        let first = broker(server.clone()).await;
        let port = port(&first);
        let mut options = options(port, ca.client("one"));
        // Silence would tell long after the watchdog.
        options.keepalive = Duration::from_secs(3600);
        options.backoff.first = Duration::from_millis(10);
        options.backoff.most = Duration::from_millis(50);
        let one = open(options.clone()).await.unwrap();
        let mut events = one.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
        let mut state = one.state();
        assert_eq!(*state.borrow_and_update(), BusState::Connected);
        first.stop().await;
        let connecting = |state: &BusState| matches!(state, BusState::Connecting { .. });
        state.wait_for(connecting).await.unwrap();
        one.publish(Event::new("a", "x").unwrap()).await.unwrap();
        let second = broker_with(server.clone(), |o| {
            let address = ([127, 0, 0, 1], port).into();
            o.listeners = vec![Listener::Tcp {
                address,
                tls: server,
            }];
        })
        .await;
        assert_eq!(events.recv().await.unwrap().bytes().unwrap(), "x");
        one.shutdown().await.unwrap();
        second.stop().await;
    });
}

/// LIF-008: connecting to nothing is an error, and so is connecting to who says nothing.
#[test]
fn connecting_to_nothing_ends_within_the_deadline() {
    run(async {
        let ca = Authority::new();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let mut options = options(port, ca.client("one"));
        options.connect_timeout = Duration::from_millis(200);
        let error = open(options.clone()).await.unwrap_err();
        let timeout = matches!(error, OpenError::Connect(ConnectError::Timeout { .. }));
        assert!(timeout, "{error:?}");
        drop(silent);
        let error = open(options).await.unwrap_err();
        let nothing = matches!(error, OpenError::Connect(ConnectError::Unreachable { .. }));
        assert!(nothing, "{error:?}");
    });
}

/// Over the limit is told through TLS as well.
#[test]
fn a_full_broker_says_so_behind_tls() {
    run(async {
        let ca = Authority::new();
        let broker = broker_with(ca.server(), |o| o.max_connections = 1).await;
        let one = open(options(port(&broker), ca.client("one")))
            .await
            .unwrap();
        let error = open(options(port(&broker), ca.client("two")))
            .await
            .unwrap_err();
        let told = matches!(error, OpenError::Connect(ConnectError::Refused { .. }));
        assert!(told, "{error:?}");
        refused(&broker, "too_many").await;
        one.shutdown().await.unwrap();
        broker.stop().await;
    });
}

#[test]
fn an_ipv6_address_is_written_in_brackets() {
    run(async {
        let ca = Authority::new();
        let mut options = options(1, ca.client("one"));
        options.address = Address::Tcp {
            host: "::1".to_owned(),
            port: 1,
            tls: ca.client("one"),
        };
        let error = open(options).await.unwrap_err().to_string();
        assert!(error.contains("`tcp://[::1]:1`"), "{error}");
    });
}
