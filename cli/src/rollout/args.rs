//! What `eventbus rollout` is asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use eventbus::rollout::StageRef;

use crate::args::duration;

#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    #[command(subcommand)]
    pub(crate) command: RolloutCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Say how the rollout stands: phase, stage, gates, and what happened.
    Status(Where),
    /// Say what moving on would do, step by step, and what stands against it.
    Plan(PlanArgs),
    /// Move to the next stage.
    Advance(AdvanceArgs),
    /// Move to the stage before; no gate keeps it from that.
    Back(MoveArgs),
    /// Have it do nothing by itself.
    Pause(Where),
    /// Have it go on by itself.
    Resume(Where),
    /// Have the move under way given up; what is past its commit goes on.
    Abort(Where),
    /// Move a loaded bus through all phases and back, and count every event.
    ///
    /// It needs nothing from outside: it is crossbeam, in-process, a UNIX socket and a TCP port with
    /// certificates, each with a broker of its own.
    ///
    /// Exit code: 0 if every subscriber had each event once and in order, and no publish took longer
    /// than its deadline; 1 if not; 2 if that could not be found out.
    Soak(SoakArgs),
}

#[derive(Debug, Args)]
pub(crate) struct Where {
    /// The admin socket of the process [default: `rollout.admin` of the configuration]
    #[arg(long, value_name = "PATH")]
    pub(crate) admin: Option<PathBuf>,

    /// Print the answer as one JSON document
    #[arg(long)]
    pub(crate) json: bool,

    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) place: Where,

    /// Of moving back instead
    #[arg(long)]
    pub(crate) back: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    pub(crate) place: Where,

    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Only out of this stage, by its number or name [default: the one that holds when asked]
    #[arg(long, value_name = "STAGE", value_parser = stage)]
    pub(crate) from: Option<StageRef>,
}

/// A stage as `status` shows it: counted from 1.
fn stage(text: &str) -> Result<StageRef, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("stages are counted from 1".to_owned()),
        Ok(number) => Ok(StageRef::Index(number - 1)),
        Err(_) => Ok(StageRef::Name(text.to_owned())),
    }
}

#[derive(Debug, Args)]
pub(crate) struct AdvanceArgs {
    #[command(flatten)]
    pub(crate) this: MoveArgs,

    /// Whatever the gates say
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SoakArgs {
    /// How long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1m")]
    pub(crate) duration: Duration,

    /// Least number of ways up and down, however long that takes
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Publishers, each with a handle of its own
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) publishers: u32,

    /// Subscribers, each with a handle of its own
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) subscribers: u32,

    /// Compare each phase with the next one before it is left; a divergence stops the soak
    #[arg(long)]
    pub(crate) shadow: bool,

    /// Bytes in each payload
    #[arg(long, value_name = "BYTES", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(20..=65_536))]
    pub(crate) payload: u32,

    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}
