//! MIG-001: whatever the candidate does, the application sees the primary alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[path = "common/bad.rs"]
mod bad;
mod common;

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use bad::{Bad, BadBus};
use common::{assert_law, crossbeam, number, numbered, until, within};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{Delivery, EventBus, Limits, Stats, Subscribe, SubscribeError, Topic};
use shadow::{Reason, Report, ShadowBus, ShadowOptions, Verdict};

const TOPICS: [&str; 2] = ["events.process.new", "events.file.open"];

/// Everything that an application sees of a bus.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    receipts: Vec<Option<u64>>,
    refusals: Vec<String>,
    events: BTreeMap<String, Vec<(String, u64)>>,
    sequences: Vec<u64>,
    subscriptions: Vec<String>,
    stats: Stats,
}

fn limits() -> Limits {
    Limits {
        max_event_size: 1000,
        publish_deadline: Duration::from_millis(5),
        ..Limits::default()
    }
}

/// A program that uses a bus in every way.
async fn program(bus: Arc<dyn EventBus>) -> Seen {
    let mut seen = Seen {
        receipts: Vec::new(),
        refusals: Vec::new(),
        events: BTreeMap::new(),
        sequences: Vec::new(),
        subscriptions: Vec::new(),
        stats: Stats::default(),
    };
    let all = Subscribe::to("#").unwrap().named("all").capacity(50);
    let even = Subscribe::to("events.process.*")
        .unwrap()
        .named("even")
        .matching(|event| number(event).is_multiple_of(2));
    let mut all = bus.subscribe(all).await.unwrap();
    let mut even = bus.subscribe(even).await.unwrap();
    let twice = bus
        .subscribe(Subscribe::to("#").unwrap().named("all"))
        .await;
    let name = "all".to_owned();
    assert_eq!(
        twice.unwrap_err(),
        SubscribeError::AlreadySubscribed { name }
    );
    let publisher = bus.publisher(Topic::new(TOPICS[0]).unwrap());
    for n in 0..40 {
        let event = numbered(TOPICS[n as usize % 2], n);
        let receipt = match n % 4 {
            0 => publisher.publish(event).await.unwrap(),
            1 => bus.try_publish(event).unwrap(),
            2 => bus.publish(event).await.unwrap(),
            _ => bus.publish_batch(vec![event]).await.unwrap(),
        };
        seen.receipts.push(receipt.now().map(|c| c.deliveries));
    }
    for n in 40..60 {
        match bus.publish(numbered(TOPICS[0], n)).await {
            Ok(receipt) => seen.receipts.push(receipt.now().map(|c| c.deliveries)),
            Err(refused) => seen.refusals.push(refused.reason().to_string()),
        }
    }
    for n in 60..65 {
        let event = numbered(TOPICS[1], n).delivery(Delivery::AtMostOnce);
        bus.publish(event).await.unwrap();
    }
    let other = bus.connect(Some("other")).await.unwrap();
    for (name, subscription) in [("all", &mut all), ("even", &mut even)] {
        let events = seen.events.entry(name.to_owned()).or_default();
        while let Ok(event) = subscription.try_recv() {
            let origin = event.origin().unwrap();
            assert_eq!(origin.publisher, bus.publisher_id());
            seen.sequences.push(origin.sequence);
            events.push((event.topic().to_string(), number(&event)));
        }
    }
    other.publish(numbered(TOPICS[0], 100)).await.unwrap();
    let last = within(all.recv()).await.unwrap();
    assert_eq!(last.origin().unwrap().publisher, other.publisher_id());
    seen.stats = bus.stats();
    let even = within(even.unsubscribe()).await;
    seen.subscriptions.push(format!("{even:?}"));
    within(other.shutdown()).await.unwrap();
    within(bus.shutdown()).await.unwrap();
    let refused = bus.publish(numbered(TOPICS[0], 0)).await.unwrap_err();
    seen.refusals.push(refused.reason().to_string());
    assert!(within(all.recv()).await.is_none());
    seen.subscriptions.push(format!("{:?}", all.stats()));
    seen
}

async fn alone() -> Seen {
    program(CrossbeamBus::new(limits())).await
}

async fn beside(bad: Bad) -> (Seen, Report) {
    let candidate = BadBus::new(crossbeam(), bad);
    let released = Arc::clone(&candidate.released);
    let options = ShadowOptions {
        grace: Duration::from_millis(50),
        silence: Duration::from_millis(50),
        shutdown_wait: Duration::from_millis(100),
        ..ShadowOptions::default()
    };
    let bus = ShadowBus::new(CrossbeamBus::new(limits()), Arc::new(candidate), options);
    let seen = program(Arc::<ShadowBus>::clone(&bus)).await;
    released.store(true, Ordering::Release);
    // A thread that hangs or blocks is not waited for; it finds that everything is over.
    until("the end of the thread", || bus.report().in_flight == 0).await;
    (seen, bus.report())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_sees_the_primary_alone() {
    let expected = without_times(alone().await);
    assert!(expected.refusals.len() > 1 && !expected.sequences.is_empty());
    for bad in Bad::ALL {
        let (seen, report) = beside(bad).await;
        // Waiting times differ from run to run in the texts; the rest must not.
        assert_eq!(without_times(seen), expected, "{bad:?}");
        assert_law(&report);
        assert_eq!(report.in_flight, 0, "{bad:?}: {report:#?}");
        assert_eq!(report.candidate, "bad");
        assert_eq!(report.published, expected.stats.published + 1);
        let shows = !report.candidate_errors.is_empty() || report.unverified > 0;
        assert!(shows, "{bad:?}: {report:#?}");
        let harmless = [Bad::PanicsInDrop, Bad::HangsInShutdown, Bad::IsSlow];
        if !harmless.contains(&bad) && bad != Bad::NeverDelivers {
            assert_eq!(
                report.verdict,
                Verdict::Inconclusive,
                "{bad:?}: {report:#?}"
            );
        }
    }
}

fn without_times(mut seen: Seen) -> Seen {
    for refusal in &mut seen.refusals {
        if let Some((reason, _)) = refusal.split_once(" for ") {
            *refusal = reason.to_owned();
        }
    }
    seen
}

#[tokio::test]
async fn errors_and_panics_of_the_candidate_are_counted_by_kind() {
    let expected = [
        (Bad::PanicsInPublish, "publish/panic", Reason::Refused),
        (Bad::RefusesEvents, "publish/disconnected", Reason::Refused),
        (
            Bad::RefusesSubscriptions,
            "subscribe/too_many_subscriptions",
            Reason::Unavailable,
        ),
        (
            Bad::PanicsInSubscribe,
            "subscribe/panic",
            Reason::Unavailable,
        ),
        (Bad::PanicsInReceive, "receive/panic", Reason::Unavailable),
        (Bad::EndsSubscriptions, "receive/ended", Reason::Unavailable),
    ];
    for (bad, kind, reason) in expected {
        let candidate = Arc::new(BadBus::new(crossbeam(), bad));
        // A marker that it does not take is as if it were silent.
        let options = ShadowOptions {
            silence: Duration::from_millis(50),
            grace: Duration::from_millis(50),
            ..common::whole()
        };
        let bus = ShadowBus::new(crossbeam(), candidate, options);
        let mut events = common::subscribe(&*bus, "#").await;
        for n in 0..30 {
            bus.publish(numbered(TOPICS[0], n)).await.unwrap();
        }
        common::take(&mut events, 30).await;
        let report = common::settled(&bus).await;
        assert!(report.candidate_errors[kind] > 0, "{bad:?}: {report:#?}");
        assert!(report.unverified_by_reason[&reason] > 0, "{report:#?}");
        assert_eq!(report.matched + report.unverified, 30, "{report:#?}");
        assert_eq!(report.verdict, Verdict::Inconclusive);
        assert_eq!(report.diverged(), 0);
    }
}

#[tokio::test]
async fn a_handle_that_the_candidate_refuses_is_unverified() {
    let candidate = Arc::new(BadBus::new(crossbeam(), Bad::RefusesHandles));
    let bus = ShadowBus::new(crossbeam(), candidate, common::whole());
    let mut events = common::subscribe(&*bus, "#").await;
    let other = bus.connect(None).await.unwrap();
    other.publish(numbered(TOPICS[0], 0)).await.unwrap();
    bus.publish(numbered(TOPICS[0], 1)).await.unwrap();
    let mut own = common::subscribe(&*other, "#").await;
    bus.publish(numbered(TOPICS[0], 2)).await.unwrap();
    common::take(&mut events, 3).await;
    common::take(&mut own, 1).await;
    let report = common::settled(&bus).await;
    assert_eq!(
        report.candidate_errors,
        [("connect/closed".to_owned(), 1)].into()
    );
    assert_eq!(
        report.unverified_by_reason,
        [(Reason::Unavailable, 2)].into()
    );
    assert_eq!(report.matched, 2);
}

/// The candidate takes everything and delivers nothing: that is missing, not unverified.
#[tokio::test]
async fn a_candidate_that_delivers_nothing_has_lost_it() {
    let candidate = Arc::new(BadBus::new(crossbeam(), Bad::NeverDelivers));
    let options = ShadowOptions {
        grace: Duration::from_millis(50),
        silence: Duration::from_millis(50),
        ..common::whole()
    };
    let bus = ShadowBus::new(crossbeam(), candidate, options);
    let mut events = common::subscribe(&*bus, "#").await;
    for n in 0..10 {
        bus.publish(numbered(TOPICS[0], n)).await.unwrap();
    }
    common::take(&mut events, 10).await;
    // The markers are lost as well: silence decides.
    let report = common::settled(&bus).await;
    assert_eq!((report.missing, report.verdict), (10, Verdict::Diverged));
}

/// A subscription that has ended may linger on the candidate; a new one of its name waits for it.
#[tokio::test]
async fn a_name_is_given_back_before_it_is_used_again() {
    let candidate = Arc::new(BadBus::new(crossbeam(), Bad::NeverDelivers));
    let options = ShadowOptions {
        grace: Duration::from_millis(50),
        silence: Duration::from_millis(50),
        ..common::whole()
    };
    let bus = ShadowBus::new(crossbeam(), candidate, options);
    for _ in 0..3 {
        let subscribe = Subscribe::to("#").unwrap().named("dashboard");
        let mut events = bus.subscribe(subscribe).await.unwrap();
        bus.publish(numbered(TOPICS[0], 0)).await.unwrap();
        common::take(&mut events, 1).await;
    }
    let report = common::settled(&bus).await;
    assert_eq!(report.missing, 3);
    assert!(report.candidate_errors.is_empty(), "{report:#?}");
}

/// A hung candidate fills the queue once; nobody waits, and memory stays bounded.
#[tokio::test]
async fn a_hung_candidate_costs_a_queue_and_no_more() {
    let candidate = Arc::new(BadBus::new(crossbeam(), Bad::HangsInPublish));
    let options = ShadowOptions {
        queue: 100,
        ..ShadowOptions::default()
    };
    let bus = ShadowBus::new(crossbeam(), candidate, options);
    let mut events = common::subscribe(&*bus, "#").await;
    for n in 0..5000 {
        bus.publish(numbered(TOPICS[0], n)).await.unwrap();
        common::take(&mut events, 1).await;
    }
    let report = bus.report();
    assert!(report.queue_high_water <= 100);
    assert!(report.unverified_by_reason[&Reason::QueueFull] >= 4800);
    assert!(report.in_flight <= 110);
    assert!(!bus.settle(Duration::from_millis(50)).await);
    let report = bus.report();
    assert_eq!(
        (report.verdict, report.settled),
        (Verdict::Inconclusive, Some(false))
    );
    // Subscriptions go on coming and going as well.
    for _ in 0..10_000 {
        drop(common::subscribe(&*bus, "#").await);
    }
    bus.publish(numbered(TOPICS[0], 0)).await.unwrap();
    common::take(&mut events, 1).await;
    within(bus.shutdown()).await.unwrap();
    assert_eq!(bus.report().in_flight, 0);
}

/// Long before it has filled the queue.
#[tokio::test]
async fn a_hung_candidate_is_given_up_for_as_long_as_it_hangs() {
    let candidate = Arc::new(BadBus::new(crossbeam(), Bad::BlocksInPublish));
    let released = Arc::clone(&candidate.released);
    let options = ShadowOptions {
        queue: 100_000_000,
        stall: Duration::from_millis(50),
        ..ShadowOptions::default()
    };
    let bus = ShadowBus::new(crossbeam(), candidate, options);
    let mut events = common::subscribe(&*bus, "#").await;
    let (mut n, begun) = (0, Instant::now());
    let mut publish = async |until: &dyn Fn(Report) -> bool| {
        while !until(bus.report()) {
            // Nothing here ever waits, so that no other watch over it would have a turn.
            assert!(begun.elapsed() < common::WATCHDOG, "{:#?}", bus.report());
            bus.publish(numbered(TOPICS[0], n)).await.unwrap();
            common::take(&mut events, 1).await;
            n += 1;
        }
    };
    let shed = |report: Report| report.unverified_by_reason.get(&Reason::QueueFull) > Some(&100);
    publish(&shed).await;
    let before = bus.report();
    assert!(before.queue_high_water >= 256, "{before:#?}");
    released.store(true, Ordering::Release);
    let more = before.queue_high_water + 1000;
    publish(&|report| report.matched > more).await;
}

/// A candidate that was behind is given events again once it has caught up and rested.
#[tokio::test]
async fn a_candidate_that_was_behind_is_given_events_again() {
    let candidate = Arc::new(BadBus::new(crossbeam(), Bad::BlocksInPublish));
    let released = Arc::clone(&candidate.released);
    let queue = 10;
    let options = ShadowOptions {
        queue,
        ..ShadowOptions::default()
    };
    let bus = ShadowBus::new(crossbeam(), candidate, options);
    let mut events = common::subscribe(&*bus, "#").await;
    for n in 0..100 {
        bus.publish(numbered(TOPICS[0], n)).await.unwrap();
        common::take(&mut events, 1).await;
    }
    let shed = bus.report().unverified_by_reason[&Reason::QueueFull];
    assert!(shed >= 100 - 2 * queue as u64, "{shed}");
    released.store(true, Ordering::Release);
    let mut n = 100;
    within(async {
        while bus.report().matched <= 4 * queue as u64 {
            bus.publish(numbered(TOPICS[0], n)).await.unwrap();
            common::take(&mut events, 1).await;
            tokio::task::yield_now().await;
            n += 1;
        }
    })
    .await;
    let report = common::settled(&bus).await;
    assert_law(&report);
    assert_eq!((report.diverged(), report.published), (0, n));
}

/// What may be dropped does not wait behind what waits for room.
#[tokio::test]
async fn at_most_once_waits_for_nobody() {
    let shadowed = ShadowBus::new(crossbeam(), crossbeam(), ShadowOptions::default());
    for bus in [crossbeam() as Arc<dyn EventBus>, shadowed] {
        let full = Subscribe::to("#").unwrap().capacity(1);
        let _full = bus.subscribe(full).await.unwrap();
        let publisher = bus.publisher(Topic::new(TOPICS[0]).unwrap());
        publisher.publish(publisher.event("x")).await.unwrap();
        let mut waiting = pin!(publisher.publish(publisher.event("x")));
        let pending = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending()));
        assert!(pending.await, "there is no room");
        let event = publisher.event("x").delivery(Delivery::AtMostOnce);
        let tried = publisher.first_try(&mut Some(event));
        assert!(tried.is_ok(), "{}: {tried:?}", bus.backend());
    }
}

/// A batch waits for its turns once, not once for each topic.
#[tokio::test]
async fn a_batch_has_one_patience() {
    // A tenth of a second for each is what the watchdog has not got.
    const TOPICS: u64 = 400;
    let limits = Limits {
        // Far longer than a machine may take over one poll.
        publish_deadline: Duration::from_secs(1),
        ..limits()
    };
    let bus = ShadowBus::new(
        CrossbeamBus::new(limits),
        crossbeam(),
        ShadowOptions::default(),
    );
    let full = Subscribe::to("#").unwrap().capacity(1);
    let _full = bus.subscribe(full).await.unwrap();
    bus.publish(numbered("first", 0)).await.unwrap();
    let numbered = |n: u64| numbered(&format!("t{n}"), n);
    // Each has its topic's turn for as long as nobody goes on with it.
    let mut waiting: Vec<_> = (0..TOPICS)
        .map(|n| Box::pin(bus.publish(numbered(n))))
        .collect();
    for publish in &mut waiting {
        let pending = poll_fn(|cx| Poll::Ready(publish.as_mut().poll(cx).is_pending()));
        assert!(pending.await, "there is no room");
    }
    let batch = bus.publish_batch((0..TOPICS).map(numbered).collect());
    let refused = tokio::time::timeout(common::WATCHDOG / 4, batch).await;
    assert_eq!(refused.unwrap().unwrap_err().accepted, 0);
}

/// An event counts once for each KiB that it begins.
#[tokio::test]
async fn the_queue_is_bounded_in_bytes_too() {
    let candidate = Arc::new(BadBus::new(crossbeam(), Bad::HangsInSubscribe));
    let options = ShadowOptions {
        queue: 100,
        ..ShadowOptions::default()
    };
    let bus = ShadowBus::new(crossbeam(), candidate, options);
    let mut events = common::subscribe(&*bus, "#").await;
    for _ in 0..20 {
        let event = eventbus_trait::Event::new(TOPICS[0], vec![0; 20 * 1024 - 1]).unwrap();
        bus.publish(event).await.unwrap();
    }
    common::take(&mut events, 20).await;
    let report = bus.report();
    assert!(report.queue_high_water <= 5);
    assert_eq!(
        report.unverified_by_reason,
        [(Reason::QueueFull, 15)].into()
    );
}

/// What is published while a subscription is being made may come or not, on either side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_while_a_subscription_is_made_is_unverified() {
    let primary = BadBus::new(crossbeam(), Bad::SubscribesAtLeisure);
    let released = Arc::clone(&primary.released);
    let bus = ShadowBus::new(Arc::new(primary), crossbeam(), common::whole());
    let making = {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move { common::subscribe(&*bus, "#").await })
    };
    // The primary has the subscription; the candidate's is not even asked for.
    let mut n = 0;
    until("delivered", || {
        let publish = bus.try_publish(numbered(TOPICS[0], n)).unwrap();
        n += 1;
        publish.now().is_some_and(|c| c.deliveries == 1)
    })
    .await;
    released.store(true, Ordering::Release);
    let mut events = within(making).await.unwrap();
    bus.publish(numbered(TOPICS[0], n)).await.unwrap();
    common::take(&mut events, 2).await;
    let report = common::settled(&bus).await;
    assert!(report.unverified_by_reason[&Reason::Changing] >= 1);
    assert_eq!(report.unverified_by_reason.len(), 1, "{report:#?}");
    assert_eq!((report.matched, report.diverged()), (1, 0), "{report:#?}");
}

/// A candidate that does nothing but panic is given up, which is told and harms nobody.
#[tokio::test]
async fn a_candidate_that_always_panics_disables_the_shadow() {
    let candidate = BadBus::new(crossbeam(), Bad::PanicsInPublish);
    let bus = ShadowBus::new(crossbeam(), Arc::new(candidate), ShadowOptions::default());
    let mut events = bus.subscribe(Subscribe::to("#").unwrap()).await.unwrap();
    for n in 0..1_500 {
        bus.publish(numbered(TOPICS[0], n)).await.unwrap();
        assert_eq!(number(&within(events.recv()).await.unwrap()), n);
    }
    until("it is given up", || bus.report().disabled.is_some()).await;
    bus.publish(numbered(TOPICS[0], 1_500)).await.unwrap();
    assert_eq!(number(&within(events.recv()).await.unwrap()), 1_500);
    let report = bus.report();
    assert_law(&report);
    assert_eq!((report.expected, report.unverified), (1_501, 1_501));
    assert!(report.unverified_by_reason[&Reason::Unavailable] > 0);
    assert_eq!(report.verdict, Verdict::Inconclusive);
    let table = report.table();
    assert!(table.contains("shadow disabled"), "{table}");
    assert!(
        table.contains("panicked at 1000 events in a row"),
        "{table}"
    );
    // It can be taken away, and another one put in its place.
    assert!(bus.detach(Duration::from_secs(1)).await.is_some());
    bus.attach(crossbeam()).unwrap();
    bus.publish(numbered(TOPICS[0], 0)).await.unwrap();
    within(events.recv()).await.unwrap();
    until("compared", || bus.report().matched == 1).await;
}
