//! What a service of somebody else's says of a digest, in whatever language it is written: over a
//! broker it is called by busrt's own RPC.

use std::sync::Arc;
use std::time::Duration;

use eventbus::rpc::Call;
use eventbus::{Correlation, EventBus};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long a hash waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reputation {
    /// The service's own words.
    Said(Value),
    /// Why there are none.
    Unavailable(String),
}

/// The service that is asked.
pub(crate) struct Oracle {
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) service: String,
}

impl Oracle {
    /// Asks; a service that does not answer fails nothing.
    pub(crate) async fn ask(&self, sha256: &str, work: &Correlation) -> Reputation {
        match self.called(sha256, work).await {
            Ok(said) => Reputation::Said(said),
            Err(error) => Reputation::Unavailable(error.to_string()),
        }
    }

    async fn called(&self, sha256: &str, work: &Correlation) -> Result<Value, crate::Failure> {
        let request = json!({ "sha256": sha256 });
        let call = Call::json(&*self.service, "reputation", &request)?
            .deadline(PATIENCE)
            .correlation(work.child("reputation"))
            .idempotent();
        let reply = self.bus.call(call).await?;
        Ok(serde_json::from_slice(&reply.payload.bytes()?)?)
    }
}
