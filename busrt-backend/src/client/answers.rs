//! Operations that the broker has not answered yet.
//!
//! Invariant: at most [`MOST`]; once the connection has ended nobody waits, and nobody begins to.

use std::collections::HashMap;

use busrt::{Error, IntoBusRtResult as _};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::debug;

/// Most operations that may wait for their answer.
pub(super) const MOST: usize = 65_536;

/// The broker's answer; closed if the connection ends without it.
pub(crate) type Answer = oneshot::Receiver<Result<(), Error>>;

#[derive(Debug, Default)]
pub(super) struct Answers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    waiting: HashMap<u32, oneshot::Sender<Result<(), Error>>>,
}

impl Answers {
    /// The answer to operation `id`.
    ///
    /// # Errors
    /// The connection has ended, or too many operations wait.
    pub(super) fn expect(&self, id: u32) -> Result<Answer, Error> {
        let (answer, awaited) = oneshot::channel();
        let mut state = self.state.lock();
        if state.ended {
            return Err(Error::io("the connection has ended"));
        }
        if state.waiting.len() >= MOST {
            return Err(Error::io(format!(
                "the broker has not answered {MOST} operations"
            )));
        }
        state.waiting.insert(id, answer);
        Ok(awaited)
    }

    pub(super) fn answer(&self, id: u32, code: u8) {
        let waiting = self.state.lock().waiting.remove(&id);
        match waiting {
            // Whoever has asked may have gone.
            Some(waiting) => drop(waiting.send(code.to_busrt_result())),
            // busrt answers each topic of a list that it denies.
            None => debug!(id, code, "answer that nobody waits for"),
        }
    }

    pub(super) fn end(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.ended = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }
}
