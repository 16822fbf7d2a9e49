//! OBS-002 as an operator meets it: lines of text, found by grep, in the span of whoever published.
//!
//! The suite reads the fields; here it is what they look like, and that a line belongs to the span
//! in which the event was refused or dropped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, its helpers too"
)]

use std::sync::Arc;
use std::time::Duration;

use busrt_backend::{Address, Options};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{
    Correlation, Delivery, Event, EventBus, Limits, Overflow, PublishError, Subscribe, Topic,
    TryPublishError,
};
use tracing_test::traced_test;

fn limits() -> Limits {
    Limits {
        max_event_size: 64,
        publish_deadline: Duration::from_millis(10),
        ..Limits::default()
    }
}

async fn in_process() -> Arc<dyn EventBus> {
    let mut options = Options::new(Address::InProcess);
    options.limits = limits();
    busrt_backend::open(options).await.unwrap()
}

fn event(topic: &str, correlation: &str) -> Event {
    let event = Event::new(topic, "x").unwrap();
    event.correlation(Correlation::new(correlation))
}

/// What `grep -F` is given for one event: the words in the order in which they stand.
fn words(message: &str, bus: &Arc<dyn EventBus>, fields: &str) -> String {
    format!(
        "eventbus::events: {message} publisher={} {fields}",
        bus.publisher_id()
    )
}

/// Publishes on `full` until there is no room, and what is over then.
async fn fill(bus: &Arc<dyn EventBus>) -> u64 {
    let mut accepted = 0;
    let mut arriving = None;
    loop {
        match bus.try_publish(event("full", "filling")) {
            Ok(receipt) => {
                accepted += 1;
                arriving = Some(receipt);
            }
            Err(_) => match arriving.take() {
                Some(receipt) => drop(receipt.confirmed(Duration::from_secs(30)).await.unwrap()),
                None => return accepted,
            },
        }
    }
}

/// What is refused and dropped on the way in, by a phase: the lines that have to be there.
async fn losses(bus: &Arc<dyn EventBus>) -> Vec<String> {
    let slow = Subscribe::to("full").unwrap().named("slow").capacity(2);
    let _slow = bus.subscribe(slow).await.unwrap();
    let accepted = fill(bus).await;
    let refused = bus.publish(event("full", "work-1")).await.unwrap_err();
    assert!(matches!(
        refused.reason(),
        PublishError::Backpressure { .. }
    ));
    let refused = bus.try_publish(event("full", "work-2")).unwrap_err();
    assert!(matches!(refused.reason(), TryPublishError::Full { .. }));
    let dropped = event("full", "work-3").delivery(Delivery::AtMostOnce);
    bus.publish(dropped).await.unwrap();
    let large = event("free", "work-4").header("large", "x".repeat(100));
    assert!(bus.publish(large).await.is_err());
    let strange = bus.publisher(Topic::new("free").unwrap());
    assert!(strange.publish(event("full", "work-5")).await.is_err());
    bus.shutdown().await.unwrap();
    assert!(bus.publish(event("full", "work-6")).await.is_err());
    let (refused, dropped) = ("event refused", "event dropped");
    vec![
        words(
            refused,
            bus,
            "topic=full correlation=\"work-1\" subscription=\"slow\" reason=no room in subscription",
        ),
        words(
            refused,
            bus,
            "topic=full correlation=\"work-2\" subscription=\"slow\" reason=no room in subscription",
        ),
        words(
            dropped,
            bus,
            &format!(
                "topic=full sequence={accepted} correlation=\"work-3\" subscription=\"slow\" \
                 reason=\"no room for an at-most-once event\""
            ),
        ),
        words(
            refused,
            bus,
            "topic=free correlation=\"work-4\" reason=event of ",
        ),
        words(
            refused,
            bus,
            "topic=full correlation=\"work-5\" reason=event for topic `full` given to the publisher",
        ),
        words(
            refused,
            bus,
            "topic=full correlation=\"work-6\" reason=bus is closed",
        ),
    ]
}

#[traced_test]
#[tokio::test]
async fn obs_002_crossbeam_tells_what_it_refuses_and_drops() {
    let bus: Arc<dyn EventBus> = CrossbeamBus::new(limits());
    for line in losses(&bus).await {
        assert!(logs_contain(&line), "not in the log: {line}");
    }
}

#[traced_test]
#[tokio::test]
async fn obs_002_in_process_tells_what_it_refuses_and_drops() {
    let bus = in_process().await;
    for line in losses(&bus).await {
        assert!(logs_contain(&line), "not in the log: {line}");
    }
}

/// A queue that drops its oldest or newest events does so in the task that publishes.
#[traced_test]
#[tokio::test]
async fn obs_002_crossbeam_tells_which_event_made_room() {
    let bus: Arc<dyn EventBus> = CrossbeamBus::new(limits());
    let of = |name: &str, overflow| {
        let subscribe = Subscribe::to("#").unwrap().named(name).capacity(1);
        subscribe.overflow(overflow)
    };
    let oldest = of("oldest", Overflow::DropOldest);
    let newest = of("newest", Overflow::DropNewest);
    let _oldest = bus.subscribe(oldest).await.unwrap();
    let _newest = bus.subscribe(newest).await.unwrap();
    for correlation in ["first", "second"] {
        bus.publish(event("a.b", correlation)).await.unwrap();
    }
    let lines = [
        "topic=a.b sequence=0 correlation=\"first\" subscription=\"oldest\" reason=\"no room: the oldest \
         is dropped\"",
        "topic=a.b sequence=1 correlation=\"second\" subscription=\"newest\" reason=\"no room: the newest \
         is dropped\"",
    ];
    for line in lines {
        let line = words("event dropped", &bus, line);
        assert!(logs_contain(&line), "not in the log: {line}");
    }
    assert!(!logs_contain(
        "correlation=\"first\" subscription=\"newest\""
    ));
    assert!(!logs_contain(
        "correlation=\"second\" subscription=\"oldest\""
    ));
}

/// What a subscription leaves unread is told when it ends.
#[traced_test]
#[tokio::test]
async fn obs_002_what_nobody_read_is_told() {
    for bus in [
        CrossbeamBus::new(limits()) as Arc<dyn EventBus>,
        in_process().await,
    ] {
        let mut left = bus.subscribe(Subscribe::to("#").unwrap()).await.unwrap();
        for correlation in ["read", "unread"] {
            let receipt = bus.publish(event("a", correlation)).await.unwrap();
            receipt.confirmed(Duration::from_secs(30)).await.unwrap();
        }
        left.recv().await.unwrap();
        let name = left.name().to_owned();
        left.unsubscribe().await;
        let line = format!(
            "topic=a sequence=1 correlation=\"unread\" subscription={name:?} reason=\"unread when its \
             subscription ended\""
        );
        let line = words("event dropped", &bus, &line);
        assert!(logs_contain(&line), "not in the log: {line}");
        assert!(!logs_contain(&format!(
            "correlation=\"read\" subscription={name:?}"
        )));
    }
}
