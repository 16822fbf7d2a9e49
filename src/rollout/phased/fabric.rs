//! What the handles of a phased bus share: which phase holds, and who has to move with it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::{BusState, EventBus, Limits};
use parking_lot::Mutex;
use shadow::ShadowBus;
use tokio::runtime;
use tokio::sync::{Notify, RwLock};
use tokio::task::JoinHandle;

use super::handle::Handle;
use crate::open::OpenError;
use crate::phase::Phase;

/// Opens phases.
#[async_trait]
pub(crate) trait Opener: Send + Sync {
    /// A first handle of a phase.
    async fn open(&self, phase: &Phase) -> Result<Arc<dyn EventBus>, OpenError>;

    /// The bus of a phase that is being compared, if it is.
    fn attached(&self, phase: &Phase) -> Option<Arc<ShadowBus>>;
}

pub(crate) struct Fabric {
    pub(crate) opener: Box<dyn Opener>,
    /// Where the rollout runs, wherever its handles are used.
    pub(crate) runtime: runtime::Handle,
    pub(crate) limits: Limits,
    /// Who changes what a cutover has to move reads; the cutover itself writes.
    pub(crate) turn: RwLock<()>,
    /// Told when the last handle is gone.
    pub(crate) ended: Notify,
    handles: Mutex<Vec<Weak<Handle>>>,
    /// The rollout's task.
    conductor: Mutex<Option<JoinHandle<()>>>,
    now: Mutex<(Phase, u64)>,
    /// Longest time at a gate, in microseconds: of this cutover, and of all before.
    delay: AtomicU64,
    longest: AtomicU64,
}

impl Fabric {
    /// Call it within a tokio runtime.
    pub(crate) fn new(opener: Box<dyn Opener>, phase: Phase, limits: Limits) -> Self {
        Self {
            opener,
            runtime: runtime::Handle::current(),
            limits,
            turn: RwLock::new(()),
            ended: Notify::new(),
            handles: Mutex::default(),
            conductor: Mutex::default(),
            now: Mutex::new((phase, 0)),
            delay: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        }
    }

    pub(crate) fn join(&self, handle: &Arc<Handle>) {
        let mut handles = self.handles.lock();
        handles.retain(|handle| handle.strong_count() > 0);
        handles.push(Arc::downgrade(handle));
    }

    /// The handles that are not shut down.
    pub(crate) fn handles(&self) -> Vec<Arc<Handle>> {
        let handles = self.handles.lock();
        let live = handles.iter().filter_map(Weak::upgrade);
        live.filter(|handle| !handle.lane.is_ended()).collect()
    }

    /// Notes who moves it.
    pub(crate) fn set_conductor(&self, task: JoinHandle<()>) {
        *self.conductor.lock() = Some(task);
    }

    /// Waits for the rollout's task, if nobody uses the bus any more: with it goes the journal.
    pub(crate) async fn rest(&self) {
        if self.has_handles() {
            return;
        }
        let task = self.conductor.lock().take();
        if let Some(task) = task {
            // It has nothing to say; a panic in it was told by the panic hook.
            let _ = task.await;
        }
    }

    /// Whether anybody uses the bus.
    pub(crate) fn has_handles(&self) -> bool {
        !self.handles().is_empty()
    }

    /// Events that were published by the handles that there are.
    pub(crate) fn published(&self) -> u64 {
        let handles = self.handles();
        handles.iter().map(|h| h.stats("").published).sum()
    }

    /// Why a handle's connection does not stand, if one does not.
    pub(crate) fn disconnected(&self) -> Option<String> {
        let handles = self.handles();
        let mut states = handles.iter().map(|handle| handle.state().borrow().clone());
        states.find_map(|state| match state {
            BusState::Connecting { reason, .. } => Some(reason),
            _ => None,
        })
    }

    /// The phase that holds.
    pub(crate) fn phase(&self) -> Phase {
        self.now.lock().0.clone()
    }

    /// How often it has changed.
    pub(crate) fn generation(&self) -> u64 {
        self.now.lock().1
    }

    pub(crate) fn set_phase(&self, phase: Phase, generation: u64) {
        *self.now.lock() = (phase, generation);
    }

    /// Somebody waited at a gate for so long.
    pub(crate) fn note_delay(&self, waited: Duration) {
        let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.delay.fetch_max(waited, Ordering::Relaxed);
        self.longest.fetch_max(waited, Ordering::Relaxed);
    }

    /// A cutover begins, whose delay is measured by itself.
    pub(crate) fn begin_delay(&self) {
        self.delay.store(0, Ordering::Relaxed);
    }

    /// Longest time at a gate in this cutover, in microseconds, as far as it is over.
    pub(crate) fn delay_us(&self) -> u64 {
        self.delay.load(Ordering::Relaxed)
    }

    /// The same in all cutovers of this process.
    pub(crate) fn longest_us(&self) -> u64 {
        self.longest.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fabric")
            .field("now", &*self.now.lock())
            .finish_non_exhaustive()
    }
}
