//! Receipts: each ends by acknowledgement, by the end of the link or at its deadline, whatever
//! comes at the same time, and none is forgotten.

use std::sync::Arc;

use eventbus_trait::{Confirmation, ReceiptError};
use loom::thread;

use crate::explore::{Model, block_on, must_fail};
use crate::sabotage::{Bug, with};
use crate::scene::{Alarm, acknowledge, cursor, end, open, outbox, place};
use crate::session::link::LinkState;
use crate::session::outbox::Outbox;
use crate::session::receipt::Pending;

/// What the models here stand behind.
const COVERS: &[&str] = &["DEL-010", "FLW-004"];

type Outcome = Result<Confirmation, ReceiptError>;

/// An event on its way on `links` links, and its receipt.
fn published(links: u64) -> (Arc<Outbox>, Pending) {
    let outbox = outbox();
    (1..=links).for_each(|subscription| open(&outbox, cursor(subscription, 0, 1)));
    let mut pending = Pending::default();
    pending.add(block_on(place(&outbox, "a")).unwrap());
    (outbox, pending)
}

/// A receipt is waited for, without a deadline, while `others` act on the outbox, each in a thread.
fn settled<const N: usize>(links: u64, others: [fn(&Outbox); N]) -> Outcome {
    let (outbox, pending) = published(links);
    let others = others.map(|other| {
        let outbox = Arc::clone(&outbox);
        thread::spawn(move || other(&outbox))
    });
    let outcome = block_on(pending.settled(std::future::pending()));
    others.into_iter().for_each(|other| other.join().unwrap());
    outcome
}

fn is_lost(outcome: &Outcome, names: &[&str]) -> bool {
    matches!(outcome, Err(ReceiptError::Lost { subscriptions }) if subscriptions == names)
}

fn acknowledged() {
    let outcome = settled(1, [|outbox| acknowledge(outbox, 1, 1, 2)]);
    assert_eq!(outcome, Ok(Confirmation { deliveries: 1 }));
}

fn acknowledged_by_two() {
    let outcome = settled(
        2,
        [
            |outbox| acknowledge(outbox, 2, 1, 2),
            |outbox| acknowledge(outbox, 1, 1, 2),
        ],
    );
    assert_eq!(outcome, Ok(Confirmation { deliveries: 2 }));
}

fn acknowledged_or_lost() {
    let outcome = settled(
        1,
        [
            |outbox| acknowledge(outbox, 1, 1, 2),
            |outbox| end(outbox, LinkState::Lost),
        ],
    );
    let confirmed = outcome == Ok(Confirmation { deliveries: 1 });
    assert!(confirmed || is_lost(&outcome, &["s1"]), "{outcome:?}");
}

fn acknowledged_by_one_and_closed_by_the_other() {
    let outcome = settled(
        2,
        [
            |outbox| acknowledge(outbox, 2, 1, 2),
            |outbox| {
                outbox.close_links(|link| link.subscription == 1);
            },
        ],
    );
    assert_eq!(outcome, Ok(Confirmation { deliveries: 1 }));
}

/// The deadline comes while an acknowledgement may be on its way.
fn acknowledged_or_too_late() {
    let (outbox, pending) = published(2);
    let alarm = Alarm::default();
    let late = thread::spawn({
        let alarm = alarm.clone();
        move || alarm.ring()
    });
    let other = thread::spawn(move || {
        acknowledge(&outbox, 2, 1, 2);
        acknowledge(&outbox, 1, 1, 2);
    });
    match block_on(pending.settled(alarm)) {
        Ok(confirmation) => assert_eq!(confirmation.deliveries, 2),
        // The second is acknowledged first: it is never the only one that is blamed.
        Err(ReceiptError::Unconfirmed { subscriptions, .. }) => {
            assert_ne!(subscriptions, ["s2"], "it has confirmed");
            assert!(!subscriptions.is_empty(), "an error that blames nobody");
        }
        Err(other) => panic!("{other}"),
    }
    late.join().unwrap();
    other.join().unwrap();
}

/// Nobody acknowledges: only the deadline ends it.
fn too_late() {
    let (_outbox, pending) = published(1);
    let alarm = Alarm::default();
    let late = thread::spawn({
        let alarm = alarm.clone();
        move || alarm.ring()
    });
    let outcome = block_on(pending.settled(alarm));
    late.join().unwrap();
    assert!(
        matches!(&outcome, Err(ReceiptError::Unconfirmed { subscriptions, .. }) if subscriptions == &["s1"]),
        "{outcome:?}"
    );
}

/// Covers `settled` and `Outbox::acknowledge`.
#[test]
fn an_acknowledgement_ends_it() {
    Model::new("receipt-acknowledged", COVERS)
        .preemptions(5)
        .explore(100, acknowledged);
    Model::new("receipt-acknowledged-by-two", COVERS)
        .preemptions(3)
        .explore(2_500, acknowledged_by_two);
}

/// Covers `settled` and `Link::end`.
#[test]
fn the_end_of_a_link_ends_it() {
    Model::new("receipt-lost", COVERS)
        .preemptions(3)
        .explore(2_000, acknowledged_or_lost);
    Model::new("receipt-closed", COVERS)
        .preemptions(3)
        .explore(2_500, acknowledged_by_one_and_closed_by_the_other);
}

/// Covers `Pending::settled`.
#[test]
fn the_deadline_ends_it() {
    Model::new("receipt-too-late", COVERS).explore(10, too_late);
    Model::new("receipt-in-time-or-not", COVERS)
        .preemptions(3)
        .explore(2_000, acknowledged_or_too_late);
}

#[test]
fn the_model_sees_a_receipt_that_says_too_late_that_it_waits() {
    with(Bug::NotedLate, || must_fail("deadlock", acknowledged));
    with(Bug::NotedLate, || {
        must_fail("deadlock", acknowledged_or_lost)
    });
}

#[test]
fn the_model_sees_an_acknowledgement_in_silence() {
    with(Bug::ToldNobody, || {
        must_fail("deadlock", acknowledged_by_two)
    });
}

#[test]
fn the_model_sees_a_deadline_that_never_comes() {
    must_fail("deadlock", || {
        let (_outbox, pending) = published(1);
        let _ = block_on(pending.settled(std::future::pending()));
    });
}
