//! Credit: who waits for it is woken when it comes, nobody goes beyond it, and an event has it on
//! all its links or takes it on none.

use std::sync::Arc;

use loom::thread;

use crate::explore::{Model, block_on, must_fail};
use crate::sabotage::{Bug, with};
use crate::scene::{acknowledge, cursor, event, numbers, open, outbox, publish};
use crate::session::acks::{AckBook, InLink};
use crate::session::outbox::Accepted;
use crate::sync::Notify;

/// What the models here stand behind.
const COVERS: &[&str] = &["FLW-001", "FLW-004"];

/// A publisher waits for credit, which comes.
fn one_waits_for_credit() {
    let outbox = outbox();
    open(&outbox, cursor(1, 0, 1));
    assert_eq!(numbers(&block_on(publish(&outbox, "a")).unwrap()), [0]);
    let publisher = thread::spawn({
        let outbox = Arc::clone(&outbox);
        move || block_on(publish(&outbox, "a")).unwrap()
    });
    acknowledge(&outbox, 1, 1, 2);
    assert_eq!(numbers(&publisher.join().unwrap()), [1]);
    let beyond = outbox.accept(&mut event("a"), &mut None);
    assert!(matches!(beyond, Accepted::NoCredit(_)), "over the credit");
}

/// Two publishers wait for credit, which comes for both at once.
fn two_wait_for_credit() {
    let outbox = outbox();
    open(&outbox, cursor(1, 0, 0));
    let publishers = [(); 2].map(|()| {
        let outbox = Arc::clone(&outbox);
        thread::spawn(move || block_on(publish(&outbox, "a")).unwrap())
    });
    acknowledge(&outbox, 1, 0, 2);
    let mut got = publishers.map(|publisher| numbers(&publisher.join().unwrap()));
    got.sort();
    assert_eq!(got, [[0], [1]], "each has a place of its own");
}

/// Credit comes on two links, in two threads, while a publisher waits for both.
fn one_waits_for_two_links() {
    let outbox = outbox();
    open(&outbox, cursor(1, 0, 0));
    open(&outbox, cursor(2, 0, 0));
    let granting = thread::spawn({
        let outbox = Arc::clone(&outbox);
        move || acknowledge(&outbox, 1, 0, 1)
    });
    let publisher = thread::spawn({
        let outbox = Arc::clone(&outbox);
        move || block_on(publish(&outbox, "a")).unwrap()
    });
    acknowledge(&outbox, 2, 0, 1);
    assert_eq!(numbers(&publisher.join().unwrap()), [0, 0]);
    granting.join().unwrap();
}

/// The only subscriber of a publisher reads one event after another. The acknowledgement of each
/// goes through the book of those that are due, which the writer empties whenever it is told to.
fn each_event_read_gives_credit(events: u64) {
    let (outbox, book, told) = (
        outbox(),
        Arc::new(AckBook::default()),
        Arc::new(Notify::new()),
    );
    let link = Arc::new(InLink::new("p".into(), 1, true, 1, 1, 1, 1 << 20));
    open(&outbox, cursor(1, 0, 1));
    let writer = thread::spawn({
        let (outbox, book, told) = (Arc::clone(&outbox), Arc::clone(&book), Arc::clone(&told));
        move || {
            let mut received = 0;
            while received < events {
                block_on(told.notified());
                for (peer, entry) in book.take(|_| ()) {
                    received = entry.received;
                    outbox.acknowledge(&peer, &[entry]);
                }
            }
        }
    });
    for sequence in 0..events {
        let links = block_on(publish(&outbox, "a")).unwrap();
        assert_eq!(numbers(&links), [sequence]);
        assert!(link.covers(sequence, 1), "over the credit");
        link.receive(1, 1);
        book.note(&link, &told);
        link.take(1);
        book.note(&link, &told);
    }
    writer.join().unwrap();
}

/// Covers `accept_within` and `Outbox::acknowledge`.
#[test]
fn credit_wakes_the_publisher() {
    Model::new("credit-one-waits", COVERS)
        .preemptions(5)
        .explore(20, one_waits_for_credit);
}

/// Covers `Outbox::accept` by several publishers.
#[test]
fn credit_for_two_wakes_two() {
    Model::new("credit-two-wait", COVERS)
        .preemptions(3)
        .explore(3_000, two_wait_for_credit);
}

/// Covers `accept_within` that goes from one link to another.
#[test]
fn credit_is_taken_on_all_links_or_on_none() {
    Model::new("credit-all-or-none", COVERS)
        .preemptions(4)
        .explore(1_000, one_waits_for_two_links);
}

/// Covers `AckBook::note` and `AckBook::take`: what moves is told, now or the next time.
#[test]
fn no_acknowledgement_is_forgotten() {
    Model::new("credit-circle", COVERS).explore(3_000, || each_event_read_gives_credit(2));
}

#[test]
fn the_model_sees_a_publisher_that_says_too_late_that_it_waits() {
    with(Bug::NotedLate, || {
        must_fail("deadlock", one_waits_for_credit)
    });
}

#[test]
fn the_model_sees_credit_that_comes_in_silence() {
    with(Bug::ToldNobody, || {
        must_fail("deadlock", one_waits_for_two_links)
    });
}

#[test]
fn the_model_sees_that_only_one_publisher_is_told() {
    with(Bug::ToldOne, || must_fail("deadlock", two_wait_for_credit));
}

#[test]
fn the_model_sees_a_writer_that_is_told_only_while_it_sleeps() {
    with(Bug::NoPermit, || {
        must_fail("deadlock", || each_event_read_gives_credit(2));
    });
}
