//! Programs of which the outcome is known.

use eventbus_trait::{Delivery, Overflow};

use super::model::{Operation, Relief};

pub(crate) fn subscribe(filter: &'static str, capacity: usize, overflow: Overflow) -> Operation {
    Operation::Subscribe {
        handle: 0,
        filter,
        capacity,
        overflow,
    }
}

pub(crate) fn publish(topic: &'static str, waits: bool, events: usize) -> Operation {
    Operation::Publish {
        handle: 0,
        topic,
        delivery: Delivery::AtLeastOnce,
        waits,
        events,
    }
}

/// Programs for publishers that give up soon, with enough events for any defect to strike: one of
/// two subscriptions is full, those that may lose events lose some, and at-most-once events too.
pub(crate) fn full() -> Vec<Operation> {
    let mut program = vec![
        subscribe("a.#", 8, Overflow::Wait),
        subscribe("*.b", 2, Overflow::Wait),
        subscribe("a.#", 1, Overflow::DropOldest),
        subscribe("a.#", 2, Overflow::DropNewest),
    ];
    let fleeting = |waits| Operation::Publish {
        handle: 1,
        topic: "a.b",
        delivery: Delivery::AtMostOnce,
        waits,
        events: 2,
    };
    for _ in 0..20 {
        program.extend([
            publish("a.b", false, 3),
            publish("a.b", true, 1),
            fleeting(false),
            fleeting(true),
            publish("a", false, 1),
        ]);
        for subscription in [0, 1, 3] {
            program.push(Operation::Read {
                subscription,
                events: 3,
            });
        }
    }
    program
}

/// A refusal, and nothing after it.
pub(crate) fn refused() -> Vec<Operation> {
    vec![subscribe("*.b", 1, Overflow::Wait), publish("a.b", true, 3)]
}

/// For publishers that wait: each kind of relief.
pub(crate) fn relieved() -> Vec<Operation> {
    let relieved = |subscription, relief| Operation::Relieved {
        handle: 1,
        topic: "a.b",
        subscription,
        relief,
    };
    vec![
        subscribe("a.#", 3, Overflow::Wait),
        subscribe("*.b", 1, Overflow::Wait),
        publish("a.b", false, 2),
        relieved(1, Relief::Read),
        relieved(1, Relief::Unsubscribe),
        relieved(0, Relief::Read),
        relieved(0, Relief::Unsubscribe),
        publish("a.b", true, 3),
    ]
}
