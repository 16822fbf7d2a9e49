//! All that the suite needs to run on the backend.

use std::sync::Arc;

use async_trait::async_trait;
use conformance::{Capability, Harness, Rig};
use eventbus_trait::{EventBus, Limits};

use crate::bus::BroadcastBus;

pub(crate) struct Broadcast;

#[async_trait]
impl Harness for Broadcast {
    fn name(&self) -> &str {
        "broadcast"
    }

    /// There are no calls: the trait's defaults say so.
    fn has(&self, capability: Capability) -> bool {
        let linux = cfg!(target_os = "linux");
        let has = capability == Capability::SeveralHandles;
        has || capability == Capability::Proc && linux
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        Ok(Box::new(Started(BroadcastBus::new(limits))))
    }
}

struct Started(Arc<BroadcastBus>);

impl Rig for Started {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.0) as Arc<dyn EventBus>
    }
}
