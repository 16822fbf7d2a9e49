//! `eventbus rollout`: moves a bus that runs in another process, through its admin socket.

pub(crate) mod args;
mod output;
mod soak;

use std::path::PathBuf;
use std::time::Duration;

use eventbus::Config;
use eventbus::rollout::admin::{self, Answer, Request};
use eventbus::rollout::{Direction, StageRef};

use crate::failure::Failure;
use args::{AdvanceArgs, MoveArgs, RolloutArgs, RolloutCommand, Where};

/// Runs a command; returns the exit code.
pub(crate) fn run(args: &RolloutArgs) -> Result<u8, Failure> {
    let (place, request) = match &args.command {
        RolloutCommand::Soak(args) => return soak::run(args),
        RolloutCommand::Status(place) => (place, Request::Status),
        RolloutCommand::Plan(args) => (&args.place, plan(args.back)),
        RolloutCommand::Advance(args) if args.this.dry_run => (&args.this.place, plan(false)),
        RolloutCommand::Advance(args) => return advance(args),
        RolloutCommand::Back(args) if args.dry_run => (&args.place, plan(true)),
        RolloutCommand::Back(args) => return back(args),
        RolloutCommand::Pause(place) => (place, Request::Pause),
        RolloutCommand::Resume(place) => (place, Request::Resume),
        RolloutCommand::Abort(place) => (place, Request::Abort),
    };
    told(&ask(place, request)?, place)
}

fn advance(args: &AdvanceArgs) -> Result<u8, Failure> {
    let (this, force) = (&args.this, args.force);
    let from = Some(seen(this)?);
    told(
        &ask(&this.place, Request::Advance { force, from })?,
        &this.place,
    )
}

fn back(args: &MoveArgs) -> Result<u8, Failure> {
    let from = Some(seen(args)?);
    told(&ask(&args.place, Request::Back { from })?, &args.place)
}

/// The stage to move out of: whoever orders a move has seen one, so that one order is one move.
fn seen(args: &MoveArgs) -> Result<StageRef, Failure> {
    if let Some(from) = &args.from {
        return Ok(from.clone());
    }
    match ask(&args.place, Request::Status)? {
        Answer::Status(status) => Ok(StageRef::Index(status.stage)),
        _ => Err(Failure::Flags(
            "the rollout does not say its stage".to_owned(),
        )),
    }
}

fn ask(place: &Where, request: Request) -> Result<Answer, Failure> {
    let path = socket(place)?;
    let patience = place.timeout.max(Duration::from_millis(1));
    admin::ask(&path, request, patience).map_err(|error| Failure::Flags(error.to_string()))
}

fn told(answer: &Answer, place: &Where) -> Result<u8, Failure> {
    output::print(answer, place.json)?;
    Ok(u8::from(matches!(answer, Answer::Refused(_))))
}

fn plan(back: bool) -> Request {
    let direction = if back {
        Direction::Back
    } else {
        Direction::Advance
    };
    Request::Plan { direction }
}

fn socket(place: &Where) -> Result<PathBuf, Failure> {
    if let Some(path) = &place.admin {
        return Ok(path.clone());
    }
    let admin = Config::load()?.rollout.and_then(|rollout| rollout.admin);
    admin.ok_or_else(|| {
        let told = "no admin socket: give `--admin PATH`, or set `rollout.admin`";
        Failure::Flags(told.to_owned())
    })
}
