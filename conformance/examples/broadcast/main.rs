//! The conformance suite on a backend that is none of this project's, and does not pass.
//!
//! ```text
//! cargo run -p conformance --example broadcast
//! ```
//!
//! `bus.rs` is the backend; this file is all that the suite needs to run on it.

mod bus;

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use conformance::{Harness, Rig};
use eventbus_trait::{EventBus, Limits};

use bus::BroadcastBus;

struct Broadcast;

#[async_trait]
impl Harness for Broadcast {
    fn name(&self) -> &str {
        "broadcast"
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        Ok(Box::new(Started(BroadcastBus::new(limits))))
    }
}

struct Started(Arc<BroadcastBus>);

impl Rig for Started {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.0) as Arc<dyn EventBus>
    }
}

fn main() -> ExitCode {
    conformance::run(vec![Arc::new(Broadcast)])
}
