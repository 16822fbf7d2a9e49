//! A candidate that comes and goes while the application goes on: what was published before it came
//! is never compared, what is published while it is there always is, and nobody notices.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[path = "common/bad.rs"]
mod bad;
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bad::{Bad, BadBus};
use common::{
    WATCHDOG, assert_law, crossbeam, number, numbered, subscribe, take, until, whole, within,
};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{
    Event, EventBus, Limits, Origin, PublisherId, Subscribe, Subscription, Topic,
};
use shadow::sabotage::{Sabotage, SabotageBus};
use shadow::{AttachError, Reason, Report, ShadowBus, ShadowOptions, Verdict};

fn alone() -> Arc<ShadowBus> {
    ShadowBus::alone(crossbeam(), whole())
}

async fn publish(bus: &dyn EventBus, topic: &str, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        bus.publish(numbered(topic, n)).await.unwrap();
    }
}

async fn detached(bus: &ShadowBus) -> Report {
    let report = within(bus.detach(WATCHDOG)).await.expect("no candidate");
    assert_law(&report);
    assert_eq!(report.in_flight, 0, "{report:#?}");
    report
}

#[tokio::test]
async fn without_a_candidate_it_is_the_primary() {
    let limits = Limits {
        max_event_size: 100,
        ..Limits::default()
    };
    let bus = ShadowBus::alone(CrossbeamBus::new(limits), ShadowOptions::default());
    assert!(!bus.is_attached());
    let mut events = subscribe(&*bus, "#").await;
    let publisher = bus.publisher(Topic::new("a").unwrap());
    let large = || Event::new("a", vec![0; 101]).unwrap();
    for n in 0..20 {
        let refused = match n % 4 {
            0 => bus.publish(large()).await.unwrap_err().into_event(),
            1 => bus.try_publish(large()).unwrap_err().into_event(),
            2 => publisher.publish(large()).await.unwrap_err().into_event(),
            _ => {
                let batch = vec![numbered("a", 100 + n), large(), large()];
                let refused = bus.publish_batch(batch).await.unwrap_err();
                assert_eq!(refused.events.len(), 3 - refused.accepted);
                refused.events.into_iter().next_back().unwrap()
            }
        };
        assert_eq!(refused, large(), "it comes back as it was");
        bus.publish(numbered("a", n)).await.unwrap();
    }
    let events = take(&mut events, 20).await;
    let sequences: Vec<_> = events
        .iter()
        .map(|e| e.origin().unwrap().sequence)
        .collect();
    let dense: Vec<_> = (0..20).collect();
    assert_eq!(sequences, dense);
    let by_us = |e: &Event| e.origin().unwrap().publisher == bus.publisher_id();
    assert!(events.iter().all(by_us));
    let report = bus.report();
    assert_eq!((report.published, report.expected), (0, 0));
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert!(bus.settle(Duration::ZERO).await, "nothing is undecided");
    assert!(bus.detach(Duration::ZERO).await.is_none());
}

#[tokio::test]
async fn what_was_published_before_is_not_compared() {
    let bus = alone();
    let other = bus.connect(Some("other")).await.unwrap();
    let (mut all, mut of_other) = (subscribe(&*bus, "#").await, subscribe(&*other, "a.*").await);
    publish(&*bus, "a.b", 0..300).await;
    publish(&*other, "a.c", 300..600).await;
    bus.attach(crossbeam()).unwrap();
    // More than a stream remembers one by one.
    publish(&*bus, "a.b", 600..1_600).await;
    publish(&*other, "a.d", 1_600..1_700).await;
    let seen = take(&mut all, 1_700).await;
    assert!(seen.iter().map(number).eq(0..1_700));
    take(&mut of_other, 1_700).await;
    let report = detached(&bus).await;
    assert_eq!((report.published, report.expected), (1_100, 2_200));
    assert_eq!(report.matched, 2_200, "{report:#?}");
    assert_eq!((report.diverged(), report.foreign), (0, 0), "{report:#?}");
    assert_eq!(report.verdict, Verdict::Match);
    assert_eq!(bus.report(), report, "it is what the bus goes on to say");
}

/// Reads until the end; the numbers of each topic must be in order, each once.
fn reader(mut subscription: Subscription) -> tokio::task::JoinHandle<u64> {
    tokio::spawn(async move {
        let mut next = std::collections::BTreeMap::new();
        let mut count = 0;
        while let Some(event) = subscription.recv().await {
            let next = next.entry(event.topic().to_string()).or_insert(0);
            assert_eq!(number(&event), *next, "on {}", event.topic());
            *next += 1;
            count += 1;
        }
        count
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn candidates_come_and_go_under_load() {
    let bus = alone();
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(reader(subscribe(&*bus, "load.#").await));
    }
    let mut publishers = Vec::new();
    for publisher in 0..3 {
        let handle = bus.connect(None).await.unwrap();
        let stop = Arc::clone(&stop);
        publishers.push(tokio::spawn(async move {
            let topic = format!("load.{publisher}");
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                handle.publish(numbered(&topic, n)).await.unwrap();
                n += 1;
                // So that the test can end if it fails.
                tokio::task::yield_now().await;
            }
            n
        }));
    }
    for round in 0..5 {
        bus.attach(crossbeam()).unwrap();
        let wanted = 200 * (round + 1);
        until("compared", || bus.report().matched >= wanted).await;
        let report = detached(&bus).await;
        assert_eq!(report.diverged(), 0, "round {round}: {report:#?}");
        assert_eq!(report.verdict, Verdict::Match, "round {round}: {report:#?}");
        assert_eq!(report.foreign, 0, "round {round}: {report:#?}");
    }
    stop.store(true, Ordering::Relaxed);
    let mut published = 0;
    for publisher in publishers {
        published += within(publisher).await.unwrap();
    }
    within(bus.shutdown()).await.unwrap();
    for reader in readers {
        assert_eq!(within(reader).await.unwrap(), published);
    }
}

#[tokio::test]
async fn what_the_candidate_does_wrong_is_found_after_attaching() {
    for kind in Sabotage::ALL {
        let options = ShadowOptions {
            grace: Duration::from_millis(20),
            ..whole()
        };
        let bus = ShadowBus::alone(crossbeam(), options.clone());
        let mut events = subscribe(&*bus, "#").await;
        publish(&*bus, "a", 0..500).await;
        let saboteur = SabotageBus::with_grace(crossbeam(), kind, 0.05, 3, options.grace);
        bus.attach(Arc::clone(&saboteur) as Arc<dyn EventBus>)
            .unwrap();
        publish(&*bus, "a", 500..1_500).await;
        take(&mut events, 1_500).await;
        let report = detached(&bus).await;
        assert!(saboteur.injected() > 0);
        assert_eq!(
            report.diverged(),
            saboteur.injected(),
            "{kind}: {report:#?}"
        );
        assert_eq!(report.expected, 1_000, "{kind}");
    }
}

#[tokio::test]
async fn a_stamp_from_above_is_compared_from_when_the_candidate_came() {
    let bus = alone();
    let mut events = subscribe(&*bus, "#").await;
    let publish = async |publisher: u8, sequences: std::ops::Range<u64>| {
        for sequence in sequences {
            let origin = Origin {
                publisher: PublisherId([publisher; 16]),
                epoch: 7,
                sequence,
            };
            let event = numbered("a", sequence).given_origin(origin);
            bus.publish(event).await.unwrap();
        }
    };
    publish(1, 0..50).await;
    publish(2, 0..50).await;
    bus.attach(crossbeam()).unwrap();
    publish(1, 50..60).await;
    take(&mut events, 110).await;
    let report = detached(&bus).await;
    assert_eq!((report.expected, report.matched), (10, 10), "{report:#?}");
    // What was compared the first time may still be unread the second time.
    bus.attach(crossbeam()).unwrap();
    publish(1, 60..70).await;
    assert_eq!(bus.detach(Duration::ZERO).await.unwrap().expected, 10);
    bus.attach(crossbeam()).unwrap();
    publish(2, 50..60).await;
    take(&mut events, 20).await;
    let report = detached(&bus).await;
    assert_eq!((report.expected, report.matched), (10, 10), "{report:#?}");
    assert_eq!((report.diverged(), report.foreign), (0, 0), "{report:#?}");
}

#[tokio::test]
async fn a_phantom_is_told_also_after_attaching() {
    let primary = crossbeam();
    let bus = ShadowBus::alone(Arc::clone(&primary) as Arc<dyn EventBus>, whole());
    let mut events = subscribe(&*bus, "#").await;
    publish(&*bus, "a", 0..5).await;
    let candidate = crossbeam();
    bus.attach(Arc::clone(&candidate) as Arc<dyn EventBus>)
        .unwrap();
    publish(&*bus, "a", 5..10).await;
    let origin = Origin {
        publisher: bus.publisher_id(),
        epoch: eventbus_trait::process_epoch(),
        sequence: 100,
    };
    // Past the shadow, in the name of its publisher.
    within(bus.settle(Duration::ZERO)).await;
    take(&mut events, 10).await;
    common::settled(&bus).await;
    let invented = |n| {
        numbered("a", n).given_origin(Origin {
            sequence: n,
            ..origin
        })
    };
    candidate.publish(invented(100)).await.unwrap();
    primary.publish(invented(200)).await.unwrap();
    take(&mut events, 1).await;
    until("both are told", || bus.report().phantoms == 2).await;
    assert_eq!(detached(&bus).await.diverged(), 2);
}

#[tokio::test]
async fn what_is_unread_at_the_end_is_no_fault_of_the_candidate() {
    let bus = alone();
    let mut events = subscribe(&*bus, "#").await;
    bus.attach(crossbeam()).unwrap();
    publish(&*bus, "a", 0..20).await;
    take(&mut events, 15).await;
    until("compared", || bus.report().matched == 15).await;
    let report = bus.detach(Duration::ZERO).await.unwrap();
    assert_eq!(report.unverified_by_reason, [(Reason::Detached, 5)].into());
    assert_eq!(report.verdict, Verdict::Match);
    publish(&*bus, "a", 20..25).await;
    let rest = take(&mut events, 10).await;
    assert!(rest.iter().map(number).eq(15..25));
    assert_eq!(bus.report(), report);
}

#[tokio::test]
async fn one_candidate_at_a_time_and_none_after_the_end() {
    let bus = alone();
    bus.attach(crossbeam()).unwrap();
    let refused = bus.attach(crossbeam()).unwrap_err();
    assert_eq!(refused, AttachError::Attached);
    detached(&bus).await;
    bus.attach(crossbeam()).unwrap();
    bus.shutdown().await.unwrap();
    detached(&bus).await;
    assert_eq!(bus.attach(crossbeam()).unwrap_err(), AttachError::Closed);
    assert_eq!(AttachError::Closed.to_string(), "bus is closed");
}

/// A detach that is cancelled, or whose candidate hangs, still lets go.
#[tokio::test]
async fn a_hung_candidate_is_let_go() {
    let options = ShadowOptions {
        shutdown_wait: Duration::from_millis(50),
        ..ShadowOptions::default()
    };
    for bad in [
        Bad::HangsInPublish,
        Bad::HangsInSubscribe,
        Bad::BlocksInPublish,
    ] {
        let bus = ShadowBus::alone(crossbeam(), options.clone());
        let mut events = subscribe(&*bus, "#").await;
        let candidate = BadBus::new(crossbeam(), bad);
        let released = Arc::clone(&candidate.released);
        bus.attach(Arc::new(candidate)).unwrap();
        publish(&*bus, "a", 0..10).await;
        take(&mut events, 10).await;
        let report = within(bus.detach(Duration::from_millis(10))).await.unwrap();
        assert_law(&report);
        assert_eq!(
            (report.unverified, report.in_flight),
            (10, 0),
            "{bad:?}: {report:#?}"
        );
        assert_eq!(report.verdict, Verdict::Inconclusive);
        released.store(true, Ordering::Release);
        // The next one finds nothing of it.
        bus.attach(crossbeam()).unwrap();
        publish(&*bus, "a", 0..10).await;
        take(&mut events, 10).await;
        assert_eq!(detached(&bus).await.verdict, Verdict::Match, "{bad:?}");
    }
}

#[tokio::test]
async fn a_cancelled_detach_lets_go_at_once() {
    let bus = alone();
    let _unread = subscribe(&*bus, "#").await;
    bus.attach(crossbeam()).unwrap();
    publish(&*bus, "a", 0..10).await;
    let detaching = bus.detach(WATCHDOG);
    let given_up = tokio::time::timeout(Duration::from_millis(20), detaching).await;
    assert!(given_up.is_err(), "the events were not read");
    let report = bus.report();
    assert_eq!(report.unverified_by_reason, [(Reason::Detached, 10)].into());
    bus.attach(crossbeam()).unwrap();
    assert_eq!(bus.report().expected, 0);
}

#[tokio::test]
async fn subscriptions_and_handles_come_and_go_with_and_without_a_candidate() {
    let bus = alone();
    let mut gone = subscribe(&*bus, "#").await;
    publish(&*bus, "a", 0..5).await;
    take(&mut gone, 5).await;
    drop(gone);
    let early = bus.connect(None).await.unwrap();
    let named = Subscribe::to("#").unwrap().named("one");
    let mut kept = early.subscribe(named.clone()).await.unwrap();
    bus.attach(crossbeam()).unwrap();
    let late = bus.connect(None).await.unwrap();
    let mut new = subscribe(&*late, "#").await;
    publish(&*early, "a", 0..5).await;
    publish(&*late, "b", 0..5).await;
    for events in [&mut kept, &mut new] {
        take(events, 10).await;
    }
    drop(new);
    let report = detached(&bus).await;
    assert_eq!((report.expected, report.matched), (20, 20), "{report:#?}");
    // Its name is free again on either side, and the candidate may be the same as before.
    drop(kept);
    early.shutdown().await.unwrap();
    let candidate = crossbeam();
    for _ in 0..3 {
        let mut kept = late.subscribe(named.clone()).await.unwrap();
        bus.attach(Arc::clone(&candidate) as Arc<dyn EventBus>)
            .unwrap();
        publish(&*late, "b", 0..5).await;
        publish(&*bus, "c", 0..5).await;
        take(&mut kept, 10).await;
        let report = detached(&bus).await;
        assert_eq!((report.expected, report.matched), (10, 10), "{report:#?}");
        assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
        kept.unsubscribe().await;
    }
}
