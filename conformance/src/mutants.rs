//! Mutants: buses with one defect each, wrapped around a bus without.
//!
//! A suite that has never failed has shown nothing. Each defect breaks one promise and is listed
//! with the clause that has to notice. The same wrappers stand around the candidate of a shadow,
//! where what they did is counted and held against what the shadow found.
//!
//! Invariant: a defect touches marked events only, never fences or whatever else a bus carries for
//! itself; with [`Defect::None`] the wrapper changes nothing.

mod bus;
mod faulty;
mod source;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use eventbus_trait::{EventBus, Limits};

pub use bus::MutantBus;

use crate::harness::{Capability, FaultHarness, Harness, Rig};

/// What is wrong with a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Defect {
    /// Nothing.
    None,
    /// One delivery in [`EVERY`] is dropped.
    Drops,
    /// One delivery in [`EVERY`] comes twice.
    Duplicates,
    /// One delivery in [`EVERY`] changes places with the next on its topic.
    ReordersTopic,
    /// One delivery in [`EVERY`] changes places with the next, which is on another topic.
    ReordersTopics,
    /// One delivery in [`EVERY`] comes after the next, which is another author's.
    ReordersAuthors,
    /// One payload in [`EVERY`] has a byte more.
    Corrupts,
    /// After one delivery in [`EVERY`] comes an event that nobody published.
    Invents,
    /// An ended subscription lives on inside.
    OutlivesUnsubscribe,
    /// The first event after `subscribe` is missed.
    MissesBarrier,
    /// Events on topics deeper than eight segments are lost.
    ForgetsDeepTopics,
    /// `+` is taken for a segment of that name.
    IgnoresPlus,
    /// `a.#` does not match `a`, as in the broker.
    NeedsASegment,
    /// An event that two filters of a subscription take comes twice.
    CopiesPerFilter,
    /// Predicate and correlation filter are ignored.
    IgnoresGates,
    /// Names in use, of subscriptions and of clients, are given out again.
    SharesNames,
    /// A client may have any name.
    TakesAnyName,
    /// There is always room for one more subscription.
    HasNoLimit,
    /// Losses are not told in band.
    HidesLosses,
    /// An event over the size limit is taken, and goes nowhere.
    SwallowsLarge,
    /// A publish that found no room returns Ok.
    SwallowsBackpressure,
    /// What `try_publish` refused for want of room comes later.
    DeliversRefused,
    /// A publish that is cancelled happens twice.
    RepeatsCancelled,
    /// `AtMostOnce` events wait for room.
    WaitsAlways,
    /// Receipts count one subscription too many.
    Overstates,
    /// Subscriptions count one event too many.
    Miscounts,
    /// The bus counts one event too many.
    Overcounts,
    /// What is queued at shutdown is given up.
    ForgetsAtShutdown,
    /// One publish at a time passes through a handle, however long it waits.
    HoldsUpEverybody,
    /// Subscribing, connecting and shutting down wait for the publishes that are under way.
    QueuesControl,
    /// Publishing from inside a predicate never returns.
    Deadlocks,
    /// Now and then a receiver is not woken.
    LosesWakeUps,
    /// Keeps every event that was offered.
    Hoards,
    /// Goes on after shutdown.
    NeverCloses,
    /// Leaves a task behind.
    LeaksTask,
    /// Refuses every event. For candidates.
    RefusesAll,
    /// Has no rate limit, whatever is set.
    IgnoresRate,
    /// Publishes without a word in the log.
    KeepsSilent,
    /// Panics in every publish. For candidates.
    Panics,
    /// Never returns from a publish. For candidates.
    Hangs,
}

/// How many deliveries pass between two that a defect touches.
pub const EVERY: u64 = 40;

/// Each defect, with the clause that has to fail for it.
pub static MUTANTS: &[(Defect, &str)] = &[
    (Defect::ForgetsDeepTopics, "TOP-001"),
    (Defect::IgnoresPlus, "TOP-002"),
    (Defect::NeedsASegment, "TOP-003"),
    (Defect::NeedsASegment, "TOP-005"),
    (Defect::Drops, "DEL-001"),
    (Defect::Invents, "DEL-002"),
    (Defect::Duplicates, "DEL-003"),
    (Defect::DeliversRefused, "DEL-004"),
    (Defect::RepeatsCancelled, "DEL-005"),
    (Defect::Corrupts, "DEL-006"),
    (Defect::SwallowsLarge, "DEL-007"),
    (Defect::Miscounts, "DEL-008"),
    (Defect::WaitsAlways, "DEL-009"),
    (Defect::Overstates, "DEL-010"),
    (Defect::ReordersTopic, "ORD-001"),
    (Defect::ReordersTopics, "ORD-002"),
    (Defect::ReordersTopics, "ORD-003"),
    (Defect::QueuesControl, "ORD-004"),
    (Defect::ReordersAuthors, "ORD-005"),
    (Defect::MissesBarrier, "SUB-001"),
    (Defect::OutlivesUnsubscribe, "SUB-002"),
    (Defect::CopiesPerFilter, "SUB-003"),
    (Defect::Duplicates, "SUB-004"),
    (Defect::SharesNames, "SUB-005"),
    (Defect::HasNoLimit, "SUB-006"),
    (Defect::Drops, "SUB-007"),
    (Defect::HoldsUpEverybody, "SUB-008"),
    (Defect::IgnoresGates, "SUB-009"),
    (Defect::SwallowsBackpressure, "FLW-001"),
    (Defect::HidesLosses, "FLW-002"),
    (Defect::Deadlocks, "FLW-003"),
    (Defect::LosesWakeUps, "FLW-004"),
    (Defect::IgnoresRate, "FLW-005"),
    (Defect::Hoards, "FLW-006"),
    (Defect::NeverCloses, "LIF-001"),
    (Defect::ForgetsAtShutdown, "LIF-002"),
    (Defect::Drops, "LIF-003"),
    (Defect::LeaksTask, "LIF-004"),
    (Defect::SharesNames, "LIF-006"),
    (Defect::Drops, "FLT-001"),
    (Defect::Duplicates, "FLT-002"),
    (Defect::ReordersTopic, "FLT-003"),
    (Defect::Corrupts, "FLT-004"),
    (Defect::Drops, "FLT-005"),
    (Defect::Drops, "FLT-006"),
    (Defect::TakesAnyName, "MIG-005"),
    (Defect::Drops, "FLT-007"),
    (Defect::Overcounts, "OBS-001"),
    (Defect::KeepsSilent, "OBS-002"),
];

/// What the wrappers of one bus share.
#[derive(Debug)]
struct Shared {
    defect: Defect,
    seen: AtomicU64,
    injected: AtomicU64,
}

impl Shared {
    /// Whether this delivery is one that the defect touches.
    fn strikes(&self) -> bool {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        seen % EVERY == EVERY - 1
    }

    fn injected(&self) {
        self.injected.fetch_add(1, Ordering::Relaxed);
    }
}

/// A phase whose buses have a defect.
pub struct MutantHarness {
    name: String,
    inner: Arc<dyn Harness>,
    defect: Defect,
}

impl MutantHarness {
    /// The phase of `inner`, with a defect.
    #[must_use]
    pub fn new(inner: Arc<dyn Harness>, defect: Defect) -> Self {
        let name = format!("{}-{defect:?}", inner.name());
        Self {
            name,
            inner,
            defect,
        }
    }
}

impl fmt::Debug for MutantHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutantHarness")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Harness for MutantHarness {
    fn name(&self) -> &str {
        &self.name
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        let limits = match self.defect {
            Defect::IgnoresRate => Limits {
                rate: None,
                ..limits
            },
            _ => limits,
        };
        let inner = self.inner.start(limits).await?;
        let bus = MutantBus::new(inner.bus(), self.defect);
        Ok(Box::new(MutantRig { inner, bus }))
    }

    fn has(&self, capability: Capability) -> bool {
        capability != Capability::Shadow && self.inner.has(capability)
    }

    fn faults(&self) -> Option<&dyn FaultHarness> {
        self.inner.faults().map(|_| self as &dyn FaultHarness)
    }
}

struct MutantRig {
    inner: Box<dyn Rig>,
    bus: Arc<MutantBus>,
}

#[async_trait]
impl Rig for MutantRig {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus) as Arc<dyn EventBus>
    }

    async fn quiesce(&self) {
        self.inner.quiesce().await;
    }

    async fn judge(&self) -> Result<(), String> {
        self.inner.judge().await
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.inner.paths()
    }
}
