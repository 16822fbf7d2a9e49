//! What one process can see of the bus: delivery, refusal, policies, life cycle.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "common/loud.rs"]
mod loud;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{
    ConnectError, Delivery, Event, EventBus, FlushError, Item, Limits, MAX_CAPACITY, Overflow,
    PublishError, Rate, Subscribe, SubscribeError, Subscription, Topic, TryPublishError,
    TryRecvError,
};
use loud::loud;

/// Fails a test that hangs.
async fn watchdog<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("done before the watchdog")
}

fn bus() -> Arc<CrossbeamBus> {
    CrossbeamBus::new(Limits::default())
}

fn impatient() -> Arc<CrossbeamBus> {
    CrossbeamBus::new(Limits {
        publish_deadline: Duration::from_millis(20),
        ..Limits::default()
    })
}

fn to(filter: &str) -> Subscribe {
    Subscribe::to(filter).unwrap()
}

fn event(topic: &str, number: u64) -> Event {
    Event::new(topic, number.to_string().into_bytes()).unwrap()
}

fn number(event: &Event) -> u64 {
    std::str::from_utf8(&event.bytes().unwrap())
        .unwrap()
        .parse()
        .unwrap()
}

fn drain(subscription: &mut Subscription) -> Vec<u64> {
    std::iter::from_fn(|| subscription.try_recv().ok())
        .map(|event| number(&event))
        .collect()
}

fn drain_items(subscription: &mut Subscription) -> Vec<Result<u64, u64>> {
    std::iter::from_fn(|| subscription.try_recv_item().ok())
        .map(|item| match item {
            Item::Event(event) => Ok(number(&event)),
            Item::Lagged(lost) => Err(lost),
        })
        .collect()
}

#[tokio::test]
async fn an_event_reaches_every_match_with_its_own_stamp() {
    let bus = bus();
    let other = bus.connect(Some("other")).await.unwrap();
    let mut all = bus.subscribe(to("#")).await.unwrap();
    let mut some = other
        .subscribe(to("a.*").and("a.#").unwrap())
        .await
        .unwrap();
    let mut foreign = bus.subscribe(to("a.b").exclude_own()).await.unwrap();
    for n in 0..3 {
        let receipt = bus.publish(event("a.b", n)).await.unwrap();
        assert_eq!(receipt.now().unwrap().deliveries, 2);
    }
    assert_eq!(
        other
            .try_publish(event("a.b", 3))
            .unwrap()
            .now()
            .unwrap()
            .deliveries,
        3
    );
    assert_eq!(
        bus.try_publish(event("c", 4))
            .unwrap()
            .now()
            .unwrap()
            .deliveries,
        1
    );
    assert_eq!(drain(&mut some), [0, 1, 2, 3]);
    assert_eq!(drain(&mut foreign), [3]);
    let stamps: Vec<_> = std::iter::from_fn(|| all.try_recv().ok())
        .map(|event| *event.origin().unwrap())
        .map(|origin| (origin.publisher == bus.publisher_id(), origin.sequence))
        .collect();
    assert_eq!(
        stamps,
        [(true, 0), (true, 1), (true, 2), (false, 0), (true, 3)]
    );
    let stats = bus.stats();
    assert_eq!((stats.published, stats.refused, stats.dropped), (4, 0, 0));
    assert_eq!(stats.families["a.b"].published, 3);
    assert_eq!(stats.families["a.b"].deliveries, 6);
    assert_eq!(stats.families["c"].deliveries, 1);
    assert!(stats.subscriptions.iter().all(|s| s.is_conserved()));
}

#[tokio::test]
async fn a_full_queue_refuses_for_all_and_the_event_comes_back() {
    let bus = impatient();
    let mut roomy = bus.subscribe(to("a")).await.unwrap();
    let mut tight = bus
        .subscribe(to("a").capacity(2).named("tight"))
        .await
        .unwrap();
    let mut later = bus.subscribe(to("a")).await.unwrap();
    let publisher = bus.publisher(Topic::new("a").unwrap());
    for n in 0..2 {
        publisher.try_publish(event("a", n)).unwrap();
    }
    let refused = publisher.try_publish(event("a", 2)).unwrap_err();
    let full = TryPublishError::Full {
        subscription: "tight".into(),
    };
    assert_eq!(*refused.reason(), full);
    assert_eq!(number(refused.event()), 2);
    let refused = watchdog(publisher.publish(refused.into_event()))
        .await
        .unwrap_err();
    match refused.reason() {
        PublishError::Backpressure {
            subscription,
            waited,
        } => {
            assert_eq!(subscription, "tight");
            assert!(*waited >= Duration::from_millis(20));
        }
        other => panic!("{other}"),
    }
    assert_eq!(bus.stats().refused, 2);
    assert_eq!(drain(&mut tight), [0, 1]);
    publisher.publish(event("a", 3)).await.unwrap();
    for subscription in [&mut roomy, &mut later] {
        let sequence: Vec<_> = std::iter::from_fn(|| subscription.try_recv().ok())
            .map(|event| (number(&event), event.origin().unwrap().sequence))
            .collect();
        assert_eq!(
            sequence,
            [(0, 0), (1, 1), (3, 2)],
            "the sequence has no holes"
        );
    }
}

#[tokio::test]
async fn a_waiting_publisher_goes_on_when_there_is_room_again() {
    let bus = bus();
    let mut events = bus.subscribe(to("a").capacity(1)).await.unwrap();
    let publishing = tokio::spawn({
        let bus = Arc::clone(&bus);
        async move {
            for n in 0..1000 {
                bus.publish(event("a", n)).await.unwrap();
            }
        }
    });
    for n in 0..1000 {
        assert_eq!(number(&watchdog(events.recv()).await.unwrap()), n);
    }
    watchdog(publishing).await.unwrap();
}

#[tokio::test]
async fn a_waiting_publisher_goes_on_without_a_subscription_that_ends() {
    for shutdown in [false, true] {
        let bus = bus();
        let reader = bus.connect(None).await.unwrap();
        let stuck = reader.subscribe(to("a").capacity(1)).await.unwrap();
        let mut other = bus.subscribe(to("a")).await.unwrap();
        bus.publish(event("a", 0)).await.unwrap();
        let mut waiting = Box::pin(bus.publish(event("a", 1)));
        assert!(futures_poll(&mut waiting).await.is_none());
        if shutdown {
            reader.shutdown().await.unwrap();
        } else {
            let stats = stuck.unsubscribe().await;
            assert_eq!((stats.matched, stats.queued), (1, 1));
            assert!(stats.is_conserved());
        }
        let receipt = watchdog(waiting).await.unwrap();
        assert_eq!(receipt.now().unwrap().deliveries, 1);
        assert_eq!(drain(&mut other), [0, 1]);
    }
}

/// Polls once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_cancelled_publish_leaves_nothing_behind() {
    let bus = bus();
    let mut events = bus.subscribe(to("a").capacity(1)).await.unwrap();
    bus.publish(event("a", 0)).await.unwrap();
    for n in 1..10 {
        let mut waiting = Box::pin(bus.publish(event("a", n)));
        assert!(futures_poll(&mut waiting).await.is_none());
    }
    assert_eq!(drain(&mut events), [0]);
    bus.try_publish(event("a", 10)).unwrap();
    assert_eq!(drain(&mut events), [10]);
}

#[tokio::test]
async fn drop_newest_marks_the_place_of_what_is_lost() {
    let bus = bus();
    let mut events = bus
        .subscribe(to("a").capacity(2).overflow(Overflow::DropNewest))
        .await
        .unwrap();
    for n in 0..5 {
        bus.publish(event("a", n)).await.unwrap();
    }
    assert_eq!(number(&events.try_recv().unwrap()), 0);
    bus.publish(event("a", 5)).await.unwrap();
    bus.publish(event("a", 6)).await.unwrap();
    assert_eq!(drain_items(&mut events), [Ok(1), Err(3), Ok(5), Err(1)]);
    let stats = events.stats();
    assert_eq!((stats.matched, stats.delivered, stats.dropped), (7, 3, 4));
    assert!(stats.is_conserved());
    assert_eq!(bus.stats().dropped, 0, "nothing was best effort");
}

#[tokio::test]
async fn drop_oldest_marks_the_place_of_what_is_lost() {
    let bus = bus();
    let mut events = bus
        .subscribe(to("a").capacity(2).overflow(Overflow::DropOldest))
        .await
        .unwrap();
    for n in 0..5 {
        let receipt = bus.publish(event("a", n)).await.unwrap();
        assert_eq!(receipt.now().unwrap().deliveries, 1);
    }
    assert_eq!(events.stats().queued, 2);
    assert_eq!(drain_items(&mut events), [Err(3), Ok(3), Ok(4)]);
    let stats = events.stats();
    assert_eq!((stats.matched, stats.delivered, stats.dropped), (5, 2, 3));
    assert!(stats.is_conserved());
}

#[tokio::test]
async fn best_effort_never_waits_and_tells_a_waiting_subscription_what_it_lost() {
    let bus = bus();
    let mut events = bus.subscribe(to("a").capacity(2)).await.unwrap();
    let hasty = |n| event("a", n).delivery(Delivery::AtMostOnce);
    for n in 0..4 {
        let receipt = bus.publish(hasty(n)).await.unwrap();
        assert_eq!(receipt.now().unwrap().deliveries, u64::from(n < 2));
    }
    assert_eq!(number(&events.try_recv().unwrap()), 0);
    bus.try_publish(event("a", 4)).unwrap();
    bus.try_publish(hasty(5)).unwrap();
    assert!(bus.try_publish(event("a", 6)).is_err());
    assert_eq!(drain_items(&mut events), [Ok(1), Err(2), Ok(4), Err(1)]);
    let stats = events.stats();
    assert_eq!(
        (stats.matched, stats.delivered, stats.dropped, stats.queued),
        (6, 3, 3, 0)
    );
    assert_eq!(bus.stats().dropped, 3);
}

#[tokio::test]
async fn a_held_event_counts_as_queued() {
    let bus = bus();
    let mut events = bus
        .subscribe(to("a").capacity(1).overflow(Overflow::DropNewest))
        .await
        .unwrap();
    for n in 0..2 {
        bus.publish(event("a", n)).await.unwrap();
    }
    assert_eq!(number(&events.try_recv().unwrap()), 0);
    bus.publish(event("a", 2)).await.unwrap();
    assert_eq!(events.try_recv_item(), Ok(Item::Lagged(1)));
    assert_eq!(events.stats().queued, 1);
    assert!(events.stats().is_conserved());
    assert_eq!(drain(&mut events), [2]);
    assert!(events.stats().is_conserved());
}

#[tokio::test]
async fn names_and_limits_are_kept() {
    let bus = CrossbeamBus::new(Limits {
        max_subscriptions: 3,
        max_event_size: 4,
        ..Limits::default()
    });
    let other = bus.connect(Some("client")).await.unwrap();
    let named = bus.subscribe(to("a").named("one")).await.unwrap();
    let in_use = SubscribeError::AlreadySubscribed { name: "one".into() };
    assert_eq!(
        other.subscribe(to("b").named("one")).await.unwrap_err(),
        in_use
    );
    for capacity in [0, MAX_CAPACITY + 1] {
        let expected = SubscribeError::Capacity {
            capacity,
            limit: MAX_CAPACITY,
        };
        assert_eq!(
            bus.subscribe(to("a").capacity(capacity)).await.unwrap_err(),
            expected
        );
    }
    let anonymous = bus.subscribe(to("a")).await.unwrap();
    let another = bus.subscribe(to("a").capacity(MAX_CAPACITY)).await.unwrap();
    assert_ne!(anonymous.name(), another.name());
    let too_many = SubscribeError::TooManySubscriptions { limit: 3 };
    assert_eq!(bus.subscribe(to("a")).await.unwrap_err(), too_many);
    drop(named);
    other.subscribe(to("b").named("one")).await.unwrap();
    bus.subscribe(to("a")).await.unwrap();
    let refused = bus
        .publish(Event::new("a", "12345").unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        *refused.reason(),
        PublishError::TooLarge { size: 5, limit: 4 }
    );
    let taken = bus.connect(Some("client")).await.unwrap_err();
    assert_eq!(
        taken,
        ConnectError::NameInUse {
            name: "client".into()
        }
    );
    drop(other);
    bus.connect(Some("client")).await.unwrap();
}

#[tokio::test]
async fn shutdown_drains_and_then_everything_is_closed() {
    let bus = bus();
    let other = bus.connect(None).await.unwrap();
    let mut own = bus.subscribe(to("a")).await.unwrap();
    let mut others = other.subscribe(to("a")).await.unwrap();
    let publisher = bus.publisher(Topic::new("a").unwrap());
    for n in 0..3 {
        publisher.publish(event("a", n)).await.unwrap();
    }
    bus.shutdown().await.unwrap();
    bus.shutdown().await.unwrap();
    assert_eq!(
        *bus.publish(event("a", 3)).await.unwrap_err().reason(),
        PublishError::Closed
    );
    assert_eq!(
        *publisher.try_publish(event("a", 3)).unwrap_err().reason(),
        TryPublishError::Publish(PublishError::Closed)
    );
    assert_eq!(
        bus.subscribe(to("a")).await.unwrap_err(),
        SubscribeError::Closed
    );
    assert_eq!(bus.connect(None).await.unwrap_err(), ConnectError::Closed);
    let batch = bus
        .publish_batch(vec![event("a", 3), event("a", 4)])
        .await
        .unwrap_err();
    assert_eq!((batch.accepted, batch.events.len()), (0, 2));
    assert_eq!(
        other
            .publish(event("a", 4))
            .await
            .unwrap()
            .now()
            .unwrap()
            .deliveries,
        1
    );
    assert_eq!(bus.stats().subscriptions[0].queued, 3);
    for n in 0..3 {
        assert_eq!(number(&watchdog(own.recv()).await.unwrap()), n);
    }
    assert_eq!(watchdog(own.recv()).await, None);
    assert_eq!(own.try_recv(), Err(TryRecvError::Closed));
    assert!(own.stats().is_conserved());
    assert_eq!(drain(&mut others), [0, 1, 2, 4]);
}

#[tokio::test]
async fn shutdown_ends_a_publish_that_waits() {
    let bus = bus();
    let other = bus.connect(None).await.unwrap();
    let _stuck = other.subscribe(to("a").capacity(1)).await.unwrap();
    bus.publish(event("a", 0)).await.unwrap();
    let mut waiting = Box::pin(bus.publish(event("a", 1)));
    assert!(futures_poll(&mut waiting).await.is_none());
    bus.shutdown().await.unwrap();
    assert_eq!(
        *watchdog(waiting).await.unwrap_err().reason(),
        PublishError::Closed
    );
}

#[tokio::test]
async fn dropping_a_handle_shuts_it_down() {
    let bus = bus();
    let other = bus.connect(None).await.unwrap();
    let mut events = bus.subscribe(to("a")).await.unwrap();
    let publisher = bus.publisher(Topic::new("a").unwrap());
    publisher.publish(event("a", 0)).await.unwrap();
    drop(bus);
    assert_eq!(number(&watchdog(events.recv()).await.unwrap()), 0);
    assert_eq!(watchdog(events.recv()).await, None);
    let refused = publisher.publish(event("a", 1)).await.unwrap_err();
    assert_eq!(*refused.reason(), PublishError::Closed);
    let receipt = other.publish(event("a", 2)).await.unwrap();
    assert_eq!(receipt.now().unwrap().deliveries, 0);
}

fn typed(payload: &Arc<u32>) -> Event {
    Event::typed::<_, u32>("a", Arc::clone(payload)).unwrap()
}

#[tokio::test]
async fn a_subscription_that_ends_leaves_nothing_behind() {
    let bus = bus();
    let publisher = bus.publisher(Topic::new("a").unwrap());
    let payload = Arc::new(7_u32);
    let events = bus.subscribe(to("a")).await.unwrap();
    for _ in 0..5 {
        publisher.try_publish(typed(&payload)).unwrap();
        bus.try_publish(typed(&payload)).unwrap();
    }
    assert_eq!(Arc::strong_count(&payload), 11);
    let stats = events.unsubscribe().await;
    assert_eq!((stats.matched, stats.queued), (10, 10));
    assert_eq!(Arc::strong_count(&payload), 1);
    assert!(bus.stats().subscriptions.is_empty());
}

#[tokio::test]
async fn more_topics_than_are_remembered_are_delivered_and_counted_all_the_same() {
    const TOPICS: u64 = 70_000;
    const NAMED: usize = 65_536;
    let bus = bus();
    let mut events = bus.subscribe(to("#").capacity(1)).await.unwrap();
    for n in 0..TOPICS {
        bus.try_publish(event(&format!("t.n{n}"), n)).unwrap();
        assert_eq!(number(&events.try_recv().unwrap()), n);
    }
    let stats = bus.stats();
    assert_eq!((stats.published, stats.families.len()), (TOPICS, NAMED + 1));
    assert_eq!(stats.families["*"].deliveries, TOPICS - NAMED as u64);
    bus.try_publish(event("t.n0", 0)).unwrap();
    assert_eq!(bus.stats().families["t.n0"].published, 2);
}

fn at_a_rate(per_second: u32, publish_deadline: Duration) -> Arc<CrossbeamBus> {
    CrossbeamBus::new(Limits {
        publish_deadline,
        rate: Some(Rate {
            per_second: per_second.try_into().unwrap(),
            burst: 1.try_into().unwrap(),
        }),
        ..Limits::default()
    })
}

#[tokio::test]
async fn who_waits_for_a_turn_is_told_of_a_shutdown() {
    let bus = at_a_rate(1, Duration::from_secs(3_600));
    bus.try_publish(event("a", 0)).unwrap();
    let publish = |n| {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move { bus.publish(event("a", n)).await })
    };
    // The last turn is after the watchdog's.
    let waiting: Vec<_> = (1..100).map(publish).collect();
    let all_wait = || match bus.try_publish(event("a", 0)).unwrap_err().reason() {
        TryPublishError::RateLimited { retry_after } => *retry_after > Duration::from_secs(60),
        other => panic!("{other}"),
    };
    watchdog(async {
        while !all_wait() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    bus.shutdown().await.unwrap();
    watchdog(async {
        for publish in waiting {
            let refused = publish.await.unwrap().unwrap_err();
            assert_eq!(*refused.reason(), PublishError::Closed);
        }
    })
    .await;
}

#[tokio::test]
async fn the_wait_for_a_turn_is_part_of_what_was_waited() {
    let deadline = Duration::from_millis(300);
    let bus = at_a_rate(5, deadline);
    let _full = bus.subscribe(to("a").capacity(1)).await.unwrap();
    bus.publish(event("a", 0)).await.unwrap();
    let refused = watchdog(bus.publish(event("a", 1))).await.unwrap_err();
    let PublishError::Backpressure { waited, .. } = refused.reason() else {
        panic!("{refused:?}");
    };
    assert!(*waited > Duration::from_millis(250), "{waited:?}");
}

#[tokio::test]
async fn what_is_accepted_needs_no_flush_until_the_bus_is_closed() {
    let bus = bus();
    let mut all = bus.subscribe(to("#")).await.unwrap();
    bus.publish(event("a", 1)).await.unwrap();
    assert_eq!(bus.flush(Duration::ZERO).await, Ok(()));
    assert_eq!(drain(&mut all), [1]);
    bus.shutdown().await.unwrap();
    assert_eq!(bus.flush(Duration::ZERO).await, Err(FlushError::Closed));
}

/// What an application does when its payload is let go of is its own affair: also publishing by the
/// handle that has just accepted it for nobody.
#[tokio::test]
async fn a_payload_may_publish_by_its_own_handle_when_it_is_dropped() {
    let bus = impatient();
    let publisher = bus.publisher(Topic::new("a").unwrap());
    let (done, ended) = tokio::sync::oneshot::channel();
    // On a thread of its own: one that waits for itself cannot be given up.
    std::thread::spawn(move || {
        publisher.try_publish(loud(&publisher)).unwrap();
        let _ = done.send(());
    });
    watchdog(ended).await.unwrap();
    assert_eq!(bus.stats().published, 2);
}
