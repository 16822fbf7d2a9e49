//! What the writer does, and what it is woken for while it leaves events to gather.
//!
//! Acknowledgements, calls and the end of a pause wake it by themselves.

use super::outbox::{Outbox, State};
use super::routes::Route;
use super::run::{MAX_RUN, MAX_RUN_BYTES};

/// What the writer does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Doing {
    /// It takes what there is before it does anything else.
    #[default]
    Sending,
    /// It leaves events to gather.
    Pausing,
    /// There was nothing.
    Sleeping,
}

impl Outbox {
    /// Leaves events to gather: the writer is woken once there are as many as a frame has, or credit runs
    /// short, or anything else is to be sent. Whether there is something to wait for.
    pub(crate) fn gather(&self) -> bool {
        let mut state = self.state.lock();
        let messages = state.messages + state.urgent.len() + state.again.len();
        let pauses = messages == 0 && !state.closed && !state.is_pressing();
        if pauses {
            state.writer = Doing::Pausing;
        }
        pauses
    }
}

impl State {
    /// Whether the writer has to be woken for an event that was queued on `route`.
    #[inline]
    pub(super) fn is_due(&self, route: &Route) -> bool {
        match self.writer {
            Doing::Sending => false,
            Doing::Sleeping => true,
            Doing::Pausing => {
                // A subscriber gives more credit for what it has got, not for what waits here.
                let (events, bytes) = (self.queued as u64, self.queued_bytes);
                self.is_pressing() || self.routes.is_short(route, events, bytes)
            }
        }
    }

    /// Whether there are as many events as a frame has, or a large one, which has a frame of its own, or a
    /// subscriber cannot make room before it has what waits here.
    fn is_pressing(&self) -> bool {
        self.starved
            || self.has_large
            || self.queued as u64 >= u64::from(MAX_RUN)
            || self.queued_bytes >= MAX_RUN_BYTES
    }
}
