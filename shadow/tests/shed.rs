//! Events that there is no room for in the queue to the candidate: counted, each once, and why.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[path = "common/bad.rs"]
mod bad;
mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bad::{Bad, BadBus};
use common::{assert_law, crossbeam, numbered, take};
use eventbus_trait::{EventBus, Subscribe, Topic};
use shadow::{Ignore, Reason, ShadowBus, ShadowOptions};

/// A shadow whose candidate takes nothing from a queue of 4.
fn stuck(ignore: Option<Ignore>) -> Arc<ShadowBus> {
    let candidate = Arc::new(BadBus::new(crossbeam(), Bad::HangsInPublish));
    let options = ShadowOptions {
        queue: 4,
        ignore,
        ..ShadowOptions::default()
    };
    ShadowBus::new(crossbeam(), candidate, options)
}

#[tokio::test]
async fn what_is_ignored_is_not_missed() {
    let ignore = Ignore::when(|event| event.topic().as_str() == "noise");
    let bus = stuck(Some(ignore));
    let mut events = common::subscribe(&*bus, "#").await;
    for n in 0..50 {
        bus.publish(numbered("noise", n)).await.unwrap();
        bus.publish(numbered("events", n)).await.unwrap();
        take(&mut events, 2).await;
    }
    let report = bus.report();
    assert_law(&report);
    assert_eq!((report.ignored, report.published), (50, 100));
    let open = report.in_flight;
    assert_eq!(
        report.unverified_by_reason,
        [(Reason::QueueFull, 50 - open)].into()
    );
}

#[tokio::test]
async fn a_publish_that_is_dropped_is_counted_as_cancelled() {
    let bus = stuck(None);
    let full = Subscribe::to("#").unwrap().capacity(10);
    let mut events = bus.subscribe(full).await.unwrap();
    for n in 0..10 {
        bus.publish(numbered("events", n)).await.unwrap();
    }
    {
        let mut waiting = pin!(bus.publish(numbered("events", 10)));
        let pending = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending()));
        assert!(pending.await, "there is no room");
    }
    take(&mut events, 10).await;
    let report = bus.report();
    assert_law(&report);
    assert_eq!(
        report.unverified_by_reason.get(&Reason::Cancelled),
        Some(&1)
    );
}

/// Subscriptions come and go: each counts what came while it was there, also where the first event that
/// was turned away has spoken for the others.
#[tokio::test]
async fn who_comes_later_is_counted_from_then_on() {
    let bus = stuck(None);
    let publisher = bus.publisher(Topic::new("events").unwrap());
    let mut first = common::subscribe(&*bus, "events").await;
    for n in 0..20 {
        publisher.publish(numbered("events", n)).await.unwrap();
    }
    take(&mut first, 20).await;
    for round in 0..5 {
        let mut second = common::subscribe(&*bus, "events").await;
        let before = bus.report().expected;
        for n in 0..10 {
            publisher.publish(numbered("events", n)).await.unwrap();
        }
        take(&mut first, 10).await;
        take(&mut second, 10).await;
        let report = bus.report();
        assert_law(&report);
        assert_eq!(report.expected - before, 20, "round {round}: {report:#?}");
        second.unsubscribe().await;
        for n in 0..10 {
            publisher.publish(numbered("events", n)).await.unwrap();
        }
        take(&mut first, 10).await;
        let report = bus.report();
        assert_law(&report);
        assert_eq!(report.expected - before, 30, "round {round}: {report:#?}");
    }
    let report = bus.report();
    assert_eq!(report.published, 120);
    let open = report.in_flight;
    assert_eq!(
        report.unverified_by_reason,
        [(Reason::QueueFull, report.expected - open)].into(),
        "nothing is left to be explained by where it came out"
    );
    // What is published for the next candidate is nothing that this one has to do with.
    bus.detach(std::time::Duration::ZERO).await;
    bus.attach(crossbeam()).unwrap();
    for n in 0..30 {
        publisher.publish(numbered("events", n)).await.unwrap();
    }
    take(&mut first, 30).await;
    assert!(bus.settle(common::WATCHDOG).await);
    let report = bus.report();
    assert_law(&report);
    assert_eq!(report.published, 30, "{report:#?}");
    assert_eq!(report.expected, 30, "{report:#?}");
}
