//! Programs that once failed, as they were shrunk.

use eventbus_trait::{Delivery, Overflow};

use crate::model::{Operation, Wish};

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
            delivery: Delivery::AtLeastOnce,
            events: 3,
        },
        Operation::Publish {
            handle: 1,
            topic: "a",
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
    let publish = |events, delivery| Operation::Publish {
        handle: 0,
        topic: "a",
        delivery,
        events,
    };
    vec![
        Operation::Subscribe {
            handle: 0,
            wish: roomy,
        },
        Operation::Subscribe {
            handle: 0,
            wish: wish(Overflow::DropOldest),
        },
        publish(300, Delivery::AtLeastOnce),
        publish(50, Delivery::AtMostOnce),
    ]
}
