//! Mutants: phases with one defect each, wrapped around a phase without.
//!
//! A suite that has never failed has shown nothing. [`MUTANTS`] lists each defect with the clause
//! that it is there for and with every clause that fails with it, and [`prove`] runs all of them:
//! a clause that fails for what is not its subject is as wrong as one that never fails. The same
//! wrappers stand around the candidate of a shadow, where what they did is counted and held against
//! what the shadow found.
//!
//! Invariant: what a defect does depends on what its subscription, handle or caller has done alone,
//! so that it is the same in every run. It touches marked events, never fences; with
//! [`Defect::None`] the wrapper changes nothing.

mod around;
mod bus;
mod calls;
mod defect;
mod door;
mod event;
mod faulty;
mod layered;
mod members;
mod moved;
pub mod pretend;
mod prove;
mod publisher;
mod request;
mod shadowed;
mod shared;
mod source;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use eventbus_trait::{EventBus, Limits};

pub use bus::MutantBus;
pub use defect::{Defect, Layer, MUTANTS, Mutant, UNBREAKABLE, mutant_of};
pub use prove::{Proof, Surprise, control, prove};

use crate::harness::{
    Capability, CutoverHarness, DoorHarness, FaultHarness, Harness, Plane, Rig, ShadowHarness,
    Waiver,
};
use around::Around;
use members::ControlRig;
use shared::{Leaks, Shared};

/// A defect that strikes now and then touches one delivery in so many of each subscription.
pub const EVERY: u64 = 40;
/// Which of them, counted from 1: neither the first nor the last of anything that a clause does.
const FIRST: u64 = 17;

/// A phase with a defect.
pub struct MutantHarness {
    name: String,
    inner: Arc<dyn Harness>,
    defect: Defect,
    layer: Layer,
    leaks: Arc<Leaks>,
}

impl MutantHarness {
    /// The phase of `inner`, with a defect. What lies in other [layers](Layer) than the defect is
    /// the phase's own, or is not there: a bus with a defect has no front door.
    #[must_use]
    pub fn new(inner: Arc<dyn Harness>, defect: Defect) -> Self {
        let name = format!("{}-{defect:?}", inner.name());
        Self {
            name,
            inner,
            defect,
            layer: mutant_of(defect).map_or(Layer::Bus, |mutant| mutant.layer),
            leaks: Arc::default(),
        }
    }

    fn shared(&self) -> Arc<Shared> {
        Shared::new(self.defect, Arc::clone(&self.leaks))
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
        let shared = self.shared();
        shared.limits(&limits);
        let inner = self.inner.start(limits).await?;
        if self.layer == Layer::Control {
            return Ok(Box::new(ControlRig::new(inner, self.defect)));
        }
        if self.layer != Layer::Bus {
            return Ok(inner);
        }
        let bus = MutantBus::with(inner.bus(), &shared);
        let defect = self.defect;
        Ok(Box::new(MutantRig { inner, bus, defect }))
    }

    fn backend(&self) -> Option<String> {
        self.inner.backend()
    }

    fn client_name(&self) -> &str {
        self.inner.client_name()
    }

    fn lack(&self, capability: Capability) -> &'static str {
        self.inner.lack(capability)
    }

    fn waivers(&self) -> Vec<Waiver> {
        self.inner.waivers()
    }

    fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::Shadow => self.shadow().is_some(),
            Capability::Cutover => self.cutover().is_some(),
            Capability::Faults => self.faults().is_some(),
            Capability::Clock => self.faults().is_some_and(FaultHarness::turns_clocks),
            Capability::Door => self.door().is_some(),
            Capability::Socket => self.door().is_some_and(DoorHarness::has_socket),
            Capability::Tls => self.door().is_some_and(DoorHarness::has_tls),
            other => self.inner.has(other),
        }
    }

    fn shadow(&self) -> Option<&dyn ShadowHarness> {
        let inner = self.inner.shadow();
        inner
            .filter(|_| self.layer == Layer::Shadow)
            .map(|_| self as &dyn ShadowHarness)
    }

    fn cutover(&self) -> Option<&dyn CutoverHarness> {
        let inner = self.inner.cutover();
        inner
            .filter(|_| self.layer == Layer::Cutover)
            .map(|_| self as &dyn CutoverHarness)
    }

    fn faults(&self) -> Option<&dyn FaultHarness> {
        let inner = self.inner.faults();
        inner
            .filter(|_| matches!(self.layer, Layer::Bus | Layer::Faults))
            .map(|_| self as &dyn FaultHarness)
    }

    fn door(&self) -> Option<&dyn DoorHarness> {
        let inner = self.inner.door();
        inner
            .filter(|_| self.layer == Layer::Door)
            .map(|_| self as &dyn DoorHarness)
    }

    fn plane(&self) -> &dyn Plane {
        self
    }
}

struct MutantRig {
    inner: Box<dyn Rig>,
    bus: Arc<MutantBus>,
    defect: Defect,
}

impl Around for MutantRig {
    fn inner(&self) -> &dyn Rig {
        &*self.inner
    }

    fn shown(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus) as Arc<dyn EventBus>
    }

    fn leftover(&self) -> Option<PathBuf> {
        (self.defect == Defect::LeavesPath).then(std::env::temp_dir)
    }
}
