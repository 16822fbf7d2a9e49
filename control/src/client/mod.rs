//! Asking a member for its operations.
//!
//! ```
//! use control::client::CollectorClient;
//! use serde_json::json;
//! # async fn example(bus: std::sync::Arc<dyn eventbus_trait::EventBus>) -> Result<(), Box<dyn std::error::Error>> {
//! let procmond = CollectorClient::new(bus, "procmond");
//! let health = procmond.health_check().await?;
//! if health.well {
//!     procmond.update_config(7, &json!({ "interval_ms": 500 })).await?;
//!     procmond.start_collection(&json!(null)).await?;
//! }
//! # Ok(())
//! # }
//! ```

mod error;

use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::rpc::{Call, Deadlines};
use eventbus_trait::{Correlation, EventBus};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::collector::wire::{
    Capabilities, CollectionReply, ConfigReply, Empty, GET_CAPABILITIES, HEALTH_CHECK,
    HealthReport, SHUTDOWN, START_COLLECTION, STOP_COLLECTION, Shutdown, ShutdownReply,
    StartCollection, UPDATE_CONFIG, UpdateConfig,
};
pub use error::OperationError;

/// How much longer a caller waits for a shutdown than the member may take for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Calls the operations of one member.
#[derive(Debug, Clone)]
pub struct CollectorClient {
    bus: Arc<dyn EventBus>,
    name: String,
    deadlines: Deadlines,
    correlation: Option<Correlation>,
}

/// How long callers wait who say nothing else: 2 s for a health check, 35 s for a change, which
/// a member cuts off after 30 s, and 5 s for the rest. A shutdown brings its own deadline.
#[must_use]
pub fn default_deadlines() -> Deadlines {
    Deadlines::of_collectors()
}

impl CollectorClient {
    /// A client of the member of this name, with [`default_deadlines`].
    pub fn new(bus: Arc<dyn EventBus>, name: impl Into<String>) -> Self {
        Self {
            bus,
            name: name.into(),
            deadlines: default_deadlines(),
            correlation: None,
        }
    }

    /// Sets how long it waits for each operation.
    #[must_use]
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// Sets how long it waits for one operation.
    #[must_use]
    pub fn deadline(mut self, operation: &str, deadline: Duration) -> Self {
        self.deadlines = self.deadlines.with(operation, deadline);
        self
    }

    /// Sets what its calls belong to.
    #[must_use]
    pub fn correlation(mut self, correlation: Correlation) -> Self {
        self.correlation = Some(correlation);
        self
    }

    /// The member's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the member is.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn health_check(&self) -> Result<HealthReport, OperationError> {
        self.ask(HEALTH_CHECK, &Empty {}).await
    }

    /// Has it begin to collect; what and how `options` say. It may collect so already.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn start_collection(
        &self,
        options: &Value,
    ) -> Result<CollectionReply, OperationError> {
        let options = options.clone();
        self.ask(START_COLLECTION, &StartCollection { options })
            .await
    }

    /// Has it collect no more. It may not collect anyway.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn stop_collection(&self) -> Result<CollectionReply, OperationError> {
        self.ask(STOP_COLLECTION, &Empty {}).await
    }

    /// Has it go by `config`, whose version is larger than the one before, or refuse it as a whole.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn update_config(
        &self,
        version: u64,
        config: &(impl Serialize + ?Sized + Sync),
    ) -> Result<ConfigReply, OperationError> {
        self.config(version, config, false).await
    }

    /// Asks whether it would go by `config`.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn validate_config(
        &self,
        version: u64,
        config: &(impl Serialize + ?Sized + Sync),
    ) -> Result<ConfigReply, OperationError> {
        self.config(version, config, true).await
    }

    async fn config(
        &self,
        version: u64,
        config: &(impl Serialize + ?Sized + Sync),
        validate_only: bool,
    ) -> Result<ConfigReply, OperationError> {
        let config = serde_json::to_value(config).map_err(|error| OperationError::BadRequest {
            operation: UPDATE_CONFIG.to_owned(),
            reason: error.to_string(),
        })?;
        let update = UpdateConfig {
            version,
            config,
            validate_only,
        };
        self.ask(UPDATE_CONFIG, &update).await
    }

    /// What it can do.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn get_capabilities(&self) -> Result<Capabilities, OperationError> {
        self.ask(GET_CAPABILITIES, &Empty {}).await
    }

    /// Has it finish by `deadline`, and go. `instance` is the life of it that is meant, if it matters.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn shutdown(
        &self,
        deadline: Duration,
        instance: Option<&str>,
    ) -> Result<ShutdownReply, OperationError> {
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let request = Shutdown {
            deadline_ms: Some(deadline_ms),
            instance: instance.map(str::to_owned),
        };
        let wait = deadline.saturating_add(ANSWER_WITHIN);
        self.call(SHUTDOWN, &request, wait).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        operation: &str,
        request: &(impl Serialize + Sync),
    ) -> Result<T, OperationError> {
        self.call(operation, request, self.deadlines.of(operation))
            .await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        operation: &str,
        request: &(impl Serialize + Sync),
        deadline: Duration,
    ) -> Result<T, OperationError> {
        let failed = |error| OperationError::of(&self.name, operation, error);
        let call = Call::json(&self.name, operation, request);
        let mut call = call
            .map_err(|error| failed(error.into()))?
            .deadline(deadline);
        call.correlation.clone_from(&self.correlation);
        // A shadow compares what it mirrors, and how long a member has been up is never the same.
        if operation == GET_CAPABILITIES {
            call = call.idempotent();
        }
        let reply = self.bus.call(call).await.map_err(failed)?;
        let bytes = reply
            .payload
            .bytes()
            .map_err(|error| failed(error.into()))?;
        serde_json::from_slice(&bytes).map_err(|error| OperationError::BadReply {
            member: self.name.clone(),
            operation: operation.to_owned(),
            reason: error.to_string(),
        })
    }
}
