//! Child processes that can be talked to in lines, killed, stopped and measured.
//!
//! Invariant: no child outlives its [`Process`]; and a child that reads its standard input sees it
//! end when its parent is gone, however that ended.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Lines of a child that wait to be read.
const LINES: usize = 4096;

/// What can go wrong with a child.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start {name}: {reason}")]
    Start {
        /// Who.
        name: String,
        /// What the system said.
        reason: io::Error,
    },
    /// It said nothing for too long.
    #[error("{name} has said nothing for {waited:?}")]
    Silent {
        /// Who.
        name: String,
        /// For how long.
        waited: Duration,
    },
    /// It has ended.
    #[error("{name} has ended")]
    Ended {
        /// Who.
        name: String,
    },
}

/// A child process. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    input: Option<ChildStdin>,
}

impl Process {
    /// Starts `command`, with pipes to its standard input and output.
    ///
    /// # Errors
    /// [`ProcessError::Start`].
    pub fn start(name: impl Into<String>, mut command: Command) -> Result<Self, ProcessError> {
        let name = name.into();
        let started = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .and_then(|mut child| {
                let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
                Ok((child, output))
            });
        let (mut child, output) = match started {
            Ok(started) => started,
            Err(reason) => return Err(ProcessError::Start { name, reason }),
        };
        let (sender, lines) = sync_channel(LINES);
        // Ends with the child, or with whoever would have read.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take();
        Ok(Self {
            name,
            child,
            lines,
            input,
        })
    }

    /// The name given to it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says.
    ///
    /// # Errors
    /// If none comes within `patience`, or it has ended.
    pub fn line(&self, patience: Duration) -> Result<String, ProcessError> {
        let name = || self.name.clone();
        self.lines
            .recv_timeout(patience)
            .map_err(|reason| match reason {
                RecvTimeoutError::Timeout => ProcessError::Silent {
                    name: name(),
                    waited: patience,
                },
                RecvTimeoutError::Disconnected => ProcessError::Ended { name: name() },
            })
    }

    /// The next line, if there is one now.
    ///
    /// # Errors
    /// If it has ended and everything it said was read.
    pub fn try_line(&self) -> Result<Option<String>, ProcessError> {
        match self.lines.try_recv() {
            Ok(line) => Ok(Some(line)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(ProcessError::Ended {
                name: self.name.clone(),
            }),
        }
    }

    /// Reads lines until one begins with `word`, and returns the rest of that.
    ///
    /// # Errors
    /// As [`line`](Self::line).
    pub fn wait_for(&self, word: &str, patience: Duration) -> Result<String, ProcessError> {
        loop {
            if let Some(rest) = self.line(patience)?.strip_prefix(word) {
                return Ok(rest.trim().to_owned());
            }
        }
    }

    /// Says a line to it.
    ///
    /// # Errors
    /// If it does not listen any more.
    pub fn say(&mut self, line: &str) -> Result<(), ProcessError> {
        let said = self
            .input
            .as_mut()
            .ok_or(io::Error::from(io::ErrorKind::BrokenPipe))
            .and_then(|input| input.write_all(format!("{line}\n").as_bytes()));
        said.map_err(|_| ProcessError::Ended {
            name: self.name.clone(),
        })
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it, with SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        // Fails if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it, with SIGSTOP: it holds everything and does nothing.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`stop`](Self::stop).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Fails if it has ended already.
            let _ = kill_process(pid, signal);
        }
    }

    /// Most memory that it has had so far, in bytes; `None` where there is no `/proc`, or after
    /// its end.
    #[must_use]
    pub fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// Closes its standard input, which tells a role to end, and waits for that; kills it if it
    /// takes longer than `patience`. Returns whether it ended by itself and well.
    pub fn end(&mut self, patience: Duration) -> bool {
        self.input = None;
        // What it still says is not wanted; its output ends when it does.
        loop {
            match self.lines.recv_timeout(patience) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return self.child.wait().is_ok_and(|status| status.success());
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.kill();
                    return false;
                }
            }
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
