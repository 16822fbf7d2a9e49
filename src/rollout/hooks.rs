//! Programs that may object to a move.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tracing::{info, warn};

use super::controller::{Direction, RolloutError};
use super::options::Hooks;
use crate::config::environment::{ROLLOUT_DIRECTION, ROLLOUT_FROM, ROLLOUT_TO};

/// A move, as a program is told of it.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) direction: Direction,
}

/// Runs the programs before a move, until one objects.
pub(crate) async fn before(hooks: &Hooks, this: &Move) -> Result<(), RolloutError> {
    for program in &hooks.before {
        run(hooks, program, this).await.map_err(|reason| {
            warn!(program = %program.display(), reason, "a hook said no");
            RolloutError::Veto {
                program: program.display().to_string(),
                reason,
            }
        })?;
    }
    Ok(())
}

/// Runs the programs after a move, all of them.
pub(crate) async fn after(hooks: &Hooks, this: &Move) {
    for program in &hooks.after {
        if let Err(reason) = run(hooks, program, this).await {
            warn!(program = %program.display(), reason, "a hook failed after the move");
        }
    }
}

async fn run(hooks: &Hooks, program: &Path, this: &Move) -> Result<(), String> {
    let direction = match this.direction {
        Direction::Advance => "advance",
        Direction::Back => "back",
    };
    info!(program = %program.display(), from = this.from, to = this.to, direction, "hook");
    let mut command = Command::new(program);
    command
        .env(ROLLOUT_FROM, &this.from)
        .env(ROLLOUT_TO, &this.to)
        .env(ROLLOUT_DIRECTION, direction)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    let ended = tokio::time::timeout(hooks.timeout, command.status()).await;
    match ended {
        Err(_) => Err(format!("it did not end within {:?}", hooks.timeout)),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(status.to_string()),
    }
}
