//! Crossbeam with faults that are only said to have struck, and a door that lets everybody in: the
//! clauses on faults and on the front door have to fail on it, or on mutants of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use conformance::peer::{Part, play};
use conformance::phases::Crossbeam;
use conformance::{
    Answer, Caller, DoorHarness, DoorRig, Fault, FaultHarness, FaultRig, Harness, Opening, Peer,
    Rig,
};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{EventBus, Limits};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Faults harm nobody, and strike if `strikes`.
#[derive(Debug)]
pub(crate) struct Pretend {
    pub(crate) strikes: bool,
}

#[async_trait]
impl Harness for Pretend {
    fn name(&self) -> &str {
        "pretend"
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        Crossbeam.start(limits).await
    }

    fn faults(&self) -> Option<&dyn FaultHarness> {
        Some(self)
    }

    fn door(&self) -> Option<&dyn DoorHarness> {
        Some(self)
    }
}

#[async_trait]
impl DoorHarness for Pretend {
    async fn start_door(&self, limits: Limits, _: usize) -> Result<Box<dyn DoorRig>, String> {
        let bus = CrossbeamBus::new(limits);
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let socket = directory.path().join("socket");
        std::fs::write(&socket, "anybody's").map_err(|error| error.to_string())?;
        Ok(Box::new(Open {
            bus,
            socket,
            _directory: directory,
        }))
    }
}

/// A door that lets everybody in.
struct Open {
    bus: Arc<dyn EventBus>,
    socket: PathBuf,
    _directory: TempDir,
}

impl Rig for Open {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus)
    }
}

#[async_trait]
impl DoorRig for Open {
    async fn come(&self, _: Caller) -> Result<Answer, String> {
        let bus = self.bus.connect(None).await;
        bus.map(Answer::In).map_err(|error| error.to_string())
    }

    fn socket(&self) -> Option<PathBuf> {
        Some(self.socket.clone())
    }

    async fn second_broker(&self) -> Result<(), String> {
        Ok(())
    }
}

#[async_trait]
impl FaultHarness for Pretend {
    async fn start_faulty(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        Ok(self.unharmed(limits))
    }

    fn turns_clocks(&self) -> bool {
        true
    }

    async fn start_by_a_clock(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        Ok(self.unharmed(limits))
    }
}

impl Pretend {
    fn unharmed(&self, limits: Limits) -> Box<dyn FaultRig> {
        Box::new(Unharmed {
            bus: CrossbeamBus::new(limits),
            struck: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            since: Instant::now(),
            each: u64::from(self.strikes),
        })
    }
}

struct Unharmed {
    bus: Arc<dyn EventBus>,
    struck: AtomicU64,
    starved: AtomicBool,
    since: Instant,
    each: u64,
}

impl Rig for Unharmed {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus)
    }
}

#[async_trait]
impl FaultRig for Unharmed {
    async fn open(&self, opening: Opening) -> Result<Arc<dyn EventBus>, String> {
        if self.starved.load(Ordering::SeqCst) {
            return Err("no descriptors".to_owned());
        }
        let bus = self.bus.connect(opening.name.as_deref()).await;
        bus.map_err(|error| error.to_string())
    }

    async fn strike(&self, fault: Fault) -> Result<(), String> {
        let starved = fault == Fault::NoDescriptors;
        self.starved.store(starved, Ordering::SeqCst);
        self.struck.fetch_add(self.each, Ordering::SeqCst);
        Ok(())
    }

    async fn heal(&self) -> Result<(), String> {
        self.starved.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn struck(&self) -> u64 {
        self.struck.load(Ordering::SeqCst)
    }

    /// It spins.
    fn broker_cpu(&self) -> Option<Duration> {
        Some(self.since.elapsed())
    }

    fn keepalive(&self) -> Duration {
        Duration::from_millis(10)
    }

    async fn start_peer(&self, part: Part) -> Result<Box<dyn Peer>, String> {
        let bus = self.bus.connect(part.client_name()).await;
        let bus = bus.map_err(|error| error.to_string())?;
        let said = Arc::new(Mutex::new(Vec::new()));
        if matches!(part, Part::Idler { .. }) {
            let (bus, task) = (Some(bus), None);
            return Ok(Box::new(Task { said, task, bus }));
        }
        let lines = Arc::clone(&said);
        let task = tokio::spawn(async move {
            let _ = play(bus, part, move |line| lines.lock().push(line)).await;
        });
        let mut beat = tokio::time::interval(Duration::from_millis(1));
        while said.lock().is_empty() {
            beat.tick().await;
        }
        said.lock().remove(0);
        let (bus, task) = (None, Some(task));
        Ok(Box::new(Task { said, task, bus }))
    }
}

/// A process that is a task.
struct Task {
    said: Arc<Mutex<Vec<String>>>,
    task: Option<JoinHandle<()>>,
    bus: Option<Arc<dyn EventBus>>,
}

impl Peer for Task {
    fn kill(&mut self) {
        self.bus = None;
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said.lock())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.kill();
    }
}
