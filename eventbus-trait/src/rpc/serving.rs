//! A service while it is served.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

/// A service being served, until it is stopped or dropped.
///
/// Dropping it ends the calls under way: their handlers are dropped, and their callers get
/// [`CallError::CalleeGone`](super::CallError::CalleeGone).
#[must_use = "a service is served until this is dropped"]
pub struct Serving {
    name: String,
    served: Box<dyn Served>,
}

/// A backend's side of a [`Serving`]. Dropping it ends it at once.
#[async_trait]
pub trait Served: Send + Sync {
    /// Takes no more calls, and waits until those under way have ended, at most for `deadline`;
    /// says whether they have.
    async fn stop(&self, deadline: Duration) -> bool;
}

impl Serving {
    /// Puts it together: for backends.
    pub fn new(name: impl Into<String>, served: impl Served + 'static) -> Self {
        let name = name.into();
        let served = Box::new(served);
        Self { name, served }
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes no more calls, lets those under way end, at most for `deadline`, and ends it. Whether all
    /// have ended by themselves.
    pub async fn stop(self, deadline: Duration) -> bool {
        self.served.stop(deadline).await
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
