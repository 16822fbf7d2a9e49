//! A process that a test starts, and what it says line by line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// What the child is told: its role, its name and where the broker is.
const TOLD: &str = "CONTROL_TEST_CHILD";
/// Before each line that is said to the parent: the harness of the tests says other things.
const MARK: char = '@';

pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start(role: &str, name: &str, socket: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(TOLD, format!("{role} {name} {}", socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until it says this.
    pub(crate) async fn says(&mut self, what: &str) {
        self.line(|line| (line == what).then_some(())).await;
    }

    async fn line<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> T {
        loop {
            let line = self.lines.next_line().await.unwrap().expect("it has ended");
            let said = line.split_once(MARK).map(|(_, said)| said);
            if let Some(found) = said.and_then(&wanted) {
                return found;
            }
        }
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Lets it stop, and returns what its worker has counted.
    pub(crate) async fn end(mut self) -> BTreeMap<String, u64> {
        drop(self.child.stdin.take());
        let stats = |line: &str| serde_json::from_str(line.strip_prefix("stats ")?).ok();
        self.line(stats).await
    }
}

/// What this process was started for, if it is a child.
pub(crate) fn told() -> Option<(String, String, PathBuf)> {
    let told = std::env::var(TOLD).ok()?;
    let mut words = told.splitn(3, ' ');
    let mut word = || words.next().unwrap().to_owned();
    Some((word(), word(), word().into()))
}

/// Says a line to the parent.
pub(crate) fn say(what: &str) {
    println!("{MARK}{what}");
}
