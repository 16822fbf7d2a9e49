//! A stream is held against buses that misbehave on purpose: what they do is what is counted.

use std::num::NonZeroU32;

use eventbus::shadow::sabotage::{Sabotage, SabotageBus};
use eventbus::{Config, Limits, Rate};

use super::*;

const EVENTS: u64 = 400;

async fn bus(limits: Limits) -> Arc<dyn EventBus> {
    eventbus::open(&Config::default().limits(limits))
        .await
        .unwrap()
}

fn order(pace: Option<Pace>) -> Order {
    Order {
        topic: "a.b",
        payload: 32,
        events: EVENTS,
        within: Duration::from_secs(60),
        pace,
    }
}

async fn run(pair: Pair, order: Order) -> Outcome {
    let stream = Stream::start(&pair, order).await.unwrap();
    stream.finish().await.unwrap()
}

#[tokio::test]
async fn what_a_saboteur_does_is_counted_as_what_it_is() {
    for kind in Sabotage::ALL {
        if kind == Sabotage::Delay {
            // Longer than anybody waits for here; out of order is out of order.
            continue;
        }
        let publisher = bus(Limits::default()).await;
        let saboteur = SabotageBus::new(Arc::clone(&publisher), kind, 0.05, 7);
        let subscriber = Arc::clone(&saboteur) as Arc<dyn EventBus>;
        let pair = Pair {
            publisher,
            subscriber,
        };
        let found = run(pair, order(None)).await.delivery;
        let injected = saboteur.injected();
        assert!(injected > 5, "{kind:?} did nothing");
        assert_eq!(found.accepted, EVENTS);
        let counted = match kind {
            Sabotage::Drop => found.lost,
            Sabotage::Duplicate => found.doubled,
            Sabotage::Reorder => found.disordered,
            Sabotage::Corrupt => found.altered,
            _ => found.altered + found.doubled,
        };
        assert_eq!(counted, injected, "{kind:?}: {found:?}");
        assert!(!found.faults().is_empty());
    }
}

/// A bus that lets a publisher go on ten times as slowly as events are due: each is late by what all
/// before it were held up, and not by its own wait alone.
#[tokio::test]
async fn a_latency_runs_from_when_an_event_was_due() {
    let slow = NonZeroU32::new(200).unwrap();
    let one = NonZeroU32::new(1).unwrap();
    let limits = Limits {
        rate: Some(Rate {
            per_second: slow,
            burst: one,
        }),
        ..Limits::default()
    };
    let publisher = bus(limits).await;
    let pair = Pair {
        subscriber: Arc::clone(&publisher),
        publisher,
    };
    let events = 101;
    let order = Order {
        events,
        ..order(Some(Pace::new(2_000)))
    };
    let outcome = run(pair, order).await;
    assert_eq!(outcome.delivery.faults(), [""; 0]);
    // The last was due after 50 ms, and its turn came after 500.
    assert!(outcome.latencies.at(1.0) >= 440_000.0, "{outcome:?}");
    assert!(outcome.longest_publish >= Duration::from_millis(4));
}

#[tokio::test]
async fn what_is_published_after_a_fault_is_told_from_what_was_before() {
    let publisher = bus(Limits::default()).await;
    let pair = Pair {
        subscriber: Arc::clone(&publisher),
        publisher,
    };
    let order = Order {
        events: 1_000_000,
        ..order(Some(Pace::new(5_000)))
    };
    let stream = Stream::start(&pair, order).await.unwrap();
    let shared = Arc::clone(&stream.shared);
    let mut looks = tokio::time::interval(Duration::from_millis(1));
    while shared.received() < 50 {
        looks.tick().await;
    }
    assert_eq!(shared.recovered(), None, "there was no fault");
    let fault = Instant::now();
    shared.fault();
    while shared.recovered().is_none() {
        looks.tick().await;
    }
    assert!(shared.recovered().unwrap() >= fault);
    shared.end();
    let delivery = stream.finish().await.unwrap().delivery;
    assert_eq!(delivery.faults(), [""; 0]);
    assert!(delivery.accepted < 1_000_000, "it was ended");
}

#[tokio::test]
async fn refusals_are_counted_and_the_event_is_tried_again() {
    let limits = Limits {
        publish_deadline: Duration::from_millis(1),
        ..Limits::default()
    };
    let publisher = bus(limits).await;
    // Nobody reads it, so after its capacity every publish is refused.
    let full = Subscribe::to("a.b").unwrap().capacity(20);
    let unread = publisher.subscribe(full).await.unwrap();
    let pair = Pair {
        subscriber: Arc::clone(&publisher),
        publisher,
    };
    let stream = Stream::start(&pair, order(None)).await.unwrap();
    let shared = Arc::clone(&stream.shared);
    let mut looks = tokio::time::interval(Duration::from_millis(1));
    while pair.publisher.stats().refused == 0 {
        looks.tick().await;
    }
    assert!(shared.accepted() <= 20);
    drop(unread);
    let outcome = stream.finish().await.unwrap();
    assert!(outcome.errors.backpressure > 0, "{:?}", outcome.errors);
    assert_eq!(outcome.delivery.accepted, EVENTS);
    assert_eq!(outcome.delivery.faults(), [""; 0]);
}
