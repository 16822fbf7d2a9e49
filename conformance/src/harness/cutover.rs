//! What a backend supplies so that the clauses can move its buses from one phase to another.

use async_trait::async_trait;
use eventbus_trait::Limits;

use super::Rig;

/// A direction between the two phases of a bus that can be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Course {
    /// From the first phase to the second.
    Forward,
    /// From the second phase to the first.
    Back,
}

/// The steps of a move, numbered from 1, before each of which a crash can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The last one.
    pub last: u8,
    /// The one that decides: after a crash before it, or before an earlier one, the bus starts in
    /// the phase that it was to leave, after any later crash in the other.
    pub decides: u8,
}

/// A phase whose buses can be moved to another one while they are in use.
#[async_trait]
pub trait CutoverHarness: Send + Sync {
    /// Starts a bus as [`Harness::start`](super::Harness::start) does, in the first of two phases.
    ///
    /// # Errors
    /// In words, why no bus could be started.
    async fn start_movable(&self, limits: Limits) -> Result<Box<dyn CutoverRig>, String>;

    /// The steps of a move.
    fn steps(&self) -> Steps;

    /// Has a process of its own move a bus that is in use, and kills it just before `step`.
    ///
    /// # Errors
    /// In words, why it did not come to that.
    async fn crash(&self, course: Course, step: u8) -> Result<Box<dyn Wreck>, String>;
}

/// A started bus that can be moved.
#[async_trait]
pub trait CutoverRig: Rig {
    /// Whether the second phase holds.
    fn holds_second(&self) -> bool;

    /// Moves the bus, all its handles and subscriptions; returns once that is done.
    ///
    /// # Errors
    /// In words, why it is where it was.
    async fn cut_over(&self, course: Course) -> Result<(), String>;
}

/// What a process that was killed has left behind.
#[async_trait]
pub trait Wreck: Send + Sync {
    /// Starts a bus from it, as the killed process would if it were started again.
    ///
    /// # Errors
    /// In words, why it does not start.
    async fn restart(&self) -> Result<Box<dyn CutoverRig>, String>;
}
