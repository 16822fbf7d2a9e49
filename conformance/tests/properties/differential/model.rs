//! The model: programs whose observable history is the same on any bus.
//!
//! There is room for everything, so that it is nobody's choice who waits or loses; a subscription
//! is read to its end before it ends.

use eventbus_trait::Delivery;
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::ReferenceStateMachine;

const TOPICS: &[&str] = &["a", "a.b", "a.c", "b.b", "b.b.c"];
const FILTERS: &[&str] = &["a.#", "*.b", "*.*", "a.b", "*.*.c", "b.b.#"];
const MOST_HANDLES: usize = 3;
const MOST_SUBSCRIPTIONS: usize = 6;

/// One step of a program.
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
    /// What has to be refused.
    Wrong {
        handle: usize,
        wrong: Wrong,
    },
}

/// What a subscription asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) filter: &'static str,
    pub(crate) and: Option<&'static str>,
    pub(crate) exclude_own: bool,
    /// Whether every other event of an author is filtered out on receipt.
    pub(crate) gated: bool,
}

/// By which call events are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Publish,
    Try,
    Publisher,
    Batch,
}

/// What is wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// An event over the limit, alone or in the middle of a batch.
    TooLarge,
    LargeInBatch,
    /// A publisher for another topic.
    OtherTopic,
    /// A name that a subscription has.
    NameInUse,
    LongName,
    NoCapacity,
    /// A subscription of one place that is full.
    Full,
    /// A handle that was shut down.
    Closed,
}

impl Wrong {
    const ALL: &[Self] = &[
        Self::TooLarge,
        Self::LargeInBatch,
        Self::OtherTopic,
        Self::NameInUse,
        Self::LongName,
        Self::NoCapacity,
        Self::Full,
        Self::Closed,
    ];
}

impl Operation {
    /// How many names [`name`](Self::name) gives.
    pub(crate) const NAMES: usize = 5 + 4 + Wrong::ALL.len() - 1;

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Connect => "connect".into(),
            Self::Shutdown { .. } => "shutdown".into(),
            Self::Subscribe { .. } => "subscribe".into(),
            Self::Unsubscribe { .. } => "unsubscribe".into(),
            Self::Publish { call, .. } => format!("{call:?}"),
            Self::Wrong { wrong, .. } => format!("{wrong:?}"),
        }
    }
}

/// Which handles are open, and on which handle each subscription stands.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    handles: Vec<bool>,
    subscriptions: Vec<Option<usize>>,
}

impl Model {
    fn open(&self) -> Vec<usize> {
        (0..self.handles.len())
            .filter(|at| self.handles[*at])
            .collect()
    }

    fn standing(&self) -> Vec<usize> {
        (0..self.subscriptions.len())
            .filter(|at| self.subscriptions[*at].is_some())
            .collect()
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
        let handle = select(state.open());
        let subscribe = (handle.clone(), wish())
            .prop_map(|(handle, wish)| Operation::Subscribe { handle, wish });
        let wrong = (handle.clone(), select(Wrong::ALL))
            .prop_map(|(handle, wrong)| Operation::Wrong { handle, wrong });
        let shutdown = handle
            .clone()
            .prop_map(|handle| Operation::Shutdown { handle });
        let common = prop_oneof![
            2 => Just(Operation::Connect),
            1 => shutdown,
            4 => subscribe,
            10 => publish(handle),
            3 => wrong,
        ];
        let standing = state.standing();
        if standing.is_empty() {
            return common.boxed();
        }
        let end = select(standing).prop_map(|subscription| Operation::Unsubscribe { subscription });
        prop_oneof![15 => common, 1 => end].boxed()
    }

    fn apply(mut state: Self, operation: &Operation) -> Self {
        match operation {
            Operation::Connect => state.handles.push(true),
            Operation::Shutdown { handle } => {
                state.handles[*handle] = false;
                for on in &mut state.subscriptions {
                    on.take_if(|on| on == handle);
                }
            }
            Operation::Subscribe { handle, .. } => state.subscriptions.push(Some(*handle)),
            Operation::Unsubscribe { subscription } => state.subscriptions[*subscription] = None,
            Operation::Publish { .. } | Operation::Wrong { .. } => {}
        }
        state
    }

    fn preconditions(state: &Self, operation: &Operation) -> bool {
        let is_open = |handle: &usize| state.handles.get(*handle) == Some(&true);
        match operation {
            Operation::Connect => state.handles.len() < MOST_HANDLES,
            Operation::Shutdown { handle } => *handle > 0 && is_open(handle),
            Operation::Subscribe { handle, .. } => {
                is_open(handle) && state.standing().len() < MOST_SUBSCRIPTIONS
            }
            Operation::Publish { handle, .. } | Operation::Wrong { handle, .. } => is_open(handle),
            Operation::Unsubscribe { subscription } => {
                matches!(state.subscriptions.get(*subscription), Some(Some(_)))
            }
        }
    }
}

fn publish(handle: impl Strategy<Value = usize> + 'static) -> impl Strategy<Value = Operation> {
    let call = select(vec![Call::Publish, Call::Try, Call::Publisher, Call::Batch]);
    let sure = Delivery::AtLeastOnce;
    let delivery = select(vec![sure, sure, Delivery::AtMostOnce]);
    (handle, call, select(TOPICS), delivery, 1_usize..6).prop_map(
        |(handle, call, topic, delivery, events)| Operation::Publish {
            handle,
            call,
            topic,
            delivery,
            events,
        },
    )
}

fn wish() -> impl Strategy<Value = Wish> {
    let and = prop::option::weighted(0.3, select(FILTERS));
    let (exclude_own, gated) = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (select(FILTERS), and, exclude_own, gated).prop_map(|(filter, and, exclude_own, gated)| Wish {
        filter,
        and,
        exclude_own,
        gated,
    })
}
