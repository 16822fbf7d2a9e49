//! Hostile peers at the front door: each hurts itself, and a pair of sessions beside it goes on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "front_door/peer.rs"]
mod peer;
#[path = "front_door/scene.rs"]
mod scene;

use std::time::{Duration, Instant};

use busrt_backend::wire::{Control, Member, Refusal};
use busrt_backend::{Address, BrokerMode, OpenError, Options, open};
use eventbus_trait::ConnectError;
use peer::{MESSAGE, OK, PATIENCE, PUBLISH, Peer, SUBSCRIBE, addressed, frame};
use scene::Scene;

fn deep(prefix: &str, segments: usize) -> Vec<u8> {
    format!("{prefix}{}", vec!["a"; segments].join("/")).into_bytes()
}

/// What is sent after an orderly handshake, and the reason that the connection ends for.
fn breaches() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let mut all = Vec::new();
    for op in [SUBSCRIBE, busrt::OP_UNSUBSCRIBE] {
        all.push(("800 segments", frame(1, op, &deep("eb/", 800)), "topic"));
        all.push(("800 foreign ones", frame(1, op, &deep("", 800)), "topic"));
        all.push(("no topic", frame(1, op, b""), "topic"));
        all.push(("a NUL at the end", frame(1, op, b"eb/a\0"), "topic"));
        all.push(("a tail inside", frame(1, op, b"eb/a/#/b"), "topic"));
        all.push(("no UTF-8", frame(1, op, b"eb/\xFF"), "topic"));
    }
    let publish = |topic: &str| frame(1, PUBLISH, &addressed(topic, b"x"));
    all.push(("a wildcard in a topic", publish("eb/+"), "topic"));
    all.push(("17 segments", frame(1, PUBLISH, &deep("eb/", 17)), "topic"));
    all.push((
        "a topic without end",
        frame(1, PUBLISH, &[b'a'; 4096]),
        "topic",
    ));
    all.push(("an empty topic", publish(""), "topic"));
    let message = |target: &str| frame(1, MESSAGE, &addressed(target, b"x"));
    all.push((
        "19 dots in a target",
        message(&vec!["a"; 20].join(".")),
        "topic",
    ));
    all.push(("a secondary's name", message("bystander-b%%x"), "topic"));
    for flags in [0x05 | 0x20, 0x3E, 0xFE, 0x40, 0x11] {
        let op = frame(1, flags, &addressed("eb/a", b"x"));
        all.push(("an unknown operation", op, "operation"));
    }
    let announced = |len: u32| [&[1, 0, 0, 0, PUBLISH][..], &len.to_le_bytes()].concat();
    all.push(("4 GiB announced", announced(u32::MAX), "length"));
    all.push(("one byte too many", announced((8 << 20) + 1), "length"));
    all.push(("a ping with a body", frame(0, 0, b"x"), "length"));
    all
}

/// SEC-005: what is no frame ends its connection and touches no other.
#[test]
fn sec_005_a_frame_that_is_none_ends_its_own_connection() {
    let scene = Scene::new(|_| {});
    let mut strangers = 0;
    for (what, bytes, reason) in breaches() {
        let before = scene.refused(reason);
        let mut peer = Peer::enter(&scene.path, "stranger");
        peer.send(&bytes);
        peer.until_closed();
        strangers += 1;
        assert_eq!(scene.refused(reason), before + 1, "{what}");
        scene.until("its place is free", |scene| scene.stats().connections == 2);
        scene.go_on();
    }
    scene.end(strangers);
}

/// SEC-003, SEC-005: names that cost time, forge a sender or take over a client are refused.
#[test]
fn sec_003_a_name_that_is_none_or_anothers_is_refused() {
    let scene = Scene::new(|_| {});
    let dots = vec!["a"; 20].join(".");
    let secondary = format!("{}%%x", scene.victim());
    let forged = format!("{}\0", scene.victim());
    let long = "a".repeat(65);
    let longest = "a".repeat(65_535);
    let names: [&[u8]; 9] = [
        b"",
        b".broker",
        b"\xFF",
        dots.as_bytes(),
        secondary.as_bytes(),
        forged.as_bytes(),
        long.as_bytes(),
        longest.as_bytes(),
        b"a b",
    ];
    for name in names {
        let refused = Peer::try_enter(&scene.path, name).err();
        assert_eq!(refused, Some(busrt::ERR_DATA), "{name:?}");
    }
    let own = Peer::try_enter(&scene.path, b"eb-directory").err();
    assert_eq!(own, Some(busrt::ERR_ACCESS));
    assert_eq!(scene.refused("name"), 10);
    let taken = Peer::try_enter(&scene.path, scene.victim().as_bytes()).err();
    assert_eq!(taken, Some(busrt::ERR_BUSY));
    assert_eq!(scene.refused("name_in_use"), 1);
    scene.end(11);
}

/// A name that is in use is asked for again, for a while, and not so often that the broker's log and an
/// alert on refusals are about nothing else.
#[test]
fn a_name_in_use_is_asked_for_again_a_few_times() {
    let scene = Scene::new(|_| {});
    let mut options = Options::new(Address::Unix(scene.path.clone()));
    options.broker = BrokerMode::External;
    options.name = Some(scene.victim().to_owned());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let taken = runtime.block_on(open(options)).unwrap_err();
    let in_use = matches!(taken, OpenError::Connect(ConnectError::NameInUse { .. }));
    assert!(in_use, "{taken}");
    let refused = scene.refused("name_in_use");
    assert!(refused <= 10, "{refused} times");
    scene.end(refused);
}

/// SEC-003: who has not joined, or is not the directory, is not listened to.
#[test]
fn sec_003_nobody_speaks_for_another() {
    let scene = Scene::new(|_| {});
    let victim = Member {
        client: scene.victim().to_owned(),
    };
    let other = Member {
        client: "bystander-a".to_owned(),
    };
    let nothing = Vec::new;
    let mut peer = Peer::enter(&scene.path, "stranger");
    for said in [
        Control::Left(other.clone()),
        Control::Lost(other.clone()),
        Control::Members(vec![]),
        Control::JoinRefused(Refusal::TooManyMembers),
        Control::Grant {
            publish: nothing(),
            subscribe: nothing(),
        },
        Control::Close { subscription: 0 },
    ] {
        for to in [&victim, &other] {
            let told = peer.ask(MESSAGE, &addressed(&to.client, &said.write()));
            assert_eq!(told, OK, "busrt has taken it to {}", to.client);
        }
        scene.go_on();
    }
    // A leave is one's own.
    let left = peer.ask(MESSAGE, &addressed("eb-directory", &Control::Leave.write()));
    assert_eq!(left, OK);
    // The answer to a call, as busrt's RPC has it: id by id.
    for id in 0_u32..100 {
        let reply = [&[0x11][..], &id.to_le_bytes(), b"forged"].concat();
        peer.ask(MESSAGE, &addressed(scene.victim(), &reply));
    }
    drop(peer);
    scene.end(1);
}

/// SEC-005: garbage instead of a handshake.
#[test]
fn sec_005_who_does_not_speak_busrt_is_told_so() {
    let scene = Scene::new(|_| {});
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xEB, 2, 0], &[0; 3]] {
        let mut peer = Peer::knock(&scene.path);
        assert_eq!(peer.bytes(), Some([0xEB, 1, 0]));
        peer.send(garbage);
        assert_eq!(peer.bytes(), Some([busrt::ERR_NOT_SUPPORTED]));
        assert_eq!(peer.bytes::<1>(), None);
    }
    drop(Peer::knock(&scene.path));
    scene.until("all are counted", |scene| {
        scene.refused("protocol") == 3 && scene.refused("hung_up") == 1
    });
    scene.end(4);
}

/// SEC-005: a handshake of one byte at a time has one deadline.
#[test]
fn sec_005_a_slow_handshake_ends() {
    let scene = Scene::new(|options| options.handshake_timeout = Duration::from_secs(1));
    let silent = Peer::knock(&scene.path);
    let mut slow = Peer::knock(&scene.path);
    let mut said = [&[0xEB, 1, 0, 64, 0][..], &[b'a'; 63]].concat().into_iter();
    let began = Instant::now();
    while scene.refused("handshake_timeout") < 2 {
        assert!(began.elapsed() < PATIENCE, "{:?}", scene.stats());
        let due = Duration::from_millis(100) * u32::try_from(64 - said.len().min(64)).unwrap();
        if began.elapsed() > due {
            slow.send(said.next().as_slice());
        }
        std::thread::yield_now();
    }
    assert!(said.len() > 0, "it was cut off while it was still sending");
    assert_eq!(slow.bytes(), Some([0xEB, 1, 0]));
    slow.until_closed();
    drop(silent);
    scene.end(2);
}

/// SEC-005: a frame that does not come to its end has a deadline too; a slow one that does passes.
#[test]
fn sec_005_half_a_frame_ends_its_connection() {
    let scene = Scene::new(|options| options.keepalive = Duration::from_secs(2));
    let whole = frame(1, PUBLISH, &addressed("eb/stalled", &[7; 100_000]));
    let cuts = [1, 8, 12, 40, 65_536 + 9, whole.len() - 1];
    let mut peers = Vec::new();
    for (n, cut) in cuts.into_iter().enumerate() {
        let mut peer = Peer::enter(&scene.path, &format!("stalled-{n}"));
        peer.send(&whole[..cut]);
        peers.push(peer);
    }
    scene.until("all are ended", |scene| {
        scene.refused("stalled") == cuts.len() as u64
    });
    peers.into_iter().for_each(Peer::until_closed);
    scene.end(cuts.len() as u64);
}

#[test]
fn frames_pass_however_they_are_cut() {
    let scene = Scene::new(|_| {});
    let mut reader = Peer::enter(&scene.path, "reader");
    assert_eq!(reader.ask(SUBSCRIBE, b"eb/a/+\0eb/b"), OK);
    let mut stream = Vec::new();
    let mut expected = Vec::new();
    for n in 0..200_u32 {
        let payload = vec![n as u8; (n * n) as usize];
        stream.extend(frame(n, PUBLISH, &addressed("eb/a/b", &payload)));
        expected.push(payload);
        // Between them: what is left out, and what means nothing.
        stream.extend(frame(n, PUBLISH, &addressed("elsewhere", &[1; 77])));
        stream.extend([0; 9]);
    }
    for size in [1, 7, 4_096, 65_536, stream.len()] {
        let mut writer = Peer::enter(&scene.path, &format!("writer-{size}"));
        // One byte at a time for the start only, or it takes all day.
        let slow = if size == 1 { 5_000 } else { stream.len() };
        let sending = stream.clone();
        let sender = std::thread::spawn(move || {
            sending[..slow]
                .chunks(size)
                .for_each(|part| writer.send(part));
            writer.send(&sending[slow..]);
            writer
        });
        for payload in &expected {
            assert_eq!(&reader.publication(), payload, "cut by {size}");
        }
        drop(sender.join().unwrap());
    }
    // The last one is behind the last that was read.
    scene.until("all are counted", |scene| scene.stats().denied == 5 * 200);
    drop(reader);
    scene.end(6);
}

#[test]
fn what_is_not_served_is_answered_and_the_connection_stays() {
    let scene = Scene::new(|_| {});
    let mut peer = Peer::enter(&scene.path, "stranger");
    let not_supported = [
        (busrt::OP_BROADCAST, addressed("*", b"x")),
        (busrt::OP_PUBLISH_FOR, addressed("eb/a", b"bystander-b\0x")),
        (busrt::OP_EXCLUDE, b"eb/a".to_vec()),
        (busrt::OP_UNEXCLUDE, b"eb/a".to_vec()),
    ];
    for (op, body) in not_supported {
        assert_eq!(peer.ask(op, &body), busrt::ERR_NOT_SUPPORTED);
    }
    // Note 35, 36: with these, a client that does not read would hold up registration.
    for topic in [".broker/info", ".broker/#", "#", "+/+", "plant/#"] {
        assert_eq!(
            peer.ask(SUBSCRIBE, topic.as_bytes()),
            busrt::ERR_ACCESS,
            "{topic}"
        );
    }
    for topic in [".broker/info", "plant/temperature"] {
        assert_eq!(
            peer.ask(PUBLISH, &addressed(topic, b"x")),
            busrt::ERR_ACCESS,
            "{topic}"
        );
    }
    let service = peer.ask(MESSAGE, &addressed(".broker", b"\x01\0\0\0\0test\0"));
    assert_eq!(service, busrt::ERR_CLIENT_NOT_REGISTERED);
    assert_eq!(peer.ask(PUBLISH, &addressed("eb-ping", b"")), OK);
    assert_eq!(peer.ask(SUBSCRIBE, b"eb/#"), OK);
    drop(peer);
    scene.end(1);
}

/// SEC-005: topics are counted by their segments, and those that are let go of count no more.
#[test]
fn sec_005_a_client_has_so_many_topics_and_no_more() {
    let scene = Scene::new(|_| {});
    let mut peer = Peer::enter(&scene.path, "greedy");
    let some = |from: u32, count: u32, tail: &str| {
        let topics: Vec<_> = (from..from + count)
            .map(|n| format!("eb/{n}{tail}"))
            .collect();
        topics.join("\0").into_bytes()
    };
    const DENIED: u8 = busrt::ERR_ACCESS;
    // As many as thousands of subscriptions need.
    assert_eq!(peer.ask(SUBSCRIBE, &some(0, 16_384, "/a/b/c")), OK);
    assert_eq!(peer.ask(SUBSCRIBE, &some(7, 9, "/a/b/c")), OK, "known ones");
    assert_eq!(peer.ask(SUBSCRIBE, b"eb/one"), DENIED);
    let again = [&b"eb/7/a/b/c\0".repeat(65_536)[..], b"eb/7/a/b/c"].concat();
    assert_eq!(peer.ask(SUBSCRIBE, &again), DENIED, "too many at once");
    assert_eq!(peer.ask(busrt::OP_UNSUBSCRIBE, &some(0, 4, "/a/b/c")), OK);
    let deepest = "/a".repeat(15);
    assert_eq!(peer.ask(SUBSCRIBE, &some(0, 2, &deepest)), DENIED);
    assert_eq!(peer.ask(SUBSCRIBE, &some(0, 1, &deepest)), OK);
    assert_eq!(peer.ask(SUBSCRIBE, b"eb/one"), DENIED);
    drop(peer);
    let mut peer = Peer::enter(&scene.path, "wild");
    assert_eq!(peer.ask(SUBSCRIBE, &some(0, 4_096, "/+")), OK);
    assert_eq!(peer.ask(SUBSCRIBE, b"eb/+"), DENIED);
    assert_eq!(peer.ask(SUBSCRIBE, b"eb/one/#"), OK);
    assert_eq!(peer.ask(busrt::OP_UNSUBSCRIBE, b"eb/7/+"), OK);
    assert_eq!(peer.ask(SUBSCRIBE, b"eb/+"), OK);
    drop(peer);
    scene.end(2);
}

/// SEC-005: a subscriber of everything that reads nothing is thrown out, by itself.
#[test]
fn sec_005_who_does_not_read_holds_up_nobody() {
    let scene = Scene::new(|options| {
        options.queue_frames = 1_000;
        options.keepalive = Duration::from_secs(3);
    });
    let mut deaf = Peer::enter(&scene.path, "deaf");
    assert_eq!(deaf.ask(SUBSCRIBE, b"eb/#"), OK);
    let mut loud = Peer::enter(&scene.path, "loud");
    drop(Peer::enter(&scene.path, "passer-by"));
    let body = addressed("eb/noise", &[0; 10_000]);
    let watchdog = Instant::now() + PATIENCE;
    while scene.stats().connections > 3 {
        assert!(Instant::now() < watchdog, "{:?}", scene.stats());
        assert_eq!(loud.ask(PUBLISH, &body), OK);
    }
    assert_eq!(scene.refused("deaf"), 1);
    deaf.until_closed();
    drop(loud);
    scene.end(3);
}

/// SEC-005: what waits for a client is counted in bytes, those that it sends itself too.
#[test]
fn sec_005_few_large_messages_are_much_too() {
    let scene = Scene::new(|options| options.queue_bytes = 20 << 20);
    let mut selfish = Peer::enter(&scene.path, "selfish");
    let body = addressed("selfish", &vec![7; 4 << 20]);
    let watchdog = Instant::now() + PATIENCE / 2;
    while scene.stats().connections > 2 {
        assert!(Instant::now() < watchdog, "{:?}", scene.stats());
        selfish.frame(MESSAGE, &body);
    }
    assert_eq!(scene.refused("deaf"), 1);
    selfish.until_closed();
    // One that reads gets as much as it likes.
    let mut reader = Peer::enter(&scene.path, "reader");
    for _ in 0..20 {
        reader.frame(MESSAGE, &addressed("reader", &vec![7; 4 << 20]));
        assert_eq!(reader.receive().unwrap().kind, MESSAGE);
    }
    drop(reader);
    scene.end(2);
}

/// SEC-006: over the limit is refused cleanly, and room is given back.
#[test]
fn sec_006_over_the_limit_is_told_and_room_is_given_back() {
    let scene = Scene::new(|options| options.max_connections = 4);
    let third = Peer::enter(&scene.path, "third");
    let mut fourth = Peer::enter(&scene.path, "fourth");
    let refused = Peer::try_enter(&scene.path, b"fifth").err();
    assert_eq!(refused, Some(busrt::ERR_OTHER));
    assert_eq!(scene.refused("too_many"), 1);
    // A crowd: some are told, some are dropped, nobody waits for ever.
    let crowd: Vec<_> = (0..60).map(|_| Peer::knock(&scene.path)).collect();
    crowd
        .into_iter()
        .for_each(|mut peer| while peer.bytes::<1>().is_some() {});
    assert_eq!(scene.refused("too_many"), 61);
    drop(third);
    let fifth = Peer::enter(&scene.path, "fifth");
    assert_eq!(fourth.ask(PUBLISH, &addressed("eb/a", b"x")), OK);
    // One that is refused for its name gives its place back too.
    drop(fifth);
    for _ in 0..10 {
        assert!(Peer::try_enter(&scene.path, b"a.b").is_err());
    }
    drop(Peer::enter(&scene.path, "sixth"));
    drop(fourth);
    scene.end(2 + 1 + 60 + 1 + 10 + 1);
}
