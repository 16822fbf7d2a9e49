//! A handler made of one handler per method.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::call::{Call, Reply};
use super::error::Failure;
use super::service::Handler;

/// Methods by name. What is not there is refused before it waits for anything (RPC-005).
#[derive(Clone, Default)]
pub struct Methods(BTreeMap<String, Arc<dyn Handler>>);

impl Methods {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a method; a later one of the same name replaces it.
    #[must_use]
    pub fn on(mut self, method: impl Into<String>, handler: impl Handler + 'static) -> Self {
        self.0.insert(method.into(), Arc::new(handler));
        self
    }
}

#[async_trait]
impl Handler for Methods {
    async fn handle(&self, call: Call) -> Result<Reply, Failure> {
        match self.0.get(&call.method) {
            Some(handler) => handler.handle(call).await,
            None => Err(Failure::NoMethod),
        }
    }

    fn has(&self, method: &str) -> bool {
        self.0
            .get(method)
            .is_some_and(|handler| handler.has(method))
    }
}

impl fmt::Debug for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
