//! A program with enough events for any defect to strike.

use eventbus_trait::Delivery;

use super::model::{Call, Operation, Wish, Wrong};

pub(crate) fn busy() -> Vec<Operation> {
    let publish = |handle, call, topic, events| Operation::Publish {
        handle,
        call,
        topic,
        delivery: Delivery::AtLeastOnce,
        events,
    };
    let wish = |filter| Wish {
        filter,
        and: None,
        exclude_own: false,
        gated: false,
    };
    let subscribe = |filter| Operation::Subscribe {
        handle: 0,
        wish: wish(filter),
    };
    vec![
        Operation::Connect,
        subscribe("a.#"),
        subscribe("*.b"),
        publish(0, Call::Publish, "a.b", 100),
        publish(1, Call::Publisher, "a.b", 100),
        publish(1, Call::Batch, "a.b", 100),
        Operation::Wrong {
            handle: 0,
            wrong: Wrong::NameInUse,
        },
        Operation::Wrong {
            handle: 0,
            wrong: Wrong::TooLarge,
        },
        Operation::Shutdown { handle: 1 },
    ]
}
