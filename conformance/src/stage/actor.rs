//! Actors: other processes on the bus, whose lines become entries of the history.
//!
//! Invariant: an entry is recorded after it has happened, and everything that a killed process
//! has said before its end, before its end is recorded.

use std::sync::Arc;
use std::time::Duration;

use super::Stage;
use crate::harness::Peer;
use crate::history::{Interest, Op, Recorder};
use crate::peer::Part;
use crate::verdict::{Checked, Unmet};

/// Another process on the bus.
pub struct Actor {
    peer: Box<dyn Peer>,
    subscription: Option<Arc<str>>,
    recorder: Recorder,
}

impl Actor {
    /// A process that is ready: if it is a subscriber, its subscription stands.
    pub(super) fn new(peer: Box<dyn Peer>, part: &Part, recorder: Recorder) -> Checked<Self> {
        let subscription: Option<Arc<str>> = part.subscription().map(Arc::from);
        if let Some(subscription) = &subscription {
            recorder.record(Op::Subscribed(Interest {
                subscription: Arc::clone(subscription),
                filters: part.filters()?,
                excluded: None,
                lossy: false,
            }));
        }
        Ok(Self {
            peer,
            subscription,
            recorder,
        })
    }

    /// Records what it has said since it was last heard and returns that.
    ///
    /// # Errors
    /// Unexercised, if it is no history.
    pub fn hear(&mut self) -> Checked<Vec<Op>> {
        let said = self.peer.said();
        let heard: Result<Vec<Op>, _> = said.iter().map(|line| line.parse()).collect();
        let heard = heard.map_err(Unmet::unexercised)?;
        for op in &heard {
            self.recorder.record(op.clone());
        }
        Ok(heard)
    }

    /// Hears until it has said at least `n` lines of this sort, and waits for that with an end.
    ///
    /// # Errors
    /// Broken, if it does not say them; as [`hear`](Self::hear).
    pub async fn heard(
        &mut self,
        stage: &Stage,
        what: &'static str,
        n: usize,
        sort: fn(&Op) -> bool,
    ) -> Checked {
        stage
            .wait(what, async {
                let mut beat = tokio::time::interval(Duration::from_millis(1));
                let mut heard = 0;
                while heard < n {
                    beat.tick().await;
                    heard += self.hear()?.iter().filter(|op| sort(op)).count();
                }
                Ok(())
            })
            .await?
    }

    /// Kills it, without a chance to say anything; what it had said counts.
    ///
    /// # Errors
    /// As [`hear`](Self::hear).
    pub fn kill(&mut self) -> Checked<Vec<Op>> {
        self.peer.kill();
        let heard = self.hear()?;
        if let Some(subscription) = &self.subscription {
            self.recorder.record(Op::Ended(Arc::clone(subscription)));
        }
        Ok(heard)
    }

    /// Records that its subscription has been read until nothing could be on its way.
    pub fn note_drained(&self) {
        if let Some(subscription) = &self.subscription {
            self.recorder.record(Op::Drained(Arc::clone(subscription)));
        }
    }
}

impl std::fmt::Debug for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actor")
            .field("subscription", &self.subscription)
            .finish_non_exhaustive()
    }
}
