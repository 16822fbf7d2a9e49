//! MIG-002: each injected divergence is found, classified and located; nothing else is told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::{WATCHDOG, crossbeam, numbered, settled, subscribe, take, until, whole, within};
use eventbus_trait::{Event, EventBus, PublisherId, Subscribe};
use shadow::sabotage::{Injection, Sabotage, SabotageBus};
use shadow::{Report, ShadowBus, ShadowOptions, Side, Verdict};

const GRACE: Duration = Duration::from_millis(100);
const TOPICS: [&str; 3] = [
    "events.process.new",
    "events.process.exit",
    "events.file.open",
];

fn sabotaged(kind: Sabotage, rate: f64, seed: u64) -> (Arc<ShadowBus>, Arc<SabotageBus>) {
    // Only what is late needs the grace time to pass; for the rest it must not, however long a busy
    // machine lets the threads wait.
    let grace = match kind {
        Sabotage::Delay => GRACE,
        _ => WATCHDOG,
    };
    let saboteur = SabotageBus::with_grace(crossbeam(), kind, rate, seed, grace);
    let options = ShadowOptions {
        grace,
        sabotage: Some(Arc::clone(&saboteur)),
        ..whole()
    };
    let candidate: Arc<dyn EventBus> = Arc::clone(&saboteur) as _;
    (ShadowBus::new(crossbeam(), candidate, options), saboteur)
}

/// Where the report says that something diverged, with how often.
fn told(report: &Report, kind: Sabotage) -> BTreeMap<Injection, u64> {
    let mut places = BTreeMap::new();
    for divergence in &report.divergences {
        assert_eq!(divergence.class, kind.divergence(), "{divergence:?}");
        assert_eq!(divergence.side, Side::Candidate);
        let place = Injection {
            subscription: divergence.subscription.clone(),
            topic: divergence.topic.clone(),
            publisher: PublisherId::parse(&divergence.publisher).unwrap(),
            sequence: divergence.sequence,
        };
        *places.entry(place).or_default() += 1;
    }
    places
}

fn injected(saboteur: &SabotageBus) -> BTreeMap<Injection, u64> {
    let mut places = BTreeMap::new();
    for place in saboteur.injections() {
        *places.entry(place).or_default() += 1;
    }
    places
}

async fn every_injection_is_found(kind: Sabotage, events: u64, rate: f64, seed: u64) {
    let (bus, saboteur) = sabotaged(kind, rate, seed);
    let mut readers = Vec::new();
    for (name, filter) in [("all", "#"), ("some", "events.process.*")] {
        let subscribe = Subscribe::to(filter).unwrap().named(name);
        let mut subscription = bus.subscribe(subscribe).await.unwrap();
        readers.push(tokio::spawn(async move {
            let mut n = 0;
            while subscription.recv().await.is_some() {
                n += 1;
            }
            n
        }));
    }
    let mut publishers = Vec::new();
    for _ in 0..2 {
        let handle = bus.connect(None).await.unwrap();
        publishers.push(tokio::spawn(async move {
            for n in 0..events / 2 {
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
    assert!(saboteur.injected() > 10, "too few to mean anything");
    assert_eq!(report.injected, Some(saboteur.injected()));
    assert_eq!(report.diverged(), saboteur.injected(), "{}", report.table());
    let class = match kind {
        Sabotage::Drop => report.missing,
        Sabotage::Duplicate => report.duplicates,
        Sabotage::Reorder => report.reordered,
        Sabotage::Corrupt => report.differs,
        Sabotage::Phantom => report.phantoms,
        _ => report.late,
    };
    assert_eq!(class, saboteur.injected(), "{}", report.table());
    assert_eq!(told(&report, kind), injected(&saboteur));
    assert_eq!(report.verdict, Verdict::Diverged);
    assert_eq!(report.unverified, 0);
    let extra = report.duplicates + report.phantoms;
    assert_eq!(
        report.matched,
        report.expected - (report.diverged() - extra)
    );
    within(bus.shutdown()).await.unwrap();
    let mut read = 0;
    for reader in readers {
        read += within(reader).await.unwrap();
    }
    assert_eq!(read, report.expected, "the application sees the primary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drops_are_missing() {
    every_injection_is_found(Sabotage::Drop, 20_000, 0.01, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_are_duplicates() {
    every_injection_is_found(Sabotage::Duplicate, 20_000, 0.01, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reorderings_are_reordered() {
    every_injection_is_found(Sabotage::Reorder, 20_000, 0.01, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn corruptions_differ() {
    every_injection_is_found(Sabotage::Corrupt, 20_000, 0.01, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phantoms_are_phantoms() {
    every_injection_is_found(Sabotage::Phantom, 20_000, 0.01, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delays_are_late() {
    every_injection_is_found(Sabotage::Delay, 20_000, 0.01, 6).await;
}

/// Every second event is hit, or every one: still one injection, one divergence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn high_rates_are_counted_exactly_too() {
    for kind in Sabotage::ALL {
        every_injection_is_found(kind, 600, 0.5, 7).await;
    }
    for kind in [Sabotage::Drop, Sabotage::Duplicate, Sabotage::Corrupt] {
        every_injection_is_found(kind, 600, 1.0, 8).await;
    }
}

#[tokio::test]
async fn the_same_seed_hits_the_same_events() {
    let run = |seed| async move {
        let (bus, saboteur) = sabotaged(Sabotage::Drop, 0.1, seed);
        let mut events = subscribe(&*bus, "#").await;
        for n in 0..200 {
            bus.publish(numbered(TOPICS[0], n)).await.unwrap();
        }
        take(&mut events, 200).await;
        settled(&bus).await;
        let hit = saboteur.injections().into_iter().map(|i| i.sequence);
        hit.collect::<Vec<_>>()
    };
    assert_eq!(run(1).await, run(1).await);
    assert_ne!(run(1).await, run(2).await);
}

/// The very last event is lost, and no later one shows it.
#[tokio::test]
async fn a_lost_tail_is_found_by_a_marker() {
    let (bus, saboteur) = sabotaged(Sabotage::Drop, 1.0, 9);
    let mut events = subscribe(&*bus, "#").await;
    for topic in TOPICS {
        bus.publish(numbered(topic, 0)).await.unwrap();
    }
    take(&mut events, 3).await;
    let report = settled(&bus).await;
    assert_eq!((report.missing, saboteur.injected()), (3, 3));
}

/// There is no handle left to send a marker with: silence decides.
#[tokio::test]
async fn a_lost_tail_of_a_dropped_handle_is_found() {
    let saboteur = SabotageBus::new(crossbeam(), Sabotage::Drop, 1.0, 12);
    let options = ShadowOptions {
        grace: GRACE,
        silence: GRACE,
        ..whole()
    };
    let bus = ShadowBus::new(crossbeam(), Arc::<SabotageBus>::clone(&saboteur), options);
    let mut events = subscribe(&*bus, "#").await;
    let other = bus.connect(None).await.unwrap();
    other.publish(numbered(TOPICS[0], 0)).await.unwrap();
    drop(other);
    take(&mut events, 1).await;
    let report = settled(&bus).await;
    assert_eq!((report.missing, saboteur.injected()), (1, 1));
}

/// SUB-002: what the candidate has lost does not keep its side of an ended subscription.
#[tokio::test]
async fn an_ended_subscription_ends_on_the_candidate() {
    let (bus, saboteur) = sabotaged(Sabotage::Drop, 1.0, 13);
    let mut events = subscribe(&*bus, "#").await;
    for topic in TOPICS {
        bus.publish(numbered(topic, 0)).await.unwrap();
    }
    take(&mut events, 3).await;
    until("subscribed", || !saboteur.stats().subscriptions.is_empty()).await;
    drop(events);
    until("unsubscribed", || saboteur.stats().subscriptions.is_empty()).await;
    assert_eq!(bus.report().missing, 3);
}

/// What is held back and not overtaken by anything is no divergence.
#[tokio::test]
async fn an_event_held_at_the_end_of_its_stream_is_in_order() {
    for kind in [Sabotage::Reorder, Sabotage::Delay] {
        let (bus, saboteur) = sabotaged(kind, 1.0, 10);
        let mut events = subscribe(&*bus, "#").await;
        for topic in TOPICS {
            bus.publish(numbered(topic, 0)).await.unwrap();
        }
        take(&mut events, 3).await;
        let report = settled(&bus).await;
        assert_eq!(saboteur.injected(), 0);
        assert_eq!(report.matched, 3);
        assert_eq!(report.verdict, Verdict::Match);
    }
}

/// An empty payload is corrupted too, and the rest of the event is left as it is.
#[tokio::test]
async fn a_corrupt_event_differs_in_its_payload_alone() {
    let (bus, saboteur) = sabotaged(Sabotage::Corrupt, 1.0, 11);
    let mut events = subscribe(&*bus, "#").await;
    let event = Event::new(TOPICS[0], Vec::new()).unwrap().header("a", "b");
    bus.publish(event).await.unwrap();
    take(&mut events, 1).await;
    let report = settled(&bus).await;
    assert_eq!((report.differs, saboteur.injected()), (1, 1));
    assert_eq!(
        report.divergences[0].detail,
        "payload of 0 bytes came as 1 bytes"
    );
}

/// A saboteur of rate 0 is the bus that it wraps.
#[tokio::test]
async fn an_idle_saboteur_changes_nothing() {
    let bus = SabotageBus::new(crossbeam(), Sabotage::Drop, 0.0, 0);
    let mut events = subscribe(&*bus, "#").await;
    let other = bus.connect(None).await.unwrap();
    for n in 0..10 {
        other.publish(numbered(TOPICS[0], n)).await.unwrap();
    }
    assert_eq!(events.stats().queued, 10);
    take(&mut events, 10).await;
    until("conserved", || events.stats().is_conserved()).await;
    let stats = events.unsubscribe().await;
    assert_eq!((stats.matched, stats.delivered), (10, 10));
    bus.shutdown().await.unwrap();
    assert!(bus.publish(numbered(TOPICS[0], 0)).await.is_err());
}

/// The first are listed, all are counted.
#[tokio::test]
async fn the_list_is_bounded_and_the_counts_are_not() {
    let saboteur = SabotageBus::with_grace(crossbeam(), Sabotage::Duplicate, 1.0, 0, GRACE);
    let bus = ShadowBus::new(
        crossbeam(),
        saboteur,
        ShadowOptions {
            max_divergences: 5,
            ..whole()
        },
    );
    let mut events = subscribe(&*bus, "#").await;
    for n in 0..20 {
        bus.publish(numbered(TOPICS[0], n)).await.unwrap();
    }
    take(&mut events, 20).await;
    let report = settled(&bus).await;
    assert_eq!(report.duplicates, 20);
    assert_eq!(report.divergences.len(), 5);
    assert!(report.table().contains("and 10 more") || report.table().contains("and 15 more"));
}
