//! What the tests of this crate share.
#![allow(dead_code, reason = "no test uses all of it")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{Event, EventBus, Limits, Subscribe, Subscription};
use shadow::{Report, ShadowBus, ShadowOptions, WhenFull};

/// How long anything may take before the test gives up: a watchdog, not an expectation.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(120);

/// Waits for `future` under the watchdog.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(WATCHDOG, future).await {
        Ok(result) => result,
        Err(_) => panic!("nothing came of it within {WATCHDOG:?}"),
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let wait = async {
        while !condition() {
            tick.tick().await;
        }
    };
    if tokio::time::timeout(WATCHDOG, wait).await.is_err() {
        panic!("{what}: not within {WATCHDOG:?}");
    }
}

pub(crate) fn crossbeam() -> Arc<CrossbeamBus> {
    CrossbeamBus::new(Limits::default())
}

/// Options under which everything is compared.
pub(crate) fn whole() -> ShadowOptions {
    ShadowOptions {
        when_full: WhenFull::Wait,
        max_divergences: 1_000_000,
        ..ShadowOptions::default()
    }
}

/// A shadow of two crossbeam buses.
pub(crate) fn shadow(options: ShadowOptions) -> Arc<ShadowBus> {
    ShadowBus::new(crossbeam(), crossbeam(), options)
}

pub(crate) fn numbered(topic: &str, n: u64) -> Event {
    Event::new(topic, n.to_string().into_bytes()).unwrap()
}

pub(crate) fn number(event: &Event) -> u64 {
    String::from_utf8(event.bytes().unwrap().to_vec())
        .unwrap()
        .parse()
        .unwrap()
}

pub(crate) async fn subscribe(bus: &dyn EventBus, filter: &str) -> Subscription {
    bus.subscribe(Subscribe::to(filter).unwrap()).await.unwrap()
}

/// Receives `n` events.
pub(crate) async fn take(subscription: &mut Subscription, n: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < n {
        events.push(
            within(subscription.recv())
                .await
                .expect("subscription ended"),
        );
    }
    events
}

/// Waits until everything is decided, and checks the law.
pub(crate) async fn settled(bus: &ShadowBus) -> Report {
    let settled = bus.settle(WATCHDOG).await;
    let report = bus.report();
    assert!(settled, "not settled: {report:#?}");
    assert_law(&report);
    assert_eq!(report.in_flight, 0);
    report
}

pub(crate) fn assert_law(report: &Report) {
    let classes = report.matched
        + report.ignored
        + report.missing
        + report.late
        + report.reordered
        + report.differs
        + report.unverified
        + report.in_flight;
    assert_eq!(report.expected, classes, "{report:#?}");
    let reasons: u64 = report.unverified_by_reason.values().sum();
    assert_eq!(report.unverified, reasons);
}
