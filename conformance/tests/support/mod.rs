//! The phases of this project as harnesses.
#![allow(dead_code, reason = "each test binary uses some of them")]

#[path = "../../benches/peers/certificates.rs"]
pub(crate) mod certificates;
pub(crate) mod doors;
pub(crate) mod faulty;
pub(crate) mod front;
pub(crate) mod mirrored;
pub(crate) mod pretend;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use busrt_backend::{Address, BrokerMode, Options};
use conformance::fault::BrokerProcess;
use conformance::{Capability, DoorHarness, FaultHarness, Harness, Rig, Waiver};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{EventBus, Limits};
use parking_lot::Mutex;
use tempfile::TempDir;

use doors::{At, Door, private_directory};

/// All phases, in the order of the migration.
pub(crate) fn phases() -> Vec<Arc<dyn Harness>> {
    vec![
        Arc::new(Crossbeam),
        Arc::new(InProcess),
        Arc::new(Unix),
        Arc::new(Tcp),
        Arc::new(Busrtd),
        Arc::new(mirrored::Shadow),
    ]
}

/// Channels in this process.
#[derive(Debug)]
pub(crate) struct Crossbeam;

#[async_trait]
impl Harness for Crossbeam {
    fn name(&self) -> &str {
        "crossbeam"
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        Ok(Started::boxed(CrossbeamBus::new(limits)))
    }
}

/// A busrt broker in this process.
#[derive(Debug)]
pub(crate) struct InProcess;

#[async_trait]
impl Harness for InProcess {
    fn name(&self) -> &str {
        "in-process"
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        Ok(Started::boxed(open(Address::InProcess, limits).await?))
    }
}

/// A busrt broker behind a UNIX socket of its own.
#[derive(Debug)]
pub(crate) struct Unix;

#[async_trait]
impl Harness for Unix {
    fn name(&self) -> &str {
        "unix"
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        let directory = private_directory()?;
        let socket = directory.path().join("bus.sock");
        let bus = open(Address::Unix(socket.clone()), limits).await?;
        Ok(Box::new(Started {
            bus,
            paths: vec![socket],
            _directory: Some(directory),
        }))
    }

    fn faults(&self) -> Option<&dyn FaultHarness> {
        Some(&faulty::Kind::Unix)
    }

    fn door(&self) -> Option<&dyn DoorHarness> {
        Some(&front::Front::Unix)
    }
}

/// A busrt broker behind a TCP port of its own, with TLS.
#[derive(Debug)]
pub(crate) struct Tcp;

#[async_trait]
impl Harness for Tcp {
    fn name(&self) -> &str {
        "tcp"
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        let (tls, directory) = certificates::for_broker_and_client().map_err(|e| e.to_string())?;
        let mut options = Options::new(Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 0,
            tls,
        });
        options.broker = BrokerMode::Embedded;
        options.limits = limits;
        let bus = busrt_backend::open(options).await;
        Ok(Box::new(Started {
            bus: bus.map_err(|e| e.to_string())?,
            paths: Vec::new(),
            _directory: Some(directory),
        }))
    }

    fn faults(&self) -> Option<&dyn FaultHarness> {
        Some(&faulty::Kind::Tcp)
    }

    fn door(&self) -> Option<&dyn DoorHarness> {
        Some(&front::Front::Tcp)
    }
}

/// A stock `busrtd` behind a UNIX socket, in a process of its own.
#[derive(Debug)]
pub(crate) struct Busrtd;

#[async_trait]
impl Harness for Busrtd {
    fn name(&self) -> &str {
        "busrtd"
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        let directory = private_directory()?;
        let socket = directory.path().join("bus.sock");
        let door = Door {
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

    fn has(&self, capability: Capability) -> bool {
        capability != Capability::Shadow
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

async fn open(address: Address, limits: Limits) -> Result<Arc<dyn EventBus>, String> {
    let mut options = Options::new(address);
    options.limits = limits;
    match busrt_backend::open(options).await {
        Ok(bus) => Ok(bus),
        Err(error) => Err(error.to_string()),
    }
}

struct Started {
    bus: Arc<dyn EventBus>,
    paths: Vec<PathBuf>,
    _directory: Option<TempDir>,
}

impl Started {
    fn boxed(bus: Arc<dyn EventBus>) -> Box<dyn Rig> {
        Box::new(Self {
            bus,
            paths: Vec::new(),
            _directory: None,
        })
    }
}

impl Rig for Started {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus)
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.paths.clone()
    }
}
