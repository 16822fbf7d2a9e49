//! `eventbus rollout`: moves a bus that runs in another process, through its admin socket.

pub(crate) mod args;
mod output;
mod soak;

use std::path::PathBuf;
use std::time::Duration;

use eventbus::Config;
use eventbus::rollout::admin::{self, Answer, Request};
use eventbus::rollout::{Direction, RolloutError, StageRef, Status};

use crate::failure::Failure;
use args::{AdvanceArgs, MoveArgs, RolloutArgs, RolloutCommand, Where};

/// Runs a command; returns the exit code.
pub(crate) fn run(args: &RolloutArgs) -> Result<u8, Failure> {
    let (place, request) = match &args.command {
        RolloutCommand::Soak(args) => return soak::run(args),
        RolloutCommand::Status(place) => (place, Request::Status),
        RolloutCommand::Plan(args) if args.back => return plan(&args.place, Direction::Back),
        RolloutCommand::Plan(args) => return plan(&args.place, Direction::Advance),
        RolloutCommand::Advance(args) if args.this.dry_run => {
            return dry_run(&args.this, Direction::Advance);
        }
        RolloutCommand::Advance(args) => return advance(args),
        RolloutCommand::Back(args) if args.dry_run => return dry_run(args, Direction::Back),
        RolloutCommand::Back(args) => return back(args),
        RolloutCommand::Pause(place) => (place, Request::Pause),
        RolloutCommand::Resume(place) => (place, Request::Resume),
        RolloutCommand::Abort(place) => (place, Request::Abort),
    };
    told(&ask(place, request)?, place)
}

fn advance(args: &AdvanceArgs) -> Result<u8, Failure> {
    let (this, force) = (&args.this, args.force);
    let from = Some(stage_to_leave(this, &status(&this.place)?)?);
    told(
        &ask(&this.place, Request::Advance { force, from })?,
        &this.place,
    )
}

fn back(args: &MoveArgs) -> Result<u8, Failure> {
    let from = Some(stage_to_leave(args, &status(&args.place)?)?);
    told(&ask(&args.place, Request::Back { from })?, &args.place)
}

/// The stage to move out of: whoever orders a move has seen one, so that one order is one move.
fn stage_to_leave(args: &MoveArgs, status: &Status) -> Result<StageRef, Failure> {
    let Some(from) = &args.from else {
        return Ok(StageRef::Index(status.stage));
    };
    if (0..status.stages.len()).any(|at| is_called(from, at, status)) {
        return Ok(from.clone());
    }
    let stages = status.stages.iter().enumerate();
    let stages: Vec<_> = stages
        .map(|(at, stage)| format!("{} `{}`", at + 1, stage.name))
        .collect();
    Err(Failure::Flags(format!(
        "--from: the rollout has no stage {from}; give the number or the name of one of these: {}",
        stages.join(", ")
    )))
}

/// Whether the stage at `at` is called so.
fn is_called(stage: &StageRef, at: usize, status: &Status) -> bool {
    match stage {
        StageRef::Index(index) => *index == at,
        StageRef::Name(name) => status.stages.get(at).is_some_and(|s| s.name == *name),
    }
}

fn status(place: &Where) -> Result<Status, Failure> {
    match ask(place, Request::Status)? {
        Answer::Status(status) => Ok(*status),
        _ => Err(Failure::Flags(
            "the rollout does not say its stage".to_owned(),
        )),
    }
}

fn dry_run(args: &MoveArgs, way: Direction) -> Result<u8, Failure> {
    if args.from.is_none() {
        return plan(&args.place, way);
    }
    let status = status(&args.place)?;
    let from = stage_to_leave(args, &status)?;
    let answer = ask(&args.place, Request::Plan { direction: way })?;
    if let Answer::Plan(plan) = &answer {
        // Of the stage that the plan is of: it may have been left since the status was told.
        let mut stages = status.stages.iter().enumerate();
        if !stages.any(|(at, stage)| stage.name == plan.from && is_called(&from, at, &status)) {
            let here = plan.from.clone();
            let no = RolloutError::Elsewhere { here, from };
            return told(&Answer::Refused(no.to_string()), &args.place);
        }
    }
    told_plan(answer, &args.place, way)
}

fn plan(place: &Where, direction: Direction) -> Result<u8, Failure> {
    let answer = ask(place, Request::Plan { direction })?;
    told_plan(answer, place, direction)
}

fn told_plan(answer: Answer, place: &Where, direction: Direction) -> Result<u8, Failure> {
    match answer {
        Answer::Plan(plan) if plan.to.is_none() && !place.json => {
            output::nowhere(&plan.from, direction)?;
            Ok(0)
        }
        answer => told(&answer, place),
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
