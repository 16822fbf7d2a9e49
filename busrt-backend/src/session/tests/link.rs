//! Credit, drops at their place, and cursors.

use std::sync::Arc;

use eventbus_trait::{Correlation, Event, Origin, PublisherId};
use tracing_test::traced_test;

use super::super::link::{Link, MAX_WINDOW, Put, Window};
use super::super::run::{Item, Run, Taken};
use super::outbox::run_of;
use crate::wire::SubscriptionInfo;

fn info(credit: u64, credit_bytes: u64) -> SubscriptionInfo {
    SubscriptionInfo {
        id: 1,
        name: "s".to_owned(),
        filters: Vec::new(),
        link: 1,
        received: 0,
        received_bytes: 0,
        credit,
        credit_bytes,
    }
}

fn run(len: usize) -> Arc<Run> {
    let event = eventbus_trait::Event::new("a", "x").unwrap();
    Arc::new(run_of(vec![event; len]))
}

#[test]
fn credit_bounds_events_and_bytes() {
    let mut window = Window::new(0, &info(2, 100));
    assert_eq!(window.take(10), 0);
    assert!(window.has_room());
    assert_eq!(window.take(10), 1);
    assert!(!window.has_room(), "two events of credit are used");
    assert!(window.grant(0, 3, 100));
    assert_eq!(window.take(1_000), 2);
    assert!(!window.grant(0, 4, 100), "bytes are used up");
    assert!(window.grant(0, 4, 1_021));
}

#[test]
fn drops_are_told_at_their_place() {
    let link = Link::new("p".into(), 0, info(10, 10));
    for place in [2, 2, 5] {
        link.drop_at(place);
    }
    assert_eq!((link.tell_dropped(), link.has_untold()), (0, false));
    link.keep(&run(2));
    assert!(link.has_untold());
    assert_eq!((link.tell_dropped(), link.has_untold()), (2, false));
    link.keep(&run(3));
    assert_eq!((link.tell_dropped(), link.dropped()), (3, 3));
}

#[test]
fn nobody_is_sent_more_than_a_window_whatever_credit_is_given() {
    let greedy = info(u64::MAX, u64::MAX);
    let mut window = Window::new(0, &greedy);
    window.grant(u64::MAX, u64::MAX, u64::MAX);
    let taken = std::iter::from_fn(|| window.has_room().then(|| window.take(1)));
    assert_eq!(taken.count() as u64, MAX_WINDOW);
    let link = Link::new("p".into(), 0, greedy);
    while !link.is_heavy() {
        let mut heavy = run_of(vec![eventbus_trait::Event::new("a", "x").unwrap()]);
        heavy.cost = 1 << 20;
        link.keep(&Arc::new(heavy));
    }
    assert_eq!(link.kept_runs(), 16);
    link.acknowledge(1);
    assert!(!link.is_heavy());
}

#[test]
fn a_late_cursor_takes_nothing_back() {
    let mut cursor = info(200, 10);
    let link = Link::new("p".into(), 100, cursor.clone());
    for (received, resumes_at) in [(50, Some(100)), (110, Some(110)), (121, None)] {
        cursor.received = received;
        assert_eq!(link.resumes_at(120, &cursor), resumes_at);
    }
    cursor.received = 105;
    link.acknowledge(107);
    assert_eq!(link.resumes_at(120, &cursor), Some(107));
    cursor.link += 1;
    assert_eq!(link.resumes_at(120, &cursor), None, "it has begun anew");
}

#[test]
fn drops_are_told_again_to_who_may_not_have_heard() {
    let link = Link::new("p".into(), 0, info(10, 10));
    link.drop_at(0);
    assert_eq!(link.tell_dropped(), 1);
    assert!(!link.has_untold());
    link.rewind(0);
    assert!(link.again().is_none());
    assert!(link.has_untold());
    assert_eq!(link.tell_dropped(), 1);
}

#[test]
fn a_silent_link_is_asked_for_at_the_second_heartbeat() {
    let link = Link::new("p".into(), 0, info(10, 10));
    link.keep(&run(3));
    assert_eq!(link.heartbeat(), None, "it may be on its way");
    assert_eq!(link.heartbeat().map(|status| status.next), Some(3));
    link.acknowledge(2);
    assert_eq!(link.heartbeat(), None, "it moves");
    link.detach();
    assert_eq!(link.heartbeat(), None, "nobody is there");
    link.rewind(2);
    assert_eq!(link.again().map(|again| again.skip), Some(2));
    assert!(link.again().is_none());
    link.acknowledge(3);
    assert_eq!((link.heartbeat(), link.heartbeat()), (None, None));
}

#[test]
fn a_late_grant_does_not_narrow_the_window() {
    let mut window = Window::new(0, &info(2, 100));
    assert!(window.grant(0, 10, 1_000));
    assert!(window.grant(0, 1, 1));
    for _ in 0..10 {
        assert!(window.has_room());
        window.take(0);
    }
    assert!(!window.has_room());
}

/// A run of events with these sequences, each of which names itself in its correlation.
fn stamped(sequences: std::ops::Range<u64>) -> Run {
    let events = sequences.map(|sequence| {
        let correlation = Correlation::new(format!("work-{sequence}"));
        let mut event = Event::new("a", "x").unwrap().correlation(correlation);
        event.accept(|| Origin {
            publisher: PublisherId([7; 16]),
            epoch: 1,
            sequence,
        });
        event
    });
    run_of(events.collect())
}

/// Which of the first ten events the log has as dropped for this reason.
fn told(logs_contain: impl Fn(&str) -> bool, reason: &str) -> Vec<u64> {
    let line = |sequence| {
        format!(
            "event dropped publisher={} topic=a sequence={sequence} correlation=\"work-{sequence}\" \
             subscription=\"s\" reason={reason:?}",
            PublisherId([7; 16]),
        )
    };
    (0..10).filter(|n| logs_contain(&line(*n))).collect()
}

#[traced_test]
#[test]
fn obs_002_what_is_given_up_is_told_event_by_event() {
    let link = Link::new("p".into(), 0, info(10, 10));
    link.keep(&Arc::new(stamped(0..3)));
    link.keep(&Arc::new(stamped(3..6)));
    link.acknowledge(2);
    link.lose("given up");
    assert_eq!(told(logs_contain, "given up"), [2, 3, 4, 5]);
    assert_eq!(
        link.keep(&Arc::new(stamped(6..7))),
        Put::Never,
        "who puts it into a frame tells of it"
    );
}

#[traced_test]
#[test]
fn obs_002_what_is_never_sent_is_told_event_by_event() {
    let mut run = stamped(0..2);
    let open = Arc::new(Link::new("p".into(), 0, info(10, 10)));
    let closed = Arc::new(Link::new("q".into(), 0, info(10, 10)));
    closed.close();
    run.route = Arc::new(run.route.only(vec![(0, open)]));
    let mut unwanted = stamped(2..4);
    unwanted.route = Arc::new(unwanted.route.only(vec![(0, closed)]));
    let mut taken = Taken::default();
    taken.items.extend([Item::Run(run), Item::Run(unwanted)]);
    drop(taken);
    assert_eq!(
        told(logs_contain, "not sent when its session ended"),
        [0, 1]
    );
}
