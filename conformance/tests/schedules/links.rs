//! An outbox with three links over one connection that breaks: publishers that wait for credit,
//! subscribers that acknowledge, and tell their cursors again whenever they like (FLW-001). Some events are at most once: what finds no credit
//! is dropped, and told at its place (DEL-009).

use std::sync::Arc;

use eventbus_trait::{Delivery, Event, PublisherId, TopicFilter};
use shuttle::future::block_on;
use shuttle::thread;

use crate::explorer::chance;
use crate::run::{explore, must_fail, must_fail_by, must_replay};
use crate::sabotage::{Bug, with};
use crate::session::kept::Again;
use crate::session::link::Link;
use crate::session::outbox::Outbox;
use crate::session::run::{Run, Taken};
use crate::session::sending::{Wire, send_all};
use crate::session::waiting::{accept_within, confirm_all};
use crate::sync::{AtomicBool, Mutex, Notify, Ordering};
use crate::wire::{AckEntry, Control, Events, LinkEntry, StatusEntry, SubscriptionInfo};

/// What the casts here stand behind.
const COVERS: &[&str] = &["DEL-001", "DEL-003", "ORD-001", "ORD-002", "FLT-002"];
const PUBLISHERS: usize = 2;
/// What each publisher publishes.
const TOPICS: [&str; 4] = ["a.x", "b", "a.y", "a.y"];
/// What the subscriptions take, and how many events that makes of each publisher.
const FILTERS: [(&str, usize); 3] = [("#", 4), ("a.#", 3), ("b", 1)];
/// Events of credit beyond what has been received.
const WINDOW: u64 = 2;
const BYTES: u64 = 1 << 20;
const PEER: &str = "p";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A cursor is told that is one too far (a twin).
    CursorTooFar,
    /// More is acknowledged than is there (a twin).
    AcknowledgesTooMuch,
    /// Nobody hears of drops that no frame tells of (a twin).
    HearsNoStatus,
}

/// A subscriber's end of its link.
#[derive(Debug)]
struct End {
    subscription: u64,
    expected: u64,
    has: Mutex<Has>,
    /// Something came, or another connection.
    told: Notify,
    reconnected: AtomicBool,
}

/// What has come.
#[derive(Debug, Default)]
struct Has {
    /// The publisher's sequence of each event.
    received: Vec<u64>,
    /// What was dropped before the next one, as far as told.
    dropped: u64,
}

impl Has {
    fn len(&self) -> u64 {
        self.received.len() as u64
    }

    /// `dropped` events in all were dropped before the one at `next`.
    fn hear(&mut self, next: u64, dropped: u64) {
        let expected = self.len();
        assert!(next <= expected, "a gap: {next} came after {expected}");
        self.dropped = self.dropped.max(dropped);
    }
}

impl End {
    fn received(&self) -> u64 {
        self.has.lock().len()
    }

    fn is_done(&self) -> bool {
        let has = self.has.lock();
        let all = has.len() + has.dropped;
        assert!(all <= self.expected, "more than was published");
        all == self.expected
    }

    fn arrive(&self, entry: &LinkEntry, events: Events) {
        {
            let mut has = self.has.lock();
            has.hear(entry.first, entry.dropped);
            let known = usize::try_from(has.len() - entry.first).unwrap();
            let fresh = events.skip(known);
            let Has { received, .. } = &mut *has;
            for sequence in fresh.map(|event| event.origin().unwrap().sequence) {
                let last = received.last().copied();
                // The first link takes everything, so what it lacks was dropped.
                let before = received.len() as u64 + entry.dropped;
                assert!(
                    self.subscription > 0 || sequence == before,
                    "a drop told elsewhere"
                );
                assert!(
                    last < Some(sequence),
                    "out of order: {sequence} after {last:?}"
                );
                received.push(sequence);
            }
        }
        self.told.notify_one();
    }

    fn hear(&self, status: &StatusEntry) {
        self.has.lock().hear(status.next, status.dropped);
        self.told.notify_one();
    }

    fn cursor(&self, received: u64) -> SubscriptionInfo {
        let at = usize::try_from(self.subscription).unwrap();
        SubscriptionInfo {
            id: self.subscription,
            name: format!("s{at}"),
            filters: vec![TopicFilter::new(FILTERS[at].0).unwrap()],
            link: 1,
            received,
            received_bytes: 0,
            credit: received + WINDOW,
            credit_bytes: BYTES,
        }
    }

    fn tell_cursor(&self, outbox: &Outbox, fault: Fault) {
        let ahead = u64::from(fault == Fault::CursorTooFar);
        let cursor = self.cursor(self.received() + ahead);
        outbox.open_link(&PEER.into(), cursor, false);
    }

    /// Acknowledges what comes, until everything is there.
    fn live(&self, outbox: &Outbox, fault: Fault) {
        loop {
            let done = self.is_done();
            if self.reconnected.swap(false, Ordering::SeqCst) || chance(5) {
                self.tell_cursor(outbox, fault);
            }
            let ahead = u64::from(fault == Fault::AcknowledgesTooMuch);
            let received = self.received() + ahead;
            let ack = AckEntry {
                subscription: self.subscription,
                received,
                credit: received + WINDOW,
                credit_bytes: BYTES,
            };
            outbox.acknowledge(PEER, &[ack]);
            if done {
                return;
            }
            block_on(self.told.notified());
        }
    }
}

/// The connection has broken.
#[derive(Debug)]
struct Broken;

struct Connection {
    ends: [Arc<End>; 3],
    breaks_left: usize,
    fault: Fault,
}

impl Connection {
    /// Carries something, all of it or none; then it may have broken, either way.
    fn carry(&mut self, carry: impl FnOnce(&[Arc<End>; 3])) -> Result<(), Broken> {
        let breaks = self.breaks_left > 0 && chance(5);
        if !breaks || chance(2) {
            carry(&self.ends);
        }
        if breaks {
            self.breaks_left -= 1;
            return Err(Broken);
        }
        Ok(())
    }

    /// As the connection's task does, until everybody has everything.
    fn write(mut self, outbox: &Outbox) {
        let mut taken = Taken::default();
        loop {
            let busy = outbox.take(&mut taken);
            if block_on(send_all(outbox, &mut taken, &mut self)).is_err() {
                taken.forget_messages();
                outbox.go_offline();
                outbox.go_online();
                for end in &self.ends {
                    end.reconnected.store(true, Ordering::SeqCst);
                    end.told.notify_one();
                }
                continue;
            }
            if busy {
                continue;
            }
            if self.ends.iter().all(|end| end.is_done()) {
                return;
            }
            block_on(outbox.wake.notified());
        }
    }
}

fn end_of(ends: &[Arc<End>; 3], subscription: u64) -> &End {
    &ends[usize::try_from(subscription).unwrap()]
}

impl Wire for Connection {
    type Error = Broken;

    async fn message(&mut self, _: &Arc<str>, message: &Control) -> Result<(), Broken> {
        let Control::Status(entries) = message else {
            return Ok(());
        };
        if self.fault == Fault::HearsNoStatus {
            return Ok(());
        }
        self.carry(|ends| {
            for status in entries {
                end_of(ends, status.subscription).hear(status);
            }
        })
    }

    async fn frame(&mut self, run: &Run, links: &[LinkEntry]) -> Result<(), Broken> {
        self.carry(|ends| {
            for link in links {
                end_of(ends, link.subscription).arrive(link, run.events(0));
            }
        })
    }

    async fn frame_again(&mut self, link: &Link, again: &Again) -> Result<(), Broken> {
        let rest = again.run.events(again.skip);
        self.carry(|ends| end_of(ends, link.subscription).arrive(&again.entry, rest))
    }

    fn sent_again(&mut self, _: &Link, _: u64, _: u64) {}
}

fn publish_all(outbox: &Outbox, some_at_most_once: bool) {
    let mut last = None;
    for topic in TOPICS {
        let at_most_once = some_at_most_once && chance(2);
        let delivery = if at_most_once {
            Delivery::AtMostOnce
        } else {
            Delivery::AtLeastOnce
        };
        let event = Event::new(topic, "x").unwrap().delivery(delivery);
        let (mut offer, mut route) = (Some(event), None);
        let accepted = accept_within(outbox, &mut offer, &mut route, std::future::pending);
        let places = block_on(accepted).unwrap().all();
        assert!(offer.is_none() && (at_most_once || !places.is_empty()));
        // The first link takes everything.
        if let Some((_, sequence)) = places.first().filter(|(link, _)| link.subscription == 0) {
            assert!(last < Some(*sequence));
            last = Some(*sequence);
        }
    }
}

fn cast(fault: Fault, some_at_most_once: bool) {
    let outbox = Arc::new(Outbox::new(PublisherId([1; 16]), 7));
    let mut subscriptions = 0..;
    let ends = FILTERS.map(|(_, events)| {
        Arc::new(End {
            subscription: subscriptions.next().unwrap(),
            expected: (events * PUBLISHERS) as u64,
            has: Mutex::default(),
            told: Notify::new(),
            reconnected: AtomicBool::new(false),
        })
    });
    for end in &ends {
        end.tell_cursor(&outbox, Fault::None);
    }
    let subscribers = ends.clone().map(|end| {
        let outbox = Arc::clone(&outbox);
        thread::spawn(move || end.live(&outbox, fault))
    });
    let publishers = [(); PUBLISHERS].map(|()| {
        let outbox = Arc::clone(&outbox);
        thread::spawn(move || publish_all(&outbox, some_at_most_once))
    });
    let writer = thread::spawn({
        let outbox = Arc::clone(&outbox);
        let connection = Connection {
            ends: ends.clone(),
            breaks_left: 3,
            fault,
        };
        move || connection.write(&outbox)
    });
    for thread in publishers.into_iter().chain(subscribers).chain([writer]) {
        thread.join().unwrap();
    }
    assert!(ends.iter().all(|end| end.is_done()), "not everything came");
    block_on(confirm_all(&outbox, std::future::pending())).unwrap();
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order() {
    explore("schedules-links", COVERS, 1_000, || {
        cast(Fault::None, false)
    });
}

#[test]
fn what_is_dropped_is_told_at_its_place() {
    explore("schedules-links-drops", COVERS, 1_000, || {
        cast(Fault::None, true);
    });
}

#[test]
fn a_seed_says_what_happens() {
    must_replay(|| cast(Fault::None, false));
}

#[test]
fn the_schedules_show_a_cursor_that_is_too_far() {
    // What is passed over is found to be missing, or waited for.
    must_fail_by(&["a gap", "deadlock"], || cast(Fault::CursorTooFar, false));
}

#[test]
fn the_schedules_show_an_acknowledgement_of_what_is_not_there() {
    // What is let go of too early is found to be missing, or waited for.
    must_fail_by(&["a gap", "deadlock"], || {
        cast(Fault::AcknowledgesTooMuch, false);
    });
}

#[test]
fn the_schedules_show_drops_that_are_not_told() {
    must_fail("deadlock", || cast(Fault::HearsNoStatus, true));
}

#[test]
fn the_schedules_show_credit_that_comes_in_silence() {
    with(Bug::ToldNobody, || {
        must_fail("deadlock", || cast(Fault::None, false));
    });
}

#[test]
fn the_schedules_show_a_publisher_that_says_too_late_that_it_waits() {
    with(Bug::NotedLate, || {
        must_fail("deadlock", || cast(Fault::None, false));
    });
}
