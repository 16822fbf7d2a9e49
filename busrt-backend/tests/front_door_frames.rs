//! What becomes of a client's frames behind the front door: answers, order, and who waits for whom.
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

use busrt_backend::broker::{Broker, BrokerOptions, Listener};
use peer::{MESSAGE, OK, PATIENCE, PUBLISH, Peer, SUBSCRIBE, addressed, frame, socket};
use scene::Scene;

const UNSUBSCRIBE: u8 = busrt::OP_UNSUBSCRIBE;
const NOBODY: u8 = busrt::ERR_CLIENT_NOT_REGISTERED;

#[test]
fn each_quality_of_service_is_answered_as_it_asks() {
    let scene = Scene::new(|_| {});
    let mut peer = Peer::enter(&scene.path, "asking");
    for (op, body) in [
        (SUBSCRIBE, b"eb/a/+\0eb/b".to_vec()),
        (PUBLISH, addressed("eb/a/b", b"x")),
        (MESSAGE, addressed("asking", b"x")),
        (UNSUBSCRIBE, b"eb/a/+\0eb/never".to_vec()),
    ] {
        for qos in 0..4_u8 {
            let asked = peer.frame(op | (qos << 6), &body);
            let after = peer.frame(PUBLISH | 0x40, &addressed("eb/elsewhere", b""));
            let (mut answers, mut frames) = (Vec::new(), Vec::new());
            loop {
                let received = peer.receive().unwrap();
                if received.kind != busrt::OP_ACK {
                    frames.push((received.kind, received.realtime));
                } else if received.body[..4] == after.to_le_bytes() {
                    break;
                } else {
                    assert_eq!(received.body[..4], asked.to_le_bytes());
                    answers.push(received.body[4]);
                }
            }
            let wanted: &[u8] = if qos & 1 == 1 { &[OK] } else { &[] };
            assert_eq!(answers, wanted, "{op:#x}, {qos}");
            let carries = matches!(op, PUBLISH | MESSAGE);
            let expected = carries.then_some((op, qos & 2 != 0));
            assert_eq!(frames, Vec::from_iter(expected), "{op:#x}, {qos}");
        }
    }
    peer.send(&[0; 9]);
    assert_eq!(peer.ask(PUBLISH, &addressed("eb/b", b"x")), OK);
    drop(peer);
    scene.end(1);
}

/// Its own frame comes before the answer to it, as from busrt itself, and all in order.
#[test]
fn what_a_client_sends_itself_comes_in_order() {
    let scene = Scene::new(|_| {});
    let mut peer = Peer::enter(&scene.path, "selfish");
    assert_eq!(peer.ask(SUBSCRIBE, b"eb/own"), OK);
    let first = 2;
    for n in first..3_000_u32 {
        let payload = vec![7; n as usize % 1_500];
        let body = [&n.to_le_bytes()[..], &payload].concat();
        let id = match n % 2 {
            0 => peer.frame(PUBLISH | 0x40, &addressed("eb/own", &body)),
            _ => peer.frame(MESSAGE | 0x40, &addressed("selfish", &body)),
        };
        assert_eq!(id, n);
    }
    let (mut came, mut answered) = (first, first);
    while answered < 3_000 {
        let received = peer.receive().unwrap();
        if received.kind == busrt::OP_ACK {
            assert_eq!(received.body, [&answered.to_le_bytes()[..], &[OK]].concat());
            assert!(answered < came, "{answered} is answered before it came");
            answered += 1;
            continue;
        }
        let topic: &[u8] = match came % 2 {
            0 => b"selfish\0eb/own\0",
            _ => b"selfish\0",
        };
        let payload = received.body.strip_prefix(topic).unwrap();
        assert_eq!(payload[..4], came.to_le_bytes());
        assert_eq!(payload.len(), 4 + came as usize % 1_500);
        came += 1;
    }
    assert_eq!(came, answered);
    drop(peer);
    scene.end(1);
}

#[test]
fn a_subscription_stands_when_it_is_answered_and_no_longer_than_that() {
    let scene = Scene::new(|_| {});
    let mut reader = Peer::enter(&scene.path, "reader");
    let mut writer = Peer::enter(&scene.path, "writer");
    for n in 0..300_u32 {
        let topic = format!("eb/{n}");
        let body = addressed(&topic, &n.to_le_bytes());
        assert_eq!(reader.ask(SUBSCRIBE, topic.as_bytes()), OK);
        assert_eq!(writer.ask(PUBLISH, &body), OK);
        assert_eq!(reader.publication(), n.to_le_bytes());
        assert_eq!(reader.ask(UNSUBSCRIBE, topic.as_bytes()), OK);
        assert_eq!(writer.ask(PUBLISH, &body), OK);
        assert_eq!(writer.ask(MESSAGE, &addressed("reader", b"end")), OK);
        assert_eq!(reader.receive().unwrap().kind, MESSAGE, "{n}");
    }
    drop((reader, writer));
    scene.end(2);
}

/// Also who was there a moment ago; and the name is free for the next.
#[test]
fn a_target_that_is_not_there_is_told() {
    let scene = Scene::new(|_| {});
    let mut peer = Peer::enter(&scene.path, "asking");
    assert_eq!(peer.ask(MESSAGE, &addressed("nobody", b"x")), NOBODY);
    for _ in 0..20 {
        let mut guest = Peer::enter(&scene.path, "guest");
        let taken = Peer::try_enter(&scene.path, b"guest").err();
        assert_eq!(taken, Some(busrt::ERR_BUSY));
        assert_eq!(peer.ask(MESSAGE, &addressed("guest", b"x")), OK);
        assert_eq!(guest.receive().unwrap().body, b"asking\0x");
        drop(guest);
        let watchdog = Instant::now() + PATIENCE;
        while peer.ask(MESSAGE, &addressed("guest", b"x")) == OK {
            assert!(Instant::now() < watchdog);
        }
        scene.until("it is gone", |scene| scene.stats().connections == 3);
    }
    assert_eq!(scene.refused("name_in_use"), 20);
    drop(peer);
    scene.end(41);
}

/// A frame as large as may be, over a buffer's length too, is put together whatever it comes in.
#[test]
fn the_largest_frame_comes_byte_by_byte() {
    let scene = Scene::new(|options| options.max_frame = 200_000);
    let mut peer = Peer::enter(&scene.path, "slow");
    let payload: Vec<u8> = (0..200_000 - 5).map(|n: u32| (n % 251) as u8).collect();
    let body = addressed("slow", &payload);
    assert_eq!(body.len(), 200_000);
    for byte in frame(7, MESSAGE | 0x40, &body) {
        peer.send(&[byte]);
    }
    let own = peer.receive().unwrap();
    assert!(own.body == body, "{} bytes", own.body.len());
    assert_eq!(peer.answer(7), OK);
    assert!(scene.stats().bytes_in > 200_000);
    drop(peer);
    scene.end(1);
}

/// SEC-005: who leaves too much unread is cut off at the limit; its publisher and those who read
/// beside it are not held up, however short busrt's queues are.
#[test]
fn sec_005_what_is_not_read_is_limited_in_bytes_and_holds_up_nobody() {
    const MOST: usize = 4 << 20;
    let scene = Scene::new(|options| {
        options.queue_bytes = MOST;
        options.queue_frames = 16;
    });
    let mut deaf = Peer::enter(&scene.path, "deaf");
    let mut reader = Peer::enter(&scene.path, "reader");
    let mut loud = Peer::enter(&scene.path, "loud");
    for peer in [&mut deaf, &mut reader] {
        assert_eq!(peer.ask(SUBSCRIBE, b"eb/noise"), OK);
    }
    let mut sent = 0_usize;
    let mut publish = |count: usize| {
        for _ in 0..count {
            let payload = [&sent.to_le_bytes()[..], &[0; 10_000]].concat();
            assert_eq!(loud.ask(PUBLISH, &addressed("eb/noise", &payload)), OK);
            assert_eq!(reader.publication(), payload);
            sent += 1;
        }
        sent
    };
    let watchdog = Instant::now() + PATIENCE;
    while scene.refused("deaf") == 0 {
        assert!(Instant::now() < watchdog, "{:?}", scene.stats());
        publish(1);
    }
    let cut_after = publish(0) * 10_000;
    // Beside the limit there is what the socket takes.
    assert!((MOST..MOST + (2 << 20)).contains(&cut_after), "{cut_after}");
    publish(100);
    deaf.until_closed();
    drop((reader, loud));
    scene.end(3);
}

/// Notes of the broker's pings: they do not stand for the client's own.
#[test]
fn who_sends_nothing_is_let_go_and_who_pings_is_not() {
    let scene = Scene::new(|options| options.keepalive = Duration::from_secs(1));
    let mut silent = Peer::enter(&scene.path, "silent");
    let mut alive = Peer::enter(&scene.path, "alive");
    let began = Instant::now();
    let mut pinged = began;
    while scene.stats().connections == 4 {
        assert!(began.elapsed() < PATIENCE, "{:?}", scene.stats());
        if pinged.elapsed() > Duration::from_millis(100) {
            pinged = Instant::now();
            alive.send(&[0; 9]);
        }
        std::thread::yield_now();
    }
    assert!(began.elapsed() > Duration::from_millis(1_200));
    // It was pinged twice itself.
    assert_eq!(silent.bytes(), Some([0; 12]));
    assert_eq!(silent.bytes::<1>(), None);
    assert_eq!(alive.ask(PUBLISH, &addressed("eb/a", b"x")), OK);
    assert!(scene.stats().refused.is_empty(), "{:?}", scene.stats());
    drop(alive);
    scene.end(2);
}

/// A broker that stops waits for what is on its way, also while its receiver takes a break.
#[test]
fn what_is_on_its_way_goes_out_before_the_end() {
    let (_dir, path) = socket();
    let mut options = BrokerOptions::new();
    options.listeners.push(Listener::Unix(path.clone()));
    options.grace = PATIENCE;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let broker = runtime.block_on(Broker::start(options)).unwrap();
    let mut slow = Peer::enter(&path, "slow");
    for _ in 0..20 {
        slow.frame(MESSAGE, &addressed("slow", &vec![7; 1 << 20]));
    }
    let monitor = broker.monitor();
    let watchdog = Instant::now() + PATIENCE;
    while monitor.stats().frames < 20 {
        assert!(Instant::now() < watchdog, "{:?}", monitor.stats());
        std::thread::yield_now();
    }
    let stopping = runtime.spawn(broker.stop());
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        std::thread::yield_now();
    }
    for n in 0..20 {
        let received = slow.receive().unwrap_or_else(|| panic!("{n} of 20"));
        assert_eq!(received.body.len(), 5 + (1 << 20));
    }
    slow.until_closed();
    runtime.block_on(stopping).unwrap();
}
