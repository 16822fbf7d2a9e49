//! One of the two programs as a child of the test, and what it says.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// Names the program that the test is to be.
pub(crate) const ROLE: &str = "AGENT_TEST_ROLE";
/// Reaching it is a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// It is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Program {
    pub(crate) fn start(role: &str, phase: &str, words: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(words)
            .env(ROLE, role)
            .env("EVENTBUS_PHASE", phase)
            .env_remove("EVENTBUS_NO_FOREIGN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = sync_channel(1 << 14);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            input,
            lines,
        }
    }

    /// Types a line.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// Waits for a line that has this in it, and passes over others.
    #[track_caller]
    pub(crate) fn says(&self, wanted: &str) -> String {
        let mut lines = self.until(|line| line.contains(wanted), wanted);
        lines.pop().unwrap()
    }

    /// Waits until each of these was said, in whatever order.
    #[track_caller]
    pub(crate) fn says_all(&self, wanted: &[&str]) {
        let mut left = wanted.to_vec();
        let all = |line: &str| {
            left.retain(|wanted| !line.contains(wanted));
            left.is_empty()
        };
        self.until(all, &wanted.join(", "));
    }

    #[track_caller]
    fn until(&self, mut enough: impl FnMut(&str) -> bool, wanted: &str) -> Vec<String> {
        let end = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("it never says `{wanted}`, but\n{}", said.join("\n"));
            };
            said.push(line);
            if said.last().is_some_and(|line| enough(line)) {
                return said;
            }
        }
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended, well or not.
    #[track_caller]
    pub(crate) fn ends(&mut self, well: bool) {
        // Its output ends with it.
        let end = Instant::now() + PATIENCE;
        while self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
            .is_ok()
        {}
        assert!(Instant::now() < end, "it does not end");
        assert_eq!(self.child.wait().unwrap().success(), well);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
