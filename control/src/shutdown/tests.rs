//! Members that end as they are told, at a clock that the tests turn.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;

use async_trait::async_trait;
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::Limits;
use eventbus_trait::rpc::{Call, Failure, Methods, Reply, Service};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::timeout;

use super::*;
use crate::collector::{Asked, Collector, Host, Options, Problem, Refusal, serve_collector};
use crate::member::Identity;
use crate::registry::{Change, Registry, Rules};

const WATCHDOG: Duration = Duration::from_secs(3_600);

/// Notes when it is asked to end and when it has; takes its time in between.
struct Slow {
    name: String,
    takes: Duration,
    notes: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Collector for Slow {
    async fn start_collection(&self, _: &Asked, _: &Value) -> Result<(), Refusal> {
        Ok(())
    }

    async fn stop_collection(&self, _: &Asked) -> Result<(), Refusal> {
        Ok(())
    }

    async fn shutdown(&self, _: &Asked) -> Result<(), Refusal> {
        self.notes.lock().push(format!("{} begins", self.name));
        let _ = timeout(self.takes, std::future::pending::<()>()).await;
        self.notes.lock().push(format!("{} ends", self.name));
        Ok(())
    }
}

struct Scene {
    bus: Arc<dyn EventBus>,
    registry: Registry,
    hosts: Vec<Host>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Scene {
    async fn new() -> Self {
        let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits::default());
        let registry = Registry::start(Arc::clone(&bus), Rules::default())
            .await
            .unwrap();
        Self {
            bus,
            registry,
            hosts: Vec::new(),
            notes: Arc::default(),
        }
    }

    async fn member(&mut self, name: &str, kind: &str, seconds: u64) {
        let collector = Slow {
            name: name.to_owned(),
            takes: Duration::from_secs(seconds),
            notes: Arc::clone(&self.notes),
        };
        let home = self.bus.connect(None).await.unwrap();
        let identity = Identity::new(name, kind);
        let host = serve_collector(home, identity, collector, Options::default());
        self.hosts.push(host.await.unwrap());
    }

    /// All members, once the registry knows so many.
    async fn members(&self, count: usize) -> Vec<Member> {
        let mut changes = self.registry.watch();
        while self.registry.members().len() < count {
            let change = timeout(WATCHDOG, changes.next()).await;
            assert!(matches!(
                change,
                Ok(Some(Change::Resync(_) | Change::Joined(_)))
            ));
        }
        self.registry.members()
    }

    fn coordinator(&self) -> Coordinator {
        Coordinator::new(Arc::clone(&self.bus))
    }
}

#[tokio::test(start_paused = true)]
async fn kinds_go_in_order_and_at_once_where_they_may() {
    let mut scene = Scene::new().await;
    scene.member("p1", "process", 3).await;
    scene.member("p2", "process", 5).await;
    scene.member("n1", "network", 4).await;
    scene.member("s1", "storage", 2).await;
    scene.member("free", "other", 1).await;
    let members = scene.members(5).await;
    let report = scene
        .coordinator()
        .before("process", "cache")
        .before("cache", "storage")
        .before("network", "storage")
        .shut_down(&members)
        .await
        .unwrap();
    assert!(report.is_graceful(), "{report:?}");
    assert_eq!(
        report.took,
        Duration::from_secs(7),
        "5 for the slowest, then 2"
    );
    let names: Vec<_> = report
        .members
        .iter()
        .map(|m| (&*m.name, m.took.as_secs()))
        .collect();
    let expected = [("n1", 4), ("free", 1), ("p1", 3), ("p2", 5), ("s1", 2)];
    assert_eq!(names, expected);
    let notes = scene.notes.lock();
    // Nobody of `cache` is there, and `storage` waits for `process` all the same.
    assert_eq!(notes[8..], ["s1 begins", "s1 ends"]);
    assert!(
        notes[..4].iter().all(|note| note.ends_with("begins")),
        "{notes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn each_is_reported_as_it_ended_and_nobody_holds_up_the_rest() {
    let mut scene = Scene::new().await;
    scene.member("good", "process", 1).await;
    scene.member("slow", "process", 60).await;
    scene.member("last", "storage", 1).await;
    let mut members = scene.members(3).await;
    // Another life has the name of one, and another one is not there at all.
    let mut former = members[0].clone();
    let identity = Identity::new("good", "former");
    former.identity = Arc::new(identity);
    let mut gone = former.clone();
    gone.identity = Arc::new(Identity::new("gone", "process"));
    members.extend([former, gone]);
    let report = scene
        .coordinator()
        .deadline_of("process", Duration::from_secs(4))
        .before("former", "process")
        .before("process", "storage")
        .shut_down(&members)
        .await
        .unwrap();
    assert!(!report.is_graceful());
    assert_eq!(report.took, Duration::from_secs(5));
    let end = |name: &str, kind: &str| {
        let found = report
            .members
            .iter()
            .find(|m| m.name == name && m.kind == kind);
        found.unwrap().end.clone()
    };
    assert_eq!(end("good", "process"), End::Graceful);
    assert_eq!(end("last", "storage"), End::Graceful);
    let reason = "the collector had not finished".to_owned();
    let unfinished = 0;
    assert_eq!(end("slow", "process"), End::Forced { reason, unfinished });
    let End::Silent { error } = end("good", "former") else {
        panic!("another life was shut down")
    };
    assert_eq!(error.problem(), Some(Problem::Conflict));
    let text = "did not say that it ended: `shutdown`: no service `gone` on this bus";
    assert_eq!(end("gone", "process").to_string(), text);
}

#[tokio::test]
async fn who_gives_no_answer_is_silent_after_its_deadline() {
    let scene = Scene::new().await;
    let mute = Methods::new().on("shutdown", |_: Call| async {
        std::future::pending::<Result<Reply, Failure>>().await
    });
    let _serving = scene.bus.serve(Service::new("mute", mute)).await.unwrap();
    let mut other = Scene::new().await;
    other.member("any", "process", 0).await;
    let mut member = other.members(1).await.remove(0);
    member.identity = Arc::new(Identity::new("mute", "process"));
    let deadline = Duration::from_millis(10);
    let report = scene
        .coordinator()
        .deadline(deadline)
        .shut_down(&[member])
        .await;
    let report = report.unwrap();
    let End::Silent { error } = &report.members[0].end else {
        panic!("{report:?}")
    };
    assert!(error.may_have_run());
    assert!(
        error
            .to_string()
            .contains("no answer from `mute` within 2.01s"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn kinds_that_wait_for_each_other_are_refused_and_nobody_is_asked() {
    let mut scene = Scene::new().await;
    scene.member("a", "a", 0).await;
    let members = scene.members(1).await;
    let error = scene
        .coordinator()
        .before("first", "a")
        .before("a", "b")
        .before("b", "c")
        .before("c", "a")
        .before("c", "last")
        .shut_down(&members)
        .await
        .unwrap_err();
    let text = "kinds wait for each other: a before b before c before a";
    assert_eq!(error.to_string(), text);
    let own = scene
        .coordinator()
        .before("a", "a")
        .shut_down(&members)
        .await;
    let text = "kinds wait for each other: a before a";
    assert_eq!(own.unwrap_err().to_string(), text);
    assert_eq!(*scene.notes.lock(), [""; 0]);
}
