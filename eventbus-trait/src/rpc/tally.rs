//! What is under way: a bounded count that can be closed, and waited for.
//!
//! Invariant: who is inside was let in before it was closed, and is counted out once, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::stats::CallStats;

/// Counts calls in and out. Without a runtime: any executor polls what it returns.
#[derive(Debug)]
pub struct Tally {
    limit: usize,
    state: watch::Sender<State>,
    made: AtomicU64,
    replied: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    inside: usize,
    closed: bool,
    over: bool,
}

/// Why nobody is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotIn {
    /// As many are inside as may be.
    Full {
        /// How many.
        limit: usize,
    },
    /// It is closed.
    Closed,
}

/// One that is inside, until it is dropped.
#[derive(Debug)]
pub struct Inside {
    tally: Arc<Tally>,
    /// Whether it was with a reply, once it is known.
    replied: Option<bool>,
}

impl Tally {
    /// Nobody inside, and at most `limit` at once.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            state: watch::Sender::new(State::default()),
            made: AtomicU64::new(0),
            replied: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
        })
    }

    /// Lets one in.
    ///
    /// # Errors
    /// [`NotIn`].
    pub fn enter(self: &Arc<Self>) -> Result<Inside, NotIn> {
        let mut entered = Err(NotIn::Closed);
        self.state.send_if_modified(|state| {
            if state.closed {
                return false;
            }
            if state.inside >= self.limit {
                let limit = self.limit;
                entered = Err(NotIn::Full { limit });
                return false;
            }
            state.inside += 1;
            entered = Ok(());
            // Nobody waits for it to become more.
            false
        });
        entered?;
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(Inside {
            tally: Arc::clone(self),
            replied: None,
        })
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
    }

    /// Lets nobody in, and ends whoever waits for [`over`](Self::over).
    pub fn end(&self) {
        self.state.send_modify(|state| {
            state.closed = true;
            state.over = true;
        });
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.borrow().closed
    }

    /// How many are inside.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.state.borrow().inside
    }

    /// Waits until nobody is inside.
    pub async fn empty(&self) {
        self.until(|state| state.inside == 0).await;
    }

    /// Waits until it is [ended](Self::end).
    pub async fn over(&self) {
        self.until(|state| state.over).await;
    }

    async fn until(&self, done: impl FnMut(&State) -> bool) {
        // It fails only if the sender is gone, which is this.
        let _ = self.state.subscribe().wait_for(done).await;
    }

    /// What has become of all that were let in.
    #[must_use]
    pub fn stats(&self) -> CallStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        CallStats {
            made: of(&self.made),
            outstanding: self.inside() as u64,
            replied: of(&self.replied),
            failed: of(&self.failed),
            cancelled: of(&self.cancelled),
        }
    }
}

impl Inside {
    /// Leaves, with a reply or with an error. Whoever is dropped without has been cancelled.
    pub fn done(mut self, replied: bool) {
        self.replied = Some(replied);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let tally = &self.tally;
        let counter = match self.replied {
            Some(true) => &tally.replied,
            Some(false) => &tally.failed,
            None => &tally.cancelled,
        };
        counter.fetch_add(1, Ordering::AcqRel);
        tally.state.send_modify(|state| state.inside -= 1);
    }
}
