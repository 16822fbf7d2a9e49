//! Sampling of contents, and hooks that fail: what is left out is counted, and nothing else is left
//! out.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use common::{WATCHDOG, crossbeam, numbered, settled, shadow, subscribe, take, whole};
use eventbus_trait::{Event, EventBus, Origin, PublisherId};
use shadow::sabotage::{Sabotage, SabotageBus};
use shadow::{Ignore, Report, Sample, ShadowBus, ShadowOptions, Verdict};
use tracing::subscriber::NoSubscriber;

const PUBLISHERS: u8 = 3;
const EPOCHS: u64 = 3;
const EVENTS: u64 = 400;

/// Several publishers, each restarted, against a saboteur.
async fn sabotaged(kind: Sabotage, sample: Sample) -> (Report, Arc<SabotageBus>) {
    let grace = Duration::from_millis(50);
    let saboteur = SabotageBus::with_grace(crossbeam(), kind, 0.01, 11, grace);
    let options = ShadowOptions {
        grace,
        sample: Some(sample),
        ..whole()
    };
    let bus = ShadowBus::new(crossbeam(), Arc::clone(&saboteur) as _, options);
    let mut events = subscribe(&*bus, "#").await;
    for epoch in 0..EPOCHS {
        for n in 0..EVENTS {
            for publisher in 0..PUBLISHERS {
                // A restart begins its sequence anew.
                let origin = Origin {
                    publisher: PublisherId([publisher + 1; 16]),
                    epoch,
                    sequence: n,
                };
                let topic = ["t.a", "t.b", "t.c", "t.d"][n as usize % 4];
                let event = numbered(topic, n).given_origin(origin);
                bus.publish(event).await.unwrap();
            }
        }
        take(&mut events, EVENTS as usize * usize::from(PUBLISHERS)).await;
    }
    (settled(&bus).await, saboteur)
}

#[tokio::test]
async fn without_a_sample_everything_is_still_counted() {
    for kind in Sabotage::ALL {
        let (report, saboteur) = sabotaged(kind, Sample::by_topic(0.0)).await;
        assert!(saboteur.injected() > 0, "{kind} never struck");
        let found = if kind == Sabotage::Corrupt {
            0
        } else {
            saboteur.injected()
        };
        assert_eq!(report.diverged(), found, "{kind}: {}", report.table());
        assert_eq!(report.unsampled, report.matched, "{kind}");
        assert_eq!(report.expected, EPOCHS * EVENTS * u64::from(PUBLISHERS));
    }
}

#[tokio::test]
async fn a_whole_sample_is_everything() {
    let (report, saboteur) = sabotaged(Sabotage::Corrupt, Sample::by_topic(1.0)).await;
    assert_eq!(report.differs, saboteur.injected());
    assert_eq!(report.unsampled, 0);
}

/// What is found of the topics in the sample is all that was done to them, and nothing of others.
#[tokio::test]
async fn a_sample_sticks_to_its_keys() {
    let sample = Sample::by(0.5, |event: &Event| event.topic().clone());
    let (report, saboteur) = sabotaged(Sabotage::Corrupt, sample).await;
    let mut injected = BTreeMap::<String, u64>::new();
    for place in saboteur.injections() {
        *injected.entry(place.topic).or_default() += 1;
    }
    let mut found = BTreeMap::<String, u64>::new();
    for divergence in &report.divergences {
        *found.entry(divergence.topic.clone()).or_default() += 1;
    }
    assert!(
        !found.is_empty() && found.len() < injected.len(),
        "{found:?}"
    );
    assert!(
        found.iter().all(|(topic, n)| injected[topic] == *n),
        "{found:?} {injected:?}"
    );
    assert!(report.unsampled > 0 && report.unsampled < report.matched);
}

#[tokio::test]
async fn a_hook_that_panics_is_told_and_changes_nothing() {
    let panics = || -> bool { panic!("a panic on purpose") };
    let bus = shadow(ShadowOptions {
        ignore: Some(Ignore::when(move |_| panics())),
        sample: Some(Sample::by(0.0, move |_| panics())),
        ..whole()
    });
    let mut events = subscribe(&*bus, "#").await;
    for n in 0..5 {
        bus.publish(numbered("a", n)).await.unwrap();
    }
    take(&mut events, 5).await;
    let report = settled(&bus).await;
    assert_eq!((report.matched, report.unsampled), (5, 0));
    let told = [("ignore", 5), ("sample", 5)].map(|(hook, n)| (hook.to_owned(), n));
    assert_eq!(report.hook_errors, told.into());
    assert_eq!(report.verdict, Verdict::Match);
    assert!(report.table().contains("failures of hook ignore"));
}

/// Where log lines go that looks at the bus for each.
struct Looking(Arc<ShadowBus>, Arc<AtomicU64>);

impl tracing::Subscriber for Looking {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        let (bus, (told, looked)) = (Arc::clone(&self.0), sync_channel(1));
        // Not this thread, which a lock that it holds would block for good.
        std::thread::spawn(move || drop(told.send(bus.report())));
        let report = looked.recv_timeout(WATCHDOG).expect("a lock is held");
        let panics: u64 = report.hook_errors.values().sum();
        self.1.fetch_add(panics, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// A log that hangs, hangs who writes to it, and nobody else.
#[tokio::test]
async fn what_is_logged_of_a_hook_is_logged_under_no_lock() {
    let options = ShadowOptions {
        ignore: Some(Ignore::when(|_| panic!("a hook"))),
        ..whole()
    };
    let (bus, looked) = (shadow(options), Arc::new(AtomicU64::new(0)));
    let sink = Looking(Arc::clone(&bus), Arc::clone(&looked));
    // As long as there is but one dispatcher, tracing asks the thread that comes to a call site first
    // whether anybody wants it, for good: with this one, it asks them all.
    let _another = tracing::Dispatch::new(NoSubscriber::default());
    {
        let _sink = tracing::subscriber::set_default(sink);
        bus.try_publish(numbered("t.a", 0)).unwrap();
    }
    assert_eq!(looked.load(Ordering::Relaxed), 1);
}
