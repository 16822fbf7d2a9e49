//! Patience: how long anything is waited for before a clause is broken.

use std::future::Future;
use std::time::Duration;

use crate::verdict::{Checked, Unmet};

/// A bound on every wait, 30 s unless told otherwise. It ends a hang and says nothing about speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience(pub Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

impl Patience {
    /// Waits for `future`.
    ///
    /// # Errors
    /// Broken, naming `what` never came.
    pub async fn wait<T>(self, what: &str, future: impl Future<Output = T>) -> Checked<T> {
        let waited = self.0;
        tokio::time::timeout(waited, future)
            .await
            .map_err(|_| Unmet::broken(format_args!("waited {waited:?} for {what}")))
    }
}
