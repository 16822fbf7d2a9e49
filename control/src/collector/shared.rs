//! A collector that several share, such as one life of a member and the next.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{Asked, Collector, Refusal};
use crate::tasks::worker::TaskHandler;

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<C: Collector + ?Sized> Collector for Arc<C> {
    async fn health_check(&self) -> Result<(), String> {
        (**self).health_check().await
    }

    async fn start_collection(&self, asked: &Asked, options: &Value) -> Result<(), Refusal> {
        (**self).start_collection(asked, options).await
    }

    async fn stop_collection(&self, asked: &Asked) -> Result<(), Refusal> {
        (**self).stop_collection(asked).await
    }

    async fn validate_config(&self, config: &Value) -> Result<(), Refusal> {
        (**self).validate_config(config).await
    }

    async fn update_config(&self, asked: &Asked, config: &Value) -> Result<(), Refusal> {
        (**self).update_config(asked, config).await
    }

    async fn get_capabilities(&self) -> Value {
        (**self).get_capabilities().await
    }

    fn task_handler(&self) -> Option<Arc<dyn TaskHandler>> {
        (**self).task_handler()
    }

    async fn shutdown(&self, asked: &Asked) -> Result<(), Refusal> {
        (**self).shutdown(asked).await
    }

    fn abort(&self) {
        (**self).abort();
    }
}
