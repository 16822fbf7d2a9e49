//! Runs a step's program, and never for ever.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Far beyond what any step takes; reaching it is a hang.
const WATCHDOG: Duration = Duration::from_secs(60);

/// A program that runs; it is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    printed: Receiver<String>,
    said: Receiver<String>,
    /// Everything taken from either so far, for who looks into a failure.
    seen: Vec<String>,
}

impl Program {
    /// Starts a program in `directory`, with a configuration file if it is given one.
    pub(crate) fn start(
        program: &str,
        words: &[&str],
        directory: &Path,
        configuration: Option<&Path>,
    ) -> Self {
        let mut command = Command::new(program);
        let inherited = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            name.starts_with("EVENTBUS_")
        });
        for (name, _) in inherited {
            command.env_remove(name);
        }
        if let Some(file) = configuration {
            command.env("EVENTBUS_CONFIG", file);
        }
        let mut child = command
            .args(words)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let printed = lines(child.stdout.take().unwrap());
        let said = lines(child.stderr.take().unwrap());
        Self {
            child,
            printed,
            said,
            seen: Vec::new(),
        }
    }

    /// The next line of standard output.
    pub(crate) fn printed(&mut self) -> String {
        let line = next(&self.printed, &self.seen);
        let line = line.unwrap_or_else(|| panic!("it ended: {:?}, {:?}", self.seen, self.rest()));
        self.seen.push(line.clone());
        line
    }

    /// Waits for a line of standard error that has `text` in it.
    pub(crate) fn await_said(&mut self, text: &str) {
        loop {
            let line = next(&self.said, &self.seen);
            let line = line.unwrap_or_else(|| panic!("it ended: {:?}", self.seen));
            let found = line.contains(text);
            self.seen.push(line);
            if found {
                return;
            }
        }
    }

    /// Ends its standard input, and waits for it: what it then printed, and said.
    pub(crate) fn end(mut self) -> (Vec<String>, String) {
        drop(self.child.stdin.take());
        let mut printed = Vec::new();
        while let Some(line) = next(&self.printed, &self.seen) {
            printed.push(line);
        }
        let said = self.rest();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {:?}, {said}", self.seen);
        (printed, said)
    }

    fn rest(&self) -> String {
        let mut said = String::new();
        while let Some(line) = next(&self.said, &self.seen) {
            said += &line;
            said.push('\n');
        }
        said
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line; `None` once there are no more.
fn next(lines: &Receiver<String>, seen: &[String]) -> Option<String> {
    match lines.recv_timeout(WATCHDOG) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("it hangs, after {seen:?}"),
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = sync_channel(1024);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    receive
}
