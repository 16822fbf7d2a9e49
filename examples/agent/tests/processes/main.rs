//! The agent and its monitors as processes that live, die and come back.
//!
//! The test program starts itself again as one of the two; parent and children talk in lines over pipes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod program;
#[path = "../../../../busrt-backend/tests/foreign/python.rs"]
#[expect(dead_code, reason = "not all of it is needed here")]
mod python;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use control::client::CollectorClient;
use eventbus::{BrokerMode, Config, Event, EventBus, Phase};
use libtest_mimic::{Arguments, Trial};
use program::{Program, ROLE};
use python::Python;
use serde_json::{Value, json};

/// An executable that nobody has hashed within a test, whatever the machine: bytes, of which hardly any
/// are on the disk.
const LARGE: u64 = 1 << 40;

fn main() -> ExitCode {
    match std::env::var(ROLE).as_deref() {
        Ok("agent") => return agent::run(agent::agent::main),
        Ok("procmond") => return agent::run(agent::procmond::main),
        _ => {}
    }
    let tests: [(&str, fn()); 10] = [
        ("events_flow_and_a_task_is_done", events_flow),
        ("topics_that_nobody_knows_are_counted_as_one", other_topics),
        ("the_six_operations", the_six_operations),
        ("a_killed_monitors_task_moves_to_another", a_task_moves),
        ("without_another_it_fails_by_its_deadline", a_task_fails),
        (
            "a_killed_agent_comes_back_to_its_members",
            an_agent_comes_back,
        ),
        ("a_monitor_says_that_it_waits", a_monitor_waits),
        ("in_one_process_by_configuration_alone", in_one_process),
        ("a_python_client_checks_its_health", a_python_client),
        ("it_calls_a_python_service", a_python_service),
    ];
    let trial = |(name, run): (&str, fn())| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    };
    let tests = tests.into_iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("run/bus.sock")
    }

    fn phase(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn agent(&self, words: &[&str]) -> Program {
        let agent = Program::start("agent", &self.phase(), words);
        agent.says("agent on unix://");
        agent
    }

    fn procmond(&self, name: &str) -> Program {
        // Who is not heard for two of them is given no tasks, though he may only have had no turn on a
        // busy machine.
        let words = [name, "--heartbeat", "500ms"];
        let procmond = Program::start("procmond", &self.phase(), &words);
        procmond.says(&format!("{name} serves"));
        procmond
    }

    /// A handle of the bus, for somebody who has a look at it.
    async fn bus(&self) -> Arc<dyn EventBus> {
        let config = Config::default()
            .phase(Phase::Unix(self.socket()))
            .broker_mode(BrokerMode::External);
        eventbus::open(&config).await.unwrap()
    }

    /// A process that runs a large executable.
    fn large(&self) -> Large {
        let path = self.directory.path().join("large");
        // What is open for writing cannot be run, and a process that another test starts just now has
        // what this one has open: so this one does not open it.
        let make = "cp /bin/sh \"$0\" && truncate -s \"$1\" \"$0\"";
        let mut made = Command::new("sh");
        let made = made.args(["-c", make]).arg(&path).arg(LARGE.to_string());
        assert!(made.status().unwrap().success());
        let mut shell = Command::new(path);
        shell.args(["-c", "read go; exec cat"]);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        Large(shell.spawn().unwrap())
    }
}

/// It is killed when this is dropped.
struct Large(Child);

impl Large {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Has the same process run an executable that is not large.
    fn become_small(&mut self) {
        let mut input = self.0.stdin.take().unwrap();
        input.write_all(b"go\nthere\n").unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(self.0.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "there\n");
        self.0.stdin = Some(input);
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let work = async { tokio::time::timeout(Duration::from_secs(60), work).await };
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(work)
        .expect("it hangs")
}

/// What `sha256sum` says of what this process runs.
fn own_digest() -> String {
    let sum = Command::new("sha256sum")
        .arg(std::env::current_exe().unwrap())
        .output();
    let sum = String::from_utf8(sum.unwrap().stdout).unwrap();
    sum.split_whitespace().next().unwrap().to_owned()
}

fn events_flow() {
    let scene = Scene::new();
    let mut agent = scene.agent(&["--every", "10"]);
    let _procmond = scene.procmond("procmond");
    // Agent and test are the same program.
    let digest = own_digest();
    // It hashes while it collects.
    agent.says_all(&[
        "procmond has joined: process",
        "10 events: {\"events.process.new\": 10}",
        &digest,
        "1 of 1 hashed, 1 gathered",
    ]);
    let own = std::process::id();
    agent.tell(&format!("hash {own} {own} 1073741824"));
    agent.says_all(&[
        &format!("{digest} {own}"),
        "hash of 1073741824 failed: `procmond` failed: cannot read what process 1073741824 runs",
        " of 3 hashed",
    ]);
    agent.tell("members");
    agent.says("procmond: process");
    agent.tell("quit");
    agent.ends(true);
}

fn other_topics() {
    let scene = Scene::new();
    let mut agent = scene.agent(&["--every", "3"]);
    // Who obeys listens already.
    agent.tell("hash 1");
    agent.says("hash of 1 failed: no member");
    block_on(async {
        let bus = scene.bus().await;
        for topic in ["a", "b", "new.c"] {
            let event = Event::new(format!("events.process.{topic}"), "").unwrap();
            bus.publish(event).await.unwrap();
        }
        bus.shutdown().await.unwrap();
    });
    agent.says("3 events: {\"other\": 3}");
}

fn the_six_operations() {
    let scene = Scene::new();
    let agent = scene.agent(&[]);
    let mut procmond = scene.procmond("procmond");
    agent.says("procmond is collecting now");
    block_on(async {
        let client = CollectorClient::new(scene.bus().await, "procmond");
        let health = client.health_check().await.unwrap();
        assert!(health.well, "{health:?}");
        let can = client.get_capabilities().await.unwrap();
        assert!(can.identity.capabilities.contains("hash_executable"));
        assert_eq!(can.details["config"], json!({ "interval_ms": 500 }));
        assert!(client.stop_collection().await.unwrap().changed);
        assert!(client.start_collection(&Value::Null).await.unwrap().changed);
        let bad = json!({ "interval_ms": 1 });
        let refused = client.update_config(1, &bad).await.unwrap_err();
        assert!(
            refused.to_string().contains("not within 10 to 60000"),
            "{refused}"
        );
        client
            .update_config(1, &json!({ "interval_ms": 20 }))
            .await
            .unwrap();
        let can = client.get_capabilities().await.unwrap();
        assert_eq!(can.details["config"], json!({ "interval_ms": 20 }));
        client.shutdown(Duration::from_secs(5), None).await.unwrap();
    });
    procmond.says("procmond has ended gracefully");
    procmond.ends(true);
    agent.says("procmond has left");
}

fn a_task_moves() {
    let scene = Scene::new();
    let mut agent = scene.agent(&["--deadline", "1m"]);
    let mut first = scene.procmond("first");
    agent.says_all(&["first is collecting now", "1 of 1 hashed"]);
    let mut large = scene.large();
    agent.tell(&format!("hash {}", large.pid()));
    first.says(&format!("first hashes {}, attempt 1", large.pid()));
    block_on(async {
        let client = CollectorClient::new(scene.bus().await, "first");
        let health = client.health_check().await.unwrap();
        assert_eq!(health.working, 1, "{health:?}");
    });
    first.kill();
    large.become_small();
    let second = scene.procmond("second");
    second.says(&format!("second hashes {}, attempt 2", large.pid()));
    agent.says_all(&[
        "first was silent for too long",
        " by second, attempt 2",
        "1 of 1 hashed, 1 gathered",
    ]);
}

fn a_task_fails() {
    let scene = Scene::new();
    // Once it was asked for: the first task has longer, and so has the monitor to come.
    let mut agent = scene.agent(&["--deadline", "10s"]);
    let mut only = scene.procmond("only");
    agent.says_all(&["only is collecting now", "1 of 1 hashed"]);
    let large = scene.large();
    agent.tell(&format!("hash {}", large.pid()));
    only.says(&format!("only hashes {}, attempt 1", large.pid()));
    only.kill();
    let failed = format!(
        "hash of {} failed: not done within 10s: `only`",
        large.pid()
    );
    // It is removed before, unless this machine has much else to do.
    agent.says_all(&["only was silent", &failed, "0 of 1 hashed"]);
    agent.tell(&format!("hash {}", large.pid()));
    agent.says("failed: no member has the capability `hash_executable`");
}

fn an_agent_comes_back() {
    let scene = Scene::new();
    let mut agent = scene.agent(&[]);
    let _procmond = scene.procmond("procmond");
    agent.says("procmond is collecting now");
    agent.kill();
    let mut again = scene.agent(&["--every", "1"]);
    let joined = "procmond has joined: process";
    again.says_all(&[joined, ", collecting, well", "1 of 1 hashed, 1 gathered"]);
    // What happens now is told to the new one.
    let _new = scene.large();
    again.says("\"events.process.new\": ");
    again.tell("shutdown");
    again.says("procmond ended gracefully");
    again.says("members shut down: 1");
}

fn a_monitor_waits() {
    let scene = Scene::new();
    let procmond = Program::start("procmond", &scene.phase(), &["early"]);
    procmond.says(&format!("early waits for a broker on {}", scene.phase()));
    let _agent = scene.agent(&[]);
    let next = procmond.says("early");
    assert_eq!(next, "early serves", "it says once that it waits");
}

fn in_one_process() {
    let mut agent = Program::start("agent", "crossbeam", &["--every", "10"]);
    agent.says("agent on crossbeam");
    agent.says_all(&[
        "procmond has joined: process",
        "10 events: {\"events.process.new\": 10}",
        &own_digest(),
        "1 of 1 hashed, 1 gathered",
    ]);
    agent.tell("quit");
    agent.ends(true);
    // Nobody else can come there.
    let mut alone = Program::start("procmond", "crossbeam", &[]);
    alone.ends(false);
}

fn a_python_client() {
    if std::env::var_os("EVENTBUS_NO_FOREIGN").is_some_and(|value| value == "1") {
        return;
    }
    let scene = Scene::new();
    let agent = scene.agent(&[]);
    let _procmond = scene.procmond("procmond");
    agent.says("procmond is collecting now");
    let python = Python::new().unwrap();
    let socket = scene.socket().display().to_string();
    for library in ["busrt", "busrt_async"] {
        let caller = python.peer(&[library, "call", &socket, "procmond", "health_check", "{}"]);
        let answer: Value = serde_json::from_str(&caller.line()).unwrap();
        let health = &answer["reply"];
        assert_eq!(health["well"], json!(true), "{health}");
        assert_eq!(health["identity"]["name"], json!("procmond"));
        // And what is no request is said in words.
        let caller = python.peer(&[library, "call", &socket, "procmond", "health_check"]);
        let answer: Value = serde_json::from_str(&caller.line()).unwrap();
        assert_eq!(answer["code"], json!(-32602));
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains("unknown field `from`"), "{message}");
    }
}

fn a_python_service() {
    if std::env::var_os("EVENTBUS_NO_FOREIGN").is_some_and(|value| value == "1") {
        return;
    }
    let scene = Scene::new();
    let mut agent = scene.agent(&[]);
    let words = ["procmond", "--reputation", "oracle"];
    let procmond = Program::start("procmond", &scene.phase(), &words);
    procmond.says("procmond serves");
    // Nobody is there to be asked yet, which fails nothing.
    let alone = agent.says(&own_digest());
    assert!(
        alone.contains("no reputation: no service `oracle`"),
        "{alone}"
    );
    let python = Python::new().unwrap();
    let socket = scene.socket().display().to_string();
    let service = python.code(include_str!("../../reputation.py"), &[&socket, "oracle"]);
    assert_eq!(service.line(), "ready");
    agent.tell(&format!("hash {}", std::process::id()));
    let answered = agent.says("reputation {\"known\":false}");
    assert!(answered.contains(&own_digest()), "{answered}");
    assert_eq!(service.line(), own_digest());
}
