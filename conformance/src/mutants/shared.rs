//! What the wrappers of one bus share: the defect, and what it has to remember.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use eventbus_trait::{Event, EventBus, Limits, PublisherId};
use parking_lot::Mutex;

use super::Defect;
use crate::history::mark_of;

/// What the wrappers of one bus share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) defect: Defect,
    injected: AtomicU64,
    /// Marked events that were given to the bus.
    published: AtomicU64,
    subscriptions: AtomicU64,
    /// How many subscriptions there were when a publisher was made.
    born: Mutex<HashMap<PublisherId, u64>>,
    smuggled: Mutex<Vec<Smuggled>>,
    count_smuggled: AtomicUsize,
    /// How often something has happened that sets the defect off.
    arms: AtomicU64,
    /// How often a publish was struck by it.
    struck: AtomicU64,
    /// The handle that is hurt.
    hurt: OnceLock<PublisherId>,
    publish_deadline: OnceLock<Duration>,
    pub(super) handles: Mutex<Vec<Weak<dyn EventBus>>>,
    /// The next call meets the defect.
    pub(super) calls_armed: AtomicBool,
    leaks: Arc<Leaks>,
}

/// An event that reaches subscriptions past the bus.
#[derive(Debug, Clone)]
pub(super) struct Smuggled {
    pub(super) event: Event,
    pub(super) to: To,
}

/// Which subscriptions of those that take it.
#[derive(Debug, Clone)]
pub(super) enum To {
    All,
    Only(String),
    AllBut(String),
}

impl Smuggled {
    pub(super) fn reaches(&self, subscription: &str) -> bool {
        match &self.to {
            To::All => true,
            To::Only(name) => name == subscription,
            To::AllBut(name) => name != subscription,
        }
    }
}

/// What is left behind until the phase itself is given up.
#[derive(Default)]
pub(super) struct Leaks(Mutex<Vec<Box<dyn Any + Send>>>);

impl Leaks {
    pub(super) fn keep(&self, leak: impl Any + Send) {
        self.0.lock().push(Box::new(leak));
    }
}

impl fmt::Debug for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leaks({})", self.0.lock().len())
    }
}

impl Shared {
    pub(super) fn new(defect: Defect, leaks: Arc<Leaks>) -> Arc<Self> {
        Arc::new(Self {
            defect,
            injected: AtomicU64::new(0),
            published: AtomicU64::new(0),
            subscriptions: AtomicU64::new(0),
            born: Mutex::default(),
            smuggled: Mutex::default(),
            count_smuggled: AtomicUsize::new(0),
            arms: AtomicU64::new(0),
            struck: AtomicU64::new(0),
            hurt: OnceLock::new(),
            publish_deadline: OnceLock::new(),
            handles: Mutex::default(),
            calls_armed: AtomicBool::new(false),
            leaks,
        })
    }

    /// Counts an event that was tampered with.
    pub(super) fn injected(&self) {
        self.injected.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn count_injected(&self) -> u64 {
        self.injected.load(Ordering::SeqCst)
    }

    pub(super) fn published(&self) {
        self.published.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn count_published(&self) -> u64 {
        self.published.load(Ordering::SeqCst)
    }

    /// The number of a subscription that is being made.
    pub(super) fn next_subscription(&self) -> u64 {
        self.subscriptions.fetch_add(1, Ordering::SeqCst)
    }

    /// A handle was made.
    pub(super) fn born(&self, handle: &Arc<dyn EventBus>) {
        let before = self.subscriptions.load(Ordering::SeqCst);
        self.born.lock().insert(handle.publisher_id(), before);
        self.handles.lock().push(Arc::downgrade(handle));
    }

    /// Whether the subscription of this number was there before the publisher.
    pub(super) fn is_older(&self, subscription: u64, publisher: PublisherId) -> bool {
        let born = self.born.lock();
        born.get(&publisher)
            .is_some_and(|born| subscription < *born)
    }

    pub(super) fn smuggle(&self, event: Event, to: To) {
        let mut smuggled = self.smuggled.lock();
        smuggled.push(Smuggled { event, to });
        self.count_smuggled.store(smuggled.len(), Ordering::SeqCst);
    }

    /// What was smuggled from the `from`th on.
    pub(super) fn smuggled(&self, from: usize) -> Vec<Smuggled> {
        self.smuggled.lock().iter().skip(from).cloned().collect()
    }

    pub(super) fn count_smuggled(&self) -> usize {
        self.count_smuggled.load(Ordering::SeqCst)
    }

    /// Sets the defect off, once in each subscription.
    pub(super) fn arm(&self) {
        self.arms.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn arms(&self) -> u64 {
        self.arms.load(Ordering::SeqCst)
    }

    /// Has an event whose publish is cancelled happen twice, with [`Defect::RepeatsCancelled`].
    pub(super) fn repeat(&self, event: &Event) -> Repeat<'_> {
        let due = self.defect == Defect::RepeatsCancelled && mark_of(event).is_some();
        Repeat {
            shared: self,
            event: due.then(|| event.clone()),
        }
    }

    /// Whether a publish is struck now: once each time that the defect was set off.
    pub(super) fn strikes_a_publish(&self) -> bool {
        self.struck.fetch_max(self.arms(), Ordering::SeqCst) < self.arms()
    }

    /// Says how long a publish may wait, if that is not the default.
    pub(super) fn limits(&self, limits: &Limits) {
        let _ = self.publish_deadline.set(limits.publish_deadline);
    }

    pub(super) fn publish_deadline(&self) -> Duration {
        let set = self.publish_deadline.get().copied();
        set.unwrap_or_else(|| Limits::default().publish_deadline)
    }

    /// Says which handle is hurt by faults.
    pub(super) fn hurts(&self, handle: PublisherId) {
        let _ = self.hurt.set(handle);
    }

    pub(super) fn is_hurt(&self, publisher: Option<PublisherId>) -> bool {
        publisher.is_some() && self.hurt.get() == publisher.as_ref()
    }

    /// Keeps something until the phase itself is given up.
    pub(super) fn keep(&self, kept: impl Any + Send) {
        self.leaks.keep(kept);
    }

    /// Leaves behind what the defect says.
    pub(super) fn leak(&self) {
        match self.defect {
            Defect::LeaksTask => {
                tokio::spawn(std::future::pending::<()>());
            }
            Defect::LeaksThread => {
                let (keep, wait) = std::sync::mpsc::sync_channel::<()>(0);
                self.leaks.keep(keep);
                let name = "leaked".to_owned();
                let thread = std::thread::Builder::new().name(name);
                // Nobody waits for it: that is the leak.
                let _ = thread.spawn(move || wait.recv().is_err());
            }
            Defect::LeaksFile => {
                if let Ok(file) = std::env::current_exe().and_then(std::fs::File::open) {
                    self.leaks.keep(file);
                }
            }
            _ => {}
        }
    }
}

/// Has an event delivered twice when its publish is dropped before it was told to forget it.
pub(super) struct Repeat<'a> {
    shared: &'a Shared,
    event: Option<Event>,
}

impl Repeat<'_> {
    pub(super) fn forget(mut self) {
        self.event = None;
    }
}

impl Drop for Repeat<'_> {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            self.shared.smuggle(event.clone(), To::All);
            self.shared.smuggle(event, To::All);
        }
    }
}
