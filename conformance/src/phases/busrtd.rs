//! The released `busrtd` as a phase: the session has to cope with the program as it is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::{EventBus, Limits};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::doors::{At, Door, private_directory};
use super::{busrt_version, faulty};
use crate::fault::{BUSRTD_VERSION, BrokerProcess};
use crate::harness::{Capability, FaultHarness, Harness, Rig, Waiver};

/// A stock `busrtd` behind a UNIX socket, in a process of its own.
#[derive(Debug)]
pub struct Busrtd;

#[async_trait]
impl Harness for Busrtd {
    fn name(&self) -> &str {
        "busrtd"
    }

    fn backend(&self) -> Option<String> {
        Some(format!("{} at busrtd {BUSRTD_VERSION}", busrt_version()))
    }

    fn is_modelled(&self) -> bool {
        true
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        let directory = private_directory()?;
        let socket = directory.path().join("bus.sock");
        let door = Door {
            clock: None,
            at: At::Unix(socket.clone()),
            keepalive: Duration::from_secs(30),
        };
        let broker = BrokerProcess::busrtd(&socket, door.keepalive)?;
        Ok(Box::new(OnBusrtd {
            bus: door.open(limits).await?,
            _broker: Mutex::new(broker),
            _directory: directory,
        }))
    }

    fn faults(&self) -> Option<&dyn FaultHarness> {
        Some(&faulty::Kind::Busrtd)
    }

    /// Its door is the socket of a stock broker: what it does not keep there is waived.
    fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::Shadow | Capability::Cutover => false,
            Capability::Clock => faulty::Kind::Busrtd.turns_clocks(),
            Capability::Proc => cfg!(target_os = "linux"),
            _ => true,
        }
    }

    fn waivers(&self) -> Vec<Waiver> {
        let of = |id, reason| Waiver { id, reason };
        vec![
            of(
                "SEC-001",
                "a stock busrtd deletes what is at its path and binds by its umask",
            ),
            of("SEC-002", "a stock busrtd has no TLS"),
            of("SEC-003", "a stock busrtd binds names to nothing"),
            of("SEC-004", "a stock busrtd has no access lists"),
            of(
                "SEC-005",
                "a stock busrtd checks no frame, and dies of some",
            ),
            of("SEC-006", "a stock busrtd has no limit of connections"),
            of(
                "SEC-007",
                "a stock busrtd whose first timer finds no descriptor loses the thread of its \
                 timers, and lets nobody in any more",
            ),
        ]
    }
}

struct OnBusrtd {
    bus: Arc<dyn EventBus>,
    _broker: Mutex<BrokerProcess>,
    _directory: TempDir,
}

impl Rig for OnBusrtd {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus)
    }
}
