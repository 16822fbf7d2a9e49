//! The handle on a rollout: asks how it stands and tells it where to go.
//!
//! One task owns the rollout and does one thing after the other; everybody else, the admin socket
//! included, sends it orders and reads the status that it shows.
//!
//! Invariant: an order is answered once it is carried out or refused, and only `abort` overtakes.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::plan;
use super::status::{HistoryEntry, Plan, StageRef, Status};

/// Orders that may wait.
const ORDERS: usize = 16;

/// A handle on a rollout; cloning shares it.
#[derive(Debug, Clone)]
pub struct Controller {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

/// What the handles and the task share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) status: Mutex<Status>,
    /// Somebody wants the move under way to be given up.
    pub(crate) aborted: Notify,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To the next stage.
    Advance,
    /// To the stage before.
    Back,
}

/// Something that the rollout's task is to do.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) what: Ask,
    pub(crate) answer: oneshot::Sender<Result<HistoryEntry, RolloutError>>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A move; with `force` also against the gates, with `from` only out of that stage.
    Move {
        direction: Direction,
        force: bool,
        from: Option<StageRef>,
    },
    /// To do nothing by itself.
    Pause,
    /// To go on doing so.
    Resume,
}

/// Why a rollout did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// There is no stage in that direction.
    #[error("stage `{stage}` is the {} one", match .direction { Direction::Advance => "last", Direction::Back => "first" })]
    NoStage {
        /// The stage now.
        stage: String,
        /// Which way.
        direction: Direction,
    },
    /// The order was given for a stage that does not hold.
    #[error(
        "the rollout is in stage `{here}` and not in {from} any more, so nothing was done; ask for its status and order again"
    )]
    Elsewhere {
        /// The stage now.
        here: String,
        /// The stage that the order was given for.
        from: StageRef,
    },
    /// The gates do not allow it.
    #[error("the gates do not allow it: {}", objections.join("; "))]
    Gates {
        /// One sentence for each.
        objections: Vec<String>,
    },
    /// A hook failed, which is its veto.
    #[error("hook `{program}` said no: {reason}")]
    Veto {
        /// The program.
        program: String,
        /// How it ended.
        reason: String,
    },
    /// The move was given up; the stage is as it was.
    #[error("given up in step {step}: {reason}")]
    Aborted {
        /// The step, by number and name.
        step: String,
        /// Why.
        reason: String,
    },
    /// No move is under way.
    #[error("no move is under way")]
    NothingToAbort,
    /// The journal cannot be written; nothing was changed.
    #[error("cannot write the journal: {reason}")]
    Journal {
        /// What the system said.
        reason: String,
    },
    /// The bus was shut down.
    #[error("bus is closed")]
    Closed,
}

impl Controller {
    /// A handle, and the receiving end of its orders.
    pub(crate) fn new(status: Status) -> (Self, Arc<Shared>, mpsc::Receiver<Order>) {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let shared = Arc::new(Shared {
            status: Mutex::new(status),
            aborted: Notify::new(),
        });
        let controller = Self {
            shared: Arc::clone(&shared),
            orders,
        };
        (controller, shared, receiver)
    }

    /// How the rollout stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status.lock().clone()
    }

    /// What a move would do now, without doing it: the dry run.
    #[must_use]
    pub fn plan(&self, direction: Direction) -> Plan {
        plan::plan(&self.shared.status.lock(), direction)
    }

    /// Moves to the next stage and returns once it is there. With `force` also if a gate has not
    /// passed. Dropping the future does not stop the move.
    ///
    /// # Errors
    /// [`RolloutError`] says why the stage is as it was.
    pub async fn advance(&self, force: bool) -> Result<HistoryEntry, RolloutError> {
        self.go(Direction::Advance, force, None).await
    }

    /// Moves to the stage before and returns once it is there. No gate keeps it from that. Dropping
    /// the future does not stop the move.
    ///
    /// # Errors
    /// [`RolloutError`] says why the stage is as it was.
    pub async fn back(&self) -> Result<HistoryEntry, RolloutError> {
        self.go(Direction::Back, true, None).await
    }

    /// As [`advance`](Self::advance) and [`back`](Self::back), but out of the stage `from` alone: an
    /// order that comes twice, or late, moves nothing. No gate keeps it from going back.
    ///
    /// # Errors
    /// [`RolloutError::Elsewhere`] if another stage holds when it is its turn.
    pub async fn go_from(
        &self,
        from: StageRef,
        direction: Direction,
        force: bool,
    ) -> Result<HistoryEntry, RolloutError> {
        self.go(direction, force || direction == Direction::Back, Some(from))
            .await
    }

    async fn go(
        &self,
        direction: Direction,
        force: bool,
        from: Option<StageRef>,
    ) -> Result<HistoryEntry, RolloutError> {
        let order = Ask::Move {
            direction,
            force,
            from,
        };
        self.ask(order).await
    }

    /// Has the rollout do nothing by itself from now on. Orders are still carried out.
    ///
    /// # Errors
    /// [`RolloutError::Closed`].
    pub async fn pause(&self) -> Result<HistoryEntry, RolloutError> {
        self.ask(Ask::Pause).await
    }

    /// Has the rollout go on by itself again, with failures forgotten.
    ///
    /// # Errors
    /// [`RolloutError::Closed`].
    pub async fn resume(&self) -> Result<HistoryEntry, RolloutError> {
        self.ask(Ask::Resume).await
    }

    /// Has the move under way given up, if its commit is not in the journal yet: the stage is as it
    /// was, and the move's own caller gets [`RolloutError::Aborted`].
    ///
    /// # Errors
    /// [`RolloutError::NothingToAbort`] if no cutover is under way, or it is past its commit.
    pub fn abort(&self) -> Result<(), RolloutError> {
        let status = self.shared.status.lock();
        let step = status.cutover.as_ref().map(|cutover| cutover.step);
        match step {
            Some(step) if step < super::status::Step::Commit => {
                self.shared.aborted.notify_waiters();
                Ok(())
            }
            _ => Err(RolloutError::NothingToAbort),
        }
    }

    async fn ask(&self, what: Ask) -> Result<HistoryEntry, RolloutError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.orders.send(Order { what, answer }).await;
        sent.map_err(|_| RolloutError::Closed)?;
        answered.await.map_err(|_| RolloutError::Closed)?
    }
}
