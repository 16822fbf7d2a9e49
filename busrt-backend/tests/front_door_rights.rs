//! What the front door lets a client do: access rules and rates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "front_door/peer.rs"]
mod peer;
#[path = "front_door/scene.rs"]
mod scene;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use busrt_backend::broker::{Acl, AclRule, BrokerOptions, RateLimit};
use busrt_backend::wire::{Control, FrameWriter, SubscriptionInfo};
use busrt_backend::{Address, BrokerMode, Options, open};
use eventbus_trait::{
    Event, EventBus, PublishError, PublisherId, Subscribe, SubscribeError, TopicFilter,
};
use peer::{ANSWER, MESSAGE, OK, PUBLISH, Peer, SUBSCRIBE, addressed};
use scene::Scene;

fn filters(texts: &[&str]) -> Vec<TopicFilter> {
    let filter = |text: &&str| TopicFilter::new(text).unwrap();
    texts.iter().map(filter).collect()
}

/// A guest may publish on `open.#` and subscribe to `open.*`; all others may do everything.
fn with_a_guest(options: &mut BrokerOptions) {
    let mut rule = AclRule::deny_all();
    rule.publish = filters(&["open.#"]);
    rule.subscribe = filters(&["open.*"]);
    rule.call = vec!["service-*".to_owned()];
    options.acl = Acl::default().with("guest*", rule);
}

fn subscription(texts: &[&str]) -> SubscriptionInfo {
    SubscriptionInfo {
        id: 7,
        name: "guests".to_owned(),
        filters: filters(texts),
        link: 1,
        received: 0,
        received_bytes: 0,
        credit: 10,
        credit_bytes: 1 << 20,
    }
}

/// SEC-004: the first that a client under a rule is told is the rule.
#[test]
fn sec_004_a_client_is_told_what_it_may_do() {
    let scene = Scene::new(with_a_guest);
    let mut guest = Peer::enter(&scene.path, "guest-1");
    let told = guest.receive().unwrap();
    assert_eq!(told.kind, MESSAGE);
    let payload = told.body.strip_prefix(b"eb-directory\0").unwrap().to_vec();
    let granted = Control::Grant {
        publish: filters(&["open.#"]),
        subscribe: filters(&["open.*"]),
    };
    assert_eq!(Control::read(&payload.into()), Ok(Some(granted)));
    // Nobody else is told anything.
    let mut other = Peer::enter(&scene.path, "other");
    other.frame(SUBSCRIBE | ANSWER, b"eb/a");
    assert_eq!(other.receive().unwrap().kind, busrt::OP_ACK);
    drop((guest, other));
    scene.end(2);
}

/// SEC-004: publishing.
#[test]
fn sec_004_a_denied_publication_reaches_nobody() {
    let scene = Scene::new(with_a_guest);
    let mut reader = Peer::enter(&scene.path, "reader");
    assert_eq!(
        reader.ask(SUBSCRIBE, b"eb/closed/#\0eb/open/#\0eb/open"),
        OK
    );
    let mut guest = Peer::enter(&scene.path, "guest");
    let publish =
        |guest: &mut Peer, topic: &str| guest.ask(PUBLISH, &addressed(topic, topic.as_bytes()));
    for _ in 0..2 {
        assert_eq!(publish(&mut guest, "eb/closed/a"), busrt::ERR_ACCESS);
        assert_eq!(
            publish(&mut guest, "eb/bystanders/round"),
            busrt::ERR_ACCESS
        );
        assert_eq!(publish(&mut guest, "eb/openly"), busrt::ERR_ACCESS);
        assert_eq!(publish(&mut guest, "eb/open"), OK);
        assert_eq!(publish(&mut guest, "eb/open/a/b"), OK);
        assert_eq!(publish(&mut guest, "eb-ping"), OK);
        // Unasked, it is not answered, and has no effect either.
        guest.frame(PUBLISH, &addressed("eb/closed/b", b"x"));
    }
    for expected in ["eb/open", "eb/open/a/b", "eb/open", "eb/open/a/b"] {
        assert_eq!(reader.publication(), expected.as_bytes());
    }
    scene.until("all are counted", |scene| scene.stats().denied == 8);
    drop((guest, reader));
    scene.end(2);
}

/// SEC-004: subscribing, in busrt's words.
#[test]
fn sec_004_a_subscription_wider_than_allowed_is_denied() {
    let scene = Scene::new(with_a_guest);
    let mut guest = Peer::enter(&scene.path, "guest");
    for pattern in [
        "eb/#",
        "eb/open/#",
        "eb/+/a",
        "eb/open",
        "eb/open/a/b",
        "eb/open/+/+",
        "eb/open/a\0eb/closed",
        "eb/bystanders/round",
    ] {
        let denied = guest.ask(SUBSCRIBE, pattern.as_bytes());
        assert_eq!(denied, busrt::ERR_ACCESS, "{pattern:?}");
    }
    for pattern in ["eb/open/a", "eb/open/+"] {
        assert_eq!(guest.ask(SUBSCRIBE, pattern.as_bytes()), OK, "{pattern}");
    }
    let mut writer = Peer::enter(&scene.path, "writer");
    for topic in ["eb/closed", "eb/open/a/b", "eb/open", "eb/open/c"] {
        assert_eq!(writer.ask(PUBLISH, &addressed(topic, topic.as_bytes())), OK);
    }
    assert_eq!(guest.publication(), b"eb/open/c", "and of the rest nothing");
    drop((guest, writer));
    scene.end(2);
}

/// SEC-004: subscribing and publishing, in a session's words.
#[test]
fn sec_004_messages_between_sessions_are_under_the_rule_too() {
    let scene = Scene::new(with_a_guest);
    let mut guest = Peer::enter(&scene.path, "guest");
    let mut say = |payload: &[u8]| guest.ask(MESSAGE, &addressed("bystander-a", payload));
    let publisher = PublisherId([1; 16]);
    let (within, beyond) = (subscription(&["open.a"]), subscription(&["open.a", "#"]));
    let both = vec![within.clone(), beyond.clone()];
    for allowed in [
        Control::Open(within.clone()),
        Control::Hello {
            publisher,
            subscriptions: vec![within],
        },
        Control::Ack(vec![]),
    ] {
        assert_eq!(say(&allowed.write()), OK, "{allowed:?}");
    }
    for denied in [
        Control::Open(beyond),
        Control::Hello {
            publisher,
            subscriptions: both.clone(),
        },
        Control::Welcome {
            publisher,
            subscriptions: both,
        },
    ] {
        assert_eq!(say(&denied.write()), busrt::ERR_ACCESS, "{denied:?}");
    }
    let resent = |topic: &str| {
        let length = u16::try_from(topic.len()).unwrap().to_le_bytes();
        [
            &[0xEB, 5, b'E', b'R', 1][..],
            &length,
            topic.as_bytes(),
            b"rest",
        ]
        .concat()
    };
    assert_eq!(say(&resent("open.a")), OK);
    assert_eq!(say(&resent("bystanders.round")), busrt::ERR_ACCESS);
    assert_eq!(say(&resent("open..a")), busrt::ERR_ACCESS);
    // What cannot be judged is not passed: no topic, another version, half a message.
    assert_eq!(say(&[0xEB, 5, b'E', b'F', 1]), busrt::ERR_ACCESS);
    assert_eq!(say(&[0xEB, 5, b'E', b'C', 9, 8]), busrt::ERR_ACCESS);
    assert_eq!(say(&[0xEB, 5, b'E', b'R', 2, 6, 0]), busrt::ERR_ACCESS);
    assert_eq!(say(&[0xEB, 5, b'E', b'C', 1, 8, 0]), busrt::ERR_ACCESS);
    // Anything else is a call.
    assert_eq!(say(b"\x01call"), busrt::ERR_ACCESS);
    assert_eq!(say(b""), busrt::ERR_ACCESS);
    let nobody = guest.ask(MESSAGE, &addressed("service-1", b"\x01call"));
    assert_eq!(
        nobody,
        busrt::ERR_CLIENT_NOT_REGISTERED,
        "allowed, and not there"
    );
    drop(guest);
    scene.end(1);
}

/// SEC-004: a guest answers who has called it, once, and forges no reply to anybody's call: clients of
/// busrt's own take a reply by its number, whoever it is from.
#[test]
fn sec_004_a_guest_answers_what_it_was_asked() {
    let scene = Scene::new(with_a_guest);
    let mut guest = Peer::enter(&scene.path, "guest-1");
    guest.receive().unwrap();
    let mut caller = Peer::enter(&scene.path, "caller");
    let reply = |kind: u8, id: u32| {
        let said = [&[kind][..], &id.to_le_bytes(), b"said"].concat();
        addressed("caller", &said)
    };
    assert_eq!(guest.ask(MESSAGE, &reply(0x11, 7)), busrt::ERR_ACCESS);
    assert_eq!(guest.ask(MESSAGE, &reply(0x12, 7)), busrt::ERR_ACCESS);
    let request = [&[0x01][..], &7_u32.to_le_bytes(), b"method\0"].concat();
    assert_eq!(caller.ask(MESSAGE, &addressed("guest-1", &request)), OK);
    assert_eq!(guest.receive().unwrap().kind, MESSAGE);
    assert_eq!(guest.ask(MESSAGE, &reply(0x11, 8)), busrt::ERR_ACCESS);
    assert_eq!(
        guest.ask(MESSAGE, &addressed("guest-1", b"\x11")),
        busrt::ERR_ACCESS
    );
    assert_eq!(guest.ask(MESSAGE, &reply(0x11, 7)), OK);
    let told = caller.receive().unwrap();
    assert!(told.body.ends_with(b"said"));
    assert_eq!(
        guest.ask(MESSAGE, &reply(0x11, 7)),
        busrt::ERR_ACCESS,
        "once"
    );
    drop((guest, caller));
    scene.end(2);
}

/// SEC-004: who may do nothing is not even heard of, and nobody opens a link to nothing.
#[test]
fn sec_004_who_may_do_nothing_has_no_part_in_the_bus() {
    let scene = Scene::new(|options| {
        with_a_guest(options);
        options.acl = options.acl.clone().with("nobody", AclRule::deny_all());
    });
    let hello = |subscriptions| Control::Hello {
        publisher: PublisherId([1; 16]),
        subscriptions,
    };
    let mut nobody = Peer::enter(&scene.path, "nobody");
    let mut say = |to: &str, said: &Control| nobody.ask(MESSAGE, &addressed(to, &said.write()));
    assert_eq!(say("eb-directory", &Control::Join), busrt::ERR_ACCESS);
    for said in [
        hello(vec![]),
        Control::Open(subscription(&[])),
        Control::Close { subscription: 7 },
        Control::Ack(vec![]),
        Control::Status(vec![]),
    ] {
        assert_eq!(say("bystander-a", &said), busrt::ERR_ACCESS, "{said:?}");
    }
    assert_eq!(say("eb-directory", &Control::Leave), OK);
    assert_eq!(scene.stats().sessions, 2);
    let mut guest = Peer::enter(&scene.path, "guest");
    for said in [
        Control::Open(subscription(&[])),
        hello(vec![subscription(&["open.a"]), subscription(&[])]),
    ] {
        let told = guest.ask(MESSAGE, &addressed("bystander-a", &said.write()));
        assert_eq!(told, busrt::ERR_ACCESS, "{said:?}");
    }
    drop((nobody, guest));
    scene.end(2);
}

/// SEC-004: a session that may do nothing is told so at once.
#[test]
fn sec_004_a_session_that_may_do_nothing_is_told() {
    let scene = Scene::new(|options: &mut BrokerOptions| {
        options.acl = Acl::default().with("nobody", AclRule::deny_all());
    });
    let mut options = Options::new(Address::Unix(scene.path.clone()));
    options.broker = BrokerMode::External;
    options.name = Some("nobody".to_owned());
    options.connect_timeout = Duration::from_secs(3_600);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let opening = async { tokio::time::timeout(peer::PATIENCE, open(options)).await };
    let refused = runtime.block_on(opening).unwrap().unwrap_err().to_string();
    assert!(
        refused.contains("neither to publish nor to subscribe"),
        "{refused}"
    );
}

/// SEC-004: a session under a rule gets errors, keeps its connection, and does what it may.
#[test]
fn sec_004_a_session_is_refused_by_error_and_lives_on() {
    let scene = Scene::new(with_a_guest);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let session = async |name: &str| {
            let mut options = Options::new(Address::Unix(scene.path.clone()));
            options.broker = BrokerMode::External;
            options.name = Some(name.to_owned());
            open(options).await.unwrap()
        };
        let (guest, member) = (session("guest").await, session("member").await);
        let to = |filter| Subscribe::to(filter).unwrap();
        let event = |topic| Event::new(topic, "x").unwrap();
        let mut all = member.subscribe(to("#")).await.unwrap();
        for filter in ["#", "open.#", "closed", "bystanders.*"] {
            let denied = guest.subscribe(to(filter)).await.map(drop).unwrap_err();
            let filter = filter.to_owned();
            assert_eq!(denied, SubscribeError::Denied { filter });
        }
        let mut open = guest.subscribe(to("open.*")).await.unwrap();
        for topic in ["closed", "bystanders.round"] {
            let denied = guest.publish(event(topic)).await.unwrap_err();
            let topic = topic.to_owned();
            assert_eq!(*denied.reason(), PublishError::Denied { topic });
        }
        let mut next = async || loop {
            let topic = all.recv().await.unwrap().topic().to_string();
            if topic != "bystanders.round" {
                return topic;
            }
        };
        // One after the other: between publishers there is no order.
        for (publisher, topic) in [(&guest, "open.a"), (&member, "open.b")] {
            publisher.publish(event(topic)).await.unwrap();
            assert_eq!(open.recv().await.unwrap().topic().as_str(), topic);
            assert_eq!(next().await, topic, "of what was denied, nothing");
        }
        guest.shutdown().await.unwrap();
        member.shutdown().await.unwrap();
    });
    scene.end(2);
}

/// FLW-005 at the door: who sends too much is read more slowly, and still gets everything through.
#[test]
fn a_client_over_its_rate_waits() {
    let number = |n| NonZeroU32::new(n).unwrap();
    let scene = Scene::new(|options| {
        options.rate = Some(RateLimit {
            per_second: number(100),
            burst: number(50),
        });
    });
    let mut loud = Peer::enter(&scene.path, "loud");
    let began = Instant::now();
    let last = (0..150).map(|_| loud.frame(PUBLISH | ANSWER, &addressed("eb/a", b"x")));
    let last = last.last().unwrap();
    assert_eq!(loud.answer(last), OK);
    assert!(
        began.elapsed() >= Duration::from_millis(990),
        "{:?}",
        began.elapsed()
    );
    // Events are counted, not frames: this one carries as much as a second allows.
    let publisher = PublisherId([1; 16]);
    let mut frame = FrameWriter::new(publisher, 1, &[], 0);
    for _ in 0..100 {
        frame.push(&Event::new("a", "x").unwrap(), b"x", publisher, 1);
    }
    let body = addressed("eb/a", &frame.finish());
    let began = Instant::now();
    assert_eq!(loud.ask(PUBLISH, &body), OK);
    assert!(
        began.elapsed() >= Duration::from_millis(490),
        "{:?}",
        began.elapsed()
    );
    drop(loud);
    scene.end(1);
}
