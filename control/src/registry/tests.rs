//! Members come, change and go, by a clock that the tests turn; and who tells lies is not believed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use crossbeam_backend::CrossbeamBus;
use eventbus_trait::plain::{FIELD, is_plain};
use eventbus_trait::{Delivery, Event, EventBus, Limits, Payload};
use tokio::time::{Instant, interval, timeout};

use super::*;
use crate::member::{Activity, Heartbeat, Identity, IdentityError};

const INTERVAL: Duration = Duration::from_secs(1);
/// Longer than anything waited for here; the clock is turned, so it costs nothing.
const WATCHDOG: Duration = Duration::from_secs(600);

fn heartbeat(name: &str, number: u64) -> Heartbeat {
    let mut identity = Identity::new(name, "process").capability("hash");
    identity.instance = "life-1".to_owned();
    Heartbeat {
        identity,
        activity: Activity::Idle,
        ailment: None,
        interval_ms: 1_000,
        number,
    }
}

struct Scene {
    bus: Arc<dyn EventBus>,
    registry: Registry,
    changes: Watch,
}

impl Scene {
    async fn with(rules: Rules) -> Self {
        let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits::default());
        let registry = Registry::start(Arc::clone(&bus), rules).await.unwrap();
        let mut changes = registry.watch();
        assert_eq!(changes.next().await, Some(Change::Resync(vec![])));
        Self {
            bus,
            registry,
            changes,
        }
    }

    async fn new() -> Self {
        Self::with(Rules::default()).await
    }

    async fn say(&self, heartbeat: &Heartbeat) {
        self.raw(&heartbeat.topic(), serde_json::to_vec(heartbeat).unwrap())
            .await;
    }

    async fn raw(&self, topic: &str, bytes: impl Into<bytes::Bytes>) {
        let event = Event::new(topic, Payload::raw(bytes)).unwrap();
        self.bus.publish(event).await.unwrap();
    }

    async fn next(&mut self) -> Change {
        let next = timeout(WATCHDOG, self.changes.next()).await;
        next.expect("nothing has changed")
            .expect("the stream has ended")
    }

    /// Waits until so many heartbeats were looked at.
    async fn looked_at(&self, heartbeats: u64) -> RegistryStats {
        let seen = |s: &RegistryStats| {
            s.heard
                + s.malformed
                + s.wrong_topic
                + s.interval
                + s.stale
                + s.changed
                + s.other_kind
                + s.flood
                + s.crowded
        };
        eventually(|| seen(&self.registry.stats()) >= heartbeats).await;
        self.registry.stats()
    }
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_handle_that_it_listens_with() {
    let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits::default());
    let ears = bus.connect(None).await.unwrap();
    let registry = Registry::start(ears, Rules::default()).await.unwrap();
    let said = heartbeat("a", 1);
    let payload = Payload::raw(serde_json::to_vec(&said).unwrap());
    bus.publish(Event::new(said.topic(), payload).unwrap())
        .await
        .unwrap();
    eventually(|| registry.member("a").is_some()).await;
}

/// Waits for what other tasks bring about. A loop that only yielded would stop a paused clock, and
/// with it the watchdog.
async fn eventually(mut so: impl FnMut() -> bool) {
    let mut tick = interval(Duration::from_millis(1));
    let look = async {
        while !so() {
            tick.tick().await;
        }
    };
    timeout(WATCHDOG, look)
        .await
        .expect("it never came to that");
}

fn joined(change: Change) -> Member {
    match change {
        Change::Joined(member) => member,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_joins_is_degraded_and_removed_when_its_time_is_up() {
    let mut scene = Scene::new().await;
    let start = Instant::now();
    scene.say(&heartbeat("a", 1)).await;
    let member = joined(scene.next().await);
    assert_eq!(
        (&*member.identity.name, &member.health),
        ("a", &Health::Well)
    );
    assert!(member.is_available());

    let Change::Degraded(member) = scene.next().await else {
        panic!("it is not degraded")
    };
    assert_eq!(start.elapsed(), 2 * INTERVAL);
    let degraded = |missed| Health::Degraded {
        missed,
        ailment: None,
    };
    assert_eq!(member.health, degraded(2));
    assert!(!scene.registry.member("a").unwrap().is_available());

    let Change::Removed { member, reason } = scene.next().await else {
        panic!("it is not removed")
    };
    assert_eq!((start.elapsed(), reason), (5 * INTERVAL, Removal::Silent));
    assert_eq!(member.health, degraded(5));
    assert_eq!(scene.registry.members(), []);
    assert_eq!(scene.registry.stats().silent, 1);
}

/// A machine that is slow, but not so slow that everybody has the time again.
#[tokio::test(start_paused = true)]
async fn who_is_found_too_late_to_be_degraded_first_is_told_both() {
    let mut scene = Scene::new().await;
    let mut said = heartbeat("a", 1);
    said.interval_ms = 50;
    scene.say(&said).await;
    joined(scene.next().await);
    // It was to be degraded after 100 ms, and removed after 250.
    tokio::time::advance(Duration::from_millis(260)).await;
    let first = scene.next().await;
    assert!(matches!(first, Change::Degraded(_)), "{first:?}");
    let Change::Removed { member, reason } = scene.next().await else {
        panic!("it is not removed")
    };
    assert_eq!(reason, Removal::Silent);
    assert!(matches!(member.health, Health::Degraded { missed: 5, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_heard_again_recovers() {
    let mut scene = Scene::new().await;
    scene.say(&heartbeat("a", 1)).await;
    joined(scene.next().await);
    assert!(matches!(scene.next().await, Change::Degraded(_)));
    scene.say(&heartbeat("a", 2)).await;
    let Change::Recovered(member) = scene.next().await else {
        panic!("it has not recovered")
    };
    assert_eq!(member.health, Health::Well);
    // Silent again, it is told as soon as at the first time, though nobody else makes it be looked for.
    let heard = Instant::now();
    assert!(matches!(scene.next().await, Change::Degraded(_)));
    assert_eq!(heard.elapsed(), 2 * INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn what_a_member_says_of_itself_is_told_once() {
    let mut scene = Scene::new().await;
    let mut said = heartbeat("a", 1);
    scene.say(&said).await;
    joined(scene.next().await);
    (said.number, said.activity) = (2, Activity::Collecting);
    scene.say(&said).await;
    assert!(matches!(scene.next().await, Change::Changed(m) if m.activity == Activity::Collecting));
    // Nothing new.
    said.number = 3;
    scene.say(&said).await;
    (said.number, said.ailment) = (4, Some("disk full".to_owned()));
    scene.say(&said).await;
    let Change::Degraded(member) = scene.next().await else {
        panic!("an ailment is no degradation")
    };
    let ailment = Some("disk full".into());
    assert_eq!(member.health, Health::Degraded { missed: 0, ailment });
    (said.number, said.ailment) = (5, None);
    scene.say(&said).await;
    assert!(matches!(scene.next().await, Change::Recovered(_)));
    (said.number, said.activity) = (6, Activity::Leaving);
    scene.say(&said).await;
    let Change::Removed { reason, .. } = scene.next().await else {
        panic!("it is still there")
    };
    assert_eq!(reason, Removal::Left);
}

#[tokio::test(start_paused = true)]
async fn another_life_replaces_a_member_and_the_former_does_not_come_back() {
    let mut scene = Scene::new().await;
    let first = heartbeat("a", 7);
    scene.say(&first).await;
    joined(scene.next().await);
    let mut second = heartbeat("a", 1);
    second.identity.instance = "life-2".to_owned();
    scene.say(&second).await;
    let Change::Removed { member, reason } = scene.next().await else {
        panic!("the former life is still there")
    };
    assert_eq!(reason, Removal::Replaced);
    assert_eq!(member.identity.instance, "life-1");
    assert_eq!(joined(scene.next().await).identity.instance, "life-2");

    let mut late = heartbeat("a", 8);
    scene.say(&late).await;
    (late.number, late.activity) = (9, Activity::Leaving);
    scene.say(&late).await;
    let mut stranger = heartbeat("a", 1);
    stranger.identity.instance = "life-0".to_owned();
    stranger.activity = Activity::Leaving;
    scene.say(&stranger).await;
    let stats = scene.looked_at(5).await;
    assert_eq!((stats.stale, stats.heard), (3, 2));
    let there = scene.registry.member("a").unwrap();
    assert_eq!(there.identity.instance, "life-2");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_heartbeat_is_refused_and_counted() {
    let scene = Scene::new().await;
    let good = serde_json::to_string(&heartbeat("a", 1)).unwrap();
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let large = format!("{good}{}", " ".repeat(1 << 20 >> 1));
    let bad_name = good.replace("\"a\"", "\"eb-a\"");
    let broken = &good[..good.len() - 1];
    let numbers = good.replace("1000", "-1");
    let unknown = good.replace("\"instance\"", "\"root\":true,\"instance\"");
    let twice = good.replacen("\"number\":1", "\"number\":1,\"number\":2", 1);
    let text = good.replace("\"version\":\"\"", "\"version\":\"a\\u0007\"");
    let all = [
        "", "null", "[]", "4711", &deep, &large, &bad_name, broken, &numbers, &unknown, &twice,
        &text,
    ];
    for bytes in all {
        scene.raw("health.process.a", bytes.to_owned()).await;
    }
    scene.raw("health", "{}").await;
    scene.raw("health.process.a", vec![0xFF; 100]).await;
    let stats = scene.looked_at(all.len() as u64 + 2).await;
    assert_eq!(stats.malformed, all.len() as u64 + 2, "{stats:?}");
    assert_eq!(scene.registry.members(), []);
    // And it is alive.
    scene.raw("health.process.a", good).await;
    assert_eq!(scene.looked_at(stats.malformed + 1).await.members, 1);
}

#[tokio::test(start_paused = true)]
async fn why_it_was_refused_is_one_bounded_line_whatever_it_quotes() {
    let good = serde_json::to_string(&heartbeat("a", 1)).unwrap();
    let hostile = format!("\u{1b}[2J\u{202e}\u{2028}{}", "x".repeat(1_000));
    let hostile = serde_json::to_string(&hostile).unwrap();
    let field = good.replace("\"instance\"", &format!("{hostile}:1,\"instance\""));
    let name = good.replace("\"a\"", &hostile);
    let kind = good.replace("\"process\"", &hostile);
    let activity = good.replace("\"idle\"", &hostile);
    let mut table = Table::new(Rules::default());
    for (bytes, quotes) in [(field, true), (name, false), (kind, true), (activity, true)] {
        let topic = "health.process.a";
        let heard = table.hear(topic, bytes.as_bytes(), Instant::now(), &mut Vec::new());
        let Err(Refused::Malformed { reason }) = heard else {
            panic!("{heard:?}")
        };
        assert!(is_plain(&reason), "{reason:?}");
        assert!(reason.chars().count() <= FIELD + 1, "{reason}");
        assert!(!quotes || reason.contains("\\u{1b}[2J"), "{reason}");
    }
    let kind = Identity::new("a", "\u{202e}".repeat(100)).check();
    let IdentityError::Word { value, .. } = kind.unwrap_err() else {
        panic!("it is a word")
    };
    assert!(is_plain(&value) && value.chars().count() <= 65, "{value}");
}

#[tokio::test(start_paused = true)]
async fn who_lies_about_name_kind_instance_or_interval_is_refused() {
    let scene = Scene::new().await;
    scene.say(&heartbeat("a", 2)).await;
    let liar = serde_json::to_vec(&heartbeat("a", 3)).unwrap();
    for topic in [
        "health.process.b",
        "health.network.a",
        "health.a",
        "health.process.a.a",
    ] {
        scene.raw(topic, liar.clone()).await;
    }
    let mut other = heartbeat("a", 3);
    other.identity.capabilities.insert("root".to_owned());
    scene.say(&other).await;
    for interval_ms in [0, 49, 300_001, u64::MAX] {
        let number = 3;
        scene
            .say(&Heartbeat {
                interval_ms,
                number,
                ..heartbeat("a", number)
            })
            .await;
    }
    scene.say(&heartbeat("a", 2)).await;
    scene.say(&heartbeat("a", 1)).await;
    let stats = scene.looked_at(12).await;
    let counted = (
        stats.wrong_topic,
        stats.changed,
        stats.interval,
        stats.stale,
    );
    assert_eq!(counted, (4, 1, 4, 2), "{stats:?}");
    assert_eq!((stats.heard, stats.members), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_member_of_another_kind_does_not_take_a_living_name() {
    let mut scene = Scene::new().await;
    scene.say(&heartbeat("a", 1)).await;
    joined(scene.next().await);
    let mut evil = heartbeat("a", 1);
    (evil.identity.kind, evil.identity.instance) = ("evil".to_owned(), "life-2".to_owned());
    scene.say(&evil).await;
    (evil.number, evil.activity) = (2, Activity::Leaving);
    scene.say(&evil).await;
    let stats = scene.looked_at(3).await;
    assert_eq!((stats.other_kind, stats.heard), (2, 1), "{stats:?}");
    let there = scene.registry.member("a").unwrap();
    assert_eq!(there.identity, heartbeat("a", 1).identity.into());
    // Once it is free, the name is anybody's.
    let mut leaves = heartbeat("a", 2);
    leaves.activity = Activity::Leaving;
    scene.say(&leaves).await;
    assert!(matches!(scene.next().await, Change::Removed { .. }));
    (evil.number, evil.activity) = (3, Activity::Idle);
    scene.say(&evil).await;
    assert_eq!(joined(scene.next().await).identity.kind, "evil");
}

#[tokio::test(start_paused = true)]
async fn garbage_of_another_kind_costs_a_member_no_turn() {
    let scene = Scene::new().await;
    scene.say(&heartbeat("a", 1)).await;
    for topic in ["health.evil.a", "health.a", "health.process.a.a"] {
        for _ in 0..100 {
            scene.raw(topic, "garbage").await;
        }
    }
    scene.say(&heartbeat("a", 2)).await;
    let stats = scene.looked_at(302).await;
    assert_eq!((stats.malformed, stats.flood), (300, 0), "{stats:?}");
    assert_eq!(stats.heard, 2);
    // On its own topic it does: somebody has its rights.
    for _ in 0..100 {
        scene.raw("health.process.a", "garbage").await;
    }
    assert!(scene.looked_at(402).await.flood > 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_not_read_and_harms_nobody() {
    let mut scene = Scene::new().await;
    scene.say(&heartbeat("quiet", 1)).await;
    scene.say(&heartbeat("loud", 1)).await;
    joined(scene.next().await);
    joined(scene.next().await);
    for number in 2..20_002 {
        let event = Event::json("health.process.loud", &heartbeat("loud", number)).unwrap();
        let event = event.delivery(Delivery::AtMostOnce);
        scene.bus.publish(event).await.unwrap();
    }
    let all = |stats: &RegistryStats| stats.heard + stats.flood + stats.lost == 20_002;
    eventually(|| all(&scene.registry.stats())).await;
    let stats = scene.registry.stats();
    assert!(stats.heard < 2 + 2 * 32, "{stats:?}");
    assert!(stats.lost > 0, "the queue was never full: {stats:?}");
    assert_eq!(stats.members, 2);
    // Its time runs from when the registry could hear again.
    scene.say(&heartbeat("quiet", 2)).await;
    let late = Instant::now();
    loop {
        match scene.next().await {
            Change::Degraded(member) if member.identity.name == "quiet" => break,
            Change::Degraded(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(late.elapsed(), 2 * INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn no_more_members_than_may_be() {
    let rules = Rules {
        max_members: 3,
        ..Rules::default()
    };
    let mut scene = Scene::with(rules).await;
    for name in ["a", "b", "c", "d", "a"] {
        let number = 1 + scene.registry.stats().heard;
        scene.say(&heartbeat(name, number)).await;
        scene.looked_at(number).await;
    }
    let stats = scene.looked_at(5).await;
    assert_eq!((stats.crowded, stats.members, stats.heard), (1, 3, 4));
    // Whoever leaves makes room.
    let mut leaves = heartbeat("b", 9);
    leaves.activity = Activity::Leaving;
    scene.say(&leaves).await;
    scene.say(&heartbeat("d", 9)).await;
    scene.looked_at(7).await;
    let names = scene.registry.members();
    let names: Vec<_> = names.iter().map(|m| &*m.identity.name).collect();
    assert_eq!(names, ["a", "c", "d"]);
    for _ in 0..5 {
        scene.next().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_is_too_slow_begins_anew_and_misses_nothing_after_that() {
    let rules = Rules {
        watch_queue: 2,
        ..Rules::default()
    };
    let mut scene = Scene::with(rules).await;
    for name in ["a", "b", "c", "d"] {
        scene.say(&heartbeat(name, 1)).await;
    }
    scene.looked_at(4).await;
    let Change::Resync(members) = scene.next().await else {
        panic!("it was not told that it is late")
    };
    assert_eq!(members, scene.registry.members());
    assert_eq!(members.len(), 4);
    scene.say(&heartbeat("e", 1)).await;
    assert_eq!(joined(scene.next().await).identity.name, "e");
}

#[tokio::test(start_paused = true)]
async fn streams_end_with_the_bus_and_with_the_registry() {
    let mut scene = Scene::new().await;
    let mut other = scene.registry.watch();
    scene.bus.shutdown().await.unwrap();
    let end = timeout(WATCHDOG, scene.changes.next()).await;
    assert_eq!(end.expect("it goes on"), None);
    assert_eq!(other.next().await, None, "also for who begins then");

    let scene = Scene::new().await;
    let mut changes = scene.changes;
    drop(scene.registry);
    let end = timeout(WATCHDOG, changes.next()).await;
    assert_eq!(end.expect("it goes on"), None);
}

#[test]
fn silence_while_nothing_can_be_heard_is_held_against_nobody() {
    let mut table = Table::new(Rules::default());
    let start = Instant::now();
    let mut changed = Vec::new();
    let said = heartbeat("a", 1);
    let bytes = serde_json::to_vec(&said).unwrap();
    table
        .hear(&said.topic(), &bytes, start, &mut changed)
        .unwrap();
    table.hears(false, start + INTERVAL);
    assert_eq!(table.next(), None);
    table.sweep(start + 100 * INTERVAL, &mut changed);
    assert_eq!(changed.len(), 1, "{changed:?}");
    let again = start + 100 * INTERVAL;
    table.hears(true, again);
    table.sweep(again + INTERVAL, &mut changed);
    assert_eq!(changed.len(), 1, "{changed:?}");
    table.sweep(again + 2 * INTERVAL, &mut changed);
    assert!(matches!(changed[1], Change::Degraded(_)));
    table.lost(1, again + 3 * INTERVAL);
    table.sweep(again + 7 * INTERVAL, &mut changed);
    assert_eq!(changed.len(), 2, "{changed:?}");
    table.sweep(again + 8 * INTERVAL, &mut changed);
    assert!(matches!(changed[2], Change::Removed { .. }));
}

#[test]
fn rules_that_cannot_be_kept_are_refused() {
    let bad = |change: fn(&mut Rules)| {
        let mut rules = Rules::default();
        change(&mut rules);
        rules.check().unwrap_err().to_string()
    };
    let text = "`remove_after` is 2, not more than `degrade_after`, which is 2";
    assert_eq!(bad(|rules| rules.remove_after = 2), text);
    let text = "`max_members` is 0, not within 1 to 1048576";
    assert_eq!(bad(|rules| rules.max_members = 0), text);
    bad(|rules| rules.min_interval = Duration::ZERO);
    bad(|rules| rules.max_interval = Duration::MAX);
}
