//! Runs the built program, and never for ever.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Far beyond what any run here takes; reaching it is a hang.
const WATCHDOG: Duration = Duration::from_secs(300);

/// A directory for a program to run in, so that no configuration of ours gets in its way.
pub(crate) struct Place(TempDir);

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A program that runs; it is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    first: Receiver<String>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs `eventbus` with these words to its end.
    pub(crate) fn run(&self, words: &str) -> Ended {
        self.start(words, &[]).end()
    }

    /// The JSON document that a run prints, and its exit code.
    pub(crate) fn json(&self, words: &str) -> (Value, Option<i32>) {
        let ended = self.run(words);
        let document = serde_json::from_str(&ended.stdout);
        (
            document.unwrap_or_else(|e| panic!("{e}: {ended:?}")),
            ended.code,
        )
    }

    pub(crate) fn start(&self, words: &str, variables: &[(&str, &str)]) -> Running {
        let mut command = self.command(words);
        command.envs(variables.iter().copied());
        Running::of(command)
    }

    /// Runs it to its end with this on its standard input.
    pub(crate) fn run_with(&self, words: &str, input: &[u8]) -> Ended {
        let file = self.path().join("input");
        std::fs::write(&file, input).unwrap();
        let mut command = self.command(words);
        command.stdin(std::fs::File::open(file).unwrap());
        Running::of(command).end()
    }

    /// `eventbus` with these words, without anything of ours in its environment.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eventbus"));
        let inherited = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            name.starts_with("EVENTBUS_") || name == "RUST_LOG"
        });
        for (name, _) in inherited {
            command.env_remove(name);
        }
        command
            .args(words.split_whitespace())
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }
}

impl Running {
    /// Starts it, and reads what it says.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (first, stdout) = whole(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Running {
            child,
            first,
            stdout,
            stderr,
        }
    }

    /// The first line of standard output, as soon as it is there.
    pub(crate) fn first_line(&self) -> String {
        await_one(&self.first).expect("it ended")
    }

    /// Waits for a line of standard error that has `text` in it.
    pub(crate) fn await_log(&self, text: &str) {
        self.await_line(text);
    }

    /// The same, and returns it.
    pub(crate) fn await_line(&self, text: &str) -> String {
        loop {
            let line = await_one(&self.stderr).expect("it ended");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Whether an interrupt would find somebody who notices it: SIGTERM is taken over when somebody listens to
    /// SIGINT already, which itself is taken over a moment before that.
    pub(crate) fn notices_interrupts(&self) -> bool {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        const SIGTERM: u32 = 15;
        caught >> (SIGTERM - 1) & 1 == 1
    }

    /// The processes that it has started and that are there.
    pub(crate) fn children(&self) -> Vec<String> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let children = threads.filter_map(|thread| {
            let children = thread.ok()?.path().join("children");
            // The thread may have ended meanwhile.
            std::fs::read_to_string(children).ok()
        });
        let children = children.collect::<Vec<_>>().join(" ");
        children.split_whitespace().map(str::to_owned).collect()
    }

    pub(crate) fn end(mut self) -> Ended {
        let mut stderr = String::new();
        while let Some(line) = await_one(&self.stderr) {
            stderr += &line;
        }
        let stdout = await_one(&self.stdout).unwrap();
        Ended {
            code: self.child.wait().unwrap().code(),
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again until it is so, but not for ever.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + WATCHDOG;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

fn await_one(receiver: &Receiver<String>) -> Option<String> {
    match receiver.recv_timeout(WATCHDOG) {
        Ok(text) => Some(text),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("the program hangs"),
    }
}

/// The first line, and everything once it has ended.
fn whole(stdout: ChildStdout) -> (Receiver<String>, Receiver<String>) {
    let (send_first, first) = sync_channel(1);
    let (send, receive) = sync_channel(1);
    std::thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut text = String::new();
        if stdout.read_line(&mut text).unwrap() > 0 {
            // Not every test asks for it.
            let _ = send_first.send(text.clone());
        }
        drop(send_first);
        stdout.read_to_string(&mut text).unwrap();
        send.send(text)
    });
    (first, receive)
}

fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (send, receive) = sync_channel(1024);
    std::thread::spawn(move || {
        let mut stderr = BufReader::new(stderr);
        let mut line = String::new();
        while stderr.read_line(&mut line).unwrap() > 0 {
            if send.send(std::mem::take(&mut line)).is_err() {
                break;
            }
        }
    });
    receive
}
