//! Work that a member has taken in, so that it goes only when that is finished.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Takes work in until the member is about to go. Clones are the same intake.
///
/// ```
/// # use control::collector::Intake;
/// # fn example(intake: Intake) {
/// if let Some(hold) = intake.enter() {
///     // The member does not end gracefully before this is dropped.
///     drop(hold);
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Intake(Arc<watch::Sender<State>>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    inside: usize,
    closed: bool,
}

/// A piece of work that is under way, until this is dropped.
#[must_use = "the work is over when this is dropped"]
pub struct Hold(Intake);

impl Intake {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::channel(State::default()).0))
    }

    /// Takes a piece of work in; `None` if the member takes no more.
    pub fn enter(&self) -> Option<Hold> {
        let enter = |state: &mut State| {
            let open = !state.closed;
            state.inside += usize::from(open);
            open
        };
        self.0.send_if_modified(enter).then(|| Hold(self.clone()))
    }

    /// Pieces of work under way.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.0.borrow().inside
    }

    /// Whether nothing is taken in any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.borrow().closed
    }

    /// Waits until nothing is taken in any more.
    pub async fn closed(&self) {
        // The sender is here, so it is not gone.
        let _ = self.0.subscribe().wait_for(|state| state.closed).await;
    }

    pub(crate) fn close(&self) {
        self.0.send_modify(|state| state.closed = true);
    }

    /// Waits until no work is under way.
    pub(crate) async fn empty(&self) {
        let _ = self.0.subscribe().wait_for(|state| state.inside == 0).await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.inside -= 1);
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Intake").field(&*self.0.borrow()).finish()
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}
