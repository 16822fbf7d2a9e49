//! The queue to a shadow's candidate: bounded, in order, never idle while there is work, and no
//! trap for anybody once the candidate is gone.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use eventbus_trait::Event;
use loom::thread;

use crate::explore::{Model, block_on, must_fail};
use crate::sabotage::{Bug, with};
use crate::shadow::queue::{Command, Queue};
use crate::sync::{AtomicU64, Ordering};

/// What the models here stand behind.
const COVERS: &[&str] = &["MIG-001", "MIG-002", "FLW-001", "FLW-004"];

/// Publishes an event once there is room; whether the queue has it.
fn publish(queue: &Queue, sequence: u64) -> bool {
    let event = Event::new("a", "x").unwrap();
    let room = block_on(queue.room(std::slice::from_ref(&event)));
    room.is_some_and(|room| queue.publish(room, Arc::default(), sequence, event))
}

/// Takes `commands`, and works on each: the sequences of the events, and `u64::MAX` for a mark.
fn work(queue: &Queue, commands: usize, mut each: impl FnMut(u64)) {
    let (mut batch, mut done) = (VecDeque::new(), 0);
    while done < commands {
        block_on(queue.next(&mut batch, 8));
        for command in batch.drain(..) {
            done += 1;
            match command {
                Command::Publish(offer) => {
                    each(offer.sequence);
                    queue.given(offer.units);
                }
                _ => each(u64::MAX),
            }
        }
    }
}

/// An event and a mark are worked on while somebody looks whether the queue is idle.
fn busy_until_everything_is_done(asks_too_early: bool) {
    let queue = Arc::new(Queue::new(4));
    let done = Arc::new(AtomicU64::new(0));
    let candidate = thread::spawn({
        let (queue, done) = (Arc::clone(&queue), Arc::clone(&done));
        move || {
            let mut seen = Vec::new();
            if asks_too_early {
                let mut batch = VecDeque::new();
                block_on(queue.next(&mut batch, 1));
                block_on(queue.next(&mut batch, 1));
                done.store(2, Ordering::Release);
                return;
            }
            work(&queue, 2, |sequence| {
                seen.push(sequence);
                done.fetch_add(1, Ordering::AcqRel);
            });
            assert_eq!(seen, [0, u64::MAX], "out of order");
        }
    });
    assert!(publish(&queue, 0));
    if queue.is_idle() {
        assert_eq!(done.load(Ordering::Acquire), 1, "idle with work to do");
    }
    assert!(queue.control(Command::Mark));
    if queue.is_idle() {
        assert_eq!(done.load(Ordering::Acquire), 2, "idle with work to do");
    }
    candidate.join().unwrap();
    assert!(asks_too_early || !queue.is_closed());
}

/// Two publishers, and room for one event.
fn two_publish_where_there_is_room_for_one() {
    let queue = Arc::new(Queue::new(1));
    let publishers = [0, 1].map(|sequence| {
        let queue = Arc::clone(&queue);
        thread::spawn(move || assert!(publish(&queue, sequence)))
    });
    let mut seen = 0;
    work(&queue, 2, |_| seen += 1);
    for publisher in publishers {
        publisher.join().unwrap();
    }
    assert_eq!((seen, queue.high_water()), (2, 1), "over capacity");
}

/// The candidate dies while one publisher waits for room and another has it.
fn closed_while_one_waits() {
    let queue = Arc::new(Queue::new(1));
    let publishers = [0, 1].map(|sequence| {
        let queue = Arc::clone(&queue);
        thread::spawn(move || publish(&queue, sequence))
    });
    queue.close();
    let queued = publishers.map(|publisher| publisher.join().unwrap());
    assert_ne!(queued, [true, true], "over capacity");
    assert!(queue.is_closed() && queue.is_idle(), "it forgets nothing");
    assert!(!publish(&queue, 2) && !queue.control(Command::Mark));
}

/// Works until there is nothing more to take, and takes events again if it was behind.
fn catch_up(queue: &Queue) {
    let mut batch = VecDeque::new();
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if queue.has_caught_up() {
            queue.reopen();
        }
        if pin!(queue.next(&mut batch, 8)).poll(&mut cx).is_pending() {
            return;
        }
        for command in batch.drain(..) {
            if let Command::Publish(offer) = command {
                queue.given(offer.units);
            }
        }
    }
}

/// Two events where there is room for one, while the candidate catches up.
fn full_until_it_has_caught_up() {
    let queue = Arc::new(Queue::new(1));
    let event = || Event::new("a", "x").unwrap();
    let room = queue.room_if_keeping_up(&event()).unwrap();
    assert!(queue.publish(room, Arc::default(), 0, event()));
    let candidate = thread::spawn({
        let queue = Arc::clone(&queue);
        move || catch_up(&queue)
    });
    if let Some(room) = queue.room_if_keeping_up(&event()) {
        assert!(queue.publish(room, Arc::default(), 1, event()));
    }
    candidate.join().unwrap();
    if queue.waiting() > 0 {
        catch_up(&queue);
    }
    let room = queue.room_if_keeping_up(&event());
    assert!(room.is_some(), "full with nothing in it");
}

/// Covers `Queue::room_if_keeping_up` against `next`.
#[test]
fn a_queue_that_was_full_takes_events_again() {
    Model::new("mirror-full", COVERS)
        .preemptions(3)
        .explore(20, full_until_it_has_caught_up);
}

/// Covers `Queue::publish`, `control`, `next` and `is_idle`.
#[test]
fn it_is_not_idle_while_there_is_work() {
    Model::new("mirror-idle", COVERS)
        .preemptions(3)
        .explore(400, || busy_until_everything_is_done(false));
}

/// Covers `Queue::room` and `given`.
#[test]
fn it_is_never_over_its_capacity() {
    Model::new("mirror-bounded", COVERS).explore(2_500, two_publish_where_there_is_room_for_one);
}

/// Covers `Queue::close` against `room` and `publish`.
#[test]
fn a_candidate_that_dies_holds_nobody_up() {
    Model::new("mirror-closes", COVERS)
        .preemptions(3)
        .explore(120, closed_while_one_waits);
}

#[test]
fn the_model_sees_a_candidate_that_asks_for_more_before_it_is_done() {
    must_fail("idle with work to do", || {
        busy_until_everything_is_done(true);
    });
}

#[test]
fn the_model_sees_room_given_back_in_silence() {
    with(Bug::ToldNobody, || {
        must_fail("deadlock", two_publish_where_there_is_room_for_one);
    });
}

#[test]
fn the_model_sees_a_queue_closed_in_silence() {
    with(Bug::ClosedInSilence, || {
        must_fail("deadlock", closed_while_one_waits);
    });
}
