//! A subscription's inbox: what arrives is read, in order, the stream ends after it, and what is
//! read gives credit, of which the writer hears.

use std::sync::Arc;

use eventbus_trait::{Event, Item, Limits, Overflow, PublisherId, Subscribe, Subscription};
use loom::thread;

use crate::explore::{Kept, Model, block_on, must_fail};
use crate::sabotage::{Bug, with};
use crate::session::acks::{AckBook, InLink};
use crate::session::inbox::{Inbox, InboxSource};
use crate::session::node::Node;
use crate::session::outbox::Outbox;

/// What the models here stand behind.
const COVERS: &[&str] = &["DEL-001", "DEL-008", "FLW-004", "LIF-002"];
const WINDOW: u64 = 2;

struct Scene {
    node: Arc<Node>,
    inbox: Arc<Inbox>,
    link: Arc<InLink>,
    subscription: Kept<Subscription>,
}

fn scene(capacity: usize, overflow: Overflow) -> Scene {
    let node = Arc::new(Node {
        acks: AckBook::default(),
        outbox: Outbox::new(PublisherId([1; 16]), 7),
        limits: Limits::default(),
    });
    let inbox = Arc::new(Inbox::new("s".into(), capacity, overflow));
    let source = InboxSource::new(Arc::clone(&node), 1, Arc::clone(&inbox));
    let subscribe = Subscribe::to("#").unwrap().overflow(overflow);
    let counters = Arc::clone(&inbox.counters);
    let source = Box::new(source);
    let waits = overflow == Overflow::Wait;
    Scene {
        link: Arc::new(InLink::new(
            "p".into(),
            1,
            waits,
            WINDOW,
            WINDOW,
            WINDOW,
            1 << 20,
        )),
        subscription: Kept::new(Subscription::new("s".into(), &subscribe, counters, source)),
        inbox,
        node,
    }
}

/// As the drain task does with what arrives; then the subscription ends.
fn drain(node: &Node, inbox: &Inbox, link: &Arc<InLink>, events: u8) {
    for number in 0..events {
        let event = Event::new("a", vec![number]).unwrap();
        assert!(link.covers(u64::from(number), 1), "over the credit");
        assert!(inbox.push(Some(link), vec![event].into(), 0));
        link.receive(1, 1);
        node.acks.note(link, &node.outbox.wake);
    }
    inbox.end();
}

/// As the connection's task does, until everything is acknowledged and has given credit.
fn acknowledge(node: &Node, events: u64) {
    loop {
        block_on(node.outbox.wake.notified());
        let all = (events, events + WINDOW);
        let acks = node.acks.take(|_| ());
        if acks
            .iter()
            .any(|(_, ack)| (ack.received, ack.credit) == all)
        {
            return;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    QueuedFirst,
    /// As in a twin.
    AcknowledgedFirst,
}

/// Nobody reads, so what is acknowledged is there.
fn acknowledged_as_it_arrives(events: u8, order: Order) {
    let Scene {
        node, inbox, link, ..
    } = scene(8, Overflow::Wait);
    let draining = thread::spawn({
        let (node, inbox) = (Arc::clone(&node), Arc::clone(&inbox));
        move || {
            for number in 0..events {
                let event = Event::new("a", vec![number]).unwrap();
                let queue = |event| assert!(inbox.push(Some(&link), vec![event].into(), 0));
                let acknowledge = || {
                    link.receive(1, 1);
                    node.acks.note(&link, &node.outbox.wake);
                };
                match order {
                    Order::QueuedFirst => {
                        queue(event);
                        acknowledge();
                    }
                    Order::AcknowledgedFirst => {
                        acknowledge();
                        queue(event);
                    }
                }
            }
        }
    });
    let mut received = 0;
    while received < u64::from(events) {
        block_on(node.outbox.wake.notified());
        for (_, ack) in node.acks.take(|_| ()) {
            received = ack.received;
            assert!(received <= inbox.queued(), "acknowledged and not there");
        }
    }
    draining.join().unwrap();
}

/// Reads to the end: the events, and how many were lost.
fn read(subscription: &mut Subscription) -> (Vec<u8>, u64) {
    let (mut seen, mut lost) = (Vec::new(), 0);
    while let Some(item) = block_on(subscription.recv_item()) {
        match item {
            Item::Event(event) => seen.push(event.bytes().unwrap()[0]),
            Item::Lagged(n) => lost += n,
        }
    }
    (seen, lost)
}

fn read_while_it_arrives(events: u8, acknowledges: bool) {
    let mut scene = scene(8, Overflow::Wait);
    let writer = acknowledges.then(|| {
        let node = Arc::clone(&scene.node);
        thread::spawn(move || acknowledge(&node, u64::from(events)))
    });
    let draining = thread::spawn({
        let (node, inbox) = (Arc::clone(&scene.node), Arc::clone(&scene.inbox));
        let link = Arc::clone(&scene.link);
        move || drain(&node, &inbox, &link, events)
    });
    let (seen, lost) = read(&mut scene.subscription);
    draining.join().unwrap();
    writer.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!((seen, lost), ((0..events).collect(), 0));
    conserved(&scene);
}

/// What finds no room is dropped, and told.
fn read_where_there_is_room_for_one(overflow: Overflow) {
    let mut scene = scene(1, overflow);
    let draining = thread::spawn({
        let (node, inbox) = (Arc::clone(&scene.node), Arc::clone(&scene.inbox));
        let link = Arc::clone(&scene.link);
        move || drain(&node, &inbox, &link, 2)
    });
    let (seen, lost) = read(&mut scene.subscription);
    draining.join().unwrap();
    assert!(seen.is_sorted(), "out of order");
    assert_eq!(seen.len() as u64 + lost, 2, "lost untold");
    conserved(&scene);
}

fn conserved(scene: &Scene) {
    let stats = scene.inbox.counters.snapshot("s", scene.inbox.queued());
    assert!(stats.is_conserved(), "{stats:?}");
    assert_eq!(scene.inbox.queued(), 0);
}

/// Covers `Inbox::push`, `take` and `end`, and `InboxSource`.
#[test]
fn what_arrives_is_read_and_then_the_stream_ends() {
    Model::new("inbox-read", COVERS).explore(900, || read_while_it_arrives(2, false));
}

/// Covers `InLink::take` and `AckBook::note` by the reader, against the drain and the writer.
#[test]
fn what_is_read_gives_credit() {
    Model::new("inbox-credit", COVERS)
        .preemptions(1)
        .explore(700, || read_while_it_arrives(1, true));
}

/// Covers `Inbox::push`, `InLink::receive` and `AckBook::note`, in the order that the drain has.
#[test]
fn what_is_acknowledged_is_there() {
    Model::new("inbox-acknowledged", &["DEL-010"]).explore(300, || {
        acknowledged_as_it_arrives(2, Order::QueuedFirst);
    });
}

/// Covers `Inbox::push` where something is dropped.
#[test]
fn what_is_dropped_is_told() {
    Model::new("inbox-drop-oldest", COVERS).explore(900, || {
        read_where_there_is_room_for_one(Overflow::DropOldest);
    });
    Model::new("inbox-drop-newest", COVERS).explore(900, || {
        read_where_there_is_room_for_one(Overflow::DropNewest);
    });
}

#[test]
fn the_model_sees_an_event_that_comes_in_silence() {
    with(Bug::FilledInSilence, || {
        must_fail("deadlock", || read_while_it_arrives(2, false));
    });
}

#[test]
fn the_model_sees_an_acknowledgement_ahead_of_its_event() {
    must_fail("acknowledged and not there", || {
        acknowledged_as_it_arrives(1, Order::AcknowledgedFirst);
    });
}

#[test]
fn the_model_sees_a_writer_that_is_told_only_while_it_sleeps() {
    with(Bug::NoPermit, || {
        must_fail("deadlock", || read_while_it_arrives(1, true));
    });
}
