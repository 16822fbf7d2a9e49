//! Waking the one receiver of a queue, without losing a wake-up.
//!
//! A sender must not pay for a receiver that is busy: it counts in one word, on which the receiver
//! leaves a mark before it sleeps, and takes the lock only if the mark is there.
//!
//! Invariant: a sender fills the queue before it touches `state`, and the receiver touches `state`
//! before it looks at the queue for the last time; both by read-modify-write. One of the two is
//! first. If it is the sender, the receiver sees what it did before and finds the item; if it is
//! the receiver, the sender finds the mark. Several senders may notify at once; only one task may
//! register.

use std::task::Waker;

use super::sync::{AtomicU64, Guard, Mutex, Ordering};

/// The receiver is about to sleep.
const ARMED: u64 = 1;
/// What each sender adds, so that its step is a write that the receiver's comes before or after.
const RUNG: u64 = 2;

/// A wake-up from many senders to one receiver.
#[derive(Debug)]
pub struct Signal {
    state: AtomicU64,
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
            state: AtomicU64::new(0),
            waker: Mutex::new(None),
        }
    }

    /// Wakes the receiver if it waits. Call it after the queue has been filled or closed.
    #[inline]
    pub fn notify(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }

    /// The waker to call, if the receiver waits: [`notify`](Self::notify) for a sender that still
    /// holds a lock and calls it later.
    #[inline]
    #[must_use]
    pub fn take(&self) -> Option<Waker> {
        if self.state.fetch_add(RUNG, Ordering::AcqRel) & ARMED == 0 {
            None
        } else {
            self.disarm()
        }
    }

    /// Wakes the receiver if it waits, for another reason than an item: this is not counted.
    pub fn wake(&self) {
        if self.state.fetch_or(0, Ordering::AcqRel) & ARMED != 0
            && let Some(waker) = self.disarm()
        {
            waker.wake();
        }
    }

    /// How often [`notify`](Self::notify) or [`take`](Self::take) was called. Where every item is
    /// followed by one call, that is the number of items.
    #[must_use]
    pub fn rung(&self) -> u64 {
        self.state.load(Ordering::Acquire) / RUNG
    }

    /// Says that the receiver is about to wait. It must look at the queue once more afterwards.
    pub fn register(&self, waker: &Waker) {
        let mut slot = lock(&self.waker);
        match &mut *slot {
            Some(old) if old.will_wake(waker) => {}
            slot => *slot = Some(waker.clone()),
        }
        self.state.fetch_or(ARMED, Ordering::AcqRel);
    }

    #[cold]
    fn disarm(&self) -> Option<Waker> {
        let mut slot = lock(&self.waker);
        self.state.fetch_and(!ARMED, Ordering::AcqRel);
        slot.take()
    }
}

/// The lock guards a waker only, which no panic can leave half written.
fn lock<T>(mutex: &Mutex<T>) -> Guard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
