//! What is kept, and sent again: no event is lost, doubled or out of order when publishing, an
//! acknowledgement, a cursor and the writer meet.

use std::sync::Arc;

use loom::thread;

use crate::explore::{Model, block_on, must_fail};
use crate::line::{AMPLE, Fault, Line, Subscriber};
use crate::scene::{acknowledge, cursor, open, outbox, publish};
use crate::session::outbox::Outbox;

/// What the models here stand behind.
const COVERS: &[&str] = &["DEL-001", "DEL-003", "ORD-001", "FLT-002"];
/// Events that are published.
const EVENTS: u64 = 2;
/// The same where a gap is found: one is lost, one shows it, one comes while it is being filled.
const EVENTS_AROUND_A_GAP: u64 = 3;

fn scene() -> (Arc<Outbox>, Arc<Subscriber>) {
    let outbox = outbox();
    open(&outbox, cursor(1, 0, AMPLE));
    (outbox, Arc::default())
}

fn publish_all(outbox: &Outbox, events: u64) {
    for sequence in 0..events {
        // Topics of their own make runs of their own.
        let links = block_on(publish(outbox, &format!("t{sequence}"))).unwrap();
        assert_eq!(links[0].1, sequence);
    }
}

/// Once everything is there: nothing is kept, and the link takes part in frames again.
fn all_is_well(outbox: &Arc<Outbox>, subscriber: &Arc<Subscriber>, events: u64) {
    assert_eq!(subscriber.received(), events);
    acknowledge(outbox, 1, events, AMPLE);
    assert!(outbox.unconfirmed().is_empty());
    let links = block_on(publish(outbox, "last")).unwrap();
    let line = Line::new(outbox, subscriber);
    line.write(|_| true);
    assert_eq!(subscriber.received(), events + 1, "it is not live");
    let (link, _) = &links[0];
    assert_eq!(link.kept_runs(), 1);
    link.acknowledge(events + 1);
    assert_eq!(link.kept_runs(), 0);
}

/// The subscriber tells its cursor, as after a gap that there is none of, and acknowledges, while
/// events are published and written.
fn a_cursor_comes_in_between() {
    let (outbox, subscriber) = scene();
    let writer = thread::spawn({
        let line = Line::new(&outbox, &subscriber);
        move || line.write(|subscriber| subscriber.received() == EVENTS)
    });
    let other = thread::spawn({
        let (outbox, subscriber) = (Arc::clone(&outbox), Arc::clone(&subscriber));
        move || {
            open(&outbox, cursor(1, subscriber.received(), AMPLE));
            acknowledge(&outbox, 1, subscriber.received(), AMPLE);
        }
    });
    publish_all(&outbox, EVENTS);
    writer.join().unwrap();
    other.join().unwrap();
    all_is_well(&outbox, &subscriber, EVENTS);
}

/// The connection breaks with a frame, and the subscriber tells its cursor on the next.
fn the_connection_breaks(fault: Fault) {
    let (outbox, subscriber) = scene();
    let writer = thread::spawn({
        let mut line = Line::new(&outbox, &subscriber);
        line.breaks = Some(0);
        line.fault = fault;
        move || line.write(|subscriber| subscriber.received() == EVENTS)
    });
    let other = thread::spawn({
        let (outbox, subscriber) = (Arc::clone(&outbox), Arc::clone(&subscriber));
        move || {
            block_on(subscriber.reconnected.notified());
            open(&outbox, cursor(1, subscriber.received(), AMPLE));
        }
    });
    publish_all(&outbox, EVENTS);
    writer.join().unwrap();
    other.join().unwrap();
    all_is_well(&outbox, &subscriber, EVENTS);
}

/// The broker loses the first frame without a word; the subscriber finds the gap and tells its
/// cursor, while the connection holds and events are published and written.
fn a_frame_is_lost(fault: Fault) {
    let (outbox, subscriber) = scene();
    let writer = thread::spawn({
        let mut line = Line::new(&outbox, &subscriber);
        line.loses = Some(0);
        line.fault = fault;
        move || line.write(|subscriber| subscriber.received() == EVENTS_AROUND_A_GAP)
    });
    let other = thread::spawn({
        let (outbox, subscriber) = (Arc::clone(&outbox), Arc::clone(&subscriber));
        move || {
            block_on(subscriber.reconnected.notified());
            open(&outbox, cursor(1, subscriber.received(), AMPLE));
        }
    });
    publish_all(&outbox, EVENTS_AROUND_A_GAP);
    writer.join().unwrap();
    other.join().unwrap();
    all_is_well(&outbox, &subscriber, EVENTS_AROUND_A_GAP);
}

/// Covers `Kept::rewind`, `Kept::again`, `Kept::release` and `Outbox::open_link` against the writer.
#[test]
fn a_cursor_loses_nothing_and_doubles_nothing() {
    Model::new("resume-cursor", COVERS)
        .preemptions(3)
        .explore(4_000, a_cursor_comes_in_between);
}

/// Covers `send_all` that fails, `Outbox::go_offline` and `Taken::forget_messages`.
#[test]
fn a_connection_that_breaks_loses_nothing_and_doubles_nothing() {
    Model::new("resume-broken", COVERS)
        .preemptions(3)
        .explore(4_000, || the_connection_breaks(Fault::None));
}

/// Covers `Kept::rewind` of a link that is live.
#[test]
fn a_gap_is_filled_and_nothing_comes_before_that() {
    Model::new("resume-gap", COVERS).explore(800, || a_frame_is_lost(Fault::None));
}

#[test]
fn the_model_sees_a_gap_that_is_not_filled() {
    must_fail("deadlock", || a_frame_is_lost(Fault::ResendsNothing));
}

#[test]
fn the_model_sees_an_acknowledgement_of_what_was_only_sent() {
    must_fail("a gap", || {
        the_connection_breaks(Fault::AcknowledgesWhatItSends);
    });
}

#[test]
fn the_model_sees_a_link_that_stays_live() {
    must_fail("a gap", || the_connection_breaks(Fault::StaysLive));
}

#[test]
fn the_model_sees_that_nothing_is_sent_again() {
    must_fail("deadlock", || the_connection_breaks(Fault::ResendsNothing));
}

#[test]
fn the_model_sees_events_dropped_with_the_connection() {
    must_fail("deadlock", || the_connection_breaks(Fault::DropsTheRest));
}
