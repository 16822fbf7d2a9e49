//! Subscriptions and publishers of every kind, and what becomes of what they cannot compare.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{
    assert_law, crossbeam, number, numbered, settled, shadow, subscribe, take, until, whole, within,
};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{
    Correlation, CorrelationFilter, Delivery, Event, EventBus, Limits, Origin, PublishError,
    PublisherId, Subscribe, SubscribeError, Topic, TryPublishError, TryRecvError,
};
use shadow::{DivergenceClass, Reason, ShadowBus, ShadowOptions, Side, Verdict};

const TOPIC: &str = "events.process.new";

#[tokio::test]
async fn filters_of_the_application_do_not_hide_anything() {
    let bus = shadow(whole());
    let even = Subscribe::to("#")
        .unwrap()
        .named("even")
        .matching(|event| number(event).is_multiple_of(2));
    let work = Subscribe::to("#")
        .unwrap()
        .named("work")
        .correlated(CorrelationFilter::default().root("w"));
    let mut even = bus.subscribe(even).await.unwrap();
    let mut work = bus.subscribe(work).await.unwrap();
    for n in 0..10 {
        let event = numbered(TOPIC, n);
        let event = if n < 3 {
            event.correlation(Correlation::new("w"))
        } else {
            event
        };
        bus.publish(event).await.unwrap();
    }
    let got: Vec<_> = take(&mut even, 5).await.iter().map(number).collect();
    assert_eq!(got, [0, 2, 4, 6, 8]);
    take(&mut work, 3).await;
    assert_eq!(even.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(work.try_recv(), Err(TryRecvError::Empty));
    let report = settled(&bus).await;
    assert_eq!(report.matched, 20, "compared before the filter");
    let own = even.stats();
    assert_eq!((own.matched, own.delivered, own.filtered), (10, 5, 5));
    assert!(own.is_conserved());
    // The bus's statistics say the same.
    let all = bus.stats().subscriptions;
    assert!(all.contains(&own) && all.contains(&work.stats()));
}

#[tokio::test]
async fn a_handle_can_leave_its_own_events_out() {
    let bus = shadow(whole());
    let other = bus.connect(None).await.unwrap();
    let mut rest = bus
        .subscribe(Subscribe::to("#").unwrap().exclude_own())
        .await
        .unwrap();
    let mut all = subscribe(&*bus, "#").await;
    for n in 0..10 {
        bus.publish(numbered(TOPIC, n)).await.unwrap();
        other.publish(numbered(TOPIC, 100 + n)).await.unwrap();
    }
    take(&mut all, 20).await;
    let got = take(&mut rest, 10).await;
    assert!(got.iter().all(|event| number(event) >= 100));
    let report = settled(&bus).await;
    assert_eq!((report.expected, report.matched), (30, 30));
}

#[tokio::test]
async fn overlapping_filters_are_one_delivery() {
    let bus = shadow(whole());
    let both = Subscribe::to("events.#")
        .unwrap()
        .and("*.process.*")
        .unwrap();
    let mut events = bus.subscribe(both).await.unwrap();
    for n in 0..5 {
        bus.publish(numbered(TOPIC, n)).await.unwrap();
    }
    take(&mut events, 5).await;
    assert_eq!(settled(&bus).await.expected, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_ended_midway_is_compared_as_far_as_it_was_read() {
    let bus = shadow(whole());
    let mut events = subscribe(&*bus, "#").await;
    for n in 0..100 {
        bus.publish(numbered(TOPIC, n)).await.unwrap();
    }
    take(&mut events, 30).await;
    let stats = within(events.unsubscribe()).await;
    assert_eq!((stats.delivered, stats.queued), (30, 70));
    for n in 0..5 {
        bus.publish(numbered(TOPIC, n)).await.unwrap();
    }
    let report = settled(&bus).await;
    assert_eq!((report.expected, report.matched), (100, 30));
    assert_eq!(
        report.unverified_by_reason,
        [(Reason::Unsubscribed, 70)].into()
    );
    assert_eq!(report.verdict, Verdict::Match);
    assert_eq!(report.subscribers, 1);
    assert!(bus.stats().subscriptions.is_empty());
}

/// Subscriptions come and go, under one name and without any, while events flow.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscriptions_come_and_go_under_load() {
    let bus = shadow(whole());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut publishers = Vec::new();
    for _ in 0..2 {
        let (bus, stop) = (Arc::clone(&bus), Arc::clone(&stop));
        publishers.push(tokio::spawn(async move {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                bus.publish(numbered(TOPIC, n)).await.unwrap();
                n += 1;
            }
        }));
    }
    for round in 0..60 {
        let mut subscribe = Subscribe::to("events.#").unwrap();
        if round % 2 == 0 {
            subscribe = subscribe.named("dashboard");
        }
        let mut events = within(bus.subscribe(subscribe)).await.unwrap();
        take(&mut events, 50).await;
        if round % 3 == 0 {
            within(events.unsubscribe()).await;
        } else {
            drop(events);
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for publisher in publishers {
        within(publisher).await.unwrap();
    }
    let report = settled(&bus).await;
    assert_eq!(report.diverged(), 0, "{report:#?}");
    // The first events that a new subscription gets may have been on their way already.
    let changing = report.unverified_by_reason.get(&Reason::Changing);
    let read = report.matched + changing.copied().unwrap_or(0);
    assert!(report.matched > 0 && read >= 60 * 50, "{report:#?}");
    assert!(report.candidate_errors.is_empty(), "{report:#?}");
    let expected = [Reason::Changing, Reason::Unsubscribed];
    for reason in report.unverified_by_reason.keys() {
        assert!(expected.contains(reason), "{report:#?}");
    }
    assert_eq!(report.verdict, Verdict::Match);
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_cancelled_publish_is_unverified_and_disturbs_nothing() {
    let bus = shadow(whole());
    let mut events = bus
        .subscribe(Subscribe::to("#").unwrap().capacity(2))
        .await
        .unwrap();
    for n in 0..2 {
        bus.publish(numbered(TOPIC, n)).await.unwrap();
    }
    {
        let mut waiting = pin!(bus.publish(numbered(TOPIC, 2)));
        assert!(poll_once(waiting.as_mut()).is_pending());
    }
    take(&mut events, 2).await;
    for n in 3..5 {
        bus.publish(numbered(TOPIC, n)).await.unwrap();
    }
    let got: Vec<_> = take(&mut events, 2).await.iter().map(number).collect();
    assert_eq!(got, [3, 4]);
    let report = settled(&bus).await;
    assert_eq!((report.expected, report.matched), (5, 4));
    assert_eq!(report.unverified_by_reason, [(Reason::Cancelled, 1)].into());
    assert_eq!(report.verdict, Verdict::Match);
}

#[tokio::test]
async fn a_refused_event_comes_back_as_it_was_and_is_not_expected() {
    let limits = Limits {
        max_event_size: 100,
        publish_deadline: Duration::from_millis(10),
        ..Limits::default()
    };
    let bus = ShadowBus::new(CrossbeamBus::new(limits), crossbeam(), whole());
    let subscribe = Subscribe::to("#").unwrap().named("slow").capacity(1);
    let mut events = bus.subscribe(subscribe).await.unwrap();
    let large = Event::new(TOPIC, vec![0; 101]).unwrap();
    let refused = bus.publish(large.clone()).await.unwrap_err();
    assert_eq!(
        refused.reason(),
        &PublishError::TooLarge {
            size: 101,
            limit: 100
        }
    );
    assert_eq!(refused.into_event(), large);

    bus.publish(numbered(TOPIC, 0)).await.unwrap();
    let next = numbered(TOPIC, 1);
    let refused = bus.try_publish(next.clone()).unwrap_err();
    let full = TryPublishError::Full {
        subscription: "slow".to_owned(),
    };
    assert_eq!(refused.into_parts(), (next.clone(), full));
    let refused = within(bus.publish(next.clone())).await.unwrap_err();
    assert!(matches!(
        refused.reason(),
        PublishError::Backpressure { .. }
    ));
    assert_eq!(refused.into_event(), next);
    let batch = vec![next.clone(), large.clone()];
    let refused = within(bus.publish_batch(batch.clone())).await.unwrap_err();
    assert_eq!((refused.accepted, refused.events), (0, batch));

    take(&mut events, 1).await;
    let refused = bus
        .publish_batch(vec![next, large.clone()])
        .await
        .unwrap_err();
    assert_eq!((refused.accepted, refused.events), (1, vec![large]));
    // Sequences have no holes: what was refused has used none.
    let origin = take(&mut events, 1).await[0].origin().copied().unwrap();
    assert_eq!((origin.publisher, origin.sequence), (bus.publisher_id(), 1));
    let report = settled(&bus).await;
    assert_eq!(
        (report.published, report.expected, report.matched),
        (2, 2, 2)
    );
    assert_eq!(bus.stats().published, 2);
}

/// A subscription that is made while a publish waits does not expect what is then refused.
#[tokio::test]
async fn a_refused_event_is_expected_of_no_new_subscription_either() {
    let limits = Limits {
        // Far longer than a machine may take over one poll.
        publish_deadline: Duration::from_secs(1),
        ..Limits::default()
    };
    let bus = ShadowBus::new(CrossbeamBus::new(limits), crossbeam(), whole());
    let small = Subscribe::to("#").unwrap().capacity(1);
    let mut small = bus.subscribe(small).await.unwrap();
    bus.publish(numbered(TOPIC, 0)).await.unwrap();
    // It waits until it is polled again, however long that takes.
    let mut waiting = pin!(bus.publish(numbered(TOPIC, 1)));
    assert!(poll_once(waiting.as_mut()).is_pending());
    assert_eq!(bus.report().expected, 2);
    let mut new = subscribe(&*bus, "#").await;
    assert!(within(waiting).await.is_err());
    take(&mut small, 1).await;
    bus.publish(numbered(TOPIC, 2)).await.unwrap();
    take(&mut small, 1).await;
    take(&mut new, 1).await;
    let report = settled(&bus).await;
    assert_eq!((report.expected, report.matched), (3, 3), "{report:#?}");
}

/// AtMostOnce and try_publish do not wait for a turn, at-least-once events not for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_publish_holds_up_nobody_for_long() {
    let bus = shadow(ShadowOptions::default());
    let subscribe = Subscribe::to("#").unwrap().capacity(1);
    let mut events = bus.subscribe(subscribe).await.unwrap();
    bus.publish(numbered(TOPIC, 0)).await.unwrap();
    let waiting = {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move { bus.publish(numbered(TOPIC, 1)).await.map(drop) })
    };
    until("waiting", || {
        bus.try_publish(numbered(TOPIC, 9)).is_err() && bus.report().expected == 2
    })
    .await;
    let realtime = numbered(TOPIC, 2).delivery(Delivery::AtMostOnce);
    let mut publish = pin!(bus.publish(realtime));
    let polled = poll_once(publish.as_mut());
    assert!(
        matches!(polled, Poll::Ready(Ok(_))),
        "AtMostOnce waits for nobody"
    );
    let second = {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move { bus.publish(numbered(TOPIC, 3)).await.map(drop) })
    };
    // It is being published although the first one still waits.
    until("its turn", || bus.report().expected == 4).await;
    let mut got = Vec::new();
    while got.len() < 3 {
        got.push(number(&take(&mut events, 1).await[0]));
    }
    within(waiting).await.unwrap().unwrap();
    within(second).await.unwrap().unwrap();
    got.sort_unstable();
    assert_eq!(got, [0, 1, 3]);
    bus.publish(numbered(TOPIC, 4)).await.unwrap();
    take(&mut events, 1).await;
    let report = settled(&bus).await;
    assert_eq!(report.unverified_by_reason, [(Reason::Unordered, 2)].into());
    assert_eq!(report.matched, 3);
    assert_eq!(report.diverged(), 0);
}

/// Dropping a handle ends its subscriptions, on both sides.
#[tokio::test]
async fn a_dropped_handle_takes_its_subscriptions_along() {
    let bus = shadow(whole());
    let other = bus.connect(None).await.unwrap();
    let publisher = other.publisher(Topic::new(TOPIC).unwrap());
    let mut events = subscribe(&*other, "#").await;
    other.publish(numbered(TOPIC, 0)).await.unwrap();
    drop(other);
    let refused = publisher.publish(numbered(TOPIC, 1)).await.unwrap_err();
    assert_eq!(refused.reason(), &PublishError::Closed);
    bus.publish(numbered(TOPIC, 2)).await.unwrap();
    assert_eq!(number(&take(&mut events, 1).await[0]), 0);
    assert!(within(events.recv()).await.is_none());
    let report = settled(&bus).await;
    assert_eq!((report.expected, report.matched), (1, 1), "{report:#?}");
    assert_eq!(report.verdict, Verdict::Match);
}

/// The primary ended a subscription by itself: what it accepted after that is not compared.
#[tokio::test]
async fn what_comes_after_the_end_of_a_subscription_is_unverified() {
    let primary = crossbeam();
    let bus = ShadowBus::new(Arc::<CrossbeamBus>::clone(&primary), crossbeam(), whole());
    let other = bus.connect(None).await.unwrap();
    let mut events = subscribe(&*bus, "#").await;
    other.publish(numbered(TOPIC, 0)).await.unwrap();
    primary.shutdown().await.unwrap();
    other.publish(numbered(TOPIC, 1)).await.unwrap();
    take(&mut events, 1).await;
    assert!(within(events.recv()).await.is_none());
    let report = settled(&bus).await;
    assert_eq!(report.unverified_by_reason, [(Reason::Shutdown, 1)].into());
    assert_eq!(report.matched, 1);
    assert_eq!(report.verdict, Verdict::Inconclusive);
}

/// Events that are on their way while a handle is shut down may reach its subscriptions or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_is_shut_down_while_others_publish() {
    let bus = shadow(whole());
    let other = bus.connect(None).await.unwrap();
    let mut all = subscribe(&*bus, "#").await;
    let small = Subscribe::to("#").unwrap().capacity(1);
    let mut small = other.subscribe(small).await.unwrap();
    bus.publish(numbered(TOPIC, 0)).await.unwrap();
    let waiting = {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move { bus.publish(numbered(TOPIC, 1)).await.map(drop) })
    };
    until("waiting", || bus.report().expected == 4).await;
    within(other.shutdown()).await.unwrap();
    within(waiting).await.unwrap().unwrap();
    bus.publish(numbered(TOPIC, 2)).await.unwrap();
    take(&mut all, 3).await;
    take(&mut small, 1).await;
    assert!(within(small.recv()).await.is_none());
    let report = settled(&bus).await;
    assert_eq!((report.expected, report.matched), (5, 4), "{report:#?}");
    assert_eq!(report.unverified_by_reason, [(Reason::Changing, 1)].into());
    assert_eq!(report.verdict, Verdict::Match);
}

/// What the application does not read is not decided, and settling says so.
#[tokio::test]
async fn what_is_not_read_stays_in_flight() {
    let bus = shadow(whole());
    let _events = subscribe(&*bus, "#").await;
    for n in 0..3 {
        bus.publish(numbered(TOPIC, n)).await.unwrap();
    }
    assert!(!bus.settle(Duration::from_millis(50)).await);
    let report = bus.report();
    assert_eq!((report.in_flight, report.missing), (3, 0));
    assert_eq!(report.verdict, Verdict::Inconclusive);
}

#[tokio::test]
async fn a_stamp_from_above_is_kept() {
    let bus = shadow(whole());
    let mut events = subscribe(&*bus, "#").await;
    let publisher = PublisherId::random();
    for sequence in [3, 7, 8] {
        let origin = Origin {
            publisher,
            epoch: 5,
            sequence,
        };
        let event = numbered(TOPIC, sequence).given_origin(origin);
        bus.publish(event).await.unwrap();
    }
    bus.publish(numbered(TOPIC, 0)).await.unwrap();
    let got = take(&mut events, 4).await;
    let stamps: Vec<_> = got.iter().map(|e| e.origin().unwrap().sequence).collect();
    assert_eq!(stamps, [3, 7, 8, 0]);
    assert_eq!(settled(&bus).await.matched, 4);
}

/// A shadow of a shadow: both compare.
#[tokio::test]
async fn a_shadow_can_stand_behind_a_shadow() {
    let inner = shadow(whole());
    let primary: Arc<dyn EventBus> = Arc::clone(&inner) as _;
    let outer = ShadowBus::new(primary, crossbeam(), whole());
    let mut events = subscribe(&*outer, "#").await;
    for n in 0..50 {
        outer.publish(numbered(TOPIC, n)).await.unwrap();
    }
    take(&mut events, 50).await;
    assert_eq!(settled(&outer).await.matched, 50);
    assert_eq!(settled(&inner).await.matched, 50);
}

#[tokio::test]
async fn what_others_publish_is_foreign_here_and_phantom_there() {
    let (primary, candidate) = (crossbeam(), crossbeam());
    let bus = ShadowBus::new(
        Arc::<CrossbeamBus>::clone(&primary),
        Arc::<CrossbeamBus>::clone(&candidate),
        whole(),
    );
    let mut events = subscribe(&*bus, "#").await;
    primary.publish(numbered(TOPIC, 0)).await.unwrap();
    candidate.publish(numbered(TOPIC, 1)).await.unwrap();
    bus.publish(numbered(TOPIC, 2)).await.unwrap();
    take(&mut events, 2).await;
    let report = settled(&bus).await;
    assert_eq!((report.foreign, report.phantoms, report.matched), (1, 1, 1));
    let [phantom] = &report.divergences[..] else {
        panic!("{report:#?}");
    };
    assert_eq!(phantom.class, DivergenceClass::Phantom);
    assert_eq!(phantom.side, Side::Candidate);
    assert_eq!(phantom.publisher, candidate.publisher_id().to_string());
}

/// Known publishers can have phantoms too: another topic, or another subscription's event.
#[tokio::test]
async fn an_event_in_the_wrong_place_is_a_phantom() {
    let candidate = crossbeam();
    let bus = ShadowBus::new(crossbeam(), Arc::<CrossbeamBus>::clone(&candidate), whole());
    let mut events = subscribe(&*bus, "#").await;
    bus.publish(numbered(TOPIC, 0)).await.unwrap();
    let origin = take(&mut events, 1).await[0].origin().copied().unwrap();
    let moved = numbered("events.process.exit", 0).given_origin(origin);
    candidate.publish(moved).await.unwrap();
    let report = settled(&bus).await;
    assert_eq!((report.phantoms, report.matched), (1, 1));
    assert_eq!(report.divergences[0].topic, "events.process.exit");
}

#[tokio::test]
async fn a_subscription_that_the_primary_refuses_leaves_nothing() {
    let bus = shadow(whole());
    let named = || Subscribe::to("#").unwrap().named("one");
    let mut events = bus.subscribe(named()).await.unwrap();
    let error = bus.subscribe(named()).await.unwrap_err();
    let name = "one".to_owned();
    assert_eq!(error, SubscribeError::AlreadySubscribed { name });
    bus.publish(numbered(TOPIC, 0)).await.unwrap();
    take(&mut events, 1).await;
    let report = settled(&bus).await;
    assert_eq!((report.subscribers, report.matched), (1, 1));
    assert!(report.candidate_errors.is_empty());
}

/// More streams than the comparison keeps: the idle ones are forgotten, and no duplicate is
/// invented for it.
#[tokio::test]
async fn too_many_streams_are_unverified() {
    let bus = shadow(ShadowOptions {
        max_streams: 4,
        ..whole()
    });
    let mut events = subscribe(&*bus, "#").await;
    let topic = |n: u64| format!("events.t{n}");
    for n in 0..10 {
        bus.publish(numbered(&topic(n), n)).await.unwrap();
    }
    take(&mut events, 10).await;
    let report = settled(&bus).await;
    assert_eq!(report.unverified_by_reason, [(Reason::Streams, 6)].into());
    assert_eq!(report.matched, 4);
    for n in 0..10 {
        bus.publish(numbered(&topic(n), n)).await.unwrap();
        take(&mut events, 1).await;
        settled(&bus).await;
    }
    let report = bus.report();
    assert_eq!((report.matched, report.diverged()), (14, 0), "{report:#?}");
    assert_law(&report);
}

/// No runtime is needed: any executor polls a shadow's futures.
#[test]
fn it_works_without_a_runtime() {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => return result,
                Poll::Pending => std::thread::park(),
            }
        }
    }
    let bus = shadow(whole());
    let mut events = block_on(subscribe(&*bus, "#"));
    block_on(bus.publish(numbered(TOPIC, 0))).unwrap();
    assert_eq!(number(&events.recv_blocking().unwrap()), 0);
    assert!(block_on(bus.settle(common::WATCHDOG)));
    assert_eq!(bus.report().matched, 1);
    block_on(bus.shutdown()).unwrap();
}

#[tokio::test]
async fn what_is_in_flight_is_not_a_match_yet() {
    let bus = ShadowBus::new(
        common::crossbeam(),
        common::crossbeam(),
        ShadowOptions::default(),
    );
    let mut events = bus.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
    for n in 0..2_u8 {
        bus.publish(Event::new("a", vec![n]).unwrap())
            .await
            .unwrap();
    }
    events.recv().await.unwrap();
    bus.settle(Duration::from_millis(200)).await;
    assert_eq!(bus.report().in_flight, 1, "the application has not read it");
    assert_eq!(bus.report().verdict, Verdict::Inconclusive);
    events.recv().await.unwrap();
    bus.settle(Duration::from_secs(30)).await;
    assert_eq!(bus.report().verdict, Verdict::Match);
}
