//! A handle on the candidate, which the candidate's own thread makes, uses and drops.

use std::sync::Arc;

use eventbus_trait::EventBus;
use parking_lot::Mutex;

/// The candidate's counterpart of one shadow handle; empty until it is connected, and after it is
/// gone.
#[derive(Debug, Default)]
pub(crate) struct Link(Mutex<Option<Arc<dyn EventBus>>>);

impl Link {
    pub(crate) fn connected(bus: Arc<dyn EventBus>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(bus))))
    }

    pub(crate) fn connect(&self, bus: Arc<dyn EventBus>) {
        *self.0.lock() = Some(bus);
    }

    pub(crate) fn bus(&self) -> Option<Arc<dyn EventBus>> {
        self.0.lock().clone()
    }

    pub(crate) fn take(&self) -> Option<Arc<dyn EventBus>> {
        self.0.lock().take()
    }
}
