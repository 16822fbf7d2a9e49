//! The program again, as a process that measures one transport or as a broker that is measured.
//!
//! A process for each transport, because memory that was freed stays with a process: what one
//! transport had would look free of charge for the next.
//!
//! Invariant: such a process ends when whoever started it is gone.

use std::process::{Command, ExitCode};
use std::time::Duration;

use ::conformance::fault::{Process, ProcessError};
use eventbus::Config;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::findings::Findings;
use super::measure;
use super::plan::Plan;
use super::stage::Listen;
use crate::failure::Failure;

/// What such a process is told its part by.
const PART: &str = "EVENTBUS_VALIDATE_PART";
/// Longest silence of a process that measures: no step takes as long.
const PATIENCE: Duration = Duration::from_secs(120);

const STEP: &str = "step ";
const FOUND: &str = "found ";
const FAILED: &str = "failed ";

/// Steps of a measurement, each told as it begins.
pub(super) const STEPS: u64 = 4;

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
    let findings = tokio::select! {
        findings = measure::run(&plan, |step| say(&format!("{STEP}{step}"))) => findings?,
        () = alone() => return Ok(()),
    };
    let found = serde_json::to_string(&findings);
    let found = found.map_err(|reason| Failure::io("tell what was found", reason))?;
    say(&format!("{FOUND}{found}"));
    Ok(())
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
    let broker = eventbus::start_broker(&config).await?;
    say("ready");
    alone().await;
    broker.stop().await;
    Ok(())
}

/// Returns once standard input has ended, as it does with whoever holds the other end.
async fn alone() {
    let (gone, is_gone) = oneshot::channel();
    // Not the runtime's: it would wait for it.
    let reading = std::thread::Builder::new().spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        lines.for_each(drop);
        // Who does not wait for it has ended.
        let _ = gone.send(());
    });
    if reading.is_ok() {
        let _ = is_gone.await;
    }
}

fn say(line: &str) {
    use std::io::Write as _;
    // Nobody listens to one that is alone.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Measures in a process of its own; tells each step.
pub(super) fn measured(plan: &Plan, step: impl Fn(&str)) -> Result<Findings, Failure> {
    let transport = plan.transport;
    let cannot = |reason: String| Failure::io(format!("measure `{transport}`"), reason);
    let program = std::env::current_exe().map_err(|reason| cannot(reason.to_string()))?;
    let mut command = Command::new(program);
    Part::tell(&mut command, &Part::Measure(plan.clone()).to_word()?);
    let told = |error: ProcessError| cannot(error.to_string());
    let process = Process::start(format!("the process of `{transport}`"), command).map_err(told)?;
    loop {
        let line = process.line(PATIENCE).map_err(told)?;
        if let Some(found) = line.strip_prefix(FOUND) {
            return serde_json::from_str(found).map_err(|reason| cannot(reason.to_string()));
        }
        if let Some(reason) = line.strip_prefix(FAILED) {
            return Err(cannot(reason.to_owned()));
        }
        if let Some(name) = line.strip_prefix(STEP) {
            step(name);
        }
    }
}
