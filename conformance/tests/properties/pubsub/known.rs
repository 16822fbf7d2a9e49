//! Programs that once failed, as they were shrunk.

use eventbus_trait::{Delivery, Overflow};

use super::model::{Call, Operation, Wish};

/// Each with what was wrong.
pub(crate) fn programs() -> Vec<(&'static str, Vec<Operation>)> {
    vec![
        (
            "losses told ahead of events that were accepted before them",
            dropped_for_want_of_room(),
        ),
        (
            "a shadow that knew nothing of losses on a handle that was shut down",
            lossy_shutdown(),
        ),
        (
            "losses that their publisher took along when it was shut down",
            untold_at_shutdown(),
        ),
    ]
}

fn dropped_for_want_of_room() -> Vec<Operation> {
    let delivery = Delivery::AtMostOnce;
    vec![
        Operation::Connect,
        Operation::Subscribe {
            handle: 0,
            wish: wish(Overflow::Wait),
        },
        Operation::Publish {
            handle: 1,
            topic: "a",
            call: Call::Each,
            delivery,
            events: 5,
        },
    ]
}

fn untold_at_shutdown() -> Vec<Operation> {
    let delivery = Delivery::AtMostOnce;
    vec![
        Operation::Connect,
        Operation::Subscribe {
            handle: 0,
            wish: wish(Overflow::Wait),
        },
        Operation::Subscribe {
            handle: 0,
            wish: wish(Overflow::Wait),
        },
        Operation::Publish {
            handle: 1,
            topic: "a",
            call: Call::Each,
            delivery: Delivery::AtLeastOnce,
            events: 3,
        },
        Operation::Publish {
            handle: 1,
            topic: "a",
            call: Call::Each,
            delivery,
            events: 5,
        },
        Operation::Shutdown { handle: 1 },
    ]
}

fn lossy_shutdown() -> Vec<Operation> {
    let delivery = Delivery::AtLeastOnce;
    vec![
        Operation::Connect,
        Operation::Subscribe {
            handle: 1,
            wish: wish(Overflow::DropOldest),
        },
        Operation::Publish {
            handle: 0,
            topic: "a",
            call: Call::Each,
            delivery,
            events: 2,
        },
        Operation::Shutdown { handle: 1 },
    ]
}

fn wish(overflow: Overflow) -> Wish {
    Wish {
        filter: "a.#",
        name: None,
        capacity: 1,
        overflow,
        exclude_own: false,
    }
}

/// A program with enough events for any defect to strike, and with losses.
pub(crate) fn busy() -> Vec<Operation> {
    let roomy = Wish {
        capacity: 1_000,
        ..wish(Overflow::Wait)
    };
    let publish = |call, topic, events, delivery| Operation::Publish {
        handle: 0,
        call,
        topic,
        delivery,
        events,
    };
    let sure = Delivery::AtLeastOnce;
    vec![
        Operation::Subscribe {
            handle: 0,
            wish: roomy,
        },
        Operation::Subscribe {
            handle: 0,
            wish: wish(Overflow::DropOldest),
        },
        publish(Call::Each, "a", 300, sure),
        publish(Call::Each, "a", 50, Delivery::AtMostOnce),
        publish(Call::Publisher, "a", 50, sure),
        publish(Call::Batch, "a", 50, sure),
        // Without room for more than one, so that what is given up is given up while it waits.
        Operation::Subscribe {
            handle: 0,
            wish: Wish {
                filter: "a.b",
                ..wish(Overflow::Wait)
            },
        },
        publish(Call::Each, "a.b", 1, sure),
        publish(Call::GivenUp, "a.b", 3, sure),
        Operation::Read {
            subscription: 2,
            events: 1,
        },
    ]
}
