//! Many threads at once: order, conservation, and no place left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{
    Delivery, Event, EventBus, Item, Limits, Overflow, PublisherId, Stats, Subscribe, Subscription,
};

const PUBLISHERS: u64 = 4;
const EVENTS: u64 = 3_000;

fn patient() -> Arc<CrossbeamBus> {
    CrossbeamBus::new(Limits {
        publish_deadline: Duration::from_secs(60),
        ..Limits::default()
    })
}

fn event(topic: &str, number: u64) -> Event {
    Event::new(topic, number.to_be_bytes().to_vec()).unwrap()
}

fn number(event: &Event) -> u64 {
    u64::from_be_bytes(event.bytes().unwrap()[..].try_into().unwrap())
}

/// Reads to the end; checks that each publisher's events come in order, and that each mark stands
/// where events are missing. Returns how many events came and how many were marked as lost.
fn read_in_order(mut subscription: Subscription, read: impl Fn(u64)) -> (u64, u64) {
    let mut next: HashMap<PublisherId, u64> = HashMap::new();
    let (mut came, mut lost, mut holes) = (0, 0, 0);
    loop {
        match next_item(&mut subscription) {
            None => return (came, lost),
            Some(Item::Lagged(n)) => {
                assert!(n > 0);
                lost += n;
            }
            Some(Item::Event(event)) => {
                came += 1;
                let next = next.entry(event.origin().unwrap().publisher).or_default();
                assert!(number(&event) >= *next, "out of order or twice");
                holes += number(&event) - *next;
                assert!(holes <= lost, "a hole without a mark in front of it");
                *next = number(&event) + 1;
                read(came);
            }
        }
    }
}

fn next_item(subscription: &mut Subscription) -> Option<Item> {
    loop {
        match subscription.try_recv_item() {
            Ok(item) => return Some(item),
            Err(eventbus_trait::TryRecvError::Closed) => return None,
            Err(eventbus_trait::TryRecvError::Empty) => std::thread::yield_now(),
        }
    }
}

async fn publish_all(bus: &Arc<CrossbeamBus>, delivery: impl Fn(u64) -> Delivery) -> Vec<Stats> {
    let mut handles = Vec::new();
    for _ in 0..PUBLISHERS {
        handles.push(bus.connect(None).await.unwrap());
    }
    let delivery: Vec<_> = (0..EVENTS).map(delivery).collect();
    let publishing: Vec<_> = handles
        .into_iter()
        .map(|handle| {
            let delivery = delivery.clone();
            tokio::spawn(async move {
                for (n, delivery) in (0..).zip(delivery) {
                    let event = event("a.b", n).delivery(delivery);
                    handle.publish(event).await.unwrap();
                }
                handle.stats()
            })
        })
        .collect();
    let mut stats = Vec::new();
    for publishing in publishing {
        stats.push(publishing.await.unwrap());
    }
    stats
}

async fn watchdog<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future)
        .await
        .expect("done before the watchdog")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_reordered_through_tight_queues() {
    watchdog(async {
        let bus = patient();
        let mut readers = Vec::new();
        for (filter, capacity) in [("a.b", 1), ("a.*", 3), ("#", 64)] {
            let subscription = bus
                .subscribe(Subscribe::to(filter).unwrap().capacity(capacity))
                .await
                .unwrap();
            readers.push(std::thread::spawn(|| read_in_order(subscription, |_| {})));
        }
        for stats in publish_all(&bus, |_| Delivery::AtLeastOnce).await {
            assert_eq!(stats.published, EVENTS);
            assert_eq!(stats.families["a.b"].deliveries, 3 * EVENTS);
        }
        bus.shutdown().await.unwrap();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), (PUBLISHERS * EVENTS, 0));
        }
        for subscription in bus.stats().subscriptions {
            assert_eq!(subscription.dropped, 0);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_lost_is_counted_and_marked_where_it_is_missing() {
    for overflow in [Overflow::Wait, Overflow::DropOldest, Overflow::DropNewest] {
        watchdog(async {
            let bus = patient();
            let subscription = bus
                .subscribe(Subscribe::to("a.#").unwrap().capacity(4).overflow(overflow))
                .await
                .unwrap();
            let reader = std::thread::spawn(move || {
                read_in_order(subscription, |came| {
                    if came % 16 == 0 {
                        std::thread::yield_now();
                    }
                })
            });
            publish_all(&bus, |n| match n % 3 {
                0 => Delivery::AtLeastOnce,
                _ => Delivery::AtMostOnce,
            })
            .await;
            let stats = bus.stats().subscriptions.remove(0);
            assert_eq!(stats.matched, PUBLISHERS * EVENTS);
            bus.shutdown().await.unwrap();
            let (came, lost) = reader.join().unwrap();
            assert_eq!(came + lost, PUBLISHERS * EVENTS);
        })
        .await;
    }
}

/// What is published after `subscribe` returned is seen.
async fn pass_barrier(bus: &CrossbeamBus, subscription: &mut Subscription, round: u64) {
    let read = async {
        while let Some(event) = subscription.recv().await {
            if event.topic().as_str() == "a.barrier" && number(&event) == round {
                return;
            }
        }
        panic!("ended before the barrier");
    };
    let (published, ()) = tokio::join!(bus.publish(event("a.barrier", round)), read);
    published.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscriptions_come_and_go_while_events_pass() {
    watchdog(async {
        let bus = patient();
        let steady = bus
            .subscribe(Subscribe::to("a.b").unwrap().capacity(8))
            .await
            .unwrap();
        let reader = std::thread::spawn(|| read_in_order(steady, |_| {}));
        let done = Arc::new(AtomicBool::new(false));
        let coming_and_going: Vec<_> = [Overflow::Wait, Overflow::DropOldest]
            .into_iter()
            .map(|overflow| {
                let (bus, done) = (Arc::clone(&bus), Arc::clone(&done));
                tokio::spawn(async move {
                    let mut rounds = 0_u64;
                    while !done.load(Ordering::Acquire) {
                        let subscribe = Subscribe::to("a.#").unwrap().capacity(2);
                        let mut passing =
                            bus.subscribe(subscribe.overflow(overflow)).await.unwrap();
                        if overflow == Overflow::Wait {
                            pass_barrier(&bus, &mut passing, rounds).await;
                        }
                        let stats = passing.unsubscribe().await;
                        assert!(stats.is_conserved(), "{stats:?}");
                        rounds += 1;
                        // A task that never waits keeps those it has woken from running.
                        tokio::task::yield_now().await;
                    }
                    rounds
                })
            })
            .collect();
        publish_all(&bus, |_| Delivery::AtLeastOnce).await;
        done.store(true, Ordering::Release);
        for task in coming_and_going {
            assert!(task.await.unwrap() > 0);
        }
        assert_eq!(
            bus.stats().subscriptions.len(),
            1,
            "only the steady one is left"
        );
        bus.shutdown().await.unwrap();
        assert_eq!(reader.join().unwrap(), (PUBLISHERS * EVENTS, 0));
    })
    .await;
}
