//! MIG-002: where nothing diverges, everything matches and nothing is told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod common;

use std::sync::Arc;

use common::{
    assert_law, crossbeam, numbered, settled, shadow, subscribe, take, until, whole, within,
};
use eventbus_trait::{
    Delivery, Event, EventBus, Overflow, Publisher, Subscribe, Subscription, Topic,
};
use shadow::{Reason, ShadowBus, ShadowOptions, Verdict};

const TOPICS: [&str; 3] = [
    "events.process.new",
    "events.process.exit",
    "events.file.open",
];

/// Reads until the subscription ends; says how many events there were.
fn reader(mut subscription: Subscription) -> tokio::task::JoinHandle<u64> {
    tokio::spawn(async move {
        let mut n = 0;
        while subscription.recv().await.is_some() {
            n += 1;
        }
        n
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_events_match() {
    const EVENTS: u64 = 100_000;
    const PUBLISHERS: u64 = 4;
    let bus = shadow(whole());
    let mut readers = Vec::new();
    for filter in ["events.#", "events.process.*", "events.*.new"] {
        readers.push(reader(subscribe(&*bus, filter).await));
    }
    let mut publishers = Vec::new();
    for _ in 0..PUBLISHERS {
        let handle = bus.connect(None).await.unwrap();
        publishers.push(tokio::spawn(async move {
            for n in 0..EVENTS / PUBLISHERS {
                let topic = TOPICS[n as usize % TOPICS.len()];
                handle.publish(numbered(topic, n)).await.unwrap();
            }
            handle
        }));
    }
    let mut handles = Vec::new();
    for publisher in publishers {
        handles.push(within(publisher).await.unwrap());
    }
    let report = settled(&bus).await;
    within(bus.shutdown()).await.unwrap();
    let mut read = 0;
    for reader in readers {
        read += within(reader).await.unwrap();
    }
    assert_eq!(report.published, EVENTS);
    assert_eq!(report.subscribers, 3);
    assert_eq!((report.expected, report.matched), (read, read));
    assert_eq!(report.verdict, Verdict::Match);
    assert!(report.divergences.is_empty());
    assert_eq!(
        (report.duplicates, report.phantoms, report.foreign),
        (0, 0, 0)
    );
    assert_eq!(report.latency.samples, read);
    assert!(report.candidate_errors.is_empty());
}

/// However events are published, both sides get them in one order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_tasks_through_one_handle_agree_in_order() {
    const EACH: u64 = 2_000;
    let bus = shadow(whole());
    let reader = reader(
        bus.subscribe(Subscribe::to("#").unwrap().capacity(16))
            .await
            .unwrap(),
    );
    let topic = Topic::new(TOPICS[0]).unwrap();
    let mut tasks = Vec::new();
    for task in 0..6u64 {
        let bus = Arc::clone(&bus);
        let publisher: Publisher = bus.publisher(topic.clone());
        tasks.push(tokio::spawn(async move {
            for n in 0..EACH {
                let event = numbered(TOPICS[0], n);
                match task % 3 {
                    0 => drop(bus.publish(event).await.unwrap()),
                    1 => drop(publisher.publish(event).await.unwrap()),
                    _ => {
                        let other = numbered(TOPICS[1], n);
                        drop(bus.publish_batch(vec![event, other]).await.unwrap());
                    }
                }
            }
        }));
    }
    for task in tasks {
        within(task).await.unwrap();
    }
    let report = settled(&bus).await;
    assert_eq!(report.published, 8 * EACH);
    assert_eq!(report.matched, 8 * EACH);
    assert_eq!(report.verdict, Verdict::Match);
    within(bus.shutdown()).await.unwrap();
    assert_eq!(within(reader).await.unwrap(), 8 * EACH);
}

/// Without waiting for the candidate nothing diverges either; what does not fit is unverified.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_queue_is_unverified_and_nothing_else() {
    const EVENTS: u64 = 20_000;
    let bus = shadow(ShadowOptions {
        queue: 4,
        ..ShadowOptions::default()
    });
    let reader = reader(subscribe(&*bus, "#").await);
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let bus = Arc::clone(&bus);
        tasks.push(tokio::spawn(async move {
            for n in 0..EVENTS {
                bus.publish(numbered(TOPICS[n as usize % 3], n))
                    .await
                    .unwrap();
            }
        }));
    }
    for task in tasks {
        within(task).await.unwrap();
    }
    let report = settled(&bus).await;
    within(bus.shutdown()).await.unwrap();
    assert_eq!(within(reader).await.unwrap(), 3 * EVENTS);
    assert_eq!(report.expected, 3 * EVENTS);
    assert_eq!(report.diverged(), 0, "{report:#?}");
    let full = report.unverified_by_reason[&Reason::QueueFull];
    let unordered = report.unverified_by_reason.get(&Reason::Unordered);
    let unordered = unordered.copied().unwrap_or(0);
    assert!(full > 0);
    assert_eq!(report.matched + full + unordered, 3 * EVENTS);
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert!(report.queue_high_water <= 4);
}

#[tokio::test]
async fn the_law_holds_at_every_moment() {
    let bus = shadow(whole());
    let mut events = subscribe(&*bus, "#").await;
    for n in 0..500 {
        bus.publish(numbered(TOPICS[0], n)).await.unwrap();
        assert_law(&bus.report());
        if n % 3 == 0 {
            take(&mut events, 1).await;
            assert_law(&bus.report());
        }
    }
    let unread = bus.report().in_flight;
    assert!(
        unread >= 500 - 167,
        "the application has not read them: {unread}"
    );
    take(&mut events, 500 - 167).await;
    assert_eq!(settled(&bus).await.matched, 500);
}

#[tokio::test]
async fn nothing_compared_is_inconclusive() {
    let bus = shadow(whole());
    bus.publish(numbered(TOPICS[0], 0)).await.unwrap();
    let report = settled(&bus).await;
    assert_eq!((report.published, report.expected), (1, 0));
    assert_eq!(report.verdict, Verdict::Inconclusive);
}

/// Lost by choice on the primary, all there on the candidate: no divergence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_primary_drops_as_it_was_told_to_is_unverified() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let bus = shadow(ShadowOptions {
            grace: std::time::Duration::from_millis(50),
            ..whole()
        });
        let subscribe = Subscribe::to("#").unwrap().capacity(10).overflow(overflow);
        let mut events = bus.subscribe(subscribe).await.unwrap();
        for n in 0..100 {
            bus.publish(numbered(TOPICS[n as usize % 3], n))
                .await
                .unwrap();
        }
        take(&mut events, 10).await;
        let waiting = async { while events.recv().await.is_some() {} };
        let report = tokio::select! {
            () = waiting => panic!("subscription ended"),
            report = settled(&bus) => report,
        };
        assert_eq!(report.unverified_by_reason, [(Reason::Lagged, 90)].into());
        assert_eq!(report.matched, 10);
        assert_eq!(report.verdict, Verdict::Match, "{overflow:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_once_events_that_find_no_room_are_unverified() {
    let bus = shadow(ShadowOptions {
        grace: std::time::Duration::from_millis(50),
        ..whole()
    });
    let mut events = bus
        .subscribe(Subscribe::to("#").unwrap().capacity(10))
        .await
        .unwrap();
    for n in 0..50 {
        let event = numbered(TOPICS[0], n).delivery(Delivery::AtMostOnce);
        bus.publish(event).await.unwrap();
    }
    take(&mut events, 10).await;
    bus.publish(numbered(TOPICS[0], 50)).await.unwrap();
    take(&mut events, 1).await;
    let report = settled(&bus).await;
    assert_eq!(report.unverified_by_reason, [(Reason::Lagged, 40)].into());
    assert_eq!(report.matched, 11);
    assert_eq!(bus.stats().dropped, 40);
}

/// Typed values are compared by what they encode to, and not encoded for the application.
#[tokio::test]
async fn typed_values_match() {
    let bus = shadow(whole());
    let mut events = subscribe(&*bus, "#").await;
    let event = Event::typed::<_, Vec<u64>>(TOPICS[0], vec![1, 2, 3]).unwrap();
    bus.publish(event).await.unwrap();
    let event = take(&mut events, 1).await.remove(0);
    assert!(event.payload().value::<Vec<u64>>().is_some());
    assert_eq!(settled(&bus).await.matched, 1);
}

#[tokio::test]
async fn ignored_events_reach_both_sides_and_are_left_alone() {
    let candidate = crossbeam();
    let mut there = subscribe(&*candidate, "#").await;
    let bus = ShadowBus::new(
        crossbeam(),
        candidate,
        ShadowOptions {
            ignore: Some(shadow::Ignore::when(|event| {
                assert_ne!(event.topic().as_str(), TOPICS[2], "a panic counts as no");
                event.topic().as_str() == TOPICS[0]
            })),
            ..whole()
        },
    );
    let mut events = subscribe(&*bus, "#").await;
    for topic in TOPICS {
        bus.publish(numbered(topic, 0)).await.unwrap();
    }
    take(&mut events, 3).await;
    take(&mut there, 3).await;
    let report = settled(&bus).await;
    assert_eq!((report.ignored, report.matched), (1, 2));
}

#[tokio::test]
async fn a_report_is_json_and_back() {
    let bus = shadow(whole());
    let mut events = subscribe(&*bus, "#").await;
    bus.publish(numbered(TOPICS[0], 0)).await.unwrap();
    take(&mut events, 1).await;
    let report = settled(&bus).await;
    let json = serde_json::to_value(&report).unwrap();
    for (field, value) in [("verdict", "match"), ("primary", "crossbeam")] {
        assert_eq!(json[field], value);
    }
    assert_eq!(json["matched"], 1);
    assert_eq!(json["unverified_by_reason"], serde_json::json!({}));
    assert_eq!(json["settled"], true);
    assert!(json.get("injected").is_none());
    assert_eq!(
        serde_json::from_value::<shadow::Report>(json).unwrap(),
        report
    );
    let table = report.table();
    assert!(table.contains("match") && table.contains("crossbeam against crossbeam"));
}

#[tokio::test]
async fn the_end_of_the_application_ends_the_run() {
    let bus = shadow(whole());
    let mut events = subscribe(&*bus, "#").await;
    bus.publish(numbered(TOPICS[0], 0)).await.unwrap();
    within(bus.shutdown()).await.unwrap();
    within(bus.shutdown()).await.unwrap();
    // LIF-002: what was accepted is still read, and still compared.
    take(&mut events, 1).await;
    assert!(within(events.recv()).await.is_none());
    until("compared", || bus.report().matched == 1).await;
    assert!(bus.publish(numbered(TOPICS[0], 1)).await.is_err());
    let report = bus.report();
    assert_eq!((report.published, report.expected), (1, 1));
}
