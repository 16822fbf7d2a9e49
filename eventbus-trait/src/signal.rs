//! Waking the one receiver of a queue, without losing a wake-up.
//!
//! A sender must not pay for a receiver that is busy: it looks at one flag, and takes the lock only
//! if the receiver has said that it is about to sleep.
//!
//! Invariant: the receiver raises `armed` before it looks at the queue for the last time, and a
//! sender fills the queue before it looks at `armed`; a full fence stands between the two steps on
//! both sides. So at least one of them sees the other: either the receiver finds the item, or the
//! sender finds the flag. Several senders may notify at once; only one task may register.

use std::task::Waker;

use super::sync::{AtomicBool, Mutex, Ordering, fence};

/// A wake-up from many senders to one receiver.
#[derive(Debug)]
pub struct Signal {
    armed: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Default for Signal {
    fn default() -> Self {
        Self::new()
    }
}

impl Signal {
    /// A signal that nobody waits for.
    #[must_use]
    pub fn new() -> Self {
        Self {
            armed: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// Wakes the receiver if it waits. Call it after the queue has been filled or closed.
    pub fn notify(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }

    /// The waker to call, if the receiver waits: [`notify`](Self::notify) for a sender that still
    /// holds a lock and calls it later.
    #[must_use]
    pub fn take(&self) -> Option<Waker> {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) {
            self.disarm()
        } else {
            None
        }
    }

    /// Says that the receiver is about to wait. It must look at the queue once more afterwards.
    pub fn register(&self, waker: &Waker) {
        {
            let mut slot = lock(&self.waker);
            match &mut *slot {
                Some(old) if old.will_wake(waker) => {}
                slot => *slot = Some(waker.clone()),
            }
            self.armed.store(true, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    #[cold]
    fn disarm(&self) -> Option<Waker> {
        let mut slot = lock(&self.waker);
        self.armed.store(false, Ordering::Relaxed);
        slot.take()
    }
}

/// The lock guards a waker only, which no panic can leave half written.
fn lock<T>(mutex: &Mutex<T>) -> super::sync::Guard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
