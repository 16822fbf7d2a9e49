//! A collector that has nothing to collect, and does tasks.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{Asked, Collector, Refusal};
use crate::tasks::worker::TaskHandler;

/// Collects nothing, and has this handler do its tasks. Asked to begin to collect, it is `collecting` nothing.
///
/// ```
/// # use std::sync::Arc;
/// # use control::collector::{HostError, Options, TasksOnly, serve_collector};
/// # use control::member::Identity;
/// # use control::tasks::worker::TaskHandler;
/// # async fn example(bus: Arc<dyn eventbus_trait::EventBus>, handler: Arc<dyn TaskHandler>) -> Result<(), HostError> {
/// let identity = Identity::new("hasher-1", "hasher").capability("hash").max_tasks(4);
/// let host = serve_collector(bus, identity, TasksOnly(handler), Options::default()).await?;
/// # host.ended().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TasksOnly(pub Arc<dyn TaskHandler>);

#[async_trait]
impl Collector for TasksOnly {
    async fn start_collection(&self, _: &Asked, _: &Value) -> Result<(), Refusal> {
        Ok(())
    }

    async fn stop_collection(&self, _: &Asked) -> Result<(), Refusal> {
        Ok(())
    }

    fn task_handler(&self) -> Option<Arc<dyn TaskHandler>> {
        Some(Arc::clone(&self.0))
    }
}

impl fmt::Debug for TasksOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TasksOnly").finish_non_exhaustive()
    }
}
