//! The whole of it on crossbeam: registry, dispatcher and workers, by a clock that stands still.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{Correlation, Event, EventBus, Limits, Payload, Subscribe};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::super::{Dispatcher, Now, Options, SubmitError, TaskError, TaskSpec};
use crate::member::{Activity, Heartbeat, Identity};
use crate::registry::{Registry, Rules};
use crate::results::{Gather, Wanted};
use crate::tasks::worker::{self, TaskFailure, TaskHandler, Work, Worker};
use crate::tasks::{Answer, FailureReason, Order};

/// Does what the payload says, and notes what it has done.
#[derive(Default)]
struct Deeds(Mutex<BTreeMap<String, u32>>);

#[async_trait]
impl TaskHandler for Deeds {
    async fn run(&self, work: Work) -> Result<Payload, TaskFailure> {
        *self.0.lock().entry(work.task.mark.id.clone()).or_default() += 1;
        match &*work.task.payload.bytes()? {
            b"hang" => pending().await,
            b"fail" => Err(TaskFailure::new("no")),
            b"panic" => panic!("as asked"),
            other => Ok(Payload::raw(other.to_vec())),
        }
    }
}

struct Scene {
    bus: Arc<dyn EventBus>,
    registry: Registry,
    deeds: Arc<Deeds>,
}

struct Member {
    heartbeat: Heartbeat,
    worker: Worker,
}

impl Scene {
    async fn new() -> Self {
        let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits::default());
        let registry = Registry::start(Arc::clone(&bus), Rules::default())
            .await
            .unwrap();
        let deeds = Arc::new(Deeds::default());
        Self {
            bus,
            registry,
            deeds,
        }
    }

    /// A member that is heard once, and so for five intervals.
    async fn member(&self, name: &str, max_tasks: u32, interval: u64) -> Member {
        let identity = Identity::new(name, "process")
            .capability("hash")
            .max_tasks(max_tasks);
        let handler = Arc::clone(&self.deeds) as Arc<dyn TaskHandler>;
        let bus = Arc::clone(&self.bus);
        let options = worker::Options::default();
        let worker = Worker::start(bus, &identity, handler, options)
            .await
            .unwrap();
        let heartbeat = Heartbeat {
            identity,
            activity: Activity::Idle,
            ailment: None,
            interval_ms: interval,
            number: 1,
        };
        self.say(&heartbeat).await;
        Member { heartbeat, worker }
    }

    async fn say(&self, heartbeat: &Heartbeat) {
        let event = Event::json(heartbeat.topic(), heartbeat).unwrap();
        self.bus.publish(event).await.unwrap();
        while self.registry.member(&heartbeat.identity.name).is_none() {
            tokio::task::yield_now().await;
        }
    }

    async fn dispatcher(&self, options: Options) -> Dispatcher {
        let bus = Arc::clone(&self.bus);
        Dispatcher::start(bus, "agent", &self.registry, options)
            .await
            .unwrap()
    }
}

fn task(payload: &'static str) -> TaskSpec {
    TaskSpec::new("hash", Payload::raw(payload))
}

fn is_idle(now: Now) -> bool {
    now.outstanding == 0 && now.waiting == 0 && now.taken == 0 && now.sending == 0
}

#[tokio::test(start_paused = true)]
#[tracing_test::traced_test]
async fn orders_and_cancellations_that_cannot_be_sent_are_a_line_of_each() {
    let scene = Scene::new().await;
    let dispatcher = scene.dispatcher(Options::default()).await;
    let _well = scene.member("well", 8, 60_000).await;
    for _ in 0..5 {
        let large = TaskSpec::new("hash", Payload::raw(vec![0; 2 << 20]));
        let ended = dispatcher.submit(large).unwrap().outcome().await;
        assert!(
            matches!(ended, Err(TaskError::Unsendable { .. })),
            "{ended:?}"
        );
    }
    assert_eq!(dispatcher.counts().unsent, 5);
    let orders = Subscribe::to("tasks.process.deaf").unwrap().capacity(1);
    let _orders = scene.bus.subscribe(orders).await.unwrap();
    let identity = Identity::new("deaf", "process").capability("listen");
    let heartbeat = Heartbeat {
        identity: identity.max_tasks(8),
        activity: Activity::Idle,
        ailment: None,
        interval_ms: 60_000,
        number: 1,
    };
    scene.say(&heartbeat).await;
    let deaf = || TaskSpec::new("listen", Payload::raw("")).deadline(Duration::from_secs(9));
    let tasks: Vec<_> = (0..4).map(|_| dispatcher.submit(deaf()).unwrap()).collect();
    for task in tasks {
        assert!(task.outcome().await.is_err());
    }
    dispatcher.idle().await;
    logs_assert(|lines: &[&str]| {
        for kind in ["cancellation not sent", "order not sent"] {
            let said = lines.iter().filter(|line| line.contains(kind));
            let said: Vec<_> = said.collect();
            if said.len() != 1 {
                return Err(format!("{said:?}"));
            }
        }
        Ok(())
    });
}

#[tokio::test(start_paused = true)]
async fn a_task_is_done_by_a_member_and_its_result_comes_back() {
    let scene = Scene::new().await;
    let member = scene.member("m1", 2, 60_000).await;
    let dispatcher = scene.dispatcher(Options::default()).await;
    let handle = dispatcher.submit(task("x")).unwrap();
    let done = handle.outcome().await.unwrap();
    assert_eq!(
        (done.result, &*done.member, done.attempt),
        (Payload::raw("x"), "m1", 1)
    );
    assert_eq!(
        handle.outcome().await.unwrap().attempt,
        1,
        "the same each time"
    );
    for (payload, because, says) in [
        ("fail", FailureReason::Error, "`m1` failed: no"),
        (
            "panic",
            FailureReason::Panic,
            "`m1` failed: panicked: as asked",
        ),
    ] {
        let error = dispatcher
            .submit(task(payload))
            .unwrap()
            .outcome()
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), says);
        assert!(matches!(error, TaskError::Failed { reason, .. } if reason == because));
    }
    dispatcher.idle().await;
    assert!(is_idle(dispatcher.now()), "{:?}", dispatcher.now());
    assert_eq!(member.worker.stats().accepted, 3);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_heard_no_more_loses_its_task_to_another() {
    let scene = Scene::new().await;
    let silent = scene.member("a", 1, 1_000).await;
    let dispatcher = scene.dispatcher(Options::default()).await;
    let handle = dispatcher.submit(task("x")).unwrap();
    assert_eq!(handle.outcome().await.unwrap().member, "a");
    drop(silent.worker);
    let deadline = Duration::from_secs(20);
    let handle = dispatcher.submit(task("y").deadline(deadline)).unwrap();
    let began = Instant::now();
    scene.member("b", 1, 60_000).await;
    let error = handle.outcome().await;
    let spent = began.elapsed();
    // Its worker is gone as well, so `b` is silent too once it has been asked.
    let Err(TaskError::Deadline { attempts, .. }) = error else {
        panic!("{error:?}");
    };
    assert!(attempts.iter().any(|a| a.member == "a") && attempts.iter().any(|a| a.member == "b"));
    assert_eq!(spent, deadline);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_by_force_gives_its_task_to_another() {
    let scene = Scene::new().await;
    let first = scene.member("a", 1, 60_000).await;
    let dispatcher = scene.dispatcher(Options::default()).await;
    let handle = dispatcher.submit(task("hang").id("t")).unwrap();
    while first.worker.stats().accepted == 0 {
        tokio::task::yield_now().await;
    }
    let second = scene.member("b", 1, 60_000).await;
    let mut heartbeat = first.heartbeat;
    heartbeat.activity = Activity::Draining;
    heartbeat.number = 2;
    scene.say(&heartbeat).await;
    let stopped = first.worker.stop(Duration::from_secs(1)).await;
    assert_eq!((stopped.drained, stopped.stats.interrupted), (false, 1));
    while second.worker.stats().accepted == 0 {
        tokio::task::yield_now().await;
    }
    assert!(handle.cancel() && !handle.cancel());
    assert_eq!(handle.outcome().await, Err(TaskError::Cancelled));
    dispatcher.idle().await;
    second.worker.idle().await;
    assert_eq!(second.worker.stats().cancelled, 1);
    assert_eq!(scene.deeds.0.lock()["t"], 2);
}

#[tokio::test(start_paused = true)]
async fn who_submits_one_id_twice_waits_for_one_task() {
    let scene = Scene::new().await;
    let _member = scene.member("m1", 1, 60_000).await;
    let dispatcher = scene.dispatcher(Options::default()).await;
    let first = dispatcher.submit(task("x").id("t")).unwrap();
    let second = dispatcher.submit(task("y").id("t")).unwrap();
    drop(dispatcher.submit(task("z").id("dropped")).unwrap());
    assert_eq!(first.outcome().await, second.outcome().await);
    let third = dispatcher.submit(task("z").id("t")).unwrap();
    assert_eq!(third.try_outcome(), Some(first.outcome().await));
    dispatcher.idle().await;
    assert_eq!(scene.deeds.0.lock()["t"], 1);
    assert_eq!(
        scene.deeds.0.lock()["dropped"],
        1,
        "dropping a handle changes nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_comes_back_gets_the_answer_that_is_remembered() {
    let scene = Scene::new().await;
    let member = scene.member("m1", 2, 60_000).await;
    let dispatcher = scene.dispatcher(Options::default()).await;
    let before = dispatcher
        .submit(task("x").id("t"))
        .unwrap()
        .outcome()
        .await
        .unwrap();
    let lost = dispatcher.submit(task("hang").id("h")).unwrap();
    while member.worker.stats().accepted < 2 {
        tokio::task::yield_now().await;
    }
    drop(dispatcher);
    assert_eq!(lost.outcome().await, Err(TaskError::Closed));
    assert!(!lost.cancel());
    let dispatcher = scene.dispatcher(Options::default()).await;
    let after = dispatcher
        .submit(task("x").id("t"))
        .unwrap()
        .outcome()
        .await
        .unwrap();
    assert_eq!(before, after);
    let again = dispatcher.submit(task("hang").id("h")).unwrap();
    while member.worker.stats().repeated < 2 {
        tokio::task::yield_now().await;
    }
    again.cancel();
    member.worker.idle().await;
    assert_eq!(
        scene.deeds.0.lock().values().sum::<u32>(),
        2,
        "nothing was done twice"
    );
}

#[tokio::test(start_paused = true)]
async fn what_stops_takes_no_more_and_cancels_the_rest_when_its_time_is_over() {
    let scene = Scene::new().await;
    let member = scene.member("m1", 1, 60_000).await;
    let dispatcher = scene.dispatcher(Options::default()).await;
    let hangs = dispatcher.submit(task("hang")).unwrap();
    let waits = dispatcher.submit(task("x")).unwrap();
    assert_eq!(dispatcher.stop(Duration::from_secs(3)).await, 2);
    assert_eq!(hangs.outcome().await, Err(TaskError::Closed));
    assert_eq!(waits.outcome().await, Err(TaskError::Closed));
    member.worker.idle().await;
    assert_eq!(member.worker.stats().cancelled, 1);
    let dispatcher = scene.dispatcher(Options::default()).await;
    let good = dispatcher.submit(task("y")).unwrap();
    assert_eq!(dispatcher.stop(Duration::from_secs(3)).await, 0);
    assert!(good.outcome().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_closed_ends_what_is_outstanding() {
    let scene = Scene::new().await;
    let _member = scene.member("m1", 1, 60_000).await;
    let dispatcher = scene.dispatcher(Options::default()).await;
    let hangs = dispatcher.submit(task("hang")).unwrap();
    scene.bus.shutdown().await.unwrap();
    assert_eq!(hangs.outcome().await, Err(TaskError::Closed));
    assert_eq!(
        dispatcher.submit(task("x")).unwrap_err(),
        SubmitError::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_nobody_else_has_lives_as_long_as_its_dispatcher() {
    let mut scene = Scene::new().await;
    let dispatcher = scene.dispatcher(Options::default()).await;
    let handle = dispatcher.submit(task("x").wait_for_member()).unwrap();
    let another = Registry::start(Arc::clone(&scene.bus), Rules::default()).await;
    drop(std::mem::replace(&mut scene.registry, another.unwrap()));
    let _member = scene.member("m1", 1, 60_000).await;
    assert!(handle.outcome().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn events_that_are_no_reports_and_forged_ones_change_nothing() {
    let scene = Scene::new().await;
    let member = scene.member("m1", 1, 60_000).await;
    let dispatcher = scene.dispatcher(Options::default()).await;
    let handle = dispatcher.submit(task("hang").id("t")).unwrap();
    while member.worker.stats().accepted == 0 {
        tokio::task::yield_now().await;
    }
    let forged = r#"{"v":1,"report":"done","id":"t","dispatcher":"agent","life":"guess","attempt":1,
        "member":"m1","instance":"i","result":{"json":1}}"#;
    for payload in ["garbage", forged] {
        let event = Event::new("results.agent", payload).unwrap();
        scene.bus.publish(event).await.unwrap();
    }
    while dispatcher.counts().late == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(dispatcher.counts().malformed, 1);
    assert_eq!(handle.try_outcome(), None);
}

#[tokio::test(start_paused = true)]
async fn for_ever_is_no_overflow() {
    let scene = Scene::new().await;
    let member = scene.member("m1", 1, 60_000).await;
    let options = Options {
        accept_within: Duration::MAX,
        pause: Duration::MAX,
        ..Options::default()
    };
    let dispatcher = scene.dispatcher(options).await;
    let handle = dispatcher.submit(task("x")).unwrap();
    assert_eq!(dispatcher.stop(Duration::MAX).await, 0);
    assert_eq!(handle.outcome().await.unwrap().attempt, 1);
    assert!(member.worker.stop(Duration::MAX).await.drained);
}

/// The bus has a clock of its own, so this one is not turned.
#[tokio::test]
async fn an_order_that_was_given_up_is_not_delivered_any_more() {
    const TOPIC: &str = "tasks.process.m1";
    let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits {
        publish_deadline: Duration::from_millis(5),
        ..Limits::default()
    });
    let registry = Registry::start(Arc::clone(&bus), Rules::default());
    let registry = registry.await.unwrap();
    let deeds = Arc::default();
    let scene = Scene {
        bus,
        registry,
        deeds,
    };
    let orders = Subscribe::to(TOPIC).unwrap().capacity(1);
    let mut orders = scene.bus.subscribe(orders).await.unwrap();
    let before = Event::new(TOPIC, "before").unwrap();
    scene.bus.publish(before).await.unwrap();
    let heartbeat = Heartbeat {
        identity: Identity::new("m1", "process")
            .capability("hash")
            .max_tasks(1),
        activity: Activity::Idle,
        ailment: None,
        interval_ms: 60_000,
        number: 1,
    };
    scene.say(&heartbeat).await;
    let waited = Duration::from_millis(100);
    let options = Options {
        accept_within: waited,
        pause: Duration::from_millis(1),
        ..Options::default()
    };
    let dispatcher = scene.dispatcher(options).await;
    let deadline = Duration::from_secs(20);
    let handle = dispatcher.submit(task("x").deadline(deadline)).unwrap();
    while dispatcher.counts().retries == 0 {
        tokio::task::yield_now().await;
    }
    // Long enough that it would have been tried again.
    assert!(timeout(waited, handle.outcome()).await.is_err());
    assert_eq!(dispatcher.counts().retries, 1);
    assert_eq!(orders.recv().await.unwrap().bytes().unwrap(), "before");
    let mut next = async || {
        let event = orders.recv().await.unwrap();
        Order::decode(&event.bytes().unwrap()).unwrap()
    };
    let cancelled = next().await;
    assert!(
        matches!(&cancelled, Order::Cancel(mark) if mark.attempt == 1),
        "{cancelled:?}"
    );
    let Order::Do(again) = next().await else {
        panic!("it is asked for again");
    };
    assert_eq!(again.mark.attempt, 2);
    assert!(again.deadline <= deadline - waited * 2, "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn results_of_tasks_are_gathered_by_what_they_were_submitted_for() {
    let scene = Scene::new().await;
    let _member = scene.member("m1", 4, 60_000).await;
    let dispatcher = scene.dispatcher(Options::default()).await;
    let gather = Gather::start(Arc::clone(&scene.bus), Default::default())
        .await
        .unwrap();
    let whole = Correlation::new("scan");
    let wanted = Wanted::ids("scan", ["1", "2", "3"]).within(Duration::from_secs(60));
    let gathering = gather.begin(wanted).unwrap();
    for (id, payload) in [
        ("1", "x"),
        ("2", "fail"),
        ("3", "y"),
        ("4", "not asked for"),
    ] {
        let spec = task(payload).id(id).correlation(&whole);
        dispatcher.submit(spec).unwrap();
    }
    let gathered = gathering.gathered().await;
    assert!(gathered.is_complete(), "{gathered:?}");
    let answers = gathered.parts.iter().map(|part| {
        let report = part.report().unwrap();
        (report.mark.id, report.answer)
    });
    let answers: BTreeMap<_, _> = answers.collect();
    assert_eq!(answers["1"], Answer::Done(Payload::raw("x")));
    assert!(matches!(answers["2"], Answer::Failed { .. }));
    assert_eq!(answers.len(), 3);
}

/// 10,000 tasks, four workers, one of which is stopped by force and one of which falls silent.
#[tokio::test(start_paused = true)]
async fn of_ten_thousand_tasks_each_ends_once_and_nothing_is_left() {
    const TASKS: usize = 10_000;
    let scene = Scene::new().await;
    let mut members = Vec::new();
    for (name, interval) in [("a", 60_000), ("b", 1_000), ("c", 60_000), ("d", 60_000)] {
        members.push(scene.member(name, 8, interval).await);
    }
    let options = Options {
        outstanding: 500,
        ..Options::default()
    };
    let dispatcher = scene.dispatcher(options).await;
    let outcomes = stream::iter(0..TASKS).map(|n| {
        let payload = if n % 10 == 0 { "fail" } else { "x" };
        let handle = dispatcher
            .submit(task(payload).id(format!("t{n}")))
            .unwrap();
        async move { handle.outcome().await }
    });
    let mut outcomes = outcomes.buffer_unordered(500);
    let (mut done, mut failed) = (0, 0);
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok(_) => done += 1,
            Err(TaskError::Failed { .. }) => failed += 1,
            Err(other) => panic!("{other}"),
        }
        if done + failed == TASKS / 2 {
            let interrupted = members.remove(0).worker.stop(Duration::ZERO).await;
            assert!(interrupted.stats.accepted > 0);
            // Nothing is heard of it any more, so its tasks go to others when it is removed.
            drop(members.remove(0));
        }
    }
    drop(outcomes);
    assert_eq!((done, failed), (TASKS / 10 * 9, TASKS / 10));
    dispatcher.idle().await;
    assert!(is_idle(dispatcher.now()), "{:?}", dispatcher.now());
    let counts = dispatcher.counts();
    assert_eq!(counts.submitted, TASKS as u64);
    assert_eq!(counts.done + counts.failed, TASKS as u64, "{counts:?}");
    assert_eq!(scene.deeds.0.lock().len(), TASKS);
    for member in members {
        member.worker.idle().await;
        let stats = member.worker.stats();
        assert_eq!(
            stats.accepted,
            stats.done + stats.failed + stats.cancelled,
            "{stats:?}"
        );
        assert!(stats.remembered <= 1024);
        member.worker.stop(Duration::ZERO).await;
    }
    drop(dispatcher);
    drop(scene.registry);
    while !scene.bus.stats().subscriptions.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(Arc::strong_count(&scene.deeds), 1, "no handler is left");
}
