//! Members and those who ask them in Python, by the code in `docs/control.md`, as it stands there.

use std::time::Duration;

use control::client::CollectorClient;
use control::collector::wire::HealthReport;
use control::dispatch::{Options, TaskError, TaskSpec};
use control::member::Activity;
use control::registry::{Change, Removal};
use control::tasks::{FailureReason, Report};
use eventbus::Subscribe;
use serde::Serialize;

use crate::python::{Peer, Python};
use crate::{Scene, run};

/// The pieces of Python in the document: those of who asks, and the member.
fn documented() -> (String, String) {
    let document = include_str!("../../../docs/control.md");
    let pieces = document.split("```python\n").skip(1);
    let pieces = pieces.filter_map(|rest| rest.split("```").next());
    let (member, asks): (Vec<_>, Vec<_>) = pieces.partition(|code| code.contains("def work"));
    (asks.concat(), member.concat())
}

fn without_python() -> bool {
    let without = std::env::var_os("EVENTBUS_NO_FOREIGN").is_some_and(|value| value == "1");
    if without {
        println!("EVENTBUS_NO_FOREIGN=1: nothing is tried with clients in other languages");
    }
    without
}

/// A task for the member, when it is there.
fn sum(what: &(impl Serialize + ?Sized)) -> TaskSpec {
    let task = TaskSpec::json("sum", what).unwrap();
    task.wait_for_member().deadline(Duration::from_secs(60))
}

impl Scene {
    /// A program, and what it imports from as long as it runs.
    fn python(&self, code: &str) -> (Peer, Python) {
        let socket = self.directory.path().join("run/bus.sock");
        let at_ours = code.replace("/run/example/bus.sock", socket.to_str().unwrap());
        assert_ne!(code, at_ours, "it is not at our socket");
        let python = Python::new().unwrap();
        (python.code(&at_ours, &[]), python)
    }
}

#[test]
fn the_documented_python_asks_a_member_and_gives_it_a_task() {
    if without_python() {
        return;
    }
    let asks = documented().0.replace(r#""hash""#, r#""work""#);
    run(async {
        let scene = Scene::new().await;
        let member = scene.member("procmond-1").await;
        let reports = Subscribe::to("results.my-script").unwrap();
        let mut reports = scene.bus.subscribe(reports).await.unwrap();
        let (peer, _python) = scene.python(&asks);
        // Dropped, it would be killed before it has sent the task.
        let line = tokio::task::spawn_blocking(move || (peer.line(), peer));
        let (said, _peer) = line.await.unwrap();
        assert!(said.contains("'name': 'procmond-1'"), "{said}");
        for name in ["accepted", "done"] {
            let event = reports.recv().await.unwrap();
            let report = Report::decode(&event.bytes().unwrap()).unwrap();
            assert_eq!(report.answer.name(), name, "{report:?}");
            assert_eq!(report.mark.id, "from-python-1");
        }
        assert_eq!(member.end().await["done"], 1);
    });
}

#[test]
fn the_documented_member_in_python_is_listed_and_does_its_tasks() {
    if without_python() {
        return;
    }
    let code = documented().1;
    run(async {
        let scene = Scene::new().await;
        let mut changes = scene.registry.watch();
        let dispatcher = scene.dispatcher(Options::default()).await;
        let first = dispatcher.submit(sum(&[1, 2, 39]).id("t")).unwrap();
        let (peer, _python) = scene.python(&code);
        let done = first.outcome().await.unwrap();
        assert_eq!(&*done.member, "pymond");
        assert_eq!(done.result.bytes().unwrap(), "42");
        let listed = scene.registry.member("pymond").unwrap();
        assert_eq!(listed.activity, Activity::Idle);
        let known = listed.identity;
        assert_eq!((&*known.kind, known.max_tasks), ("process", 1));
        // It is asked for the same once more by somebody who has forgotten.
        drop(dispatcher);
        let dispatcher = scene.dispatcher(Options::default()).await;
        let again = dispatcher.submit(sum(&[1]).id("t")).unwrap();
        let again = again.outcome().await.unwrap();
        assert_eq!(again.result.bytes().unwrap(), "42", "it was done again");
        let failed = dispatcher.submit(sum("no numbers")).unwrap();
        let failed = failed.outcome().await;
        let Err(TaskError::Failed { reason, .. }) = failed else {
            panic!("{failed:?}")
        };
        assert_eq!(reason, FailureReason::Error);
        let client = CollectorClient::new(scene.bus.clone(), "pymond");
        let HealthReport { identity, well, .. } = client.health_check().await.unwrap();
        assert_eq!((&identity, well), (&*known, true));
        drop(peer);
        let removed = loop {
            if let Change::Removed { reason, .. } = changes.next().await.unwrap() {
                break reason;
            }
        };
        assert_eq!(removed, Removal::Silent);
    });
}
