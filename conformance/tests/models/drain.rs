//! Closing a handle of the bus over crossbeam, while others publish and read: what was accepted is
//! still read, then the streams end, and nobody sleeps for ever.

use std::sync::Arc;

use eventbus_trait::{Event, EventBus, Limits, PublishError, Subscribe, Subscription};
use loom::thread;

use crate::crossbeam::bus::CrossbeamBus;
use crate::explore::{Kept, Model, block_on, must_fail};
use crate::sabotage::{Bug, with};

/// What the models here stand behind.
const COVERS: &[&str] = &["LIF-001", "LIF-002", "DEL-001", "FLW-004"];

type Bus = Arc<Kept<Arc<CrossbeamBus>>>;
type Reader = Kept<Option<Subscription>>;

fn scene(capacity: usize) -> (Bus, Reader) {
    let bus = CrossbeamBus::new(Limits::default());
    let subscribe = Subscribe::to("#").unwrap().capacity(capacity);
    let subscription = block_on(bus.subscribe(subscribe)).unwrap();
    (Arc::new(Kept::new(bus)), Kept::new(Some(subscription)))
}

/// Publishes; whether somebody has it, or else that the handle was closed.
fn publish(bus: &dyn EventBus, number: u8) -> Result<u64, PublishError> {
    let event = Event::new("a", vec![number]).unwrap();
    match block_on(bus.publish(event)) {
        Ok(receipt) => Ok(receipt.now().unwrap().deliveries),
        Err(refused) => Err(refused.into_parts().1),
    }
}

fn read(reader: &mut Reader) -> Option<u8> {
    let subscription = reader.as_mut().unwrap();
    let event = block_on(subscription.recv())?;
    Some(event.bytes().unwrap()[0])
}

/// Reads to the end of the stream.
fn read_all(reader: &mut Reader) -> Vec<u8> {
    std::iter::from_fn(|| read(reader)).collect()
}

/// A handle is closed while one publishes `events` through it and one reads.
fn closed_while_one_publishes(events: u8, reads_on: bool) {
    let (bus, mut reader) = scene(1);
    let publisher = thread::spawn({
        let bus = Arc::clone(&bus);
        move || {
            (0..events)
                .map(|number| publish(&***bus, number))
                .collect::<Vec<_>>()
        }
    });
    let closer = thread::spawn({
        let bus = Arc::clone(&bus);
        move || block_on(bus.shutdown()).unwrap()
    });
    let mut seen = if reads_on {
        read_all(&mut reader)
    } else {
        read(&mut reader).into_iter().collect()
    };
    let accepted = publisher.join().unwrap();
    closer.join().unwrap();
    if !reads_on && seen.len() == 2 {
        seen.pop();
    }
    let expected: Vec<u8> = (0..events)
        .zip(accepted)
        .filter_map(|(number, outcome)| match outcome {
            Ok(queued) => (queued == 1).then_some(number),
            Err(reason) => {
                assert_eq!(reason, PublishError::Closed);
                None
            }
        })
        .collect();
    assert_eq!(seen, expected, "accepted and not read, or the reverse");
}

/// A publisher waits for room in a queue whose subscription ends.
fn unsubscribed_while_one_waits() {
    let (bus, reader) = scene(1);
    publish(&***bus, 0).unwrap();
    let publisher = thread::spawn({
        let bus = Arc::clone(&bus);
        move || publish(&***bus, 1)
    });
    let mut reader = reader;
    block_on(reader.take().unwrap().unsubscribe());
    assert_eq!(
        publisher.join().unwrap(),
        Ok(0),
        "nobody is left to have it"
    );
}

/// A handle is closed while another one publishes what its subscription takes.
fn closed_while_another_publishes() {
    let (bus, mut reader) = scene(1);
    let other = Arc::new(Kept::new(block_on(bus.connect(None)).unwrap()));
    let publisher = thread::spawn({
        let other = Arc::clone(&other);
        move || publish(&***other, 0).unwrap()
    });
    let closer = thread::spawn({
        let bus = Arc::clone(&bus);
        move || block_on(bus.shutdown()).unwrap()
    });
    let seen = read_all(&mut reader);
    let queued = publisher.join().unwrap();
    closer.join().unwrap();
    assert_eq!(
        seen.len() as u64,
        queued,
        "queued and not read, or the reverse"
    );
}

/// Covers `Handle::close` and `Hub::detach` against `Handle::attempt` and `Queue::next`.
#[test]
fn what_was_accepted_is_read_and_then_the_stream_ends() {
    Model::new("drain-closed", COVERS).explore(500, || closed_while_one_publishes(1, true));
    // The second waits for room.
    Model::new("drain-closed-full", COVERS)
        .preemptions(1)
        .explore(500, || closed_while_one_publishes(2, true));
}

/// Covers `Hub::detach` against `wait`.
#[test]
fn who_waits_for_room_goes_on_when_the_subscription_ends() {
    Model::new("drain-unsubscribed", COVERS)
        .preemptions(4)
        .explore(800, unsubscribed_while_one_waits);
}

/// Covers `Hub::detach`, which passes through every handle.
#[test]
fn another_handle_enters_no_queue_that_has_ended() {
    Model::new("drain-another", COVERS).explore(800, closed_while_another_publishes);
}

#[test]
fn the_model_sees_an_event_that_comes_in_silence() {
    with(Bug::FilledInSilence, || {
        must_fail("deadlock", || closed_while_one_publishes(2, false));
    });
}

#[test]
fn the_model_sees_a_stream_that_ends_in_silence() {
    with(Bug::ClosedInSilence, || {
        must_fail("deadlock", || closed_while_one_publishes(1, true));
    });
}

#[test]
fn the_model_sees_events_that_are_accepted_and_not_read() {
    must_fail("accepted and not read", || {
        closed_while_one_publishes(2, false)
    });
}
