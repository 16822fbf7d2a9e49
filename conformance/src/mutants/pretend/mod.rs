//! A phase with pretended faults, a pretended front door and a pretended move to another phase around
//! it, which do what they should: what the mutants of those are made of where no broker is at hand.
//!
//! A process has no connection that could fail and no door that strangers could come to. Here a
//! fault harms nobody and is seen all the same, and whoever comes to the door is let in or turned
//! away by what it says it is.

mod cutover;
mod door;
mod faults;

use std::sync::Arc;

use async_trait::async_trait;
use eventbus_trait::Limits;

use crate::harness::{
    Capability, CutoverHarness, DoorHarness, FaultHarness, Harness, Rig, ShadowHarness,
};

/// A phase of which faults and front door are pretended.
pub struct Pretend {
    inner: Arc<dyn Harness>,
    shadow: Option<Arc<dyn Harness>>,
    strikes: bool,
}

impl Pretend {
    /// Around the phase of `inner`, whose buses have to be in this process.
    #[must_use]
    pub fn new(inner: Arc<dyn Harness>) -> Self {
        Self {
            inner,
            shadow: None,
            strikes: true,
        }
    }

    /// With the shadow of another phase.
    #[must_use]
    pub fn with_shadow(mut self, shadow: Arc<dyn Harness>) -> Self {
        self.shadow = Some(shadow);
        self
    }

    /// With faults that never strike.
    #[must_use]
    pub fn harmless(mut self) -> Self {
        self.strikes = false;
        self
    }
}

impl std::fmt::Debug for Pretend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pretend")
            .field("inner", &self.inner.name())
            .field("strikes", &self.strikes)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Harness for Pretend {
    fn name(&self) -> &str {
        "pretend"
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        self.inner.start(limits).await
    }

    fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::Shadow => self.shadow().is_some(),
            Capability::Faults | Capability::Clock | Capability::Cutover | Capability::Door => true,
            Capability::Socket => self.has_socket(),
            Capability::Tls => self.has_tls(),
            other => self.inner.has(other),
        }
    }

    fn shadow(&self) -> Option<&dyn ShadowHarness> {
        self.shadow.as_ref()?.shadow()
    }

    fn cutover(&self) -> Option<&dyn CutoverHarness> {
        Some(self)
    }

    fn faults(&self) -> Option<&dyn FaultHarness> {
        Some(self)
    }

    fn door(&self) -> Option<&dyn DoorHarness> {
        Some(self)
    }
}
