//! Request and reply: the place that RPC has in the trait.
//!
//! No backend serves calls yet; `serve` and `call` say so with `NotSupported`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::correlation::Correlation;
use crate::payload::Payload;

/// A call of a service's method.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The service.
    pub service: String,
    /// The method.
    pub method: String,
    /// The request.
    pub payload: Payload,
    /// How long the caller waits.
    pub deadline: Duration,
    /// What the call belongs to.
    pub correlation: Option<Correlation>,
}

/// A service's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The answer.
    pub payload: Payload,
}

/// Answers calls.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Answers one call.
    ///
    /// # Errors
    /// What the caller gets instead of a reply.
    async fn handle(&self, call: Call) -> Result<Reply, CallError>;
}

/// A service to serve.
#[derive(Clone)]
pub struct Service {
    /// The name that callers use.
    pub name: String,
    /// How many calls may run at once.
    pub concurrency: usize,
    /// What answers them.
    pub handler: Arc<dyn Handler>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// A service being served, until it is dropped.
#[derive(Debug)]
pub struct Serving {
    /// The service's name.
    pub name: String,
}

/// Why a service is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The backend has no RPC.
    #[error("backend `{backend}` does not serve calls")]
    NotSupported {
        /// The backend.
        backend: String,
    },
}

/// Why a call has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The backend has no RPC.
    #[error("backend `{backend}` does not make calls")]
    NotSupported {
        /// The backend.
        backend: String,
    },
}
