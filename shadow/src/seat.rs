//! A subscription of the application, whether or not there is anything to compare it with.
//!
//! Invariant: what a seat shows is changed before any event that it concerns is published, so a
//! reader that looks after it has taken an event is never behind.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use eventbus_trait::{PublisherId, Subscribe};
use parking_lot::Mutex;

use crate::comparator::Comparator;
use crate::sub::Sub;

/// One subscription of a shadow, for as long as the application has it.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) owner: PublisherId,
    /// What was asked for, without predicate and correlation filter.
    pub(crate) subscribe: Subscribe,
    name: OnceLock<Arc<str>>,
    /// Its handle has been shut down: nothing published now is for it.
    ended: AtomicBool,
    /// Moves with every change of `view`.
    version: AtomicU64,
    view: Mutex<Option<View>>,
}

/// A comparison, and the subscription as it is compared there.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) comparator: Arc<Comparator>,
    pub(crate) sub: Arc<Sub>,
}

impl Seat {
    pub(crate) fn new(owner: PublisherId, subscribe: Subscribe) -> Arc<Self> {
        Arc::new(Self {
            owner,
            subscribe,
            name: OnceLock::new(),
            ended: AtomicBool::new(false),
            version: AtomicU64::new(0),
            view: Mutex::default(),
        })
    }

    /// Its name, once it stands on the primary.
    pub(crate) fn name(&self) -> Option<&Arc<str>> {
        self.name.get()
    }

    pub(crate) fn set_name(&self, name: Arc<str>) {
        let _ = self.name.set(name);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn show(&self, view: Option<View>) {
        let mut shown = self.view.lock();
        let before = std::mem::replace(&mut *shown, view);
        self.version.fetch_add(1, Ordering::AcqRel);
        drop(shown);
        drop(before);
    }

    pub(crate) fn view(&self) -> Option<View> {
        self.view.lock().clone()
    }

    /// Which view it is; another number means another one.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}
