//! Pretended faults: the handle sees its connection come and go, and loses nothing by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::{
    BusState, ConnectError, Event, EventBus, Limits, Overflow, PublishError, Stats, Subscribe,
    Subscription, fate,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Interval;

use super::Pretend;
use crate::harness::{Fault, FaultHarness, FaultRig, Opening, Peer, Refusal, Rig, Way};
use crate::mutants::layered::{Layered, layered};
use crate::peer::{Part, play};

#[async_trait]
impl FaultHarness for Pretend {
    async fn start_faulty(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        self.unharmed(limits).await
    }

    fn turns_clocks(&self) -> bool {
        true
    }

    async fn start_by_a_clock(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        self.unharmed(limits).await
    }
}

impl Pretend {
    async fn unharmed(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        let rig = self.inner.start(limits).await?;
        let state = watch::channel(BusState::Connected).0;
        let resends = Arc::new(AtomicU64::new(0));
        let reconnects = Arc::new(AtomicU64::new(0));
        let bus = layered(Watched {
            inner: rig.bus(),
            state: state.clone(),
            resends: Arc::clone(&resends),
            reconnects: Arc::clone(&reconnects),
        });
        let everything = Subscribe::to("#").map_err(|error| error.to_string())?;
        let everything = everything.capacity(LAST).overflow(Overflow::DropOldest);
        let last = rig.bus().subscribe(everything).await;
        let last = Mutex::new(last.map_err(|error| error.to_string())?);
        Ok(Box::new(Unharmed {
            rig,
            bus,
            state,
            last,
            resends,
            reconnects,
            broker: watch::channel(true).0,
            starved: AtomicBool::new(false),
            struck: AtomicU64::new(0),
            each: u64::from(self.strikes),
        }))
    }
}

/// A bus that says how its connection stands.
struct Watched {
    inner: Arc<dyn EventBus>,
    state: watch::Sender<BusState>,
    resends: Arc<AtomicU64>,
    reconnects: Arc<AtomicU64>,
}

impl Layered for Watched {
    fn inner(&self) -> &Arc<dyn EventBus> {
        &self.inner
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }

    fn stats(&self) -> Stats {
        let mut stats = self.inner.stats();
        stats.resends = self.resends.load(Ordering::SeqCst);
        stats.reconnects = self.reconnects.load(Ordering::SeqCst);
        stats
    }
}

fn beat() -> Interval {
    tokio::time::interval(Duration::from_millis(1))
}

/// A bus that is as far away as another process: a task that publishes without ever waiting could
/// not be killed.
struct Remote {
    inner: Arc<dyn EventBus>,
    publishing: tokio::sync::Mutex<(u64, Interval)>,
}

/// How many events go out in a beat.
const IN_A_BEAT: u64 = 20;

#[async_trait]
impl Layered for Remote {
    fn inner(&self) -> &Arc<dyn EventBus> {
        &self.inner
    }

    async fn before_publish(&self, _: &Event) -> Result<(), PublishError> {
        let (published, beat) = &mut *self.publishing.lock().await;
        *published += 1;
        if published.is_multiple_of(IN_A_BEAT) {
            beat.tick().await;
        }
        Ok(())
    }
}

/// How many of the last events are looked at for one that is sent again.
const LAST: usize = 64;

struct Unharmed {
    rig: Box<dyn Rig>,
    bus: Arc<dyn EventBus>,
    state: watch::Sender<BusState>,
    /// Has the events that were published last.
    last: Mutex<Subscription>,
    /// Events of the first handle that are said to have been sent again.
    resends: Arc<AtomicU64>,
    /// How often its handle is said to have connected again.
    reconnects: Arc<AtomicU64>,
    /// Whether the broker is there.
    broker: watch::Sender<bool>,
    /// Whether the broker can open nothing.
    starved: AtomicBool,
    struck: AtomicU64,
    each: u64,
}

impl Unharmed {
    fn disconnect(&self) {
        self.state.send_replace(BusState::Connecting {
            attempts: 0,
            reason: "pretended".to_owned(),
        });
    }

    /// Says that an event of the first handle is sent again, if one of the last was its.
    fn resend(&self) {
        let own = self.bus.publisher_id();
        let mut last = self.last.lock();
        let queued = std::iter::from_fn(|| last.try_recv().ok());
        let own = queued.filter(|event| event.origin().is_some_and(|o| o.publisher == own));
        if let Some(event) = own.last() {
            fate::sent_again("pretended", &event, "a pretended reset");
            self.resends.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn reconnect(&self) {
        let before = self.state.send_replace(BusState::Connected);
        if before != BusState::Connected {
            self.reconnects.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Rig for Unharmed {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus)
    }
}

#[async_trait]
impl FaultRig for Unharmed {
    async fn open(&self, opening: Opening) -> Result<Arc<dyn EventBus>, Refusal> {
        let mut broker = self.broker.subscribe();
        if opening.wait {
            let there = broker.wait_for(|there| *there).await;
            there.map(|_| ()).map_err(|error| error.to_string())?;
        }
        if !*broker.borrow() {
            let (address, reason) = ("pretend".to_owned(), "it was killed".to_owned());
            return Err(ConnectError::Unreachable { address, reason }.into());
        }
        if self.starved.load(Ordering::SeqCst) {
            return Err("the broker has no descriptors".to_owned().into());
        }
        Ok(self.rig.bus().connect(opening.name.as_deref()).await?)
    }

    async fn strike(&self, fault: Fault) -> Result<(), String> {
        if self.each == 0 {
            return Ok(());
        }
        match fault {
            Fault::BrokerKilled => {
                self.broker.send_replace(false);
                self.disconnect();
            }
            Fault::Reset | Fault::Torn(_) => {
                self.disconnect();
                self.resend();
                self.reconnect();
            }
            Fault::NoDescriptors => self.starved.store(true, Ordering::SeqCst),
            Fault::Partition | Fault::HalfPartition(_) => self.disconnect(),
            _ => {}
        }
        self.struck.fetch_add(self.each, Ordering::SeqCst);
        Ok(())
    }

    async fn heal(&self) -> Result<(), String> {
        self.starved.store(false, Ordering::SeqCst);
        self.broker.send_replace(true);
        self.reconnect();
        Ok(())
    }

    fn struck(&self) -> u64 {
        self.struck.load(Ordering::SeqCst)
    }

    /// As many as there were events.
    fn pieces(&self, way: Way) -> u64 {
        let stats = self.bus.stats();
        match way {
            Way::Up => stats.published,
            Way::Down => stats.subscriptions.iter().map(|s| s.delivered).sum(),
        }
    }

    fn broker_cpu(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn keepalive(&self) -> Duration {
        Duration::from_millis(2)
    }

    async fn start_peer(&self, part: Part) -> Result<Box<dyn Peer>, String> {
        let bus = self.rig.bus().connect(part.client_name()).await;
        let bus = bus.map_err(|error| error.to_string())?;
        let said = Arc::new(Mutex::new(Vec::new()));
        if matches!(part, Part::Idler { .. }) {
            let (bus, task) = (Some(bus), None);
            return Ok(Box::new(Task { said, task, bus }));
        }
        let lines = Arc::clone(&said);
        let bus = layered(Remote {
            inner: bus,
            publishing: tokio::sync::Mutex::new((0, beat())),
        });
        let task = tokio::spawn(async move {
            // What stops it is being killed.
            let _ = play(bus, part, move |line| lines.lock().push(line)).await;
        });
        let mut beat = beat();
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
