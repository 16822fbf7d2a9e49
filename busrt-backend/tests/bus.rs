//! The bus over real brokers: in process and over UNIX sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use busrt_backend::{Address, BrokerMode, BusrtBus, OpenError, Options, SocketError, open};
use eventbus_trait::{
    ConnectError, Delivery, Event, EventBus, Item, Overflow, PublishError, ReceiptError, Subscribe,
    SubscribeError, Subscription, TryPublishError,
};

/// Runs a test under a watchdog.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs");
    });
}

/// A directory for sockets, with the mode that they need.
fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .unwrap()
}

fn addresses() -> Vec<(Address, Option<tempfile::TempDir>)> {
    let dir = directory();
    let unix = Address::Unix(dir.path().join("bus.sock"));
    vec![(Address::InProcess, None), (unix, Some(dir))]
}

fn event(topic: &str, n: u64) -> Event {
    Event::new(topic, n.to_le_bytes().to_vec()).unwrap()
}

fn number(event: &Event) -> u64 {
    u64::from_le_bytes(event.bytes().unwrap()[..].try_into().unwrap())
}

async fn expect_numbers(subscription: &mut Subscription, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let event = subscription.recv().await.expect("the stream has ended");
        assert_eq!(number(&event), n);
    }
}

async fn opened(address: &Address) -> Arc<BusrtBus> {
    open(Options::new(address.clone())).await.unwrap()
}

#[test]
fn a_fast_publisher_loses_nothing_to_slow_subscribers_of_other_handles() {
    run(async {
        for (address, _dir) in addresses() {
            let bus = opened(&address).await;
            let publisher = bus.connect(Some("publisher")).await.unwrap();
            let mut small = bus
                .subscribe(Subscribe::to("a.#").unwrap().capacity(7))
                .await
                .unwrap();
            let other = bus.connect(None).await.unwrap();
            let mut large = other
                .subscribe(Subscribe::to("a.b").unwrap())
                .await
                .unwrap();
            const N: u64 = 20_000;
            let sending = tokio::spawn(async move {
                for n in 0..N {
                    publisher.publish(event("a.b", n)).await.unwrap();
                }
                publisher.shutdown().await.unwrap();
            });
            tokio::join!(
                expect_numbers(&mut small, 0..N),
                expect_numbers(&mut large, 0..N)
            );
            sending.await.unwrap();
            let stats = small.stats();
            assert_eq!((stats.matched, stats.delivered, stats.queued), (N, N, 0));
            assert!(stats.is_conserved());
            bus.shutdown().await.unwrap();
            other.shutdown().await.unwrap();
        }
    });
}

#[test]
fn what_was_accepted_before_shutdown_is_read_after_it() {
    run(async {
        for (address, _dir) in addresses() {
            let bus = opened(&address).await;
            let publisher = bus.connect(None).await.unwrap();
            let mut subscription = bus.subscribe(Subscribe::to("#").unwrap()).await.unwrap();
            for n in 0..1_000 {
                publisher.publish(event("a", n)).await.unwrap();
            }
            bus.shutdown().await.unwrap();
            bus.shutdown().await.unwrap();
            expect_numbers(&mut subscription, 0..1_000).await;
            assert_eq!(subscription.recv().await, None);
            let refused = bus.publish(event("a", 0)).await.unwrap_err();
            assert_eq!(*refused.reason(), PublishError::Closed);
            let again = bus.subscribe(Subscribe::to("#").unwrap()).await;
            assert_eq!(again.unwrap_err(), SubscribeError::Closed);
            publisher.shutdown().await.unwrap();
        }
    });
}

#[test]
fn a_receipt_counts_subscriptions_and_names_the_silent() {
    run(async {
        for (address, _dir) in addresses() {
            let bus = opened(&address).await;
            let deadline = Duration::from_secs(30);
            let receipt = bus.publish(event("a", 0)).await.unwrap();
            assert_eq!(receipt.confirmed(deadline).await.unwrap().deliveries, 0);
            let _one = bus
                .subscribe(Subscribe::to("a").unwrap().named("one"))
                .await
                .unwrap();
            let other = bus.connect(None).await.unwrap();
            let _two = other
                .subscribe(Subscribe::to("a").unwrap().named("two"))
                .await
                .unwrap();
            let receipt = bus.publish(event("a", 0)).await.unwrap();
            assert_eq!(receipt.confirmed(deadline).await.unwrap().deliveries, 2);
            let receipt = bus.publish(event("a", 1)).await.unwrap();
            let at_once = receipt.confirmed(Duration::ZERO).await;
            if let Err(ReceiptError::Unconfirmed { subscriptions, .. }) = &at_once {
                assert!(subscriptions.iter().all(|s| s == "one" || s == "two"));
            }
            assert_eq!(receipt.confirmed(deadline).await.unwrap().deliveries, 2);
        }
    });
}

#[test]
fn a_full_subscription_holds_back_the_event_from_all() {
    run(async {
        for (address, _dir) in addresses() {
            let mut options = Options::new(address);
            options.limits.publish_deadline = Duration::from_millis(50);
            let bus = open(options).await.unwrap();
            let mut full = bus
                .subscribe(Subscribe::to("a.b").unwrap().named("full").capacity(3))
                .await
                .unwrap();
            let mut roomy = bus.subscribe(Subscribe::to("a.#").unwrap()).await.unwrap();
            let mut accepted = 0;
            let refused = async |accepted| {
                let refused = bus.publish(event("a.b", accepted)).await.err()?;
                assert!(
                    matches!(refused.reason(), PublishError::Backpressure { subscription, .. } if subscription == "full"),
                    "{refused}"
                );
                assert_eq!(number(refused.event()), accepted);
                Some(refused.into_event())
            };
            // On a busy machine, room is told of when somebody has given up waiting for it already.
            let tried = loop {
                let Some(back) = refused(accepted).await else {
                    accepted += 1;
                    continue;
                };
                match bus.try_publish(back) {
                    Ok(_) => accepted += 1,
                    Err(tried) => break tried,
                }
            };
            assert_eq!(
                *tried.reason(),
                TryPublishError::Full {
                    subscription: "full".to_owned()
                }
            );
            expect_numbers(&mut full, 0..1).await;
            while refused(accepted).await.is_some() {}
            expect_numbers(&mut roomy, 0..accepted + 1).await;
            expect_numbers(&mut full, 1..accepted + 1).await;
        }
    });
}

#[test]
fn at_most_once_never_waits_and_tells_what_was_dropped() {
    run(async {
        for (address, _dir) in addresses() {
            let bus = opened(&address).await;
            let mut subscription = bus
                .subscribe(Subscribe::to("a").unwrap().capacity(4))
                .await
                .unwrap();
            const N: u64 = 500;
            for n in 0..N {
                let event = event("a", n).delivery(Delivery::AtMostOnce);
                bus.try_publish(event).unwrap();
            }
            let (mut got, mut lagged) = (0, 0);
            while got + lagged < N {
                match subscription.recv_item().await.unwrap() {
                    Item::Event(_) => got += 1,
                    Item::Lagged(n) => lagged += n,
                }
            }
            assert!(got >= 4, "{got}");
            assert!(lagged > 0);
            let stats = subscription.stats();
            assert_eq!((stats.matched, stats.dropped), (N, lagged));
            assert!(stats.is_conserved(), "{stats:?}");
            assert_eq!(bus.stats().dropped, lagged);
        }
    });
}

#[test]
fn a_subscription_that_drops_does_not_hold_up_the_publisher() {
    run(async {
        for (address, _dir) in addresses() {
            let bus = opened(&address).await;
            let mut newest = bus
                .subscribe(
                    Subscribe::to("a")
                        .unwrap()
                        .capacity(10)
                        .overflow(Overflow::DropOldest),
                )
                .await
                .unwrap();
            const N: u64 = 10_000;
            for n in 0..N {
                bus.publish(event("a", n)).await.unwrap();
            }
            let last = bus.publish(event("a", N)).await.unwrap();
            last.confirmed(Duration::from_secs(30)).await.unwrap();
            assert_eq!(newest.recv_item().await, Some(Item::Lagged(N + 1 - 10)));
            expect_numbers(&mut newest, N + 1 - 10..N + 1).await;
            assert!(newest.stats().is_conserved());
        }
    });
}

#[test]
fn a_name_is_taken_once_on_the_whole_bus() {
    run(async {
        for (address, _dir) in addresses() {
            let bus = opened(&address).await;
            let other = bus.connect(None).await.unwrap();
            let named = || Subscribe::to("a").unwrap().named("it");
            let first = bus.subscribe(named()).await.unwrap();
            let taken = SubscribeError::AlreadySubscribed {
                name: "it".to_owned(),
            };
            assert_eq!(bus.subscribe(named()).await.unwrap_err(), taken);
            assert_eq!(other.subscribe(named()).await.unwrap_err(), taken);
            first.unsubscribe().await;
            for _ in 0..50 {
                let second = other.subscribe(named()).await.unwrap();
                second.unsubscribe().await;
                bus.subscribe(named()).await.unwrap().unsubscribe().await;
            }
            for _ in 0..20 {
                let third = bus.connect(None).await.unwrap();
                let (a, b) = tokio::join!(
                    third.subscribe(named_as("x")),
                    other.subscribe(named_as("x"))
                );
                assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
            }
        }
    });

    fn named_as(name: &str) -> Subscribe {
        Subscribe::to("a").unwrap().named(name)
    }
}

#[test]
fn an_idle_connection_outlives_the_brokers_patience() {
    run(async {
        let dir = directory();
        let mut options = Options::new(Address::Unix(dir.path().join("bus.sock")));
        options.keepalive = Duration::from_millis(900);
        let bus = open(options).await.unwrap();
        let mut subscription = bus.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
        // Three times as long as the broker waits for a silent client.
        let idle = tokio::time::timeout(Duration::from_millis(3_400), subscription.recv()).await;
        assert!(idle.is_err(), "nothing was published");
        bus.publish(event("a", 7)).await.unwrap();
        expect_numbers(&mut subscription, 7..8).await;
    });
}

#[test]
fn a_foreign_clients_payload_is_an_event() {
    run(async {
        let dir = directory();
        let path = dir.path().join("bus.sock");
        let bus = opened(&Address::Unix(path.clone())).await;
        let mut subscription = bus
            .subscribe(Subscribe::to("events.#").unwrap())
            .await
            .unwrap();
        let config = busrt::ipc::Config::new(path.to_str().unwrap(), "foreign");
        let mut foreign = busrt::ipc::Client::connect(&config).await.unwrap();
        use busrt::client::AsyncClient;
        let payload = b"{\"pid\":1}".as_slice();
        let sent = foreign
            .publish("eb/events/new", payload.into(), busrt::QoS::Processed)
            .await;
        sent.unwrap().unwrap().await.unwrap().unwrap();
        let event = subscription.recv().await.unwrap();
        assert_eq!(event.topic().as_str(), "events.new");
        assert_eq!(event.bytes().unwrap(), payload);
        assert_eq!(event.origin(), None);
        let broken = busrt_backend::wire::MAGIC.as_slice();
        let sent = foreign
            .publish("eb/events/new", broken.into(), busrt::QoS::Processed)
            .await;
        sent.unwrap().unwrap().await.unwrap().unwrap();
        let sent = foreign
            .publish("eb/events/new", payload.into(), busrt::QoS::Processed)
            .await;
        sent.unwrap().unwrap().await.unwrap().unwrap();
        assert_eq!(subscription.recv().await.unwrap().bytes().unwrap(), payload);
        assert_eq!(bus.stats().malformed, 1);
    });
}

#[test]
fn the_socket_is_its_owners_alone_and_goes_with_the_bus() {
    run(async {
        let dir = directory();
        let path = dir.path().join("new/bus.sock");
        let address = Address::Unix(path.clone());
        let bus = opened(&address).await;
        let mode = |path: &PathBuf| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&dir.path().join("new")), 0o700);

        let mut embedded = Options::new(address.clone());
        embedded.broker = BrokerMode::Embedded;
        let second = open(embedded).await.unwrap_err();
        assert_eq!(
            second,
            OpenError::Socket(SocketError::InUse { path: path.clone() })
        );
        let guest = opened(&address).await;
        guest.publish(event("a", 1)).await.unwrap();
        guest.shutdown().await.unwrap();
        bus.publish(event("a", 1)).await.unwrap();
        bus.shutdown().await.unwrap();
        let left: Vec<_> = dir.path().join("new").read_dir().unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn a_stale_socket_is_replaced_and_a_foreign_file_is_not() {
    run(async {
        let dir = directory();
        let path = dir.path().join("bus.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        opened(&Address::Unix(path.clone()))
            .await
            .shutdown()
            .await
            .unwrap();
        std::fs::write(&path, "precious").unwrap();
        let refused = open(Options::new(Address::Unix(path.clone())))
            .await
            .unwrap_err();
        assert_eq!(
            refused,
            OpenError::Socket(SocketError::NotASocket { path: path.clone() })
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    });
}

#[test]
fn a_live_socket_of_another_broker_is_left_alone() {
    run(async {
        let dir = directory();
        let path = dir.path().join("bus.sock");
        let _theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut options = Options::new(Address::Unix(path.clone()));
        options.broker = BrokerMode::Embedded;
        let refused = open(options).await.unwrap_err();
        assert_eq!(
            refused,
            OpenError::Socket(SocketError::InUse { path: path.clone() })
        );
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    });
}

#[test]
fn an_open_directory_is_refused() {
    run(async {
        let dir = directory();
        let open_to_all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open_to_all).unwrap();
        let path = dir.path().join("bus.sock");
        let refused = open(Options::new(Address::Unix(path.clone())))
            .await
            .unwrap_err();
        let path = dir.path().to_owned();
        assert_eq!(
            refused,
            OpenError::Socket(SocketError::OpenDirectory { path, mode: 0o755 })
        );
    });
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    run(async {
        let dir = directory();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let path = file.join("bus.sock");
        let refused = open(Options::new(Address::Unix(path))).await;
        let expected = format!(
            "cannot use as a directory `{}`: not a directory",
            file.display()
        );
        assert_eq!(refused.unwrap_err().to_string(), expected);
    });
}

#[test]
fn refusals_of_a_broker_are_clear() {
    run(async {
        let dir = directory();
        let path = dir.path().join("bus.sock");
        let external = || {
            let mut options = Options::new(Address::Unix(path.clone()));
            options.broker = BrokerMode::External;
            options
        };
        match open(external()).await.unwrap_err() {
            OpenError::Connect(ConnectError::Unreachable { address, .. }) => {
                assert_eq!(address, path.display().to_string());
            }
            other => panic!("{other}"),
        }
        let mut options = Options::new(Address::Unix(path.clone()));
        options.max_connections = 3;
        let bus = open(options).await.unwrap();
        let named = bus.connect(Some("second")).await.unwrap();
        let taken = bus.connect(Some("second")).await.unwrap_err();
        assert_eq!(
            taken,
            ConnectError::NameInUse {
                name: "second".to_owned()
            }
        );
        let third = open(external()).await.unwrap();
        match open(external()).await.unwrap_err() {
            OpenError::Connect(ConnectError::Refused { reason, .. }) => {
                assert!(
                    reason.contains("as many connections as it may have"),
                    "{reason}"
                );
            }
            other => panic!("{other}"),
        }
        named.shutdown().await.unwrap();
        open(external()).await.unwrap().shutdown().await.unwrap();
        third.shutdown().await.unwrap();
        let dotted = bus.connect(Some("a.b")).await.unwrap_err();
        assert!(dotted.to_string().contains("client name `a.b`"), "{dotted}");
    });
}

#[test]
fn a_second_life_under_the_same_name_frees_the_publishers_of_the_first() {
    run(async {
        for (address, _dir) in addresses() {
            let bus = opened(&address).await;
            for _ in 0..10 {
                let guest = bus.connect(Some("guest")).await.unwrap();
                let subscribe = Subscribe::to("a").unwrap().named("guests").capacity(1);
                let subscription = guest.subscribe(subscribe).await.unwrap();
                while bus.try_publish(event("a", 0)).is_ok() {}
                let (ended, published) = tokio::join!(guest.shutdown(), bus.publish(event("a", 1)));
                ended.unwrap();
                published.unwrap();
                drop(subscription);
            }
        }
    });
}

#[test]
fn lives_under_one_name_share_the_room_of_a_queue() {
    run(async {
        for (address, _dir) in addresses() {
            let bus = opened(&address).await;
            const ROOM: u64 = 100;
            let subscribe = Subscribe::to("a").unwrap().capacity(ROOM as usize);
            let mut subscription = bus.subscribe(subscribe).await.unwrap();
            let (mut published, mut read) = (0, 0);
            for _ in 0..5 {
                let publisher = bus.connect(Some("publisher")).await.unwrap();
                while publisher.try_publish(event("a", published)).is_ok() {
                    published += 1;
                }
                publisher.shutdown().await.unwrap();
                assert!(
                    published - read <= ROOM,
                    "{published} published, {read} read"
                );
                expect_numbers(&mut subscription, read..read + 30).await;
                read += 30;
            }
            assert!(
                published > ROOM,
                "what was read makes room for a later life"
            );
            expect_numbers(&mut subscription, read..published).await;
        }
    });
}

#[test]
fn nothing_accepted_is_lost_when_both_ends_shut_down_at_once() {
    run(async {
        for (address, _dir) in addresses() {
            let bus = opened(&address).await;
            for _ in 0..5 {
                let publisher = bus.connect(None).await.unwrap();
                let subscriber = bus.connect(None).await.unwrap();
                let mut subscription = subscriber
                    .subscribe(Subscribe::to("#").unwrap())
                    .await
                    .unwrap();
                for n in 0..3_000 {
                    publisher.publish(event("a", n)).await.unwrap();
                }
                let (one, other) = tokio::join!(subscriber.shutdown(), publisher.shutdown());
                one.unwrap();
                other.unwrap();
                expect_numbers(&mut subscription, 0..3_000).await;
                assert_eq!(subscription.recv().await, None);
            }
        }
    });
}

#[test]
fn a_client_that_has_not_joined_is_not_listened_to() {
    use busrt::client::AsyncClient;
    use busrt_backend::wire::{Control, SubscriptionInfo};
    run(async {
        let dir = directory();
        let path = dir.path().join("bus.sock");
        let mut options = Options::new(Address::Unix(path.clone()));
        options.name = Some("member".to_owned());
        let bus = open(options).await.unwrap();
        let config = busrt::ipc::Config::new(path.to_str().unwrap(), "stranger");
        let mut stranger = busrt::ipc::Client::connect(&config).await.unwrap();
        let info = SubscriptionInfo {
            id: 1,
            name: "trap".to_owned(),
            filters: vec!["#".parse().unwrap()],
            link: 1,
            received: 0,
            received_bytes: 0,
            credit: 0,
            credit_bytes: 0,
        };
        let publisher = bus.publisher_id();
        let hello = Control::Hello {
            publisher,
            subscriptions: Vec::new(),
        };
        for message in [hello, Control::Open(info)] {
            let sent = stranger.send("member", message.write().into(), busrt::QoS::Processed);
            sent.await.unwrap().unwrap().await.unwrap().unwrap();
        }
        while bus.stats().malformed < 2 {
            tokio::task::yield_now().await;
        }
        let mut subscription = bus.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
        bus.publish(event("a", 1)).await.unwrap();
        expect_numbers(&mut subscription, 1..2).await;
    });
}

#[test]
fn a_frame_with_no_right_to_a_subscription_is_not_delivered() {
    use busrt::client::AsyncClient;
    use busrt_backend::wire::{Control, FrameWriter, LinkEntry};
    run(async {
        let dir = directory();
        let path = dir.path().join("bus.sock");
        let bus = opened(&Address::Unix(path.clone())).await;
        let mut subscription = bus
            .subscribe(Subscribe::to("a").unwrap().capacity(10))
            .await
            .unwrap();

        // A peer that joins as the protocol says, and then sends what it must not.
        let config = busrt::ipc::Config::new(path.to_str().unwrap(), "peer");
        let mut peer = busrt::ipc::Client::connect(&config).await.unwrap();
        let frames = peer.take_event_channel().unwrap();
        let own = eventbus_trait::PublisherId::random();
        let next = async || loop {
            let frame = frames.recv().await.unwrap();
            let bytes = bytes::Bytes::copy_from_slice(frame.payload());
            if frame.kind() == busrt::FrameKind::Message
                && let Some(message) = Control::read(&bytes).unwrap()
                && message != Control::Probe
            {
                return message;
            }
        };
        peer.send(
            "eb-directory",
            Control::Join.write().into(),
            busrt::QoS::Processed,
        )
        .await
        .unwrap();
        let Control::Members(members) = next().await else {
            panic!("not joined")
        };
        let other = members.iter().find(|m| m.client != "peer").unwrap();
        let hello = Control::Hello {
            publisher: own,
            subscriptions: Vec::new(),
        };
        peer.send(&other.client, hello.write().into(), busrt::QoS::Processed)
            .await
            .unwrap();
        let Control::Welcome { subscriptions, .. } = next().await else {
            panic!("not welcome")
        };
        let id = subscriptions[0].id;

        let entry = |first| LinkEntry {
            subscription: id,
            first,
            dropped: 0,
        };
        let frame = |links: &[LinkEntry], topic: &str, n: u64| {
            let event = event(topic, n);
            let mut frame = FrameWriter::new(own, 1, links, 0);
            frame.push(&event, &event.bytes().unwrap(), own, 1);
            frame.finish()
        };
        for (topic, links) in [
            ("eb/a", vec![entry(10)]),
            ("eb/a", vec![entry(u64::MAX)]),
            ("eb/b", vec![entry(0)]),
            ("eb/a", vec![entry(0), entry(0)]),
            ("eb/a", vec![entry(1)]),
        ] {
            let n = links[0].first;
            let frame = frame(&links, &topic[3..], n);
            peer.publish(topic, frame.into(), busrt::QoS::Processed)
                .await
                .unwrap();
        }
        // Of the doubled entry one is good; the last frame is a good one.
        expect_numbers(&mut subscription, 0..2).await;
        assert_eq!(
            subscription.try_recv(),
            Err(eventbus_trait::TryRecvError::Empty)
        );
        assert!(subscription.stats().is_conserved());
        // Topic `eb/b` did not even come: nobody here takes it.
        assert_eq!(bus.stats().malformed, 3);
    });
}

#[test]
fn any_number_of_processes_may_open_a_socket_at_once() {
    run(async {
        let dir = directory();
        for round in 0..5 {
            let address = Address::Unix(dir.path().join(format!("{round}.sock")));
            let opening: Vec<_> = (0..6)
                .map(|_| {
                    let address = address.clone();
                    tokio::spawn(async move { open(Options::new(address)).await })
                })
                .collect();
            let mut buses = Vec::new();
            for bus in opening {
                buses.push(bus.await.unwrap().unwrap());
            }
            let mut subscription = buses[0]
                .subscribe(Subscribe::to("a").unwrap())
                .await
                .unwrap();
            for (n, bus) in (0..).zip(&buses) {
                let receipt = bus.publish(event("a", n)).await.unwrap();
                receipt.confirmed(Duration::from_secs(30)).await.unwrap();
            }
            expect_numbers(&mut subscription, 0..buses.len() as u64).await;
        }
    });
}

#[test]
fn a_dropped_handle_still_sends_what_it_accepted() {
    run(async {
        for (address, _dir) in addresses() {
            let bus = opened(&address).await;
            let mut subscription = bus.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
            let publisher = bus.connect(None).await.unwrap();
            for n in 0..3_000 {
                publisher.publish(event("a", n)).await.unwrap();
            }
            let mut own = publisher
                .subscribe(Subscribe::to("b").unwrap())
                .await
                .unwrap();
            let topic = publisher.publisher("a".parse().unwrap());
            drop(publisher);
            expect_numbers(&mut subscription, 0..3_000).await;
            assert_eq!(own.recv().await, None);
            let refused = topic.publish(event("a", 0)).await.unwrap_err();
            assert_eq!(*refused.reason(), PublishError::Closed);
        }
    });
}

#[test]
fn large_and_empty_payloads_pass_and_too_large_ones_do_not() {
    run(async {
        for (address, _dir) in addresses() {
            let bus = opened(&address).await;
            let mut subscription = bus.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
            let limit = 1 << 20;
            for size in [0, 1, 4_096, limit - 1, limit] {
                bus.publish(Event::new("a", vec![0xA5_u8; size]).unwrap())
                    .await
                    .unwrap();
                assert_eq!(
                    subscription.recv().await.unwrap().bytes().unwrap().len(),
                    size
                );
            }
            let refused = bus
                .publish(Event::new("a", vec![0; limit + 1]).unwrap())
                .await;
            let reason = PublishError::TooLarge {
                size: limit + 1,
                limit,
            };
            assert_eq!(*refused.unwrap_err().reason(), reason);
            // Eight times the window in bytes.
            let sending = {
                let bus = Arc::clone(&bus);
                tokio::spawn(async move {
                    for n in 0..64_u8 {
                        bus.publish(Event::new("a", vec![n; limit]).unwrap())
                            .await
                            .unwrap();
                    }
                })
            };
            for n in 0..64_u8 {
                let bytes = subscription.recv().await.unwrap().bytes().unwrap();
                assert!(bytes.len() == limit && bytes[0] == n && bytes[limit - 1] == n);
            }
            sending.await.unwrap();
        }
    });
}
