//! A worker on a bus, and a dispatcher that is played by the test.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{Correlation, Event, EventBus, Limits, Payload, Subscribe, Subscription};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::advance;

use super::super::{Options, TaskFailure, TaskHandler, Work, Worker, WorkerStats};
use crate::member::Identity;
use crate::tasks::{Answer, FailureReason, Mark, Order, RefusalReason, Report, Task};

/// Does what the payload says.
#[derive(Default)]
struct Deeds {
    begun: Mutex<Vec<String>>,
    dropped: Arc<Mutex<u32>>,
    go: Notify,
}

struct Guard(Arc<Mutex<u32>>);

impl Drop for Guard {
    fn drop(&mut self) {
        *self.0.lock() += 1;
    }
}

#[async_trait]
impl TaskHandler for Deeds {
    async fn run(&self, work: Work) -> Result<Payload, TaskFailure> {
        self.begun.lock().push(work.task.mark.id.clone());
        let _guard = Guard(Arc::clone(&self.dropped));
        match &*work.task.payload.bytes()? {
            b"fail" => Err(TaskFailure::new("no such process")),
            b"panic" => panic!("as asked"),
            b"large" => Ok(Payload::raw(vec![0; 2 << 20])),
            b"hang" => pending().await,
            b"wait" => {
                self.go.notified().await;
                Ok(Payload::raw("waited"))
            }
            other => Ok(Payload::raw([other, b" done"].concat())),
        }
    }
}

struct Scene {
    bus: Arc<dyn EventBus>,
    deeds: Arc<Deeds>,
    worker: Worker,
    reports: Subscription,
}

fn identity(max_tasks: u32) -> Identity {
    Identity {
        name: "m1".to_owned(),
        instance: "i1".to_owned(),
        kind: "process".to_owned(),
        version: "1".to_owned(),
        capabilities: BTreeSet::from(["hash".to_owned()]),
        max_tasks,
    }
}

fn mark(id: &str, attempt: u32) -> Mark {
    Mark {
        id: id.to_owned(),
        dispatcher: "agent".to_owned(),
        life: "l".to_owned(),
        attempt,
    }
}

fn task(id: &str, attempt: u32, payload: &'static str) -> Task {
    Task {
        mark: mark(id, attempt),
        capability: "hash".to_owned(),
        deadline: Duration::from_secs(10),
        priority: 100,
        payload: Payload::raw(payload),
    }
}

impl Scene {
    async fn new(max_tasks: u32, options: Options) -> Self {
        let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits::default());
        let reports = bus
            .subscribe(Subscribe::to("results.agent").unwrap())
            .await
            .unwrap();
        let deeds = Arc::new(Deeds::default());
        let handler = Arc::clone(&deeds) as Arc<dyn TaskHandler>;
        let identity = identity(max_tasks);
        let worker = Worker::start(Arc::clone(&bus), &identity, handler, options);
        let worker = worker.await.unwrap();
        Self {
            bus,
            deeds,
            worker,
            reports,
        }
    }

    async fn order(&self, order: Order) {
        let event = Event::new("tasks.process.m1", order.encode().unwrap()).unwrap();
        self.bus.publish(event).await.unwrap();
    }

    async fn ask(&self, id: &str, attempt: u32, payload: &'static str) {
        self.order(Order::Do(task(id, attempt, payload))).await;
    }

    async fn report(&mut self) -> Report {
        let event = self.reports.recv().await.expect("the bus is open");
        let report = Report::decode(&event.bytes().unwrap()).unwrap();
        let correlation = event.get_correlation().expect("reports are correlated");
        assert_eq!(correlation.stage.as_deref(), Some(report.answer.name()));
        assert_eq!((&*report.member, &*report.instance), ("m1", "i1"));
        report
    }

    /// The next report, of this task and attempt.
    async fn answer(&mut self, id: &str, attempt: u32) -> Answer {
        let report = self.report().await;
        assert_eq!(report.mark, mark(id, attempt), "{report:?}");
        report.answer
    }
}

/// Lets everybody do what can be done at this time.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn failed(answer: &Answer) -> (FailureReason, &str) {
    match answer {
        Answer::Failed { reason, message } => (*reason, message),
        other => panic!("{other:?}"),
    }
}

fn refused(answer: &Answer) -> (RefusalReason, &str) {
    match answer {
        Answer::Refused { reason, message } => (*reason, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_is_accepted_and_then_done_or_failed_with_the_reason() {
    let mut scene = Scene::new(4, Options::default()).await;
    for (payload, reason, message) in [
        ("fail", FailureReason::Error, "no such process"),
        ("panic", FailureReason::Panic, "panicked: as asked"),
        (
            "large",
            FailureReason::TooLarge,
            "over the limit of 1048576",
        ),
        ("hang", FailureReason::Deadline, "not done by its deadline"),
    ] {
        scene.ask(payload, 1, payload).await;
        assert_eq!(scene.answer(payload, 1).await, Answer::Accepted);
        let answer = scene.answer(payload, 1).await;
        let (because, says) = failed(&answer);
        assert!(because == reason && says.contains(message), "{answer:?}");
    }
    scene.ask("good", 1, "it is").await;
    assert_eq!(scene.answer("good", 1).await, Answer::Accepted);
    assert_eq!(
        scene.answer("good", 1).await,
        Answer::Done(Payload::raw("it is done"))
    );
    scene.worker.idle().await;
    let stats = scene.worker.stats();
    assert_eq!(
        (stats.accepted, stats.done, stats.failed),
        (5, 2, 3),
        "{stats:?}"
    );
    assert_eq!(
        (stats.panicked, stats.unsendable, stats.unsent),
        (1, 1, 0),
        "{stats:?}"
    );
    assert_eq!(*scene.deeds.dropped.lock(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_event_of_a_task_says_what_it_belongs_to() {
    let mut scene = Scene::new(1, Options::default()).await;
    let order = Order::Do(task("t", 1, "x"));
    let event = Event::new("tasks.process.m1", order.encode().unwrap()).unwrap();
    let correlation = Correlation::new("scan").child("t");
    scene
        .bus
        .publish(event.correlation(correlation.clone()))
        .await
        .unwrap();
    for stage in ["accepted", "done"] {
        let event = scene.reports.recv().await.unwrap();
        assert_eq!(
            event.get_correlation(),
            Some(&correlation.clone().stage(stage))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_gets_the_same_answer_and_nothing_is_done_twice() {
    let mut scene = Scene::new(1, Options::default()).await;
    scene.ask("t", 1, "wait").await;
    scene.ask("t", 2, "wait").await;
    assert_eq!(scene.answer("t", 1).await, Answer::Accepted);
    assert_eq!(scene.answer("t", 2).await, Answer::Accepted);
    scene.deeds.go.notify_one();
    let done = Answer::Done(Payload::raw("waited"));
    assert_eq!(
        scene.answer("t", 2).await,
        done,
        "to the order that came last"
    );
    scene.ask("t", 3, "wait").await;
    assert_eq!(scene.answer("t", 3).await, done);
    assert_eq!(scene.deeds.begun.lock().len(), 1);
    assert_eq!(scene.worker.stats().repeated, 2);
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_the_attempt_that_is_meant_and_no_other() {
    let mut scene = Scene::new(1, Options::default()).await;
    scene.ask("t", 2, "hang").await;
    scene.order(Order::Cancel(mark("t", 1))).await;
    scene.order(Order::Cancel(mark("else", 1))).await;
    settle().await;
    assert_eq!(scene.worker.stats().cancelled, 0);
    scene.order(Order::Cancel(mark("t", 2))).await;
    assert_eq!(scene.answer("t", 2).await, Answer::Accepted);
    assert_eq!(scene.answer("t", 2).await, Answer::Cancelled);
    settle().await;
    assert_eq!(
        *scene.deeds.dropped.lock(),
        1,
        "the handler's future is dropped"
    );
    scene.ask("t", 2, "again").await;
    assert_eq!(
        scene.answer("t", 2).await,
        Answer::Cancelled,
        "the order that was cancelled"
    );
    scene.ask("t", 3, "anew").await;
    assert_eq!(scene.answer("t", 3).await, Answer::Accepted);
    assert_eq!(
        scene.answer("t", 3).await,
        Answer::Done(Payload::raw("anew done"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_by_priority_and_what_is_too_much_is_refused() {
    let mut scene = Scene::new(
        1,
        Options {
            queue: 3,
            ..Options::default()
        },
    )
    .await;
    scene.ask("first", 1, "wait").await;
    for (id, priority) in [("low", 1), ("high", 9), ("high too", 9)] {
        let order = Task {
            priority,
            ..task(id, 1, "x")
        };
        scene.order(Order::Do(order)).await;
    }
    scene.ask("beyond", 1, "x").await;
    for id in ["first", "low", "high", "high too"] {
        assert_eq!(scene.answer(id, 1).await, Answer::Accepted);
    }
    let answer = scene.answer("beyond", 1).await;
    let says = "1 tasks run and 3 wait, which are its limits";
    assert_eq!(refused(&answer), (RefusalReason::Full, says));
    scene.deeds.go.notify_one();
    scene.worker.idle().await;
    assert_eq!(
        *scene.deeds.begun.lock(),
        ["first", "high", "high too", "low"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_has_its_deadline_too() {
    let mut scene = Scene::new(1, Options::default()).await;
    scene.ask("first", 1, "wait").await;
    let order = Task {
        deadline: Duration::from_secs(1),
        ..task("t", 1, "x")
    };
    scene.order(Order::Do(order)).await;
    assert_eq!(scene.answer("first", 1).await, Answer::Accepted);
    assert_eq!(scene.answer("t", 1).await, Answer::Accepted);
    assert_eq!(
        failed(&scene.answer("t", 1).await).0,
        FailureReason::Deadline
    );
    scene.deeds.go.notify_one();
    scene.worker.idle().await;
    assert_eq!(*scene.deeds.begun.lock(), ["first"]);
}

#[tokio::test(start_paused = true)]
async fn draining_takes_nothing_and_finishes_what_is_there() {
    let mut scene = Scene::new(1, Options::default()).await;
    scene.ask("runs", 1, "wait").await;
    scene.ask("waits", 1, "x").await;
    settle().await;
    scene.worker.drain();
    scene.ask("new", 1, "x").await;
    assert_eq!(scene.answer("runs", 1).await, Answer::Accepted);
    assert_eq!(scene.answer("waits", 1).await, Answer::Accepted);
    assert_eq!(
        refused(&scene.answer("new", 1).await).0,
        RefusalReason::Draining
    );
    scene.deeds.go.notify_one();
    let (deeds, mut reports) = (scene.deeds, scene.reports);
    let stopped = scene.worker.stop(Duration::from_secs(5)).await;
    assert!(stopped.drained);
    assert_eq!(stopped.stats.done, 2);
    assert_eq!(deeds.begun.lock().len(), 2);
    let mut told = 0;
    while let Ok(event) = reports.try_recv() {
        let report = Report::decode(&event.bytes().unwrap()).unwrap();
        assert!(matches!(report.answer, Answer::Done(_)), "{report:?}");
        told += 1;
    }
    assert_eq!(told, 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_stopped_by_force_gives_back_what_it_has() {
    let mut scene = Scene::new(1, Options::default()).await;
    scene.ask("runs", 1, "hang").await;
    scene.ask("waits", 1, "x").await;
    assert_eq!(scene.answer("runs", 1).await, Answer::Accepted);
    assert_eq!(scene.answer("waits", 1).await, Answer::Accepted);
    let (deeds, mut reports) = (scene.deeds, scene.reports);
    let stopped = scene.worker.stop(Duration::from_secs(5)).await;
    assert!(!stopped.drained);
    assert_eq!(stopped.stats.interrupted, 2);
    let mut back = BTreeSet::new();
    while let Ok(event) = reports.try_recv() {
        let report = Report::decode(&event.bytes().unwrap()).unwrap();
        assert_eq!(refused(&report.answer).0, RefusalReason::Interrupted);
        back.insert(report.mark.id);
    }
    assert_eq!(back.len(), 2);
    assert_eq!(*deeds.dropped.lock(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_was_closed_under_running_tasks_has_drained_nothing() {
    let mut scene = Scene::new(1, Options::default()).await;
    scene.ask("runs", 1, "hang").await;
    assert_eq!(scene.answer("runs", 1).await, Answer::Accepted);
    scene.bus.shutdown().await.unwrap();
    scene.worker.idle().await;
    let stopped = scene.worker.stop(Duration::from_secs(5)).await;
    assert!(!stopped.drained);
    let stats = stopped.stats;
    assert_eq!((stats.interrupted, stats.unsent), (1, 1), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_told_when_it_was_stopped_by_force_is_counted() {
    const TASKS: u64 = 5;
    let mut scene = Scene::new(2, Options::default()).await;
    let deaf = Subscribe::to("results.deaf").unwrap().capacity(1);
    let mut deaf = scene.bus.subscribe(deaf).await.unwrap();
    for n in 0..TASKS {
        let mut order = task(&n.to_string(), 1, "x");
        order.mark.dispatcher = "deaf".to_owned();
        scene.order(Order::Do(order)).await;
    }
    scene.ask("t", 1, "hang").await;
    assert_eq!(scene.answer("t", 1).await, Answer::Accepted);
    while scene.worker.stats().done < TASKS {
        tokio::task::yield_now().await;
    }
    let stopped = scene.worker.stop(Duration::ZERO).await;
    let stats = stopped.stats;
    let each = (stats.accepted, stats.done, stats.interrupted);
    assert_eq!(each, (TASKS + 1, TASKS, 1), "{stats:?}");
    let heard = std::iter::from_fn(|| deaf.try_recv().ok()).count() as u64;
    assert_eq!(heard, 1, "it has room for one");
    assert_eq!(stats.unsent, 2 * TASKS - heard, "{stats:?}");
    let report = Report::decode(&scene.reports.try_recv().unwrap().bytes().unwrap());
    let answer = report.unwrap().answer;
    assert_eq!(refused(&answer).0, RefusalReason::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_no_tasks_refuses_each() {
    let mut scene = Scene::new(0, Options::default()).await;
    scene.ask("t", 1, "x").await;
    let answer = scene.answer("t", 1).await;
    let says = "does no tasks: its `max_tasks` is 0";
    assert_eq!(refused(&answer), (RefusalReason::Incapable, says));
    assert_eq!(scene.worker.stats().accepted, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_order_or_no_capability_is_refused_and_counted() {
    let mut scene = Scene::new(1, Options::default()).await;
    let event = Event::new("tasks.process.m1", "garbage").unwrap();
    scene.bus.publish(event).await.unwrap();
    let order = Task {
        capability: "fly".to_owned(),
        ..task("t", 1, "x")
    };
    scene.order(Order::Do(order)).await;
    let answer = scene.answer("t", 1).await;
    assert_eq!(
        refused(&answer),
        (RefusalReason::Incapable, "has no capability `fly`")
    );
    let WorkerStats {
        malformed,
        refused,
        accepted,
        ..
    } = scene.worker.stats();
    assert_eq!((malformed, refused, accepted), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_does_not_listen_stops_its_own_tasks_alone() {
    let options = Options {
        unheard: 4,
        ..Options::default()
    };
    let mut scene = Scene::new(4, options).await;
    let deaf = Subscribe::to("results.deaf").unwrap().capacity(1);
    let deaf = scene.bus.subscribe(deaf).await.unwrap();
    for n in 0..20 {
        let mut order = task(&n.to_string(), 1, "x");
        order.mark.dispatcher = "deaf".to_owned();
        scene.order(Order::Do(order)).await;
    }
    scene.ask("t", 1, "x").await;
    assert_eq!(scene.answer("t", 1).await, Answer::Accepted);
    assert!(matches!(scene.answer("t", 1).await, Answer::Done(_)));
    let stats = scene.worker.stats();
    assert!(stats.unanswerable > 10, "{stats:?}");
    assert_eq!(stats.accepted + stats.unanswerable, 21, "{stats:?}");
    drop(deaf);
    advance(Duration::from_secs(1)).await;
    scene.worker.idle().await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_and_again_has_the_result_wait_but_once() {
    const TIMES: u32 = 20;
    let scene = Scene::new(1, Options::default()).await;
    let slow = Subscribe::to("results.slow").unwrap().capacity(1);
    let mut slow = scene.bus.subscribe(slow).await.unwrap();
    for attempt in 1..=TIMES {
        let mut order = task("t", attempt, "x");
        order.mark.dispatcher = "slow".to_owned();
        scene.order(Order::Do(order)).await;
        while scene.worker.stats().done == 0 {
            tokio::task::yield_now().await;
        }
    }
    while scene.worker.stats().repeated < u64::from(TIMES - 1) {
        tokio::task::yield_now().await;
    }
    let mut done = Vec::new();
    while done.last() != Some(&TIMES) {
        let event = slow.recv().await.unwrap();
        let report = Report::decode(&event.bytes().unwrap()).unwrap();
        if let Answer::Done(_) = report.answer {
            done.push(report.mark.attempt);
        }
    }
    assert!(
        done.len() <= 2,
        "one under way and one that waits: {done:?}"
    );
    scene.worker.idle().await;
    assert_eq!(scene.worker.stats().unanswerable, 0);
}

#[tokio::test(start_paused = true)]
#[tracing_test::traced_test]
async fn a_flood_of_what_is_no_order_is_one_line_and_quotes_nothing() {
    let scene = Scene::new(1, Options::default()).await;
    for _ in 0..50 {
        let event = Event::new("tasks.process.m1", r#"{"v":1,"order":"secret"}"#).unwrap();
        scene.bus.publish(event).await.unwrap();
    }
    while scene.worker.stats().malformed < 50 {
        tokio::task::yield_now().await;
    }
    logs_assert(|lines: &[&str]| {
        let said = lines.iter().filter(|line| line.contains("not an order"));
        let quoted = lines.iter().any(|line| line.contains("secret"));
        match (said.count(), quoted) {
            (1, false) => Ok(()),
            other => Err(format!("{other:?}: {lines:?}")),
        }
    });
}

#[tokio::test(start_paused = true)]
#[tracing_test::traced_test]
async fn a_dispatcher_that_never_takes_its_reports_is_one_line() {
    let scene = Scene::new(1, Options::default()).await;
    let deaf = Subscribe::to("results.deaf").unwrap().capacity(1);
    let _deaf = scene.bus.subscribe(deaf).await.unwrap();
    for n in 0..5 {
        let mut order = task(&format!("{n}\u{202e}"), 1, "x");
        order.mark.dispatcher = "deaf".to_owned();
        scene.order(Order::Do(order)).await;
    }
    scene.worker.idle().await;
    assert_eq!(scene.worker.stats().unsent, 9, "all but the first");
    logs_assert(|lines: &[&str]| {
        let said = lines.iter().filter(|line| line.contains("report not sent"));
        match &said.collect::<Vec<_>>()[..] {
            [line] if line.contains("more=0") && !line.contains('\u{202e}') => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_worker_that_is_dropped() {
    let scene = Scene::new(2, Options::default()).await;
    scene.ask("a", 1, "hang").await;
    scene.ask("b", 1, "hang").await;
    settle().await;
    assert_eq!(scene.deeds.begun.lock().len(), 2);
    let counters = scene.worker.counters();
    drop(scene.worker);
    settle().await;
    let stats = counters.stats();
    let each = (stats.accepted, stats.interrupted, stats.unsent);
    assert_eq!(each, (2, 2, 2), "{stats:?}");
    drop(counters);
    assert_eq!(*scene.deeds.dropped.lock(), 2);
    assert_eq!(Arc::strong_count(&scene.deeds), 1);
    assert_eq!(scene.bus.stats().subscriptions.len(), 1);
}
