//! The program again, as a process that measures one transport or as a broker that is measured.
//!
//! A process for each transport, because memory that was freed stays with a process: what one
//! transport had would look free of charge for the next. They take turns: only one works at a time.
//!
//! Invariant: such a process ends when whoever started it is gone, or is told to end, and leaves no
//! directory behind.

use std::fmt::Display;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use ::conformance::Stop;
use ::conformance::fault::{Process, ProcessError};
use eventbus::Config;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::oneshot;

use super::findings::Findings;
use super::measure::{Measurement, ROUNDS};
use super::plan::{Plan, Transport};
use super::stage::Listen;
use crate::failure::Failure;
use crate::signals::Signals;

/// What such a process is told its part by.
const PART: &str = "EVENTBUS_VALIDATE_PART";
/// Longest silence of a process that measures: no step takes as long.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time between two looks at whether all is to end.
const LOOK: Duration = Duration::from_millis(100);
/// How long one may take to end, which is less than an interrupt waits for: one that is stuck is killed.
const LAST_WORDS: Duration = Duration::from_secs(8);

const GO: &str = "go";
const DONE: &str = "done";
const FOUND: &str = "found ";
const FAILED: &str = "failed ";

/// Turns of a measurement: set-up, the rounds, recovery.
pub(super) const TURNS: u64 = ROUNDS + 2;

/// The whole life of such a process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Part {
    Measure(Plan),
    Broker(Listen),
}

impl Part {
    pub(super) fn to_word(&self) -> Result<String, Failure> {
        serde_json::to_string(self).map_err(|reason| Failure::io("name a part", reason))
    }

    /// Has `command` play the part.
    pub(super) fn tell(command: &mut Command, word: &str) {
        command.env(PART, word);
    }
}

/// If this process has a part in a validation: its whole life.
pub(crate) fn life_as_a_child() -> Option<ExitCode> {
    let word = std::env::var(PART).ok()?;
    let lived = match serde_json::from_str(&word) {
        Ok(Part::Measure(plan)) => {
            crate::log_to_stderr("off", false);
            live(measuring(plan))
        }
        Ok(Part::Broker(listen)) => {
            crate::log_to_stderr("off", false);
            live(serving(listen))
        }
        Err(reason) => Err(Failure::io("play a part", reason)),
    };
    Some(match lived {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("{FAILED}{failure}"));
            ExitCode::FAILURE
        }
    })
}

fn live(part: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = crate::runtime()?;
    let lived = runtime.block_on(part);
    runtime.shutdown_background();
    lived
}

async fn measuring(plan: Plan) -> Result<(), Failure> {
    // They would end this process before it could clean up.
    let mut signals = Signals::new()?;
    let (mut turns, alone) = input()?;
    let findings = tokio::select! {
        biased;
        _ = alone => return Ok(()),
        _ = signals.next() => return Err(Failure::Interrupted),
        findings = measure(&plan, &mut turns) => findings?,
    };
    let found = serde_json::to_string(&findings);
    let found = found.map_err(|reason| Failure::io("tell what was found", reason))?;
    say(&format!("{FOUND}{found}"));
    Ok(())
}

/// Each of [`TURNS`] when it is told to go on.
async fn measure(plan: &Plan, turns: &mut Receiver<()>) -> Result<Findings, Failure> {
    turns.recv().await;
    let mut measurement = Measurement::set_up(plan).await?;
    say(DONE);
    for round in 0..ROUNDS {
        turns.recv().await;
        measurement.round(round).await?;
        say(DONE);
    }
    turns.recv().await;
    measurement.findings().await
}

async fn serving(listen: Listen) -> Result<(), Failure> {
    let mut config = Config::default();
    match &listen {
        Listen::Unix(path) => config.broker.unix.push(path.clone()),
        Listen::Tcp(address, tls) => {
            config.broker.tcp.push(*address);
            config.tls = Some(tls.into());
        }
    }
    // An interrupt at a terminal is everybody's; who measures decides what becomes of the broker.
    let _signals = Signals::new()?;
    let broker = eventbus::start_broker(&config).await?;
    let (_, alone) = input()?;
    say("ready");
    let _ = alone.await;
    broker.stop().await;
    Ok(())
}

/// The lines of standard input; and its end, which comes with that of whoever holds the other end.
fn input() -> Result<(Receiver<()>, oneshot::Receiver<()>), Failure> {
    let (line, lines) = mpsc::channel(1);
    let (gone, is_gone) = oneshot::channel();
    let read = move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            // One that does not listen to lines waits for the end alone.
            let _ = line.blocking_send(());
        }
        // Who does not wait for it has ended.
        let _ = gone.send(());
    };
    // Not a thread of the runtime, which would wait for it.
    std::thread::Builder::new()
        .spawn(read)
        .map_err(|reason| Failure::io("start a thread", reason))?;
    Ok((lines, is_gone))
}

fn say(line: &str) {
    use std::io::Write as _;
    // Nobody listens to one that is alone.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A process that measures one transport. Dropping it ends it.
pub(super) struct Child {
    pub(super) transport: Transport,
    process: Process,
}

impl Child {
    pub(super) fn start(plan: &Plan) -> Result<Self, Failure> {
        let transport = plan.transport;
        let part = Part::Measure(plan.clone()).to_word()?;
        let program = std::env::current_exe().map_err(|reason| cannot(transport, reason))?;
        let mut command = Command::new(program);
        Part::tell(&mut command, &part);
        // What it does not clear up goes with all that is temporary.
        command.env("TMPDIR", tempfile::env::temp_dir());
        let process = Process::start(format!("the process of `{transport}`"), command);
        let process = process.map_err(|reason| cannot(transport, reason))?;
        Ok(Self { transport, process })
    }

    /// Has it take its next turn, and waits for the end of that; what it found comes with the last.
    pub(super) fn turn(&mut self, stop: &Stop) -> Result<Option<Findings>, Failure> {
        if stop.is_asked() {
            return Err(Failure::Interrupted);
        }
        // One that has ended has said why.
        let _ = self.process.say(GO);
        loop {
            let line = self.line(stop)?;
            if line == DONE {
                return Ok(None);
            }
            if let Some(found) = line.strip_prefix(FOUND) {
                let found = serde_json::from_str(found);
                return found.map_err(|reason| cannot(self.transport, reason));
            }
            if let Some(reason) = line.strip_prefix(FAILED) {
                return Err(cannot(self.transport, reason));
            }
        }
    }

    /// What it says next, unless all is to end.
    fn line(&self, stop: &Stop) -> Result<String, Failure> {
        let began = Instant::now();
        let said = loop {
            match self.process.line(LOOK) {
                Err(ProcessError::Silent { .. }) if stop.is_asked() => {
                    return Err(Failure::Interrupted);
                }
                Err(ProcessError::Silent { .. }) if began.elapsed() < PATIENCE => {}
                Err(ProcessError::Silent { name, .. }) => {
                    let waited = PATIENCE;
                    break Err(ProcessError::Silent { name, waited });
                }
                said => break said,
            }
        };
        said.map_err(|reason| cannot(self.transport, reason))
    }

    /// Tells it to end, and waits until it has cleared up.
    pub(super) fn end(&mut self) {
        self.process.end(LAST_WORDS);
    }
}

fn cannot(transport: Transport, reason: impl Display) -> Failure {
    Failure::io(format!("measure `{transport}`"), reason)
}
