//! Two neighbours in the migration as the phases of one bus: a rollout of the facade's, in this
//! process, or in one of its own that is killed.
//!
//! Each has a directory with the journal, and sockets and certificates where it has such; whoever
//! starts there again finds what the one before has left.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use eventbus::rollout::{self, PhasedBus, Rollout, Step, Trial};
use eventbus::{BrokerMode, Config, Event, EventBus, Limits, Phase, Subscribe, Tls};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::doors::private_directory;
use super::{Shadow, certificates};
use crate::fault::Reserved;
use crate::harness::{Course, CutoverHarness, CutoverRig, Rig, Steps, Wreck};

/// What a process that is to die is told.
const TOLD: &str = "EVENTBUS_CONFORMANCE_MOVED";
/// What the certificate entitles to.
const NAME: &str = "collector";
/// How long a process may take to die; it is far less.
const LIFE: Duration = Duration::from_secs(25);
/// Far longer than publishers are held.
const HOLD: Duration = Duration::from_secs(20);

#[async_trait]
impl CutoverHarness for Shadow {
    async fn start_movable(&self, limits: Limits) -> Result<Box<dyn CutoverRig>, String> {
        Home::new(*self)?.open(limits).await
    }

    fn steps(&self) -> Steps {
        Steps {
            last: Step::Done.number(),
            decides: Step::Commit.number(),
        }
    }

    async fn crash(&self, course: Course, step: u8) -> Result<Box<dyn Wreck>, String> {
        let home = Home::new(*self)?;
        let told = Told {
            place: home.place.clone(),
            back: course == Course::Back,
            step,
        };
        let died = tokio::task::spawn_blocking(move || die(&told)).await;
        died.map_err(|error| error.to_string())??;
        Ok(Box::new(home))
    }
}

/// Where a bus is at home, also after its process is gone.
#[derive(Debug, Clone)]
struct Home {
    place: Place,
    directory: Arc<TempDir>,
    port: Option<Arc<Reserved>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place {
    phases: Vec<String>,
    journal: PathBuf,
    /// Authority, certificate, key.
    tls: Option<[PathBuf; 3]>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Told {
    place: Place,
    back: bool,
    step: u8,
}

impl Home {
    fn new(pair: Shadow) -> Result<Self, String> {
        let directory = private_directory()?;
        let unix = format!("unix://{}", directory.path().join("bus.sock").display());
        let (names, port) = match pair {
            Shadow::CrossbeamInProcess => (["crossbeam".to_owned(), "in-process".to_owned()], None),
            Shadow::InProcessUnix => (["in-process".to_owned(), unix], None),
            Shadow::UnixTcp => {
                let port = Reserved::new().map_err(|error| error.to_string())?;
                ([unix, format!("tcp://{}", port.address())], Some(port))
            }
        };
        let tls = port.as_ref();
        let tls = tls.map(|_| certificates::in_directory(directory.path(), NAME));
        let place = Place {
            phases: names.into(),
            journal: directory.path().join("journal"),
            tls: tls.transpose()?,
        };
        let directory = Arc::new(directory);
        Ok(Self {
            place,
            directory,
            port: port.map(Arc::new),
        })
    }

    async fn open(self, limits: Limits) -> Result<Box<dyn CutoverRig>, String> {
        let config = self.place.config()?.limits(limits);
        let bus = rollout::open(&config).await;
        Ok(Box::new(Moved {
            bus: bus.map_err(|error| error.to_string())?,
            _directory: self.directory,
            _port: self.port,
        }))
    }
}

impl Place {
    fn config(&self) -> Result<Config, String> {
        let phases = self.phases.iter().map(|phase| phase.parse::<Phase>());
        let phases: Vec<_> = phases
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let mut rollout = Rollout::new(phases, &self.journal);
        rollout.shadow = false;
        rollout.hold = HOLD;
        let config = Config::default()
            .broker_mode(BrokerMode::Embedded)
            .rollout(rollout);
        Ok(match &self.tls {
            Some([ca, cert, key]) => config.name(NAME).tls(Tls::new(ca, cert, key)),
            None => config,
        })
    }
}

#[async_trait]
impl Wreck for Home {
    async fn restart(&self) -> Result<Box<dyn CutoverRig>, String> {
        self.clone().open(Limits::default()).await
    }
}

struct Moved {
    bus: Arc<PhasedBus>,
    _directory: Arc<TempDir>,
    _port: Option<Arc<Reserved>>,
}

impl Rig for Moved {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus) as Arc<dyn EventBus>
    }
}

#[async_trait]
impl CutoverRig for Moved {
    fn holds_second(&self) -> bool {
        self.bus.controller().status().stage == 1
    }

    async fn cut_over(&self, course: Course) -> Result<(), String> {
        let controller = self.bus.controller();
        let moved = match course {
            Course::Forward => controller.advance(true).await,
            Course::Back => controller.back().await,
        };
        moved.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Waits until this program, started again, was killed where it was to be.
fn die(told: &Told) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let told = serde_json::to_string(told).map_err(|error| error.to_string())?;
    let ended = Command::new(program)
        .env(TOLD, told)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match ended {
        Ok(status) if status.signal() == Some(9) => Ok(()),
        Ok(status) => Err(format!(
            "the process that was to be killed has ended: {status}"
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// If this process is one that is to die over a move: its whole life.
pub(super) fn life_and_death() -> Option<ExitCode> {
    let told = std::env::var(TOLD).ok()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let lived = match (runtime, serde_json::from_str::<Told>(&told)) {
        (Ok(runtime), Ok(told)) => runtime.block_on(async {
            let lived = tokio::time::timeout(LIFE, live(told)).await;
            lived.unwrap_or_else(|_| Err("it takes too long to die".to_owned()))
        }),
        (Err(error), _) => Err(error.to_string()),
        (_, Err(error)) => Err(error.to_string()),
    };
    let reason = lived.err().unwrap_or_else(|| "it has survived".to_owned());
    eprintln!("moved: {reason}");
    Some(ExitCode::FAILURE)
}

async fn live(told: Told) -> Result<(), String> {
    let armed = Arc::new(AtomicBool::new(false));
    let kills = Arc::clone(&armed);
    let watch = move |at: Step| {
        if at.number() == told.step && kills.load(Ordering::SeqCst) {
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
            loop {
                std::thread::park();
            }
        }
    };
    let bus = rollout::open_trial(&told.place.config()?, Trial::default().on_step(watch)).await;
    let bus = bus.map_err(|error| error.to_string())?;
    let controller = bus.controller().clone();
    if told.back {
        let moved = controller.advance(true).await;
        moved.map_err(|error| error.to_string())?;
    }
    use_it(&bus).await?;
    armed.store(true, Ordering::SeqCst);
    let moved = match told.back {
        false => controller.advance(true).await,
        true => controller.back().await,
    };
    moved.map(|_| ()).map_err(|error| error.to_string())
}

/// Publishes and reads from now on; returns once events flow.
async fn use_it(bus: &Arc<PhasedBus>) -> Result<(), String> {
    const FLOWING: u32 = 100;
    let all = Subscribe::to("a.#").map_err(|error| error.to_string())?;
    let subscribed = bus.subscribe(all).await;
    let mut events = subscribed.map_err(|error| error.to_string())?;
    let publisher = bus.connect(None).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        while let Ok(event) = Event::new("a.b", "x")
            && publisher.publish(event).await.is_ok()
        {
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..FLOWING {
        events.recv().await.ok_or("the stream has ended")?;
    }
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    Ok(())
}
