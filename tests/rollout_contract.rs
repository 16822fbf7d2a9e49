//! The contract on buses that have been moved (MIG-003): what holds in a phase holds after a cutover.
//!
//! A bus is taken to the other phase and, for one of the two, back, before a clause gets it. So each
//! clause runs on handles, publishers and subscriptions that stand above a phase, and not in it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use conformance::{Harness, Rig};
use eventbus::rollout::{self, PhasedBus, Rollout};
use eventbus::{Config, EventBus, Limits, Phase};

/// A bus that has been moved.
struct Moved {
    name: &'static str,
    /// Whether it has come back.
    back: bool,
}

struct Started {
    bus: Arc<PhasedBus>,
    _directory: tempfile::TempDir,
}

#[async_trait]
impl Harness for Moved {
    fn name(&self) -> &str {
        self.name
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let phases = vec![Phase::Crossbeam, Phase::InProcess];
        let mut rollout = Rollout::new(phases, directory.path().join("journal"));
        rollout.shadow = false;
        let config = Config::default().limits(limits).rollout(rollout);
        let bus = rollout::open(&config).await;
        let bus = bus.map_err(|error| error.to_string())?;
        let moved = bus.controller().advance(true).await;
        moved.map_err(|error| error.to_string())?;
        if self.back {
            let moved = bus.controller().back().await;
            moved.map_err(|error| error.to_string())?;
        }
        Ok(Box::new(Started {
            bus,
            _directory: directory,
        }))
    }
}

impl Rig for Started {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus) as Arc<dyn EventBus>
    }
}

fn main() -> ExitCode {
    conformance::run(vec![
        Arc::new(Moved {
            name: "moved-to-in-process",
            back: false,
        }),
        Arc::new(Moved {
            name: "moved-and-back",
            back: true,
        }),
    ])
}
