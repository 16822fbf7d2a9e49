//! A collector that does tasks: what others hear of it, and when.

use eventbus_trait::rpc::{ServeError, Service, Serving};
use eventbus_trait::{
    BatchRefused, ConnectError, Event, Payload, Publisher, PublisherId, Receipt, Refused,
    ShutdownError, Stats, Subscribe, SubscribeError, Subscription, Topic, TryPublishError,
};
use tokio::sync::watch;

use super::*;
use crate::collector::wire::Ending;
use crate::dispatch::{self, Dispatcher, TaskSpec};
use crate::tasks::worker::{TaskFailure, Work, WorkError};
use crate::tasks::{Answer, RefusalReason, Report};

const SOON: Duration = Duration::from_secs(5);

/// Has its tasks wait for each other's word.
#[derive(Debug, Clone, Default)]
struct Doer {
    go: Arc<Notify>,
}

impl Doer {
    /// One that others may have a share in: it is asked for the same.
    fn collector(&self) -> Arc<dyn Collector> {
        Arc::new(TasksOnly(Arc::new(self.clone())))
    }
}

#[async_trait]
impl TaskHandler for Doer {
    async fn run(&self, _: Work) -> Result<Payload, TaskFailure> {
        self.go.notified().await;
        Ok(Payload::raw("done"))
    }
}

/// A bus that takes its time to subscribe: as long as the test wants.
#[derive(Debug)]
struct Slow {
    bus: Arc<dyn EventBus>,
    gate: watch::Receiver<bool>,
}

#[async_trait]
impl EventBus for Slow {
    fn backend(&self) -> &str {
        self.bus.backend()
    }

    fn publisher_id(&self) -> PublisherId {
        self.bus.publisher_id()
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        self.bus.publish(event).await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        self.bus.try_publish(event)
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        self.bus.publish_batch(events).await
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        self.bus.publisher(topic)
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        let mut gate = self.gate.clone();
        gate.wait_for(|open| *open).await.unwrap();
        self.bus.subscribe(subscribe).await
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        self.bus.connect(name).await
    }

    async fn serve(&self, service: Service) -> Result<Serving, ServeError> {
        self.bus.serve(service).await
    }

    fn stats(&self) -> Stats {
        self.bus.stats()
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.bus.shutdown().await
    }
}

struct Agent {
    bus: Arc<dyn EventBus>,
    registry: Registry,
    dispatcher: Dispatcher,
}

impl Agent {
    async fn new(limits: Limits) -> Self {
        let bus: Arc<dyn EventBus> = CrossbeamBus::new(limits);
        let registry = Registry::start(Arc::clone(&bus), Rules::default()).await;
        let registry = registry.unwrap();
        let options = dispatch::Options::default();
        let dispatcher = Dispatcher::start(Arc::clone(&bus), "agent", &registry, options);
        let dispatcher = dispatcher.await.unwrap();
        Self {
            bus,
            registry,
            dispatcher,
        }
    }

    /// Waits until it knows the member.
    async fn knows(&self) {
        eventually(|| self.registry.member("procmond").is_some()).await;
    }

    fn task() -> TaskSpec {
        TaskSpec::new("hash_executable", Payload::raw(""))
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_of_a_member_before_it_hears_its_orders() {
    let agent = Agent::new(Limits::default()).await;
    let (open, gate) = watch::channel(false);
    let bus = agent.bus.connect(None).await.unwrap();
    let slow = Arc::new(Slow { bus, gate });
    let doer = Doer::default();
    let serve = serve_collector(slow, identity(), doer.collector(), Options::default());
    let mut serve = std::pin::pin!(serve);
    let early = timeout(SOON, &mut serve).await;
    assert!(early.is_err(), "it does not wait for its orders");
    assert_eq!(agent.registry.stats().heard, 0, "it is announced");
    open.send_replace(true);
    let host = serve.await.unwrap();
    agent.knows().await;
    let task = agent.dispatcher.submit(Agent::task()).unwrap();
    doer.go.notify_one();
    let done = task.outcome().await.unwrap();
    assert_eq!((done.attempt, &*done.member), (1, "procmond"));
    assert_eq!(host.tasks().unwrap().done, 1);
}

#[tokio::test(start_paused = true)]
async fn a_member_goes_when_its_tasks_have_ended_and_takes_none_meanwhile() {
    let agent = Agent::new(Limits::default()).await;
    let doer = Doer::default();
    let home = agent.bus.connect(None).await.unwrap();
    let host = serve_collector(home, identity(), doer.collector(), Options::default()).await;
    let host = Arc::new(host.unwrap());
    agent.knows().await;
    let task = agent.dispatcher.submit(Agent::task()).unwrap();
    let client = CollectorClient::new(Arc::clone(&agent.bus), "procmond");
    eventually(|| host.tasks().unwrap().accepted == 1).await;
    assert_eq!(client.health_check().await.unwrap().working, 1);
    let going = Arc::clone(&host);
    let going = tokio::spawn(async move { going.shutdown(SOON).await });
    host.intake().closed().await;
    let mut reports = reports(&agent, "late").await;
    late(&agent).await;
    let refused = answer(&mut reports).await;
    assert!(
        matches!(refused, Answer::Refused { reason, .. } if reason == RefusalReason::Draining),
        "{refused:?}"
    );
    assert!(!going.is_finished());
    doer.go.notify_one();
    let Ended::ShutDown(reply) = going.await.unwrap() else {
        panic!("it was not shut down");
    };
    assert_eq!((reply.ended, reply.unfinished), (Ending::Graceful, 0));
    assert!(task.outcome().await.is_ok());
    assert_eq!(host.tasks().unwrap().done, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_is_given_back_before_the_member_leaves() {
    let agent = Agent::new(Limits::default()).await;
    let home = agent.bus.connect(None).await.unwrap();
    let host = serve_collector(
        home,
        identity(),
        Doer::default().collector(),
        Options::default(),
    )
    .await;
    let host = host.unwrap();
    agent.knows().await;
    let mut heard = Subscribe::to("results.#").unwrap();
    heard = heard.and("health.#").unwrap();
    let mut heard = agent.bus.subscribe(heard).await.unwrap();
    let task = agent.dispatcher.submit(Agent::task().deadline(2 * SOON));
    let task = task.unwrap();
    eventually(|| host.tasks().unwrap().accepted == 1).await;
    let Ended::ShutDown(reply) = host.shutdown(SOON).await else {
        panic!("it was not shut down");
    };
    assert_eq!((reply.ended, reply.unfinished), (Ending::Forced, 1));
    assert_eq!(host.tasks().unwrap().interrupted, 1);
    let mut given_back = false;
    loop {
        let event = heard.recv().await.unwrap();
        let bytes = event.bytes().unwrap();
        if let Ok(report) = Report::decode(&bytes) {
            given_back |= matches!(report.answer, Answer::Refused { .. });
            continue;
        }
        let said: Value = serde_json::from_slice(&bytes).unwrap();
        if said["activity"] == "leaving" {
            break;
        }
    }
    assert!(given_back, "it left first");
    eventually(|| agent.registry.member("procmond").is_none()).await;
    let ended = task.outcome().await.unwrap_err().to_string();
    assert!(
        ended.contains("refused (stopped before it was done)"),
        "{ended}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_cannot_hear_its_orders_is_no_member() {
    let limits = Limits {
        max_subscriptions: 1,
        ..Limits::default()
    };
    let bus: Arc<dyn EventBus> = CrossbeamBus::new(limits);
    let heartbeats = Subscribe::to("health.#").unwrap();
    let mut heartbeats = bus.subscribe(heartbeats).await.unwrap();
    let serve = || {
        let (bus, doer) = (Arc::clone(&bus), Doer::default().collector());
        serve_collector(bus, identity(), doer, Options::default())
    };
    for _ in 0..2 {
        // Its name is free again.
        let error = serve().await.unwrap_err();
        let limit = SubscribeError::TooManySubscriptions { limit: 1 };
        assert_eq!(error, HostError::Work(WorkError::Subscribe(limit)));
    }
    assert!(timeout(SOON, heartbeats.recv()).await.is_err());
}

/// What the member reports to a dispatcher of this name.
async fn reports(agent: &Agent, dispatcher: &str) -> Subscription {
    let reports = Subscribe::to(format!("results.{dispatcher}")).unwrap();
    agent.bus.subscribe(reports).await.unwrap()
}

async fn answer(reports: &mut Subscription) -> Answer {
    let event = reports.recv().await.unwrap();
    Report::decode(&event.bytes().unwrap()).unwrap().answer
}

/// An order that no dispatcher would give any more.
async fn late(agent: &Agent) {
    let order = json!({
        "v": 1, "order": "do", "id": "late", "dispatcher": "late",
        "capability": "hash_executable", "deadline_ms": 1000, "payload": { "json": null },
    });
    let event = Event::json("tasks.process.procmond", &order).unwrap();
    agent.bus.publish(event).await.unwrap();
}
