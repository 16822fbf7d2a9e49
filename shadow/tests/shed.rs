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
use eventbus_trait::{Event, EventBus, Subscribe, Topic, TryPublishError};
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

/// What is published out of a slot is there as it was if it is refused, and its sequence is free again:
/// by a bus, and whatever a shadow does with it.
#[tokio::test]
async fn a_slot_that_is_refused_is_left_as_it_was() {
    const CAPACITY: usize = 10;
    let doubled = ShadowBus::new(crossbeam(), crossbeam(), ShadowOptions::default());
    let alone = ShadowBus::alone(crossbeam(), ShadowOptions::default());
    // What may be ignored is looked at one by one.
    let one_by_one = stuck(Some(Ignore::when(|_| false)));
    let buses: [Arc<dyn EventBus>; 5] = [crossbeam(), alone, doubled, stuck(None), one_by_one];
    for bus in buses {
        let full = Subscribe::to("#").unwrap().capacity(CAPACITY);
        let mut events = bus.subscribe(full.named("slow")).await.unwrap();
        let publisher = bus.publisher(Topic::new("events").unwrap());
        let try_next = |slot: &mut Option<Event>| publisher.first_try(slot);
        for n in 0..CAPACITY as u64 {
            let mut slot = Some(numbered("events", n));
            try_next(&mut slot).unwrap();
            assert_eq!(slot, None, "{}", bus.backend());
        }
        let next = numbered("events", CAPACITY as u64);
        let mut slot = Some(next.clone());
        let full = TryPublishError::Full {
            subscription: "slow".to_owned(),
        };
        assert_eq!(try_next(&mut slot).unwrap_err(), full, "{}", bus.backend());
        assert_eq!(slot, Some(next), "{}", bus.backend());
        take(&mut events, CAPACITY).await;
        try_next(&mut slot).unwrap();
        let last = take(&mut events, 1).await.remove(0);
        assert_eq!(last.origin().unwrap().sequence, CAPACITY as u64, "{last:?}");
        let nobody = try_next(&mut None).unwrap();
        assert_eq!(nobody.now().unwrap().deliveries, 0, "{}", bus.backend());
        let stats = bus.stats();
        assert_eq!((stats.published, stats.refused), (CAPACITY as u64 + 1, 0));
    }
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
