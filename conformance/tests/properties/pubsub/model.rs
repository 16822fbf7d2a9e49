//! The model: which handles and subscriptions there are, and what may be done with them.

use eventbus_trait::{Delivery, Overflow};
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::ReferenceStateMachine;

/// Topics and filters that meet often. No filter takes fences that are for other readers.
pub(crate) const TOPICS: &[&str] = &["a", "a.b", "a.c", "b.b"];
const FILTERS: &[&str] = &["a.#", "*.b", "*.*", "a.b", "*", "c.#"];
const NAMES: &[Option<&str>] = &[None, None, None, Some("red"), Some("blue")];
const MOST_HANDLES: usize = 4;
const MOST_SUBSCRIPTIONS: usize = 8;

/// One step of a program. Handles and subscriptions are counted in the order of their making.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Connect,
    Shutdown {
        handle: usize,
    },
    Subscribe {
        handle: usize,
        wish: Wish,
    },
    Unsubscribe {
        subscription: usize,
    },
    Publish {
        handle: usize,
        call: Call,
        topic: &'static str,
        delivery: Delivery,
        events: usize,
    },
    Read {
        subscription: usize,
        events: usize,
    },
}

/// By which call events are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `publish` or, where there may be no room, `try_publish`.
    Each,
    /// A publisher for the topic.
    Publisher,
    /// `publish_batch`, where there is room for all.
    Batch,
    /// `publish`, given up if it does not end at once.
    GivenUp,
}

/// What a subscription asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) filter: &'static str,
    pub(crate) name: Option<&'static str>,
    pub(crate) capacity: usize,
    pub(crate) overflow: Overflow,
    pub(crate) exclude_own: bool,
}

impl Operation {
    pub(crate) const NAMES: &[&str] = &[
        "connect",
        "shutdown",
        "subscribe",
        "unsubscribe",
        "publish each",
        "publish by a publisher",
        "publish a batch",
        "give up publishing",
        "read",
    ];

    pub(crate) fn name(&self) -> &'static str {
        Self::NAMES[match self {
            Self::Connect => 0,
            Self::Shutdown { .. } => 1,
            Self::Subscribe { .. } => 2,
            Self::Unsubscribe { .. } => 3,
            Self::Publish { call, .. } => 4 + *call as usize,
            Self::Read { .. } => 8,
        }]
    }
}

/// Which handles are open, and which subscriptions stand on which of them.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    handles: Vec<bool>,
    /// Handle and name of each subscription that has not ended.
    subscriptions: Vec<Option<(usize, Option<&'static str>)>>,
}

impl Model {
    fn open_handles(&self) -> Vec<usize> {
        (0..self.handles.len())
            .filter(|at| self.handles[*at])
            .collect()
    }

    fn standing(&self) -> Vec<usize> {
        (0..self.subscriptions.len())
            .filter(|at| self.subscriptions[*at].is_some())
            .collect()
    }

    fn has_name(&self, name: Option<&str>) -> bool {
        name.is_some()
            && self
                .subscriptions
                .iter()
                .flatten()
                .any(|(_, taken)| *taken == name)
    }

    fn is_open(&self, handle: usize) -> bool {
        self.handles.get(handle) == Some(&true)
    }

    fn stands(&self, subscription: usize) -> bool {
        self.subscriptions
            .get(subscription)
            .is_some_and(Option::is_some)
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Operation;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self {
            handles: vec![true],
            subscriptions: Vec::new(),
        })
        .boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Operation> {
        let handle = select(state.open_handles());
        let subscribe = (handle.clone(), wish())
            .prop_map(|(handle, wish)| Operation::Subscribe { handle, wish });
        let publish = (
            handle.clone(),
            call(),
            select(TOPICS),
            delivery(),
            1_usize..12,
        )
            .prop_map(
                |(handle, call, topic, delivery, events)| Operation::Publish {
                    handle,
                    call,
                    topic,
                    delivery,
                    events,
                },
            );
        let shutdown = handle.prop_map(|handle| Operation::Shutdown { handle });
        let common = prop_oneof![
            1 => Just(Operation::Connect),
            1 => shutdown,
            3 => subscribe,
            6 => publish,
        ];
        let standing = state.standing();
        if standing.is_empty() {
            return common.boxed();
        }
        let subscription = select(standing);
        let read = (subscription.clone(), 1_usize..12).prop_map(|(subscription, events)| {
            Operation::Read {
                subscription,
                events,
            }
        });
        let end = subscription.prop_map(|subscription| Operation::Unsubscribe { subscription });
        prop_oneof![8 => common, 6 => read, 1 => end].boxed()
    }

    fn apply(mut state: Self, operation: &Operation) -> Self {
        match operation {
            Operation::Connect => state.handles.push(true),
            Operation::Shutdown { handle } => {
                state.handles[*handle] = false;
                for subscription in &mut state.subscriptions {
                    if subscription.is_some_and(|(on, _)| on == *handle) {
                        *subscription = None;
                    }
                }
            }
            Operation::Subscribe { handle, wish } => {
                let made = (!state.has_name(wish.name)).then_some((*handle, wish.name));
                state.subscriptions.push(made);
            }
            Operation::Unsubscribe { subscription } => state.subscriptions[*subscription] = None,
            Operation::Publish { .. } | Operation::Read { .. } => {}
        }
        state
    }

    fn preconditions(state: &Self, operation: &Operation) -> bool {
        match operation {
            Operation::Connect => state.handles.len() < MOST_HANDLES,
            // The first handle stays, to connect others and to send fences at the end.
            Operation::Shutdown { handle } => *handle > 0 && state.is_open(*handle),
            Operation::Subscribe { handle, .. } => {
                state.is_open(*handle) && state.standing().len() < MOST_SUBSCRIPTIONS
            }
            Operation::Publish { handle, .. } => state.is_open(*handle),
            Operation::Unsubscribe { subscription } | Operation::Read { subscription, .. } => {
                state.stands(*subscription)
            }
        }
    }
}

fn wish() -> impl Strategy<Value = Wish> {
    let overflow = select(vec![
        Overflow::Wait,
        Overflow::Wait,
        Overflow::Wait,
        Overflow::DropOldest,
        Overflow::DropNewest,
    ]);
    let capacity = select(vec![1, 2, 5, 64]);
    (
        select(FILTERS),
        select(NAMES),
        capacity,
        overflow,
        prop::bool::weighted(0.2),
    )
        .prop_map(|(filter, name, capacity, overflow, exclude_own)| Wish {
            filter,
            name,
            capacity,
            overflow,
            exclude_own,
        })
}

fn call() -> impl Strategy<Value = Call> {
    use Call::{Batch, Each, GivenUp, Publisher};
    select(vec![Each, Each, Each, Publisher, Batch, GivenUp])
}

fn delivery() -> impl Strategy<Value = Delivery> {
    select(vec![
        Delivery::AtLeastOnce,
        Delivery::AtLeastOnce,
        Delivery::AtMostOnce,
    ])
}
