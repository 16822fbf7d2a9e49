//! MIG-002: of deliveries that nothing expects, what is certain is told and what is not is counted.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[path = "common/bad.rs"]
mod bad;
mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use bad::{Bad, BadBus};
use common::{assert_law, crossbeam, numbered, settled, subscribe, take, until, whole, within};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{Event, EventBus, Origin, Subscribe};
use shadow::{DivergenceClass, Reason, Report, ShadowBus, ShadowOptions, Side, Verdict};

/// An event in the name of one of the shadow's handles, past the shadow.
fn forged(bus: &ShadowBus, topic: &str, sequence: u64) -> Event {
    numbered(topic, sequence).given_origin(Origin {
        publisher: bus.publisher_id(),
        epoch: eventbus_trait::process_epoch(),
        sequence,
    })
}

fn unplaced(report: &Report) -> u64 {
    assert_law(report);
    let by_reason = &report.unverified_by_reason;
    by_reason.get(&Reason::Unplaced).copied().unwrap_or(0)
}

/// What the candidate had no room for it cannot deliver; the primary can, once.
#[tokio::test]
async fn a_phantom_is_told_among_what_there_was_no_room_for() {
    let (primary, inner) = (crossbeam(), crossbeam());
    let candidate = BadBus::new(Arc::<CrossbeamBus>::clone(&inner), Bad::HangsInPublish);
    let options = ShadowOptions {
        queue: 4,
        ..ShadowOptions::default()
    };
    let bus = ShadowBus::new(
        Arc::<CrossbeamBus>::clone(&primary),
        Arc::new(candidate),
        options,
    );
    let mut events = subscribe(&*bus, "#").await;
    until("stands", || inner.stats().subscriptions.len() == 1).await;
    for n in 0..100 {
        bus.publish(numbered("a", n)).await.unwrap();
    }
    take(&mut events, 100).await;
    let report = bus.report();
    assert!(report.unverified_by_reason[&Reason::QueueFull] > 80);
    assert_eq!(
        (report.expected, unplaced(&report)),
        (100, 0),
        "{report:#?}"
    );

    inner.publish(forged(&bus, "a", 50)).await.unwrap();
    inner.publish(forged(&bus, "b", 60)).await.unwrap();
    until("told", || bus.report().phantoms == 2).await;
    let told = bus.report().divergences;
    let phantom =
        |d: &shadow::Divergence| (d.class, d.side) == (DivergenceClass::Phantom, Side::Candidate);
    assert!(told.iter().all(phantom), "{told:#?}");
    let places: Vec<_> = told.iter().map(|d| (&*d.topic, d.sequence)).collect();
    assert_eq!(places, [("a", 50), ("b", 60)]);

    // On the primary a copy cannot be told from what was due there, but it is one too many.
    primary.publish(forged(&bus, "a", 70)).await.unwrap();
    take(&mut events, 1).await;
    let report = bus.report();
    assert_eq!(
        (unplaced(&report), report.expected),
        (1, 101),
        "{report:#?}"
    );
    assert_eq!((report.phantoms, report.matched), (2, 0), "{report:#?}");
    primary.publish(forged(&bus, "a", 200)).await.unwrap();
    take(&mut events, 1).await;
    let report = bus.report();
    assert_eq!(unplaced(&report) + report.phantoms, 4, "{report:#?}");
}

/// A first candidate was never given what was published before; the next one's bus may have been.
#[tokio::test]
async fn what_an_earlier_candidate_was_given_is_no_phantom_of_the_next() {
    let primary = crossbeam();
    let bus = ShadowBus::alone(Arc::<CrossbeamBus>::clone(&primary), whole());
    let mut events = subscribe(&*bus, "#").await;
    for (phantoms, left_over) in [(2, 0), (1, 1)] {
        for n in 0..5 {
            bus.publish(numbered("a", n)).await.unwrap();
        }
        let candidate = crossbeam();
        bus.attach(Arc::<CrossbeamBus>::clone(&candidate)).unwrap();
        bus.publish(numbered("a", 5)).await.unwrap();
        take(&mut events, 6).await;
        settled(&bus).await;
        candidate.publish(forged(&bus, "a", 2)).await.unwrap();
        candidate.publish(forged(&bus, "a", 100)).await.unwrap();
        primary.publish(forged(&bus, "a", 3)).await.unwrap();
        take(&mut events, 1).await;
        until("counted", || {
            let report = bus.report();
            report.phantoms == phantoms && unplaced(&report) == left_over
        })
        .await;
        let report = within(bus.detach(Duration::from_secs(60))).await.unwrap();
        assert_eq!((report.earlier, report.matched), (6, 1), "{report:#?}");
        assert_eq!(report.expected, 1 + left_over, "{report:#?}");
    }
}

/// A publish that waits for its turn may begin when its candidate is gone and the next one is there.
#[tokio::test]
async fn a_publish_that_began_before_is_not_held_against_the_next_candidate() {
    let bus = ShadowBus::alone(crossbeam(), whole());
    let small = Subscribe::to("#").unwrap().capacity(1);
    let mut events = bus.subscribe(small).await.unwrap();
    bus.attach(crossbeam()).unwrap();
    bus.publish(numbered("a", 0)).await.unwrap();
    let cx = &mut Context::from_waker(Waker::noop());
    let mut full = Box::pin(bus.publish(numbered("a", 1)));
    assert!(full.as_mut().poll(cx).is_pending(), "there was room");
    let mut behind = Box::pin(bus.publish(numbered("a", 2)));
    assert!(behind.as_mut().poll(cx).is_pending(), "it was its turn");
    assert_eq!(bus.report().expected, 2);
    bus.detach(Duration::ZERO).await.unwrap();
    bus.attach(crossbeam()).unwrap();
    let (_, full, behind) =
        within(async { tokio::join!(take(&mut events, 3), full, behind) }).await;
    full.unwrap();
    behind.unwrap();
    let report = bus.report();
    assert_eq!((report.diverged(), report.expected), (0, 0), "{report:#?}");
    assert_eq!((report.earlier, report.foreign), (3, 0), "{report:#?}");
    bus.publish(numbered("a", 3)).await.unwrap();
    take(&mut events, 1).await;
    let report = settled(&bus).await;
    assert_eq!(
        (report.matched, report.verdict),
        (1, Verdict::Match),
        "{report:#?}"
    );
}

/// A candidate whose thread is blocked is waited for while the next one comes and goes.
#[tokio::test]
async fn the_last_word_is_of_the_last_candidate() {
    let options = ShadowOptions {
        shutdown_wait: Duration::from_secs(60),
        ..ShadowOptions::default()
    };
    let bus = ShadowBus::alone(crossbeam(), options);
    let mut events = subscribe(&*bus, "#").await;
    let blocked = BadBus::new(crossbeam(), Bad::BlocksInPublish);
    let released = Arc::clone(&blocked.released);
    let mut publish = async |n: u64| {
        for n in 0..n {
            bus.publish(numbered("a", n)).await.unwrap();
            take(&mut events, 1).await;
        }
    };
    bus.attach(Arc::new(blocked)).unwrap();
    publish(10).await;
    let first = {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move { bus.detach(Duration::ZERO).await })
    };
    until("let go", || !bus.is_attached()).await;
    assert_eq!(bus.report().expected, 10);
    bus.attach(crossbeam()).unwrap();
    publish(3).await;
    let second = within(bus.detach(common::WATCHDOG)).await.unwrap();
    assert_eq!((second.expected, second.matched), (3, 3), "{second:#?}");
    assert_eq!(bus.report(), second);
    assert!(!first.is_finished(), "the candidate was not blocked");
    released.store(true, Ordering::Release);
    let first = within(first).await.unwrap().unwrap();
    assert_law(&first);
    assert_eq!(
        (first.expected, first.candidate.as_str()),
        (10, "bad"),
        "{first:#?}"
    );
    assert_eq!(bus.report(), second, "the first one's word came last");
    assert!(bus.detach(Duration::ZERO).await.is_none());
}
