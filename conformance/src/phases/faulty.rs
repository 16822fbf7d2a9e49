//! Phases whose broker is another process, with a proxy before the first handle.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::fault::{
    Authority, BrokerProcess, Clock, Place, Process, Proxy, Reserved, Rules, Starved, Trickle,
    cpu_time,
};
use crate::peer::Part;
use crate::{Fault, FaultHarness, FaultRig, Opening, Peer, Refusal, Rig, Way};
use async_trait::async_trait;
use eventbus_trait::{EventBus, Limits};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::doors::{At, CLOCK, Door, Files, beside, private_directory, seconds_now};

/// Short, so that what lasts longer does not last long; but on a busy machine a handle that has no
/// turn for as long is thrown out, and what it publishes meanwhile goes to nobody who subscribes then.
const KEEPALIVE: Duration = Duration::from_secs(1);
const NO_CLOCK: &str = "the processes have no clock that could be turned";
/// So long that nobody is taken for silent who is only busy: where none is to be.
const CALM: Duration = Duration::from_secs(5);
/// How long another process may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whose broker, and how it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unix,
    Tcp,
    Busrtd,
}

#[async_trait]
impl FaultHarness for Kind {
    async fn start_faulty(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        Ok(Box::new(Faulty::start(*self, limits, false).await?))
    }

    fn turns_clocks(&self) -> bool {
        self.could_turn_clocks() && Clock::can_be_turned()
    }

    /// A stock broker cannot be asked what time it has.
    fn could_turn_clocks(&self) -> bool {
        *self != Self::Busrtd
    }

    async fn start_by_a_clock(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        Ok(Box::new(Faulty::start(*self, limits, true).await?))
    }
}

struct Faulty {
    /// What the broker's own place is reached by.
    direct: Door,
    limits: Limits,
    bus: Arc<dyn EventBus>,
    proxy: Proxy,
    broker: Mutex<BrokerProcess>,
    starved: Mutex<Option<Starved>>,
    /// Faults that neither the proxy nor a kill is counted for.
    unseen: AtomicU64,
    _directory: TempDir,
    /// The broker's, also while it is dead.
    _port: Option<Reserved>,
}

impl Faulty {
    async fn start(kind: Kind, limits: Limits, by_a_clock: bool) -> Result<Self, String> {
        let directory = private_directory()?;
        let keepalive = if by_a_clock { CALM } else { KEEPALIVE };
        let clock = by_a_clock.then(|| Clock::new(directory.path()));
        let clock = clock.map(|clock| clock.ok_or(NO_CLOCK)).transpose()?;
        if let Some(clock) = &clock {
            clock.turn(0).map_err(|error| error.to_string())?;
        }
        let port = match kind {
            Kind::Unix | Kind::Busrtd => None,
            Kind::Tcp => Some(Reserved::new().map_err(|error| error.to_string())?),
        };
        let place = match &port {
            None => Place::Unix(directory.path().join("broker.sock")),
            Some(port) => Place::Tcp(port.address()),
        };
        let authority = Authority::new(directory.path(), "authority")?;
        let door = |place: &Place, names: &[&str]| {
            let at = match place {
                Place::Unix(path) => At::Unix(path.clone()),
                Place::Tcp(address) => At::Tcp(*address, Files::of(authority.issue(names)?)),
            };
            Ok::<_, String>(Door {
                clock: clock.clone(),
                at,
                keepalive,
            })
        };
        let broker = match (kind, &place) {
            (Kind::Busrtd, Place::Unix(path)) => BrokerProcess::busrtd(path, KEEPALIVE)?,
            _ => {
                let door = door(&place, &["broker"])?;
                let _ = door.broker_command()?;
                let command = move || {
                    door.broker_command()
                        .unwrap_or_else(|_| Command::new("false"))
                };
                BrokerProcess::speaking(command).map_err(|error| error.to_string())?
            }
        };
        let own = beside(&place, &directory, "door.sock");
        let proxy = Proxy::start(&own, place.clone()).map_err(|error| error.to_string())?;
        let names = ["conformance", "collector", "mortal"];
        let bus = door(proxy.place(), &names)?.open(limits.clone()).await?;
        Ok(Self {
            direct: door(&place, &names)?,
            limits,
            bus,
            proxy,
            broker: Mutex::new(broker),
            starved: Mutex::new(None),
            unseen: AtomicU64::new(0),
            _directory: directory,
            _port: port,
        })
    }
}

impl Faulty {
    fn broker_id(&self) -> Option<u32> {
        self.broker.lock().process().map(Process::id)
    }

    fn starve(&self) -> Result<(), String> {
        let broker = self.broker_id().ok_or("there is no broker")?;
        let starved = Starved::starve(broker).map_err(|error| error.to_string())?;
        *self.starved.lock() = Some(starved);
        self.unseen.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Turns the clock, and has the broker say what time it has now.
    fn turn(&self, seconds: i64) -> Result<(), String> {
        let clock = self.direct.clock.as_ref().ok_or(NO_CLOCK)?;
        clock.turn(seconds).map_err(|error| error.to_string())?;
        let said = self.broker.lock().ask(CLOCK);
        let said = said.map_err(|error| error.to_string())?;
        let has: i64 = said.parse().map_err(|_| format!("no time: {said}"))?;
        let off = has - seconds_now();
        if (off - seconds).abs() < 60 {
            return Ok(());
        }
        Err(format!(
            "the broker's clock is {off} s off, and not {seconds} s"
        ))
    }
}

impl Rig for Faulty {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus)
    }
}

#[async_trait]
impl FaultRig for Faulty {
    async fn open(&self, opening: Opening) -> Result<Arc<dyn EventBus>, Refusal> {
        let mut options = self.direct.options(self.limits.clone());
        options.name = opening.name;
        options.wait = opening.wait;
        options.connect_timeout = opening.within.unwrap_or(options.connect_timeout);
        self.direct.open_with(options).await
    }

    async fn strike(&self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::BrokerKilled => self.broker.lock().kill(),
            Fault::Reset => {
                // One that was struck before may not be back yet.
                let mut beat = tokio::time::interval(Duration::from_millis(1));
                while self.proxy.reset() == 0 {
                    beat.tick().await;
                }
            }
            Fault::Partition => self.proxy.rule(Rules::partitioned()),
            Fault::HalfPartition(way) => self.proxy.rule(Rules::half_partitioned(way)),
            Fault::Delay => self.proxy.rule(Rules {
                delay: Some(Duration::from_millis(20)),
                ..Rules::default()
            }),
            Fault::Trickle => self.proxy.rule(Rules {
                trickle: Some(Trickle {
                    bytes: 13,
                    every: Duration::from_millis(1),
                }),
                ..Rules::default()
            }),
            Fault::Torn(way) => self.proxy.tear(way),
            Fault::NoDescriptors => self.starve()?,
            Fault::ClockJump { hours } => {
                self.turn(i64::from(hours) * 3600)?;
                self.unseen.fetch_add(1, Ordering::SeqCst);
            }
        }
        Ok(())
    }

    async fn heal(&self) -> Result<(), String> {
        self.proxy.heal();
        if self.direct.clock.is_some() {
            self.turn(0)?;
        }
        if let Some(starved) = self.starved.lock().take() {
            starved.feed().map_err(|error| error.to_string())?;
        }
        let started = self.broker.lock().start();
        started.map_err(|error| error.to_string())
    }

    fn struck(&self) -> u64 {
        let unseen = self.unseen.load(Ordering::SeqCst);
        self.broker.lock().kills() + self.proxy.struck().total() + unseen
    }

    fn pieces(&self, way: Way) -> u64 {
        self.proxy.pieces(way)
    }

    fn broker_cpu(&self) -> Option<Duration> {
        self.broker_id().and_then(cpu_time)
    }

    fn keepalive(&self) -> Duration {
        self.direct.keepalive
    }

    async fn start_peer(&self, part: Part) -> Result<Box<dyn Peer>, String> {
        let command = self.direct.peer_command(&part)?;
        let process = Process::start(part.to_word(), command);
        let process = process.map_err(|error| error.to_string())?;
        let ready = process.wait_for("ready", PATIENCE);
        ready.map_err(|error| error.to_string())?;
        Ok(Box::new(Other {
            process,
            last: Vec::new(),
        }))
    }
}

struct Other {
    process: Process,
    /// What it had said when it was killed.
    last: Vec<String>,
}

impl Peer for Other {
    fn kill(&mut self) {
        self.process.kill();
        // Its output has an end now, which what it said comes before.
        while let Ok(line) = self.process.line(PATIENCE) {
            self.last.push(line);
        }
    }

    fn said(&mut self) -> Vec<String> {
        let mut said = std::mem::take(&mut self.last);
        said.extend(std::iter::from_fn(|| {
            self.process.try_line().ok().flatten()
        }));
        said
    }
}
