//! The shadow of a stage: begun, ended, and asked what it has found.

use std::sync::Arc;

use super::gate::Snapshot;
use super::opening::Opening;
use crate::phase::Phase;

/// Begins and ends shadows on the phase that holds.
pub(crate) struct Shadowing {
    pub(crate) opening: Arc<Opening>,
}

impl Shadowing {
    /// Begins to compare with a candidate.
    pub(crate) async fn attach(&mut self, candidate: &Phase) -> Result<(), String> {
        let _ = (&self.opening, candidate);
        Err("this build cannot attach a shadow to a bus that runs".to_owned())
    }

    /// Ends the comparison.
    pub(crate) async fn detach(&mut self) {}

    /// Says what was found.
    pub(crate) fn fill(&self, snapshot: &mut Snapshot) {
        let _ = snapshot;
    }
}
