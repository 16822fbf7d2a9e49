//! A rig with one thing changed: everything is the rig's inside unless whoever stands around it says
//! otherwise.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use eventbus_trait::EventBus;

use crate::harness::Rig;

/// Who stands around a rig, and is one.
pub(super) trait Around: Send + Sync {
    /// The rig inside.
    fn inner(&self) -> &dyn Rig;

    /// The bus that is shown for the one inside.
    fn shown(&self) -> Arc<dyn EventBus> {
        self.inner().bus()
    }

    /// A path that should be gone and is not.
    fn leftover(&self) -> Option<PathBuf> {
        None
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<A: Around> Rig for A {
    fn bus(&self) -> Arc<dyn EventBus> {
        self.shown()
    }

    async fn quiesce(&self) {
        self.inner().quiesce().await;
    }

    async fn judge(&self) -> Result<(), String> {
        self.inner().judge().await
    }

    fn paths(&self) -> Vec<PathBuf> {
        let paths = self.inner().paths().into_iter();
        paths.chain(self.leftover()).collect()
    }
}
