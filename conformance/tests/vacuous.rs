//! A clause that never exercised its subject does not pass: on buses where nothing ever happens,
//! hardly any does, and those that do are listed, each with why.
// Helpers of tests are outside of what clippy takes for tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use conformance::history::mark_of;
use conformance::peer::Part;
use conformance::{
    Answer, CLAUSES, Caller, DoorHarness, DoorRig, Fault, FaultHarness, FaultRig, Harness, Opening,
    Patience, Peer, Refusal, Rig, Verdict, Way, run_clause_within,
};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{
    BatchRefused, ConnectError, Event, EventBus, Limits, PublishError, PublishTopic, Publisher,
    PublisherId, Receipt, Refused, ShutdownError, Stats, Subscribe, SubscribeError, Subscription,
    Topic, TryPublishError,
};

/// Whoever waits here waits in vain, but for the [`EXCEPTIONS`].
const SHORT: Patience = Patience(Duration::from_secs(1));
/// Clauses at a time: of those who wait, several; of those who work, not too many.
const AT_A_TIME: usize = 6;

/// In which way nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Nothing is ever taken, for want of room.
    Refuses,
    /// Everything is taken, and nothing delivered.
    Swallows,
    /// The same, but fences get through, so that every clause believes that it has seen it all.
    SwallowsMarked,
}

/// Clauses that pass all the same, and why.
const EXCEPTIONS: &[(How, &str, &str)] = &[(
    How::SwallowsMarked,
    "FLW-006",
    "its events carry no marks, so that they are delivered",
)];

fn verdicts(how: How) -> Vec<(&'static str, Verdict)> {
    let next = AtomicUsize::new(0);
    let some = || {
        let harness: Arc<dyn Harness> = Arc::new(Vacuous(how));
        let mut verdicts = Vec::new();
        while let Some(clause) = CLAUSES.get(next.fetch_add(1, Ordering::SeqCst)) {
            let excepted = EXCEPTIONS
                .iter()
                .any(|(on, id, _)| (*on, *id) == (how, clause.id));
            let patience = match excepted {
                true => Patience::default(),
                false => SHORT,
            };
            verdicts.push((clause.id, run_clause_within(patience, &harness, clause)));
        }
        verdicts
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(some)).collect();
        let ended = running.into_iter().flat_map(|one| one.join().unwrap());
        ended.collect()
    })
}

fn none_passes(how: How) {
    let passed: Vec<&str> = verdicts(how)
        .into_iter()
        .inspect(|(id, verdict)| println!("{id}: {verdict}"))
        .filter(|(_, verdict)| *verdict == Verdict::Pass)
        .map(|(id, _)| id)
        .collect();
    let excepted = EXCEPTIONS.iter().filter(|(on, ..)| *on == how);
    let excepted: Vec<&str> = excepted.map(|(_, id, _)| *id).collect();
    assert_eq!(passed, excepted, "clauses that pass on a bus that {how:?}");
}

#[test]
fn no_clause_passes_where_nothing_is_taken() {
    none_passes(How::Refuses);
}

#[test]
fn no_clause_passes_where_nothing_is_delivered() {
    none_passes(How::Swallows);
}

#[test]
fn no_clause_passes_where_nothing_but_fences_is_delivered() {
    none_passes(How::SwallowsMarked);
}

/// Crossbeam on which nothing happens.
#[derive(Debug)]
struct Vacuous(How);

#[async_trait]
impl Harness for Vacuous {
    fn name(&self) -> &str {
        "vacuous"
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        Ok(Box::new(Still::new(self.0, limits)))
    }

    fn faults(&self) -> Option<&dyn FaultHarness> {
        Some(self)
    }

    fn door(&self) -> Option<&dyn DoorHarness> {
        Some(self)
    }
}

#[async_trait]
impl FaultHarness for Vacuous {
    async fn start_faulty(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        Ok(Box::new(Still::new(self.0, limits)))
    }

    fn turns_clocks(&self) -> bool {
        true
    }

    async fn start_by_a_clock(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        self.start_faulty(limits).await
    }
}

#[async_trait]
impl DoorHarness for Vacuous {
    async fn start_door(&self, limits: Limits, _: usize) -> Result<Box<dyn DoorRig>, String> {
        Ok(Box::new(Still::new(self.0, limits)))
    }
}

/// Everything works that is no event.
struct Still {
    bus: Arc<dyn EventBus>,
    struck: AtomicU64,
}

impl Still {
    fn new(how: How, limits: Limits) -> Self {
        let inner: Arc<dyn EventBus> = CrossbeamBus::new(limits);
        Self {
            bus: Arc::new(VacuousBus { inner, how }),
            struck: AtomicU64::new(0),
        }
    }
}

impl Rig for Still {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus)
    }
}

#[async_trait]
impl FaultRig for Still {
    async fn open(&self, opening: Opening) -> Result<Arc<dyn EventBus>, Refusal> {
        Ok(self.bus.connect(opening.name.as_deref()).await?)
    }

    async fn strike(&self, _: Fault) -> Result<(), String> {
        self.struck.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn heal(&self) -> Result<(), String> {
        Ok(())
    }

    fn struck(&self) -> u64 {
        self.struck.load(Ordering::SeqCst)
    }

    fn pieces(&self, _: Way) -> u64 {
        self.struck() * 1_000
    }

    fn keepalive(&self) -> Duration {
        Duration::from_millis(1)
    }

    async fn start_peer(&self, _: Part) -> Result<Box<dyn Peer>, String> {
        Ok(Box::new(Silent))
    }
}

struct Silent;

impl Peer for Silent {
    fn kill(&mut self) {}

    fn said(&mut self) -> Vec<String> {
        Vec::new()
    }
}

#[async_trait]
impl DoorRig for Still {
    async fn come(&self, caller: Caller) -> Result<Answer, String> {
        match caller {
            Caller::Member | Caller::Guest => {
                let bus = self.bus.connect(None).await;
                bus.map(Answer::In).map_err(|error| error.to_string())
            }
            _ => Ok(Answer::Out("nobody comes in".to_owned().into())),
        }
    }

    fn socket(&self) -> Option<PathBuf> {
        None
    }

    async fn second_broker(&self) -> Result<(), String> {
        Err("there is one".to_owned())
    }
}

/// Whether a clause is about such events: they are marked, or are words of the control plane.
fn is_subject(event: &Event) -> bool {
    let family = event.topic().segments().next();
    mark_of(event).is_some() || matches!(family, Some("health" | "tasks" | "results"))
}

#[derive(Debug)]
struct VacuousBus {
    inner: Arc<dyn EventBus>,
    how: How,
}

impl VacuousBus {
    /// What becomes of an event; `Ok(None)` if it is to go its way.
    fn fate(&self, event: &Event) -> Result<Option<Receipt>, String> {
        match self.how {
            How::Refuses => Err("nobody".to_owned()),
            How::SwallowsMarked if !is_subject(event) => Ok(None),
            How::Swallows | How::SwallowsMarked => Ok(Some(Receipt::ready(0))),
        }
    }
}

#[async_trait]
impl PublishTopic for VacuousBus {
    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        match self.fate(&event) {
            Ok(Some(receipt)) => Ok(receipt),
            Ok(None) => self.inner.publish(event).await,
            Err(subscription) => {
                tokio::task::yield_now().await;
                let waited = Duration::from_secs(5);
                let reason = PublishError::Backpressure {
                    subscription,
                    waited,
                };
                Err(Refused::new(event, reason))
            }
        }
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        match self.fate(&event) {
            Ok(Some(receipt)) => Ok(receipt),
            Ok(None) => self.inner.try_publish(event),
            Err(subscription) => Err(Refused::new(event, TryPublishError::Full { subscription })),
        }
    }
}

#[async_trait]
impl EventBus for VacuousBus {
    fn backend(&self) -> &str {
        "vacuous"
    }

    fn publisher_id(&self) -> PublisherId {
        self.inner.publisher_id()
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        PublishTopic::publish(self, event).await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        PublishTopic::try_publish(self, event)
    }

    async fn publish_batch(&self, mut events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        let Some(event) = events.first().cloned() else {
            return Ok(Receipt::ready(0));
        };
        PublishTopic::publish(self, event).await.map_err(|refused| {
            let (event, reason) = refused.into_parts();
            events[0] = event;
            BatchRefused {
                accepted: 0,
                events,
                reason,
            }
        })
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        let (inner, how) = (Arc::clone(&self.inner), self.how);
        Publisher::new(topic, Arc::new(Self { inner, how }))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        self.inner.subscribe(subscribe).await
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        let (inner, how) = (self.inner.connect(name).await?, self.how);
        Ok(Arc::new(Self { inner, how }))
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.inner.shutdown().await
    }
}
