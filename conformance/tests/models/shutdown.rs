//! Shutting a session down: who waits is told, what was accepted is still sent, and the end waits
//! for what is not acknowledged, no longer.

use std::sync::Arc;

use loom::thread;

use crate::explore::{Model, block_on, must_fail};
use crate::line::{AMPLE, Line, Subscriber};
use crate::sabotage::{Bug, with};
use crate::scene::{Alarm, acknowledge, cursor, end, open, outbox, publish};
use crate::session::link::LinkState;
use crate::session::waiting::{NotAccepted, confirm_all};
use crate::sync::{AtomicBool, Ordering};

/// What the models here stand behind.
const COVERS: &[&str] = &["LIF-001", "LIF-002", "FLW-004"];

/// A publisher waits for credit when the session is shut down.
fn closed_while_one_waits() {
    let outbox = outbox();
    open(&outbox, cursor(1, 0, 0));
    let publisher = thread::spawn({
        let outbox = Arc::clone(&outbox);
        move || block_on(publish(&outbox, "a"))
    });
    outbox.close();
    let outcome = publisher.join().unwrap();
    assert!(matches!(outcome, Err(NotAccepted::Closed)), "{outcome:?}");
}

/// A publisher waits for credit on a link that ends: it goes on without.
fn a_link_ends_while_one_waits() {
    let outbox = outbox();
    open(&outbox, cursor(1, 0, 0));
    let publisher = thread::spawn({
        let outbox = Arc::clone(&outbox);
        move || block_on(publish(&outbox, "a")).unwrap()
    });
    end(&outbox, LinkState::Lost);
    assert!(publisher.join().unwrap().is_empty(), "nobody has it");
}

/// A publisher publishes while the session is shut down: `finish` closes, waits for the rest to be
/// acknowledged, and only then has the writer stop.
fn closed_while_one_publishes(waits: bool) {
    let (outbox, subscriber) = (outbox(), Arc::<Subscriber>::default());
    open(&outbox, cursor(1, 0, AMPLE));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let mut line = Line::new(&outbox, &subscriber);
        line.acknowledges = true;
        let stop = Arc::clone(&stop);
        move || line.write(|_| stop.load(Ordering::Acquire))
    });
    let publisher = thread::spawn({
        let outbox = Arc::clone(&outbox);
        move || block_on(publish(&outbox, "a")).is_ok()
    });
    outbox.close();
    if waits {
        assert!(block_on(confirm_all(&outbox, std::future::pending())).is_ok());
    }
    stop.store(true, Ordering::Release);
    outbox.wake.notify_one();
    let accepted = publisher.join().unwrap();
    writer.join().unwrap();
    let received = subscriber.received() == 1;
    assert_eq!(received, accepted, "accepted and not there, or the reverse");
}

/// The end is waited for while the last link is lost, or the deadline comes.
fn lost_or_too_late_while_the_end_is_awaited() {
    let outbox = outbox();
    open(&outbox, cursor(1, 0, AMPLE));
    block_on(publish(&outbox, "a")).unwrap();
    let alarm = Alarm::default();
    let late = thread::spawn({
        let alarm = alarm.clone();
        move || alarm.ring()
    });
    let other = thread::spawn({
        let outbox = Arc::clone(&outbox);
        move || end(&outbox, LinkState::Lost)
    });
    if let Err(rest) = block_on(confirm_all(&outbox, alarm)) {
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].1, 1);
    }
    late.join().unwrap();
    other.join().unwrap();
}

/// The end is waited for while two links acknowledge.
fn acknowledged_while_the_end_is_awaited() {
    let outbox = outbox();
    open(&outbox, cursor(1, 0, AMPLE));
    open(&outbox, cursor(2, 0, AMPLE));
    block_on(publish(&outbox, "a")).unwrap();
    let others = [1, 2].map(|subscription| {
        let outbox = Arc::clone(&outbox);
        thread::spawn(move || acknowledge(&outbox, subscription, 1, AMPLE))
    });
    assert!(block_on(confirm_all(&outbox, std::future::pending())).is_ok());
    others.into_iter().for_each(|other| other.join().unwrap());
}

/// Covers `Outbox::close` and `accept_within`.
#[test]
fn who_waits_for_credit_is_told_of_the_end() {
    Model::new("shutdown-wakes", COVERS)
        .preemptions(5)
        .explore(20, closed_while_one_waits);
}

/// Covers `Outbox::end_links` and `accept_within`.
#[test]
fn who_waits_for_a_link_that_ends_goes_on() {
    Model::new("shutdown-link-ends", COVERS)
        .preemptions(5)
        .explore(20, a_link_ends_while_one_waits);
}

/// Covers `Outbox::accept` against `Outbox::close`, and `confirm_all`.
#[test]
fn what_was_accepted_is_sent_before_the_end() {
    Model::new("shutdown-drains", COVERS)
        .preemptions(3)
        .explore(3_000, || closed_while_one_publishes(true));
}

/// Covers `confirm_all`.
#[test]
fn the_end_waits_as_long_as_there_is_something_to_wait_for() {
    Model::new("shutdown-confirmed", COVERS)
        .preemptions(3)
        .explore(5_000, acknowledged_while_the_end_is_awaited);
    Model::new("shutdown-lost", COVERS)
        .preemptions(3)
        .explore(700, lost_or_too_late_while_the_end_is_awaited);
}

#[test]
fn the_model_sees_an_end_in_silence() {
    with(Bug::ToldNobody, || {
        must_fail("deadlock", closed_while_one_waits);
        must_fail("deadlock", a_link_ends_while_one_waits);
        must_fail("deadlock", acknowledged_while_the_end_is_awaited);
    });
}

#[test]
fn the_model_sees_who_says_too_late_that_it_waits() {
    with(Bug::NotedLate, || {
        must_fail("deadlock", closed_while_one_waits);
        must_fail("deadlock", acknowledged_while_the_end_is_awaited);
    });
}

#[test]
fn the_model_sees_a_writer_that_stops_before_the_end_is_confirmed() {
    must_fail("accepted and not there", || {
        closed_while_one_publishes(false)
    });
}
