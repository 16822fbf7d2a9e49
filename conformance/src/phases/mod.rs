//! The phases of this project as harnesses, in the order of the migration.
//!
//! Those whose broker is hurt or whose peers are killed start the running program again: its `main`
//! calls [`life_as_a_child`] before anything else.

mod busrtd;
mod certificates;
mod doors;
mod faulty;
mod front;
mod mirrored;
mod moved;
mod running;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use busrt_backend::{BrokerMode, Options};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{EventBus, Limits};
use tempfile::TempDir;

pub use busrt_backend::Address;
pub use busrt_backend::tls::TlsOptions;
pub use busrtd::Busrtd;
pub use certificates::for_broker_and_client;
pub use doors::life_as_a_child;
pub use mirrored::Shadow;
pub use running::Running;

use crate::harness::{DoorHarness, FaultHarness, Harness, Rig};
use doors::private_directory;

/// All phases, in the order of the migration.
#[must_use]
pub fn phases() -> Vec<Arc<dyn Harness>> {
    vec![
        Arc::new(Crossbeam),
        Arc::new(InProcess),
        Arc::new(Unix),
        Arc::new(Tcp),
        Arc::new(Busrtd),
        Arc::new(Shadow::CrossbeamInProcess),
        Arc::new(Shadow::InProcessUnix),
        Arc::new(Shadow::UnixTcp),
    ]
}

/// Those of [`phases`] that need nothing that this crate does not bring: no stock `busrtd`.
#[must_use]
pub fn self_contained() -> Vec<Arc<dyn Harness>> {
    let mut all = phases();
    all.retain(|harness| harness.name() != Busrtd.name());
    all
}

/// Channels in this process.
#[derive(Debug)]
pub struct Crossbeam;

#[async_trait]
impl Harness for Crossbeam {
    fn name(&self) -> &str {
        "crossbeam"
    }

    fn backend(&self) -> Option<String> {
        Some(format!("crossbeam-backend {}", crossbeam_backend::VERSION))
    }

    fn is_modelled(&self) -> bool {
        true
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        Ok(Started::boxed(CrossbeamBus::new(limits)))
    }
}

/// A busrt broker in this process.
#[derive(Debug)]
pub struct InProcess;

#[async_trait]
impl Harness for InProcess {
    fn name(&self) -> &str {
        "in-process"
    }

    fn backend(&self) -> Option<String> {
        Some(busrt_version())
    }

    fn is_modelled(&self) -> bool {
        true
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        Ok(Started::boxed(open(Address::InProcess, limits).await?))
    }
}

/// A busrt broker behind a UNIX socket of its own.
#[derive(Debug)]
pub struct Unix;

#[async_trait]
impl Harness for Unix {
    fn name(&self) -> &str {
        "unix"
    }

    fn backend(&self) -> Option<String> {
        Some(busrt_version())
    }

    fn is_modelled(&self) -> bool {
        true
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
pub struct Tcp;

#[async_trait]
impl Harness for Tcp {
    fn name(&self) -> &str {
        "tcp"
    }

    fn backend(&self) -> Option<String> {
        Some(busrt_version())
    }

    fn is_modelled(&self) -> bool {
        true
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        let (tls, directory) = for_broker_and_client().map_err(|e| e.to_string())?;
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

/// The backend of all phases with a broker.
fn busrt_version() -> String {
    format!("busrt-backend {}", busrt_backend::VERSION)
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
