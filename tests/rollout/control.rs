//! Who moves a rollout, and who keeps it from moving.

use std::future::{Future as _, poll_fn};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use eventbus::rollout::admin::{self, AdminError, Answer, Request};
use eventbus::rollout::{
    self, Activity, Controller, Direction, Mode, RolloutError, StageRef, Status, Step, Trial,
    Verdict, What,
};
use eventbus::{BrokerMode, Config, Event, EventBus, Phase, PublishError, Subscribe};

use super::load::Load;
use super::scene::{PATIENCE, Scene, run};

/// Waits until the status is as wanted.
async fn until(controller: &Controller, wanted: impl Fn(&Status) -> bool) -> Status {
    loop {
        let status = controller.status();
        if wanted(&status) {
            return status;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn automatic_goes_to_the_last_stage_by_itself() {
    run(async {
        let scene = Scene::new();
        let mut rollout = scene.rollout(&["crossbeam", "in-process", "unix"]);
        rollout.mode = Mode::Automatic;
        let bus = rollout::open(&scene.config(rollout)).await.unwrap();
        let all: Arc<dyn EventBus> = bus.clone();
        let load = Load::start(&all, 2, 2).await;
        let status = until(bus.controller(), |s| s.activity == Activity::Done).await;
        assert_eq!((status.stage, status.cutovers), (2, 2));
        let moves: Vec<_> = status.history.iter().map(|entry| entry.what).collect();
        assert_eq!(moves, [What::Started, What::Advanced, What::Advanced]);
        assert!(status.history[1].reason.contains("gates have passed"));
        load.end().await;
        bus.shutdown().await.unwrap();
    });
}

#[test]
fn manual_asks_and_refuses_what_the_gates_do_not_allow() {
    run(async {
        let scene = Scene::new();
        let mut rollout = scene.rollout(&["crossbeam", "in-process"]);
        rollout.gates.min_events = 10;
        let bus = rollout::open(&scene.config(rollout)).await.unwrap();
        let controller = bus.controller();
        let refused = controller.advance(false).await.unwrap_err();
        assert!(
            matches!(&refused, RolloutError::Gates { objections } if objections.join(";").contains("at least 10 events")),
            "{refused}"
        );
        assert_eq!(controller.status().stage, 0);
        for n in 0..10_u32 {
            bus.publish(Event::json("a", &n).unwrap()).await.unwrap();
        }
        let status = until(controller, |s| s.activity == Activity::Asking).await;
        assert!(
            status
                .gates
                .iter()
                .all(|gate| gate.verdict == Verdict::Pass)
        );
        assert_eq!(
            controller.plan(Direction::Advance).objections,
            Vec::<String>::new()
        );
        let entry = controller.advance(false).await.unwrap();
        assert_eq!((entry.what, &*entry.to), (What::Advanced, "in-process"));
        let nowhere = controller.advance(true).await.unwrap_err();
        assert!(matches!(nowhere, RolloutError::NoStage { .. }), "{nowhere}");
        bus.shutdown().await.unwrap();
        assert_eq!(controller.back().await, Err(RolloutError::Closed));
    });
}

#[test]
fn a_paused_rollout_does_nothing_by_itself() {
    run(async {
        let scene = Scene::new();
        let mut rollout = scene.rollout(&["crossbeam", "in-process"]);
        rollout.mode = Mode::Automatic;
        let bus = rollout::open(&scene.config(rollout)).await.unwrap();
        let controller = bus.controller();
        controller.pause().await.unwrap();
        bus.publish(Event::new("a", "x").unwrap()).await.unwrap();
        // It has seen that its gates have passed.
        let passed = |s: &Status| s.gates.iter().all(|gate| gate.verdict == Verdict::Pass);
        let status = until(controller, passed).await;
        assert_eq!((status.stage, status.activity), (0, Activity::Paused));
        // Nor after somebody has moved it.
        controller.advance(true).await.unwrap();
        controller.back().await.unwrap();
        let status = controller.status();
        assert_eq!((status.stage, status.activity), (0, Activity::Paused));
        controller.resume().await.unwrap();
        bus.publish(Event::new("a", "y").unwrap()).await.unwrap();
        until(controller, |s| s.stage == 1).await;
        bus.shutdown().await.unwrap();
    });
}

#[test]
fn automatic_halts_after_a_few_moves_that_fail() {
    run(async {
        let scene = Scene::new();
        let mut rollout = scene.rollout(&["crossbeam", "in-process"]);
        rollout.mode = Mode::Automatic;
        rollout.hooks.before = vec![program(&scene, "no", 3)];
        let bus = rollout::open(&scene.config(rollout)).await.unwrap();
        let all: Arc<dyn EventBus> = bus.clone();
        let load = Load::start(&all, 1, 1).await;
        let status = until(bus.controller(), |s| s.activity == Activity::Halted).await;
        load.end().await;
        let told = std::fs::read_to_string(scene.path("told")).unwrap();
        assert_eq!(told.lines().count(), 3, "{told}");
        assert_eq!(status.stage, 0);
        bus.shutdown().await.unwrap();
    });
}

#[test]
fn one_that_says_nothing_for_too_long_pauses() {
    run(async {
        let scene = Scene::new();
        let mut rollout = scene.rollout(&["crossbeam", "in-process"]);
        rollout.mode = Mode::Automatic;
        rollout.gates.patience = Duration::from_millis(50);
        let bus = rollout::open(&scene.config(rollout)).await.unwrap();
        let status = until(bus.controller(), |s| s.activity == Activity::Paused).await;
        assert!(
            status
                .history
                .last()
                .unwrap()
                .reason
                .contains("said nothing")
        );
        bus.shutdown().await.unwrap();
    });
}

/// A program that writes down what it is told, and ends so.
fn program(scene: &Scene, name: &str, code: u8) -> PathBuf {
    let (path, told) = (scene.path(name), scene.path("told"));
    let told = told.display();
    let text = format!(
        "#!/bin/sh\necho $EVENTBUS_ROLLOUT_DIRECTION $EVENTBUS_ROLLOUT_FROM $EVENTBUS_ROLLOUT_TO >> {told}\nexit {code}\n"
    );
    // What is open for writing cannot be run, and a process that another test starts just now has what
    // this one has open: so this one does not open it.
    let write = "printf %s \"$1\" > \"$0\" && chmod 700 \"$0\"";
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", write]).arg(&path).arg(text);
    assert!(shell.status().unwrap().success());
    path
}

#[test]
fn a_hook_that_fails_is_a_veto() {
    run(async {
        let scene = Scene::new();
        let mut rollout = scene.rollout(&["crossbeam", "in-process"]);
        rollout.hooks.before = vec![program(&scene, "yes", 0), program(&scene, "no", 3)];
        let bus = rollout::open(&scene.config(rollout)).await.unwrap();
        let refused = bus.controller().advance(true).await.unwrap_err();
        assert!(
            matches!(&refused, RolloutError::Veto { program, reason } if program.ends_with("no") && reason.contains('3')),
            "{refused}"
        );
        let status = bus.controller().status();
        assert_eq!((status.stage, status.cutovers), (0, 0));
        assert_eq!(status.last_error, Some(refused.to_string()));
        let told = std::fs::read_to_string(scene.path("told")).unwrap();
        assert_eq!(told, "advance crossbeam in-process\n".repeat(2));
        bus.shutdown().await.unwrap();
    });
}

#[test]
fn a_cutover_that_cannot_be_made_leaves_everything_as_it_was() {
    run(async {
        let scene = Scene::new();
        let rollout = scene.rollout(&["crossbeam", "unix"]);
        // Nobody is there.
        let config = scene.config(rollout).broker_mode(BrokerMode::External);
        let bus = rollout::open(&config).await.unwrap();
        let all: Arc<dyn EventBus> = bus.clone();
        let load = Load::start(&all, 2, 2).await;
        load.flows(500).await;
        let refused = bus.controller().advance(true).await.unwrap_err();
        assert!(
            matches!(&refused, RolloutError::Aborted { step, .. } if step == "2 (open)"),
            "{refused}"
        );
        load.flows(500).await;
        assert_eq!(bus.controller().status().phase, "crossbeam");
        load.end().await;
        bus.shutdown().await.unwrap();
    });
}

#[test]
fn a_cutover_is_given_up_when_publishers_would_be_held_for_too_long() {
    run(async {
        let scene = Scene::new();
        let mut rollout = scene.rollout(&["crossbeam", "in-process"]);
        rollout.hold = Duration::from_millis(100);
        let bus = rollout::open(&scene.config(rollout)).await.unwrap();
        // Nobody reads, so a publisher waits for room, inside.
        let mut stalled = bus
            .subscribe(Subscribe::to("a").unwrap().capacity(1))
            .await
            .unwrap();
        bus.publish(Event::new("a", "1").unwrap()).await.unwrap();
        let mut waiting = pin!(bus.publish(Event::new("a", "2").unwrap()));
        let pending = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending()));
        assert!(pending.await, "there is no room");
        let refused = bus.controller().advance(true).await.unwrap_err();
        assert!(
            matches!(&refused, RolloutError::Aborted { step, .. } if step == "4 (hold)"),
            "{refused}"
        );
        assert_eq!(stalled.recv().await.unwrap().bytes().unwrap(), "1");
        waiting.await.unwrap();
        assert_eq!(stalled.recv().await.unwrap().bytes().unwrap(), "2");
        for text in ["3", "4"] {
            bus.publish(Event::new("a", text).unwrap()).await.unwrap();
            assert_eq!(stalled.recv().await.unwrap().bytes().unwrap(), text);
            if text == "3" {
                bus.controller().advance(true).await.unwrap();
            }
        }
        bus.shutdown().await.unwrap();
    });
}

#[test]
fn somebody_can_give_a_cutover_up_until_its_commit() {
    run(async {
        let scene = Scene::new();
        let rollout = scene.rollout(&["crossbeam", "in-process"]);
        // Whoever is told of a step may take his time: here until the abort was asked for.
        let (reached, step) = std::sync::mpsc::sync_channel(16);
        let (go, wait) = std::sync::mpsc::sync_channel(16);
        let wait = parking_lot::Mutex::new(wait);
        let watch = move |step: Step| {
            if step == Step::Hold {
                reached.send(()).unwrap();
                let _ = wait.lock().recv();
            }
        };
        let bus = rollout::open_trial(&scene.config(rollout), Trial::default().on_step(watch))
            .await
            .unwrap();
        let controller = bus.controller().clone();
        assert_eq!(controller.abort(), Err(RolloutError::NothingToAbort));
        let mover = controller.clone();
        let moving = tokio::spawn(async move { mover.advance(true).await });
        tokio::task::spawn_blocking(move || step.recv().unwrap())
            .await
            .unwrap();
        assert_eq!(controller.status().cutover.unwrap().step, Step::Hold);
        controller.abort().unwrap();
        go.send(()).unwrap();
        let refused = moving.await.unwrap().unwrap_err();
        assert!(
            matches!(&refused, RolloutError::Aborted { step, .. } if step == "4 (hold)"),
            "{refused}"
        );
        assert_eq!(controller.status().phase, "crossbeam");
        let mut events = bus.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
        bus.publish(Event::new("a", "x").unwrap()).await.unwrap();
        assert!(events.recv().await.is_some());
        bus.shutdown().await.unwrap();
    });
}

#[test]
fn who_was_held_up_and_finds_no_room_has_the_event_back() {
    run(async {
        let scene = Scene::new();
        let mut config = scene.config(scene.rollout(&["crossbeam", "in-process"]));
        // Long after the commit on any machine.
        config.limits.publish_deadline = Duration::from_secs(4);
        let (reached, step) = std::sync::mpsc::sync_channel(16);
        let (go, wait) = std::sync::mpsc::sync_channel(16);
        let wait = parking_lot::Mutex::new(wait);
        let watch = move |step: Step| {
            if step == Step::Commit {
                reached.send(()).unwrap();
                let _ = wait.lock().recv();
            }
        };
        let bus = rollout::open_trial(&config, Trial::default().on_step(watch))
            .await
            .unwrap();
        let subscribe = Subscribe::to("a").unwrap().capacity(1);
        let mut events = bus.subscribe(subscribe).await.unwrap();
        let controller = bus.controller().clone();
        let moving = tokio::spawn(async move { controller.advance(true).await });
        tokio::task::spawn_blocking(move || step.recv().unwrap())
            .await
            .unwrap();
        // Both are held, and the new phase has room for one.
        let publishing = ["1", "2"].map(|text| {
            let (bus, event) = (Arc::clone(&bus), Event::new("a", text).unwrap());
            tokio::spawn(async move { bus.publish(event).await })
        });
        let full = bus.try_publish(Event::new("a", "3").unwrap()).unwrap_err();
        assert_eq!(
            full.reason().to_string(),
            "no room in subscription `(cutover)`"
        );
        go.send(()).unwrap();
        moving.await.unwrap().unwrap();
        let mut refused = Vec::new();
        for publishing in publishing {
            if let Err(back) = publishing.await.unwrap() {
                assert!(
                    matches!(back.reason(), PublishError::Backpressure { .. }),
                    "{back}"
                );
                assert_eq!(back.event().origin(), None);
                refused.push(back.into_event());
            }
        }
        assert_eq!(refused.len(), 1);
        let first = events.recv().await.unwrap();
        let back = refused.remove(0);
        assert_ne!(first.bytes().unwrap(), back.bytes().unwrap());
        // It was not delivered, and can be published again.
        bus.publish(back.clone()).await.unwrap();
        assert_eq!(events.recv().await.unwrap().bytes(), back.bytes());
        assert!(events.try_recv().is_err());
        bus.shutdown().await.unwrap();
    });
}

#[test]
fn two_phases_of_one_broker_are_no_two_buses() {
    run(async {
        let scene = Scene::new();
        let rollout = scene.rollout(&["unix", "tcp"]);
        let phases = rollout.phases.clone();
        let mut config = scene.config(rollout).broker_mode(BrokerMode::External);
        let (Phase::Unix(path), Phase::Tcp { port, .. }) = (&phases[0], &phases[1]) else {
            unreachable!("as asked for");
        };
        // Else the name alone would tell.
        config.name = None;
        config.broker.unix.push(path.clone());
        config.broker.tcp.push(([127, 0, 0, 1], *port).into());
        let broker = eventbus::start_broker(&config).await.unwrap();
        let bus = rollout::open(&config).await.unwrap();
        let refused = bus.controller().advance(true).await.unwrap_err();
        assert!(
            matches!(&refused, RolloutError::Aborted { step, reason } if step == "2 (open)" && reason.contains("one broker")),
            "{refused}"
        );
        bus.shutdown().await.unwrap();
        broker.stop().await;
    });
}

fn ask(path: &Path, request: Request) -> Answer {
    admin::ask(path, request, PATIENCE).unwrap()
}

#[test]
fn an_order_that_comes_twice_moves_once() {
    run(async {
        let scene = Scene::new();
        let rollout = scene.rollout(&["crossbeam", "in-process", "unix"]);
        let bus = rollout::open(&scene.config(rollout)).await.unwrap();
        let controller = bus.controller();
        let forward = |from| controller.go_from(from, Direction::Advance, true);
        let seen = || StageRef::Index(0);
        // Both are waiting when the first is carried out.
        let (first, second) = tokio::join!(forward(seen()), forward(seen()));
        assert_eq!(first.unwrap().to, "in-process");
        let refused = second.unwrap_err();
        let told = "the rollout is in stage `in-process` and not in number 1 any more, so nothing \
                    was done; ask for its status and order again";
        assert_eq!(refused.to_string(), told);
        let by_name = StageRef::Name("crossbeam".to_owned());
        let late = controller.go_from(by_name, Direction::Back, true).await;
        assert!(
            matches!(late, Err(RolloutError::Elsewhere { .. })),
            "{late:?}"
        );
        assert_eq!(controller.status().stage, 1);
        let here = StageRef::Name("in-process".to_owned());
        let back = controller.go_from(here, Direction::Back, false).await;
        assert_eq!(back.unwrap().to, "crossbeam");
        bus.shutdown().await.unwrap();
    });
}

/// What the process of [`a_stranger_is_told_nothing`] is told.
const STRANGER: &str = "EVENTBUS_TEST_ROLLOUT_STRANGER";
/// A user that nobody is.
const NOBODY: u32 = 65_534;

/// The life of a process that listens where a rollout should; no test of its own.
#[test]
fn stranger() {
    let Some(path) = std::env::var_os(STRANGER) else {
        return;
    };
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    println!("ready");
    let (mut stream, _) = listener.accept().unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    println!("said {said:?}");
}

#[test]
fn a_stranger_is_told_nothing() {
    // Only root can have a process of another user.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scene = Scene::new();
    let everybodys = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(scene.directory.path(), everybodys).unwrap();
    let path = scene.path("admin.sock");
    // What it runs must be where it may read; it is not this process that has it open, as above.
    let program = scene.path("stranger");
    let mut copy = Command::new("cp");
    let copy = copy.arg(std::env::current_exe().unwrap()).arg(&program);
    assert!(copy.status().unwrap().success());
    let mut child = Command::new(&program)
        .args(["control::stranger", "--exact", "--nocapture"])
        .env(STRANGER, &path)
        .uid(NOBODY)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = |word: &str| {
        let line = lines.find(|line| line.as_ref().unwrap().contains(word));
        line.unwrap().unwrap()
    };
    until("ready");
    let asked = admin::ask(&path, Request::Status, PATIENCE);
    assert!(
        matches!(&asked, Err(AdminError::Stranger { uid: NOBODY, .. })),
        "{asked:?}"
    );
    assert_eq!(until("said"), "said \"\"");
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_operator_finds_it_at_its_socket() {
    run(async {
        let scene = Scene::new();
        let mut rollout = scene.rollout(&["crossbeam", "in-process"]);
        let path = scene.path("admin/rollout.sock");
        rollout.admin = Some(path.clone());
        let config: Config = scene.config(rollout);
        let bus = rollout::open(&config).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let second = {
            let mut other = config.clone();
            other.rollout.as_mut().unwrap().journal = scene.path("other");
            rollout::open(&other).await.unwrap_err().to_string()
        };
        assert!(second.contains("another process answers"), "{second}");
        let place = path.clone();
        let operator = tokio::task::spawn_blocking(move || {
            let Answer::Status(status) = ask(&place, Request::Status) else {
                panic!("no status");
            };
            assert_eq!(status.phase, "crossbeam");
            let direction = Direction::Advance;
            let Answer::Plan(plan) = ask(&place, Request::Plan { direction }) else {
                panic!("no plan");
            };
            assert_eq!(plan.steps.len(), Step::ALL.len());
            assert!(matches!(
                ask(&place, Request::Back { from: None }),
                Answer::Refused(_)
            ));
            let done = ask(
                &place,
                Request::Advance {
                    force: true,
                    from: None,
                },
            );
            assert!(matches!(&done, Answer::Done(entry) if entry.what == What::Advanced));
            assert!(matches!(ask(&place, Request::Abort), Answer::Refused(_)));
        });
        operator.await.unwrap();
        assert_eq!(bus.controller().status().phase, "in-process");
        bus.shutdown().await.unwrap();
        let gone = admin::ask(&path, Request::Status, PATIENCE);
        assert!(
            matches!(gone, Err(AdminError::Unreachable { .. })),
            "{gone:?}"
        );
    });
}
