//! Accepting: all links or none, in order, with drops at their place.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use eventbus_trait::{Delivery, Event, Origin, PublisherId, TopicFilter};

use super::super::cost::event_cost;
use super::super::outbox::{Accepted, Outbox};
use super::super::routes::Routes;
use super::super::run::{Item, MAX_RUN, Run, Taken};
use crate::wire::{AckEntry, Control, StatusEntry, SubscriptionInfo, WrittenEvents};

fn outbox() -> Outbox {
    Outbox::new(PublisherId([1; 16]), 7)
}

fn info(id: u64, filter: &str, credit: u64) -> SubscriptionInfo {
    SubscriptionInfo {
        id,
        name: format!("s{id}"),
        filters: vec![TopicFilter::new(filter).unwrap()],
        link: 1,
        received: 0,
        received_bytes: 0,
        credit,
        credit_bytes: 1 << 20,
    }
}

/// A run of events of one topic, as the outbox makes them.
pub(super) fn run_of(events: Vec<Event>) -> Run {
    let cost = events.iter().map(event_cost).sum();
    let mut routes = Routes::default();
    let mut cached = None;
    let topic = events[0].topic().clone();
    let route = Arc::clone(routes.find(&topic, &mut cached));
    let publisher = PublisherId([7; 16]);
    let mut written = WrittenEvents::default();
    for event in &events {
        let sequence = event.origin().map_or(0, |origin| origin.sequence);
        written.push(event, &event.bytes().unwrap(), None, sequence);
    }
    Run {
        route,
        written,
        cost,
        publisher,
        epoch: 1,
    }
}

fn offer(topic: &str) -> Option<Event> {
    Some(Event::new(topic, "x").unwrap())
}

fn accept(outbox: &Outbox, topic: &str) -> Accepted {
    outbox.accept(&mut offer(topic), &mut None)
}

#[test]
fn credit_is_taken_on_all_links_or_on_none() {
    let outbox = outbox();
    outbox.open_link(&"p".into(), info(1, "a.#", 10), false);
    outbox.open_link(&"p".into(), info(2, "a.b", 1), false);
    assert!(matches!(accept(&outbox, "a.b"), Accepted::Queued(links) if links.all().len() == 2));
    let mut second = offer("a.b");
    match outbox.accept(&mut second, &mut None) {
        Accepted::NoCredit(link) => assert_eq!(link.name, "s2"),
        _ => panic!("the second link has credit for one"),
    }
    assert!(second.is_some(), "the event is handed back");
    match accept(&outbox, "a.c") {
        Accepted::Queued(links) => {
            assert_eq!(links.all()[0].1, 1, "the refused event took no credit")
        }
        _ => panic!("the first link has credit"),
    }
}

/// An event that a layer above has stamped itself.
fn given(sequence: u64) -> Event {
    Event::new("a", "x").unwrap().given_origin(Origin {
        publisher: PublisherId([9; 16]),
        epoch: 3,
        sequence,
    })
}

/// The run that these events make.
fn accepted(events: impl IntoIterator<Item = Event>) -> Run {
    let outbox = outbox();
    outbox.open_link(&"p".into(), info(1, "a", 10), false);
    for event in events {
        outbox.accept(&mut Some(event), &mut None);
    }
    let mut taken = Taken::default();
    assert!(outbox.take(&mut taken));
    let mut items = std::mem::take(&mut taken.items);
    match (items.pop_front(), items.is_empty()) {
        (Some(Item::Run(run)), true) => run,
        (first, _) => panic!("not one run: {first:?}"),
    }
}

#[test]
fn a_stamp_that_all_events_have_in_common_is_written_once() {
    let own = || Event::new("a", "x").unwrap();
    let bare = accepted([own(), own()]).written.bytes();
    let stamped = accepted([given(5), given(6)]);
    assert_eq!(stamped.written.bytes(), bare);
    let mixed = accepted([given(5), own(), given(6)]);
    let after_one: Vec<_> = mixed
        .events(1)
        .map(|event| event.origin().copied())
        .collect();
    assert_eq!(after_one.len(), 2);
    assert_eq!(after_one[1], given(6).origin().copied());
    let large = Event::new("a", vec![7_u8; 1 << 16]).unwrap();
    let large = large.given_origin(*given(8).origin().unwrap());
    let large = accepted([large]);
    for (run, expected) in [
        (large, vec![(9, 8)]),
        (stamped, vec![(9, 5), (9, 6)]),
        (mixed, vec![(9, 5), (1, 0), (9, 6)]),
    ] {
        let read = run.events(0);
        let stamps = read.map(|event| event.origin().map(|o| (o.publisher.0[0], o.sequence)));
        let expected: Vec<_> = expected.into_iter().map(Some).collect();
        assert_eq!(stamps.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_kept_route_is_renewed_when_links_change() {
    let outbox = outbox();
    let mut cached = None;
    assert!(
        matches!(outbox.accept(&mut offer("a"), &mut cached), Accepted::Queued(l) if l.all().is_empty())
    );
    outbox.open_link(&"p".into(), info(1, "a", 10), false);
    assert!(
        matches!(outbox.accept(&mut offer("a"), &mut cached), Accepted::Queued(l) if l.all().len() == 1)
    );
    assert_eq!(outbox.close_links(|_| true), 1);
    assert!(
        matches!(outbox.accept(&mut offer("a"), &mut cached), Accepted::Queued(l) if l.all().is_empty())
    );
}

#[test]
fn the_end_of_a_link_comes_after_its_last_event() {
    let outbox = outbox();
    outbox.open_link(&"p".into(), info(1, "a", 10), false);
    accept(&outbox, "a");
    outbox.close_links(|_| true);
    let mut taken = Taken::default();
    assert!(outbox.take(&mut taken));
    let items = std::mem::take(&mut taken.items);
    assert!(matches!(items[0], Item::Run(_)));
    assert!(matches!(
        &items[1],
        Item::Control(_, Control::Closed(StatusEntry { next: 1, .. }))
    ));
}

#[test]
fn at_most_once_drops_where_there_is_no_credit_and_nowhere_else() {
    let outbox = outbox();
    outbox.open_link(&"p".into(), info(1, "a", 1), false);
    outbox.open_link(&"q".into(), info(2, "a", 10), false);
    for expected in [2, 1] {
        let mut offer = offer("a").map(|event| event.delivery(Delivery::AtMostOnce));
        match outbox.accept(&mut offer, &mut None) {
            Accepted::Queued(links) => assert_eq!(links.all().len(), expected),
            _ => panic!("never waits"),
        }
    }
    assert_eq!(outbox.dropped(), 1);
    assert!(
        outbox.untold_drops().is_empty(),
        "the drop comes after an event that is not written yet"
    );
    for (link, _) in outbox.unconfirmed() {
        let event = Event::new("a", "x").unwrap();
        link.keep(&Arc::new(run_of(vec![event])));
    }
    assert_eq!(outbox.untold_drops().len(), 1);
    assert!(outbox.untold_drops().is_empty(), "told once");
}

#[test]
fn a_run_is_one_route_and_ends_where_something_was_dropped() {
    let outbox = outbox();
    outbox.open_link(&"p".into(), info(1, "#", 3), false);
    for topic in ["a", "a", "b", "a"] {
        accept(&outbox, topic);
    }
    let mut dropped = offer("a").map(|event| event.delivery(Delivery::AtMostOnce));
    assert!(matches!(
        outbox.accept(&mut dropped, &mut None),
        Accepted::Queued(links) if links.all().is_empty()
    ));
    outbox.acknowledge(
        "p",
        &[AckEntry {
            subscription: 1,
            received: 0,
            credit: 9,
            credit_bytes: 1 << 20,
        }],
    );
    accept(&outbox, "a");
    let mut taken = Taken::default();
    assert!(outbox.take(&mut taken));
    let items = std::mem::take(&mut taken.items);
    let runs: Vec<_> = items
        .iter()
        .map(|item| match item {
            Item::Run(run) => (run.count(), run.route.links.len()),
            Item::Control(..) => panic!("no message was sent"),
        })
        .collect();
    assert_eq!(runs, [(2, 1), (1, 1), (1, 0), (1, 1)]);
}

#[test]
fn what_no_link_has_room_for_shares_a_run() {
    let outbox = outbox();
    outbox.open_link(&"p".into(), info(1, "a", 1), false);
    for _ in 0..101 {
        let mut flood = offer("a").map(|event| event.delivery(Delivery::AtMostOnce));
        outbox.accept(&mut flood, &mut None);
    }
    let mut taken = Taken::default();
    assert!(outbox.take(&mut taken));
    let runs: Vec<_> = taken
        .items
        .iter()
        .map(|item| match item {
            Item::Run(run) => (run.count(), run.route.links.len()),
            Item::Control(..) => panic!("no message was sent"),
        })
        .collect();
    assert_eq!(runs, [(1, 1), (100, 0)]);
    taken.items.clear();
}

/// Whether the writer was woken since it was asked last.
fn is_woken(outbox: &Outbox) -> bool {
    pin!(outbox.wake.notified()).enable()
}

/// How many events wake the writer.
fn accept_until_woken(outbox: &Outbox) -> u64 {
    let mut accepted = 0;
    while !is_woken(outbox) {
        accept(outbox, "a");
        accepted += 1;
    }
    accepted
}

/// An outbox with a link whose writer pauses.
fn pausing(credit: u64) -> Outbox {
    let outbox = outbox();
    outbox.open_link(&"p".into(), info(1, "a", credit), false);
    while outbox.take(&mut Taken::default()) {}
    accept(&outbox, "a");
    assert!(is_woken(&outbox), "it slept");
    outbox.take(&mut Taken::default());
    accept(&outbox, "a");
    assert!(!is_woken(&outbox), "it is awake");
    assert!(outbox.gather());
    outbox
}

#[test]
fn a_writer_that_pauses_is_woken_for_a_frame() {
    let outbox = pausing(100_000);
    let waiting = 1 + accept_until_woken(&outbox);
    assert_eq!(waiting, u64::from(MAX_RUN));
    assert!(!outbox.gather(), "there is a frame");
    let mut taken = Taken::default();
    assert!(outbox.take(&mut taken));
    assert_eq!(taken.count(), (1, waiting));
    assert!(outbox.gather());
    let large = Event::new("a", vec![0; 1 << 16]).unwrap();
    outbox.accept(&mut Some(large), &mut None);
    assert!(is_woken(&outbox), "a large event has a frame of its own");
    assert!(!outbox.gather(), "and is still there");
}

#[test]
fn a_writer_that_pauses_is_woken_before_credit_ends() {
    // One was sent, so there is credit for 99 when the pause begins.
    let outbox = pausing(100);
    let waiting = 1 + accept_until_woken(&outbox);
    assert_eq!(waiting, 50, "as many as may still come");
    while outbox.take(&mut Taken::default()) {}
    for _ in waiting..99 {
        accept(&outbox, "a");
    }
    is_woken(&outbox);
    while outbox.take(&mut Taken::default()) {}
    assert!(matches!(accept(&outbox, "a"), Accepted::NoCredit(_)));
    assert!(!is_woken(&outbox), "there is nothing to send");
}

#[test]
fn who_waits_for_credit_waits_for_no_pause() {
    for (at_most_once, during) in [(false, false), (false, true), (true, false), (true, true)] {
        let outbox = pausing(100);
        while outbox.take(&mut Taken::default()) {}
        accept(&outbox, "a");
        outbox.take(&mut Taken::default());
        for _ in 3..100 {
            accept(&outbox, "a");
        }
        assert_eq!(during && outbox.gather(), during);
        is_woken(&outbox);
        let mut offer = offer("a");
        if at_most_once {
            offer = offer.map(|event| event.delivery(Delivery::AtMostOnce));
        }
        outbox.accept(&mut offer, &mut None);
        assert_eq!(is_woken(&outbox), during);
        assert!(!outbox.gather(), "{at_most_once} {during}");
    }
}

#[test]
fn a_writer_that_pauses_is_woken_for_a_message() {
    let outbox = pausing(100_000);
    outbox.send_urgent(&"p".into(), Control::Leave);
    assert!(is_woken(&outbox));
    assert!(!outbox.gather(), "there is a message");
    while outbox.take(&mut Taken::default()) {}
    accept(&outbox, "a");
    outbox.take(&mut Taken::default());
    outbox.close_links(|_| true);
    assert!(!outbox.gather(), "one in the order of events is one, too");
}

#[test]
fn what_could_not_be_sent_stays_and_messages_do_not() {
    let outbox = outbox();
    outbox.open_link(&"p".into(), info(1, "a", 10), true);
    accept(&outbox, "a");
    let mut taken = Taken::default();
    assert!(outbox.take(&mut taken));
    assert_eq!((taken.again.len(), taken.items.len()), (1, 2));
    outbox.go_offline();
    taken.forget_messages();
    accept(&outbox, "a");
    outbox.send_urgent(&"p".into(), Control::Leave);
    assert!(outbox.take(&mut taken));
    let left = (taken.urgent.len(), taken.again.len(), taken.items.len());
    assert_eq!(left, (0, 0, 1), "the rest waits until this is sent");
    taken.items.clear();
    assert!(outbox.take(&mut taken));
    assert_eq!(taken.items.len(), 1);
}

#[test]
fn a_link_goes_on_from_its_cursor_and_one_that_was_given_up_from_where_it_stood() {
    let outbox = outbox();
    let peer: Arc<str> = "p".into();
    outbox.open_link(&peer, info(1, "a", 10), false);
    let Accepted::Queued(before) = accept(&outbox, "a") else {
        panic!("there is credit")
    };
    let mut back = info(1, "a", 10);
    outbox.open_link(&peer, back.clone(), false);
    let Accepted::Queued(after) = accept(&outbox, "a") else {
        panic!("there is credit")
    };
    assert!(Arc::ptr_eq(&before.all()[0].0, &after.all()[0].0));
    assert_eq!(after.all()[0].1, 1);

    let given_up = outbox.give_up_links(|link| *link.peer == *peer);
    assert_eq!(given_up.iter().map(|(_, missing)| missing).sum::<u64>(), 2);
    back.received = 1;
    outbox.open_link(&peer, back.clone(), true);
    let mut taken = Taken::default();
    outbox.take(&mut taken);
    let told = taken.items.back();
    assert!(
        matches!(
            told,
            Some(Item::Control(_, Control::Opened { first: 2, .. }))
        ),
        "{told:?}"
    );

    // It has not heard so yet, and says the same again: the link is the same too.
    assert!(outbox.open_link(&peer, back, true).is_none());
    accept(&outbox, "a");
    let acknowledged = AckEntry {
        subscription: 1,
        received: 3,
        credit: 10,
        credit_bytes: 1 << 20,
    };
    outbox.acknowledge("p", &[acknowledged]);
    accept(&outbox, "a");
    // A cursor that is older than what was acknowledged is late; another link is another life.
    let mut late = info(1, "a", 10);
    assert!(outbox.open_link(&peer, late.clone(), false).is_none());
    late.link += 1;
    let forgotten = outbox.open_link(&peer, late, false);
    assert_eq!(forgotten.map(|(_, missing)| missing), Some(1));
}

#[test]
fn a_cursor_wakes_who_waits_for_credit() {
    let outbox = outbox();
    let peer: Arc<str> = "p".into();
    outbox.open_link(&peer, info(1, "a", 1), false);
    accept(&outbox, "a");
    let Accepted::NoCredit(link) = accept(&outbox, "a") else {
        panic!("there is no credit")
    };
    let progress = link.progress.notified();
    tokio::pin!(progress);
    progress.as_mut().enable();
    let mut cursor = info(1, "a", 2);
    cursor.received = 1;
    outbox.open_link(&peer, cursor, false);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(progress.poll(&mut context).is_ready());
    assert!(matches!(accept(&outbox, "a"), Accepted::Queued(_)));
}
