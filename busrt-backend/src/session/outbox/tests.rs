//! Accepting: all links or none, in order, with drops at their place.

use super::*;
use eventbus_trait::TopicFilter;

fn outbox() -> Outbox {
    Outbox::new(PublisherId([1; 16]), 7)
}

fn info(id: u64, filter: &str, credit: u64) -> SubscriptionInfo {
    SubscriptionInfo {
        id,
        name: format!("s{id}"),
        filters: vec![TopicFilter::new(filter).unwrap()],
        received: 0,
        received_bytes: 0,
        credit,
        credit_bytes: 1 << 20,
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
    outbox.open_link(&"p".into(), info(1, "a.#", 10), None);
    outbox.open_link(&"p".into(), info(2, "a.b", 1), None);
    assert!(matches!(accept(&outbox, "a.b"), Accepted::Queued(links) if links.len() == 2));
    let mut second = offer("a.b");
    match outbox.accept(&mut second, &mut None) {
        Accepted::NoCredit(link) => assert_eq!(link.name, "s2"),
        _ => panic!("the second link has credit for one"),
    }
    assert!(second.is_some(), "the event is handed back");
    match accept(&outbox, "a.c") {
        Accepted::Queued(links) => assert_eq!(links[0].1, 1, "the refused event took no credit"),
        _ => panic!("the first link has credit"),
    }
}

#[test]
fn a_kept_route_is_renewed_when_links_change() {
    let outbox = outbox();
    let mut cached = None;
    assert!(
        matches!(outbox.accept(&mut offer("a"), &mut cached), Accepted::Queued(l) if l.is_empty())
    );
    outbox.open_link(&"p".into(), info(1, "a", 10), None);
    assert!(
        matches!(outbox.accept(&mut offer("a"), &mut cached), Accepted::Queued(l) if l.len() == 1)
    );
    assert_eq!(outbox.end_links(LinkState::Closed, |_| true), 1);
    assert!(
        matches!(outbox.accept(&mut offer("a"), &mut cached), Accepted::Queued(l) if l.is_empty())
    );
}

#[test]
fn the_end_of_a_link_comes_after_its_last_event() {
    let outbox = outbox();
    outbox.open_link(&"p".into(), info(1, "a", 10), None);
    accept(&outbox, "a");
    outbox.end_links(LinkState::Closed, |_| true);
    let (mut urgent, mut items) = (VecDeque::new(), VecDeque::new());
    assert!(outbox.take(&mut urgent, &mut items));
    assert!(matches!(items[0], Item::Run(_)));
    assert!(matches!(
        &items[1],
        Item::Control(_, Control::Closed(StatusEntry { next: 1, .. }))
    ));
}

#[test]
fn at_most_once_drops_where_there_is_no_credit_and_nowhere_else() {
    let outbox = outbox();
    outbox.open_link(&"p".into(), info(1, "a", 1), None);
    outbox.open_link(&"q".into(), info(2, "a", 10), None);
    for expected in [2, 1] {
        let mut offer = offer("a").map(|event| event.delivery(Delivery::AtMostOnce));
        match outbox.accept(&mut offer, &mut None) {
            Accepted::Queued(links) => assert_eq!(links.len(), expected),
            _ => panic!("never waits"),
        }
    }
    assert_eq!(outbox.dropped(), 1);
    assert!(
        outbox.untold_drops().is_empty(),
        "the drop comes after an event that is not written yet"
    );
    for (link, _) in outbox.unconfirmed() {
        link.write(1);
    }
    assert_eq!(outbox.untold_drops().len(), 1);
    assert!(outbox.untold_drops().is_empty(), "told once");
}

#[test]
fn a_run_is_one_route_and_ends_where_something_was_dropped() {
    let outbox = outbox();
    outbox.open_link(&"p".into(), info(1, "#", 3), None);
    for topic in ["a", "a", "b", "a"] {
        accept(&outbox, topic);
    }
    let mut dropped = offer("a").map(|event| event.delivery(Delivery::AtMostOnce));
    assert!(matches!(
        outbox.accept(&mut dropped, &mut None),
        Accepted::Queued(links) if links.is_empty()
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
    let (mut urgent, mut items) = (VecDeque::new(), VecDeque::new());
    assert!(outbox.take(&mut urgent, &mut items));
    let runs: Vec<_> = items
        .iter()
        .map(|item| match item {
            Item::Run(run) => (run.events.len(), run.route.links.len()),
            Item::Control(..) => panic!("no message was sent"),
        })
        .collect();
    assert_eq!(runs, [(2, 1), (1, 1), (1, 0), (1, 1)]);
}
