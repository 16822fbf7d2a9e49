//! The queue to a shadow's candidate, with three publishers, somebody who gives commands, somebody
//! who asks whether it is idle, and a candidate that may die.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use eventbus_trait::Event;
use shuttle::future::block_on;
use shuttle::thread;

use crate::explorer::chance;
use crate::run::{explore, must_fail, must_replay};
use crate::sabotage::{Bug, with};
use crate::shadow::queue::{Command, Queue};
use crate::sync::{AtomicU64, Ordering};

/// What the casts here stand behind.
const COVERS: &[&str] = &["MIG-001", "MIG-002", "FLW-001", "FLW-004"];
const PUBLISHERS: u64 = 3;
const EVENTS: u64 = 3;
const MARKS: u64 = 2;
const CAPACITY: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidate {
    Works,
    /// It may die after any batch.
    MayDie,
    /// It asks for the next before it is done (a twin).
    AsksTooEarly,
    /// It forgets to give room back (a twin).
    KeepsRoom,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    done: AtomicU64,
}

/// How many of a publisher's events the queue took.
fn publish_all(queue: &Queue, counts: &Counts, publisher: u64) -> u64 {
    let mut taken = 0;
    for number in 0..EVENTS {
        let event = Event::new("a", "x").unwrap();
        let room = if chance(3) {
            queue.try_room(&event)
        } else {
            block_on(queue.room(std::slice::from_ref(&event)))
        };
        let Some(room) = room else { continue };
        if queue.publish(room, Arc::default(), publisher * EVENTS + number, event) {
            counts.accepted.fetch_add(1, Ordering::SeqCst);
            taken += 1;
        }
    }
    taken
}

/// Works until it is told to finish, or dies.
fn work(queue: &Queue, counts: &Counts, candidate: Candidate) -> Vec<u64> {
    let (mut batch, mut late, mut seen) = (VecDeque::new(), 0, Vec::new());
    loop {
        block_on(queue.next(&mut batch, 2));
        counts
            .done
            .fetch_add(std::mem::take(&mut late), Ordering::SeqCst);
        for command in batch.drain(..) {
            match command {
                Command::Publish(offer) => {
                    seen.push(offer.sequence);
                    if candidate != Candidate::KeepsRoom {
                        queue.given(offer.units);
                    }
                }
                Command::Mark => {}
                _ => return seen,
            }
            if candidate == Candidate::AsksTooEarly {
                late += 1;
            } else {
                counts.done.fetch_add(1, Ordering::SeqCst);
            }
        }
        if candidate == Candidate::MayDie && chance(4) {
            queue.close();
            return seen;
        }
    }
}

fn cast(candidate: Candidate) {
    let (queue, counts) = (Arc::new(Queue::new(CAPACITY)), Arc::new(Counts::default()));
    let both = || (Arc::clone(&queue), Arc::clone(&counts));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (queue, counts) = both();
            thread::spawn(move || publish_all(&queue, &counts, publisher))
        })
        .collect();
    let worker = thread::spawn({
        let (queue, counts) = both();
        move || work(&queue, &counts, candidate)
    });
    let asker = thread::spawn({
        let (queue, counts) = both();
        move || {
            for _ in 0..2 * EVENTS {
                let accepted = counts.accepted.load(Ordering::SeqCst);
                if queue.is_idle() && !queue.is_closed() {
                    let done = counts.done.load(Ordering::SeqCst);
                    assert!(done >= accepted, "idle with work to do");
                }
            }
        }
    });
    for _ in 0..MARKS {
        if queue.control(Command::Mark) {
            counts.accepted.fetch_add(1, Ordering::SeqCst);
        }
    }
    let taken: u64 = publishers.into_iter().map(|p| p.join().unwrap()).sum();
    queue.control(Command::Finish);
    let seen = worker.join().unwrap();
    asker.join().unwrap();
    let mut last = BTreeMap::new();
    for sequence in &seen {
        let before = last.insert(sequence / EVENTS, sequence % EVENTS);
        assert!(before < Some(sequence % EVENTS), "out of order: {seen:?}");
    }
    assert!(queue.high_water() <= CAPACITY as u64, "over capacity");
    if queue.is_closed() {
        assert!(seen.len() as u64 <= taken && queue.is_idle());
        assert!(!queue.control(Command::Mark), "nobody is there");
    } else {
        assert_eq!(seen.len() as u64, taken, "taken and not given");
        let whole = vec![Event::new("a", "x").unwrap(); CAPACITY];
        assert!(block_on(queue.room(&whole)).is_some(), "room was lost");
    }
}

#[test]
fn it_is_bounded_in_order_and_never_idle_with_work_to_do() {
    explore("schedules-mirror", COVERS, 1_000, || cast(Candidate::Works));
}

#[test]
fn a_candidate_that_dies_holds_nobody_up() {
    explore("schedules-mirror-dies", COVERS, 1_000, || {
        cast(Candidate::MayDie);
    });
}

#[test]
fn a_seed_says_what_happens() {
    must_replay(|| cast(Candidate::MayDie));
}

#[test]
fn the_schedules_show_a_candidate_that_asks_for_more_before_it_is_done() {
    must_fail("idle with work to do", || cast(Candidate::AsksTooEarly));
}

#[test]
fn the_schedules_show_room_that_is_not_given_back() {
    must_fail("deadlock", || cast(Candidate::KeepsRoom));
}

#[test]
fn the_schedules_show_a_queue_closed_in_silence() {
    with(Bug::ClosedInSilence, || {
        must_fail("deadlock", || cast(Candidate::MayDie));
    });
}
