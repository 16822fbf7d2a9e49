//! The model: queues of a capacity, and what becomes of an event that finds them as they are.
//!
//! It says exactly what a phase does whose queues are exactly as large as they were asked to be.

use std::collections::VecDeque;

use conformance::history::Mark;
use eventbus_trait::{Delivery, Overflow};
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::ReferenceStateMachine;

/// Few topics, so that subscriptions share them.
pub(crate) const TOPICS: &[&str] = &["a", "a.b", "b.b"];
const FILTERS: &[&str] = &["a.#", "*.b", "a", "b.*"];
const MOST_SUBSCRIPTIONS: usize = 4;
/// How many handles publish.
pub(crate) const PUBLISHERS: usize = 2;

/// One step of a program. Subscriptions are counted in the order of their making.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Subscribe {
        handle: usize,
        filter: &'static str,
        capacity: usize,
        overflow: Overflow,
    },
    Publish {
        handle: usize,
        topic: &'static str,
        delivery: Delivery,
        /// Whether to wait for room, as long as the program's deadline is.
        waits: bool,
        events: usize,
    },
    /// An at-least-once event is published, and while it waits, something makes room.
    Relieved {
        handle: usize,
        topic: &'static str,
        subscription: usize,
        relief: Relief,
    },
    Read {
        subscription: usize,
        events: usize,
    },
    Unsubscribe {
        subscription: usize,
    },
}

/// What makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relief {
    Read,
    Unsubscribe,
}

impl Operation {
    pub(crate) const NAMES: &[&str] = &[
        "subscribe",
        "publish",
        "publish and wait",
        "relieved by reading",
        "relieved by unsubscribing",
        "read",
        "unsubscribe",
    ];

    pub(crate) fn name(&self) -> &'static str {
        Self::NAMES[match self {
            Self::Subscribe { .. } => 0,
            Self::Publish { waits, .. } => 1 + usize::from(*waits),
            Self::Relieved { relief, .. } => 3 + usize::from(*relief == Relief::Unsubscribe),
            Self::Read { .. } => 5,
            Self::Unsubscribe { .. } => 6,
        }]
    }
}

/// A subscription's queue.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    filter: &'static str,
    pub(crate) capacity: usize,
    pub(crate) overflow: Overflow,
    pub(crate) held: VecDeque<Mark>,
    pub(crate) dropped: u64,
}

impl Queue {
    pub(crate) fn new(filter: &'static str, capacity: usize, overflow: Overflow) -> Self {
        Self {
            filter,
            capacity,
            overflow,
            held: VecDeque::new(),
            dropped: 0,
        }
    }

    pub(crate) fn takes(&self, topic: &str) -> bool {
        match self.filter {
            "a.#" => topic == "a" || topic.starts_with("a."),
            "*.b" => topic.ends_with(".b"),
            "b.*" => topic.starts_with("b."),
            exactly => topic == exactly,
        }
    }

    pub(crate) fn may_lose(&self) -> bool {
        self.overflow != Overflow::Wait
    }

    fn is_full(&self) -> bool {
        self.held.len() >= self.capacity
    }

    /// Whether it holds an at-least-once event up.
    pub(crate) fn blocks(&self, topic: &str) -> bool {
        self.takes(topic) && !self.may_lose() && self.is_full()
    }

    /// Takes an event, or drops what there is no room for.
    pub(crate) fn enter(&mut self, mark: Mark) {
        if !self.is_full() {
            self.held.push_back(mark);
            return;
        }
        self.dropped += 1;
        if self.overflow == Overflow::DropOldest {
            self.held.pop_front();
            self.held.push_back(mark);
        }
    }
}

/// What a program begins with, and which subscriptions there are.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// Whether publishers wait as long as it takes, or give up almost at once.
    pub(crate) patient: bool,
    /// Whether each subscription still stands.
    standing: Vec<bool>,
}

impl Model {
    pub(crate) fn new(patient: bool) -> Self {
        Self {
            patient,
            standing: Vec::new(),
        }
    }

    fn stands(&self, subscription: usize) -> bool {
        self.standing.get(subscription) == Some(&true)
    }

    fn standing(&self) -> Vec<usize> {
        (0..self.standing.len())
            .filter(|at| self.standing[*at])
            .collect()
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Operation;

    fn init_state() -> BoxedStrategy<Self> {
        any::<bool>().prop_map(Self::new).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Operation> {
        let standing = state.standing();
        if standing.is_empty() {
            return prop_oneof![4 => subscribe(), 1 => publish()].boxed();
        }
        let subscription = select(standing);
        let read =
            (subscription.clone(), 1_usize..5).prop_map(|(subscription, events)| Operation::Read {
                subscription,
                events,
            });
        let end = subscription
            .clone()
            .prop_map(|subscription| Operation::Unsubscribe { subscription });
        let reliefs = select(vec![Relief::Read, Relief::Read, Relief::Unsubscribe]);
        let relieved = (0..PUBLISHERS, select(TOPICS), subscription, reliefs).prop_map(
            |(handle, topic, subscription, relief)| Operation::Relieved {
                handle,
                topic,
                subscription,
                relief,
            },
        );
        prop_oneof![2 => subscribe(), 8 => publish(), 4 => relieved, 4 => read, 1 => end].boxed()
    }

    fn apply(mut state: Self, operation: &Operation) -> Self {
        match operation {
            Operation::Subscribe { .. } => state.standing.push(true),
            Operation::Unsubscribe { subscription }
            | Operation::Relieved {
                subscription,
                relief: Relief::Unsubscribe,
                ..
            } => state.standing[*subscription] = false,
            _ => {}
        }
        state
    }

    fn preconditions(state: &Self, operation: &Operation) -> bool {
        match operation {
            Operation::Subscribe { .. } => state.standing().len() < MOST_SUBSCRIPTIONS,
            Operation::Publish { .. } => true,
            // Who gives up at once cannot be relieved in time.
            Operation::Relieved { subscription, .. } => {
                state.patient && state.stands(*subscription)
            }
            Operation::Read { subscription, .. } | Operation::Unsubscribe { subscription } => {
                state.stands(*subscription)
            }
        }
    }
}

fn subscribe() -> impl Strategy<Value = Operation> {
    use Overflow::{DropNewest, DropOldest, Wait};
    let overflow = select(vec![Wait, Wait, Wait, DropOldest, DropNewest]);
    let capacity = select(vec![1, 2, 3, 8]);
    (0..PUBLISHERS, select(FILTERS), capacity, overflow).prop_map(
        |(handle, filter, capacity, overflow)| Operation::Subscribe {
            handle,
            filter,
            capacity,
            overflow,
        },
    )
}

fn publish() -> impl Strategy<Value = Operation> {
    use Delivery::{AtLeastOnce, AtMostOnce};
    let delivery = select(vec![AtLeastOnce, AtLeastOnce, AtLeastOnce, AtMostOnce]);
    let waits = prop::bool::weighted(0.3);
    (0..PUBLISHERS, select(TOPICS), delivery, waits, 1_usize..5).prop_map(
        |(handle, topic, delivery, waits, events)| Operation::Publish {
            handle,
            topic,
            delivery,
            waits,
            events,
        },
    )
}
