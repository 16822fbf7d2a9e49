//! The model: which subscriptions there are, and whether a fault lasts.

use conformance::Fault;
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::ReferenceStateMachine;

const TOPICS: &[&str] = &["a", "a.b", "b.b"];
const FILTERS: &[&str] = &["a.#", "*.b", "*"];
const MOST_SUBSCRIPTIONS: usize = 4;
/// Operations that may pass before a fault is healed: there is room for what they publish.
const LASTS: usize = 3;
/// Handles: the first is hurt, the second is not.
pub(crate) const HANDLES: usize = 2;

/// One step of a program. Subscriptions are counted in the order of their making.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Subscribe {
        handle: usize,
        filter: &'static str,
    },
    Unsubscribe {
        subscription: usize,
    },
    Publish {
        handle: usize,
        topic: &'static str,
        events: usize,
    },
    Strike(Fault),
    Heal,
}

impl Operation {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Subscribe { .. } => "subscribe".to_owned(),
            Self::Unsubscribe { .. } => "unsubscribe".to_owned(),
            Self::Publish { .. } => "publish".to_owned(),
            Self::Strike(fault) => format!("{fault:?}"),
            Self::Heal => "heal".to_owned(),
        }
    }
}

/// Whether a fault goes on until it is healed.
pub(crate) fn lasts(fault: Fault) -> bool {
    fault != Fault::Reset
}

/// Which subscriptions stand, and for how long a fault has lasted.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    standing: Vec<bool>,
    hurt: Option<usize>,
}

impl Model {
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
        Just(Self {
            standing: Vec::new(),
            hurt: None,
        })
        .boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Operation> {
        let publish =
            (0..HANDLES, select(TOPICS), 1_usize..20).prop_map(|(handle, topic, events)| {
                Operation::Publish {
                    handle,
                    topic,
                    events,
                }
            });
        if let Some(passed) = state.hurt {
            let heal = Just(Operation::Heal);
            return if passed < LASTS {
                prop_oneof![2 => publish, 1 => heal].boxed()
            } else {
                heal.boxed()
            };
        }
        let subscribe = (0..HANDLES, select(FILTERS))
            .prop_map(|(handle, filter)| Operation::Subscribe { handle, filter });
        let faults = vec![
            Fault::Reset,
            Fault::Reset,
            Fault::BrokerKilled,
            Fault::Partition,
        ];
        let strike = select(faults).prop_map(Operation::Strike);
        let standing = state.standing();
        if standing.is_empty() {
            return prop_oneof![6 => subscribe, 1 => publish, 1 => strike].boxed();
        }
        let end = select(standing).prop_map(|subscription| Operation::Unsubscribe { subscription });
        prop_oneof![3 => subscribe, 8 => publish, 4 => strike, 1 => end].boxed()
    }

    fn apply(mut state: Self, operation: &Operation) -> Self {
        state.hurt = state.hurt.map(|passed| passed + 1);
        match operation {
            Operation::Subscribe { .. } => state.standing.push(true),
            Operation::Unsubscribe { subscription } => state.standing[*subscription] = false,
            Operation::Publish { .. } => {}
            Operation::Strike(fault) => state.hurt = lasts(*fault).then_some(0),
            Operation::Heal => state.hurt = None,
        }
        state
    }

    fn preconditions(state: &Self, operation: &Operation) -> bool {
        match operation {
            Operation::Subscribe { .. } => {
                state.hurt.is_none() && state.standing().len() < MOST_SUBSCRIPTIONS
            }
            Operation::Unsubscribe { subscription } => {
                state.hurt.is_none() && state.standing.get(*subscription) == Some(&true)
            }
            Operation::Publish { .. } => state.hurt.is_none_or(|passed| passed < LASTS),
            Operation::Strike(_) => state.hurt.is_none(),
            Operation::Heal => state.hurt.is_some(),
        }
    }
}
