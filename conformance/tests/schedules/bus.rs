//! Four publishers and three subscriptions, one of which loses the oldest, over crossbeam channels,
//! with deadlines that come at any time, while a subscription ends and a handle is closed. Room
//! in all queues or in none (FLW-001).

use std::collections::BTreeMap;

use eventbus_trait::{
    Event, EventBus, Item, Limits, Overflow, PublishError, Subscribe, Subscription,
};
use shuttle::future::block_on;
use shuttle::thread;

use crate::crossbeam::bus::CrossbeamBus;
use crate::run::{explore, must_fail, must_replay};
use crate::sabotage::{Bug, with};
use crate::sync::yield_now;

/// What the casts here stand behind.
const COVERS: &[&str] = &["DEL-001", "DEL-003", "DEL-004", "ORD-001", "LIF-002"];
const PUBLISHERS: u8 = 4;
const EVENTS: u8 = 3;

/// Who published it, and its number there.
type Number = (u8, u8);

/// What a subscription has seen.
#[derive(Debug, Default)]
struct Seen {
    events: Vec<Number>,
    lost: u64,
    /// It was read to its end.
    whole: bool,
}

/// What became of an event: in how many queues it was put, or that it was refused.
type Outcome = Result<u64, PublishError>;

fn number(event: &Event) -> Number {
    let bytes = event.bytes().unwrap();
    (bytes[0], bytes[1])
}

fn publish_all(bus: &dyn EventBus, publisher: u8) -> Vec<(Number, Outcome)> {
    let publish = |number: u8| {
        let event = Event::new("a", vec![publisher, number]).unwrap();
        let outcome = match block_on(bus.publish(event)) {
            Ok(receipt) => Ok(receipt.now().unwrap().deliveries),
            Err(refused) => {
                assert_eq!(self::number(refused.event()), (publisher, number));
                Err(refused.into_parts().1)
            }
        };
        ((publisher, number), outcome)
    };
    (0..EVENTS).map(publish).collect()
}

/// Reads to the end, or `most` events and then unsubscribes.
fn read(mut subscription: Subscription, most: Option<usize>) -> Seen {
    let mut seen = Seen::default();
    while most.is_none_or(|most| seen.events.len() < most) {
        match block_on(subscription.recv_item()) {
            Some(Item::Event(event)) => seen.events.push(number(&event)),
            Some(Item::Lagged(n)) => seen.lost += n,
            None => {
                seen.whole = true;
                return seen;
            }
        }
    }
    block_on(subscription.unsubscribe());
    seen
}

fn subscribe(bus: &dyn EventBus, capacity: usize, overflow: Overflow) -> Subscription {
    let subscribe = Subscribe::to("#").unwrap();
    let subscribe = subscribe.capacity(capacity).overflow(overflow);
    block_on(bus.subscribe(subscribe)).unwrap()
}

/// What happens besides publishing and reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Besides {
    Nothing,
    /// One of the subscriptions ends after its first event.
    OneUnsubscribes,
    /// The handle that has the subscriptions is shut down at some time.
    OneCloses,
    /// A reader takes every event for its own, twice (a twin).
    OneReadsTwice,
}

fn cast(besides: Besides) {
    let bus = CrossbeamBus::new(Limits::default());
    let wait = [1, 2].map(|capacity| subscribe(&*bus, capacity, Overflow::Wait));
    let lossy = subscribe(&*bus, 1, Overflow::DropOldest);
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let own = block_on(bus.connect(None)).unwrap();
            thread::spawn(move || publish_all(&*own, publisher))
        })
        .collect();
    let most = (besides == Besides::OneUnsubscribes).then_some(1);
    let [first, second] = wait;
    let readers = [
        thread::spawn(move || read(first, most)),
        thread::spawn(move || read(second, None)),
        thread::spawn(move || read(lossy, None)),
    ];
    let closer = thread::spawn(move || {
        if besides == Besides::OneCloses {
            (0..EVENTS * PUBLISHERS).for_each(|_| yield_now());
            block_on(bus.shutdown()).unwrap();
        }
        bus
    });
    let outcomes = publishers.into_iter().map(|p| p.join().unwrap());
    let outcomes: BTreeMap<Number, Outcome> = outcomes.flatten().collect();
    let bus = closer.join().unwrap();
    block_on(bus.shutdown()).unwrap();
    let mut seen = readers.map(|reader| reader.join().unwrap());
    if besides == Besides::OneReadsTwice {
        let again = seen[1].events.clone();
        seen[1].events.extend(again);
    }
    check(&outcomes, &seen, besides);
}

fn check(outcomes: &BTreeMap<Number, Outcome>, seen: &[Seen; 3], besides: Besides) {
    for seen in seen {
        let mut last = BTreeMap::new();
        for (publisher, number) in &seen.events {
            let before = last.insert(publisher, number);
            assert!(before < Some(number), "twice, or out of order: {seen:?}");
        }
    }
    for (number, outcome) in outcomes {
        let have = |seen: &Seen| u64::from(seen.events.contains(number));
        let by_wait = have(&seen[0]) + have(&seen[1]);
        match outcome {
            Err(reason) => {
                let backpressure = matches!(reason, PublishError::Backpressure { .. });
                assert!(backpressure, "{reason}");
                assert_eq!(by_wait + have(&seen[2]), 0, "refused, but delivered");
            }
            Ok(queued) if besides != Besides::OneUnsubscribes => {
                let all_or_none = *queued == 0 || *queued == 3;
                assert!(
                    all_or_none || besides == Besides::OneCloses,
                    "{queued} queues"
                );
                assert!(
                    by_wait <= *queued && by_wait + 1 >= *queued,
                    "accepted, but not read"
                );
            }
            Ok(queued) => assert!(by_wait + have(&seen[2]) <= *queued, "read, but not queued"),
        }
    }
    let queued: u64 = outcomes.values().flatten().sum();
    let read: u64 = seen
        .iter()
        .map(|seen| seen.events.len() as u64 + seen.lost)
        .sum();
    if seen.iter().all(|seen| seen.whole) {
        assert_eq!(
            read, queued,
            "accepted, but not read, or the reverse: {seen:?}"
        );
    }
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order() {
    explore("schedules-bus", COVERS, 400, || cast(Besides::Nothing));
}

#[test]
fn a_subscription_that_ends_holds_nobody_up() {
    explore("schedules-bus-unsubscribe", COVERS, 400, || {
        cast(Besides::OneUnsubscribes);
    });
}

#[test]
fn a_handle_that_closes_loses_nothing_that_was_accepted() {
    explore("schedules-bus-close", COVERS, 400, || {
        cast(Besides::OneCloses);
    });
}

#[test]
fn a_seed_says_what_happens() {
    must_replay(|| cast(Besides::OneCloses));
}

#[test]
fn the_schedules_show_an_event_that_comes_in_silence() {
    with(Bug::FilledInSilence, || {
        must_fail("deadlock", || cast(Besides::Nothing));
    });
}

#[test]
fn the_schedules_show_a_stream_that_ends_in_silence() {
    with(Bug::ClosedInSilence, || {
        must_fail("deadlock", || cast(Besides::OneCloses));
    });
}

#[test]
fn the_schedules_show_a_reader_that_has_everything_twice() {
    must_fail("twice, or out of order", || cast(Besides::OneReadsTwice));
}
