//! A phase that can be hurt, and whose buses have a defect besides. Other processes have none.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::{EventBus, Limits};

use super::{Defect, MutantBus, MutantHarness};
use crate::harness::{Fault, FaultHarness, FaultRig, Opening, Peer, Rig};
use crate::peer::Part;

#[async_trait]
impl FaultHarness for MutantHarness {
    async fn start_faulty(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        let Some(faults) = self.inner.faults() else {
            return Err("the phase has nothing to hurt".to_owned());
        };
        Ok(self.hurt(faults.start_faulty(limits).await?))
    }

    fn turns_clocks(&self) -> bool {
        self.inner.faults().is_some_and(FaultHarness::turns_clocks)
    }

    async fn start_by_a_clock(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        let Some(faults) = self.inner.faults() else {
            return Err("the phase has nothing to hurt".to_owned());
        };
        Ok(self.hurt(faults.start_by_a_clock(limits).await?))
    }
}

impl MutantHarness {
    fn hurt(&self, inner: Box<dyn FaultRig>) -> Box<dyn FaultRig> {
        let bus = MutantBus::new(inner.bus(), self.defect);
        let defect = self.defect;
        Box::new(MutantFaultRig { inner, bus, defect })
    }
}

struct MutantFaultRig {
    inner: Box<dyn FaultRig>,
    bus: Arc<MutantBus>,
    defect: Defect,
}

impl Rig for MutantFaultRig {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus) as Arc<dyn EventBus>
    }
}

#[async_trait]
impl FaultRig for MutantFaultRig {
    async fn open(&self, opening: Opening) -> Result<Arc<dyn EventBus>, String> {
        let bus = self.inner.open(opening).await?;
        Ok(MutantBus::new(bus, self.defect))
    }

    async fn strike(&self, fault: Fault) -> Result<(), String> {
        self.inner.strike(fault).await
    }

    async fn heal(&self) -> Result<(), String> {
        self.inner.heal().await
    }

    fn struck(&self) -> u64 {
        self.inner.struck()
    }

    fn keepalive(&self) -> Duration {
        self.inner.keepalive()
    }

    fn broker_cpu(&self) -> Option<Duration> {
        self.inner.broker_cpu()
    }

    async fn start_peer(&self, part: Part) -> Result<Box<dyn Peer>, String> {
        self.inner.start_peer(part).await
    }
}
