//! Tasks between processes, over a broker at a UNIX socket: members and dispatchers that are killed, and floods.
//!
//! Members are this program again, as processes of their own. Everything waits for what the others say, under
//! a watchdog; no clock is turned.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod foreign;
mod process;
#[allow(dead_code, reason = "its other half is used by its own tests")]
#[path = "../../../busrt-backend/tests/foreign/python.rs"]
mod python;
mod roles;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use control::dispatch::{AttemptEnd, Dispatcher, Options, SubmitError, TaskError, TaskSpec};
use control::registry::{Change, Registry, Removal, Rules};
use control::tasks::Report;
use eventbus::{BrokerMode, Event, EventBus, Payload, Subscribe};
use futures_util::{StreamExt, stream};
use tempfile::TempDir;

use process::Process;

/// Longer than anything here takes.
const WATCHDOG: Duration = Duration::from_secs(120);

struct Scene {
    directory: TempDir,
    bus: Arc<dyn EventBus>,
    registry: Registry,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bus = roles::open(&directory.path().join("run/bus.sock"), BrokerMode::Embedded).await;
        let ears = bus.connect(None).await.unwrap();
        let registry = Registry::start(ears, Rules::default()).await.unwrap();
        Self {
            directory,
            bus,
            registry,
        }
    }

    fn start(&self, role: &str, name: &str) -> Process {
        Process::start(role, name, &self.directory.path().join("run/bus.sock"))
    }

    /// A member's process, once the registry knows it.
    async fn member(&self, name: &str) -> Process {
        let mut process = self.start("member", name);
        process.says("ready").await;
        while self.registry.member(name).is_none() {
            tokio::task::yield_now().await;
        }
        process
    }

    async fn dispatcher(&self, options: Options) -> Dispatcher {
        let own = self.bus.connect(None).await.unwrap();
        Dispatcher::start(own, "agent", &self.registry, options)
            .await
            .unwrap()
    }
}

fn task(payload: &'static str) -> TaskSpec {
    TaskSpec::new("work", Payload::raw(payload))
}

/// Runs on a runtime of its own, at most for as long as the watchdog waits.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(WATCHDOG, test).await });
    ended.expect("the watchdog barks");
}

/// The life of a process that the tests start; no test of its own.
#[test]
fn child() {
    if let Some((role, name, socket)) = process::told() {
        run(roles::play(role, name, socket));
    }
}

#[test]
fn a_member_that_is_killed_loses_its_task_to_another() {
    run(async {
        let scene = Scene::new().await;
        let mut first = scene.member("a").await;
        let mut second = scene.member("b").await;
        let dispatcher = scene.dispatcher(Options::default()).await;
        let handle = dispatcher.submit(task("hang at a").id("t")).unwrap();
        first.says("begun t").await;
        first.kill().await;
        let done = handle.outcome().await.unwrap();
        assert_eq!((&*done.member, done.attempt), ("b", 2));
        second.says("begun t").await;
        dispatcher.idle().await;
        let now = dispatcher.now();
        assert_eq!(
            (now.outstanding, now.taken, now.sending),
            (0, 0, 0),
            "{now:?}"
        );
    });
}

#[test]
fn a_task_whose_only_member_is_killed_ends_by_its_deadline_with_the_reason() {
    run(async {
        let scene = Scene::new().await;
        let mut only = scene.member("a").await;
        let dispatcher = scene.dispatcher(Options::default()).await;
        let mut changes = scene.registry.watch();
        let spec = task("hang at a").id("t").deadline(Duration::from_secs(15));
        let reports = Subscribe::to("results.agent").unwrap();
        let mut reports = scene.bus.subscribe(reports).await.unwrap();
        let handle = dispatcher.submit(spec).unwrap();
        only.says("begun t").await;
        // It begins before it is heard to have the task; killed in between, it would not have answered.
        let report = reports.recv().await.unwrap();
        let report = Report::decode(&report.bytes().unwrap()).unwrap();
        assert_eq!(report.answer.name(), "accepted", "{report:?}");
        only.kill().await;
        while !matches!(changes.next().await, Some(Change::Removed { .. })) {}
        assert_eq!(handle.try_outcome(), None, "the deadline came first");
        let Err(TaskError::Deadline { attempts, .. }) = handle.outcome().await else {
            panic!("{:?}", handle.try_outcome());
        };
        let reason = Some(Removal::Silent);
        assert_eq!(attempts[0].end, AttemptEnd::Gone { reason });
        let capability = "work".to_owned();
        let error = SubmitError::NoCapableMember { capability };
        assert_eq!(dispatcher.submit(task("x")).unwrap_err(), error);
        // Who comes back under the name is another member.
        let _again = scene.member("a").await;
        let handle = dispatcher.submit(task("x").wait_for_member()).unwrap();
        assert_eq!(handle.outcome().await.unwrap().member, "a");
    });
}

#[test]
fn a_dispatcher_that_is_killed_comes_back_and_nothing_is_done_twice() {
    run(async {
        let scene = Scene::new().await;
        let mut member = scene.member("a").await;
        let mut agent = scene.start("agent", "agent");
        member.says("begun t").await;
        agent.kill().await;
        let dispatcher = scene.dispatcher(Options::default()).await;
        let handle = dispatcher.submit(task("go").id("t")).unwrap();
        let other = dispatcher.submit(task("x").id("u")).unwrap();
        member.says("begun u").await;
        assert!(other.outcome().await.is_ok());
        assert_eq!(handle.try_outcome(), None);
        let go = Event::new("go.t", "").unwrap();
        scene.bus.publish(go).await.unwrap();
        assert_eq!(handle.outcome().await.unwrap().result, Payload::raw("gone"));
        drop(dispatcher);
        let dispatcher = scene.dispatcher(Options::default()).await;
        let again = dispatcher.submit(task("go").id("t")).unwrap();
        assert_eq!(again.outcome().await.unwrap().result, Payload::raw("gone"));
        let stats = member.end().await;
        assert_eq!(
            (stats["accepted"], stats["done"], stats["repeated"]),
            (2, 2, 2),
            "{stats:?}"
        );
    });
}

#[test]
fn of_ten_thousand_tasks_at_four_processes_each_ends_once_in_a_flood_of_garbage() {
    const TASKS: usize = 10_000;
    const GARBAGE: u64 = 10_000;
    run(async {
        let scene = Scene::new().await;
        let mut members = Vec::new();
        for name in ["a", "b", "c", "d"] {
            members.push(scene.member(name).await);
        }
        let options = Options {
            outstanding: 200,
            ..Options::default()
        };
        let dispatcher = scene.dispatcher(options).await;
        let vandal = scene.bus.connect(None).await.unwrap();
        let flood = tokio::spawn(async move {
            for n in 0..GARBAGE {
                let topic = if n % 2 == 0 {
                    "tasks.process.a"
                } else {
                    "results.agent"
                };
                vandal
                    .publish(Event::new(topic, "garbage").unwrap())
                    .await
                    .unwrap();
            }
            vandal.flush(WATCHDOG).await.unwrap();
        });
        let outcomes = stream::iter(0..TASKS).map(|n| {
            let handle = dispatcher
                .submit(task("quiet").id(format!("t{n}")))
                .unwrap();
            async move { handle.outcome().await }
        });
        let mut by_member = BTreeMap::new();
        let mut outcomes = outcomes.buffer_unordered(200);
        while let Some(outcome) = outcomes.next().await {
            *by_member.entry(outcome.unwrap().member).or_insert(0) += 1;
        }
        drop(outcomes);
        flood.await.unwrap();
        dispatcher.idle().await;
        let (now, counts) = (dispatcher.now(), dispatcher.counts());
        assert_eq!(
            (now.outstanding, now.waiting, now.taken, now.sending),
            (0, 0, 0, 0),
            "{now:?}"
        );
        assert_eq!(
            (counts.submitted, counts.done),
            (TASKS as u64, TASKS as u64),
            "{counts:?}"
        );
        while dispatcher.counts().malformed < GARBAGE / 2 {
            tokio::task::yield_now().await;
        }
        let (mut done, mut malformed) = (0, 0);
        for member in members {
            let stats = member.end().await;
            assert_eq!(stats["accepted"], stats["done"], "{stats:?}");
            (done, malformed) = (done + stats["done"], malformed + stats["malformed"]);
        }
        assert_eq!(malformed, GARBAGE / 2);
        assert_eq!(done, TASKS as u64, "{counts:?}");
        assert_eq!(by_member.len(), 4, "all had something to do: {by_member:?}");
    });
}
