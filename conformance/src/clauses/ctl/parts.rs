//! Collectors and handlers of tasks that do what a clause wants.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use control::collector::{Asked, Collector, Refusal};
use control::dispatch::TaskSpec;
use control::tasks::worker::{TaskFailure, TaskHandler, Work};
use eventbus_trait::{ContentType, Correlation, Payload};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::verdict::Checked;

/// A collector that has nothing to collect.
pub(super) struct Idle;

#[async_trait]
impl Collector for Idle {
    async fn start_collection(&self, _: &Asked, _: &Value) -> Result<(), Refusal> {
        Ok(())
    }

    async fn stop_collection(&self, _: &Asked) -> Result<(), Refusal> {
        Ok(())
    }
}

/// What a handler does with a task, which is what the task says.
pub(in crate::clauses) const AT_ONCE: &str = "at once";
pub(super) const HOLD: &str = "hold";
pub(super) const HANG: &str = "hang";
pub(super) const FAIL: &str = "fail";

/// A task of this capability, to be done so.
pub(in crate::clauses) fn task(capability: &str, how: &str) -> Checked<TaskSpec> {
    Ok(TaskSpec::json(capability, how)?)
}

/// A task that has begun.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::clauses) struct Begun {
    pub(in crate::clauses) member: String,
    pub(in crate::clauses) id: String,
    pub(in crate::clauses) correlation: Correlation,
}

/// Handlers of all members of a clause, and what they do.
#[derive(Clone)]
pub(in crate::clauses) struct Hands(Arc<State>);

struct State {
    begun: Mutex<Vec<Begun>>,
    released: watch::Sender<BTreeSet<String>>,
}

impl Hands {
    pub(in crate::clauses) fn new() -> Self {
        Self(Arc::new(State {
            begun: Mutex::default(),
            released: watch::Sender::new(BTreeSet::new()),
        }))
    }

    /// The handler of one member: its results are the member's name.
    pub(in crate::clauses) fn of(&self, member: &str) -> Arc<dyn TaskHandler> {
        Arc::new(Hand {
            member: member.to_owned(),
            hands: self.clone(),
        })
    }

    /// What has begun up to now, in this order.
    pub(in crate::clauses) fn begun(&self) -> Vec<Begun> {
        self.0.begun.lock().clone()
    }

    /// How often a task has begun.
    pub(super) fn times(&self, id: &str) -> usize {
        let begun = self.0.begun.lock();
        begun.iter().filter(|begun| begun.id == id).count()
    }

    /// How many tasks a member has begun.
    pub(super) fn at(&self, member: &str) -> usize {
        let begun = self.0.begun.lock();
        begun.iter().filter(|begun| begun.member == member).count()
    }

    /// Lets a task end that holds.
    pub(super) fn release(&self, id: &str) {
        self.0.released.send_modify(|released| {
            released.insert(id.to_owned());
        });
    }
}

struct Hand {
    member: String,
    hands: Hands,
}

#[async_trait]
impl TaskHandler for Hand {
    async fn run(&self, work: Work) -> Result<Payload, TaskFailure> {
        let id = work.task.mark.id.clone();
        let how = work.decode_json::<String>()?;
        self.hands.0.begun.lock().push(Begun {
            member: self.member.clone(),
            id: id.clone(),
            correlation: work.correlation,
        });
        match how.as_str() {
            HOLD => {
                let mut released = self.hands.0.released.subscribe();
                // The sender is here.
                let _ = released.wait_for(|released| released.contains(&id)).await;
            }
            HANG => std::future::pending().await,
            FAIL => return Err(TaskFailure::new("it cannot be done")),
            _ => {}
        }
        Ok(named(&self.member))
    }
}

/// A name as a result.
pub(in crate::clauses) fn named(name: &str) -> Payload {
    Payload::new(format!("\"{name}\"").into_bytes(), ContentType::Json)
}
