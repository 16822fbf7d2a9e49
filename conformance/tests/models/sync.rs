//! What the product names its primitives by, here its explorer's: with the faces of `parking_lot` and
//! `tokio::sync`, which the product uses.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub(crate) use crate::explorer::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
pub(crate) use crate::explorer::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};
pub(crate) use crate::explorer::thread::yield_now;

use crate::explorer;
pub(crate) use crate::notify::Notify;
use crate::sabotage::{Bug, has};
pub(crate) use crate::semaphore::{Semaphore, SemaphorePermit};
use crate::wake_up::signal;

/// How often a publisher looks for room before it sleeps: as often as makes a difference.
pub(crate) const PATIENCE: u32 = 1;

/// A publisher with less credit than this, in events, may soon wait for more: no more than it takes
/// for a publisher to have plenty in a model.
pub(crate) const PLENTY: u64 = 1;

/// A mutex without poison.
#[derive(Default)]
pub(crate) struct Mutex<T>(explorer::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(explorer::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

/// A lock for readers and writers, without poison.
pub(crate) struct RwLock<T>(explorer::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap()
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap()
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self(explorer::sync::RwLock::new(T::default()))
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RwLock")
    }
}

/// The product's own, with bugs to be seeded.
#[derive(Debug, Default)]
pub(crate) struct Signal(signal::Signal);

impl Signal {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify(&self) {
        if !has(Bug::FilledInSilence) {
            self.0.notify();
        }
    }

    pub(crate) fn take(&self) -> Option<Waker> {
        self.0.take().filter(|_| !has(Bug::FilledInSilence))
    }

    pub(crate) fn wake(&self) {
        if !has(Bug::ClosedInSilence) {
            self.0.wake();
        }
    }

    pub(crate) fn rung(&self) -> u64 {
        self.0.rung()
    }

    pub(crate) fn register(&self, waker: &Waker) {
        self.0.register(waker);
    }
}

/// A deadline, which comes when the explorer says so.
#[derive(Debug)]
pub(crate) struct Delay;

impl Delay {
    pub(crate) fn new(_: Duration) -> Self {
        Self
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if explorer::is_over() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
