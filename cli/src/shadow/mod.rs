//! `eventbus shadow`: one stream, two buses, a verdict.
//!
//! It does what an application under a shadow does, with a source that is at hand: opens both
//! buses, subscribes, publishes until the source ends, reads everything, and reports. Unlike an
//! application it lets the source wait for the candidate, so that everything is compared however
//! fast the source is.

mod comparison;
pub(crate) mod endpoint;
mod feed;
mod observing;
pub(crate) mod output;
mod progress;
mod readers;
mod recording;
mod replay;
mod source;
mod watch;

use eventbus::shadow::{NoiseFloor, Verdict};
use eventbus::{Config, Phase};

use crate::args::{ShadowArgs, ShadowCommand};
use crate::failure::Failure;
use comparison::{Comparison, Purpose};
use endpoint::Endpoint;
use observing::Observing;
use output::Document;
use source::Source;
use watch::Watch;

/// Runs the comparisons and prints them; returns the exit code.
pub(crate) async fn run(args: ShadowArgs) -> Result<u8, Failure> {
    if let Some(ShadowCommand::Replay { file, json }) = &args.command {
        return replay::run(file, *json);
    }
    let mut config = Config::load()?;
    let (primary, candidates) = ends(&args, &config);
    args.check(candidates.len())?;
    let source = Source::new(&args, &config)?;
    let mut watch = Watch::new()?;
    let observing = Observing::begin(&args, &mut config).await?;
    let mut document = Document::new(&source);
    let mut failed = None;
    let alike = primary.alike();
    let of = |purpose, primary, candidate| Comparison {
        args: &args,
        config: &config,
        source: &source,
        observer: &observing.observer,
        primary,
        candidate,
        purpose,
    };
    let noise_floor = match args.calibrate {
        None => None,
        Some(time) => {
            let comparison = of(Purpose::Calibrate(time), &alike, &alike);
            let run = comparison.run(&mut watch).await?;
            let run = run.filter(|_| !watch.is_interrupted());
            let run = run.ok_or(Failure::Interrupted)?;
            Some(NoiseFloor::of(&run.report)?)
        }
    };
    let mut left = candidates.as_slice();
    while let [candidate, later @ ..] = left {
        let comparison = of(Purpose::Judge(noise_floor.clone()), &primary, candidate);
        let run = match comparison.run(&mut watch).await {
            Ok(Some(run)) => run,
            Ok(None) => {
                failed = Some(Failure::Interrupted);
                break;
            }
            Err(failure) => {
                failed = Some(failure);
                break;
            }
        };
        if !args.json {
            output::print(&run.text())?;
        }
        document.add(run);
        left = later;
    }
    document.leave_out(&primary, left);
    // Of one alone it is clear what was not compared.
    if let Some(left_out) = document.left_out().filter(|_| candidates.len() > 1) {
        failed = failed.map(|failure| failure.and_left_out(left_out));
    }
    if !document.is_empty()
        && let Err(unwritten) = document.finish(&args)
    {
        if failed.is_some() {
            crate::complain(&unwritten.to_string());
        } else {
            failed = Some(unwritten);
        }
    }
    match (document.verdict(), failed) {
        // Found is found, whatever went wrong afterwards.
        (Verdict::Diverged, Some(failure)) => {
            crate::complain(&failure.to_string());
            Ok(1)
        }
        (_, Some(failure)) => Err(failure),
        (Verdict::Match, None) => Ok(0),
        (Verdict::Diverged, None) => Ok(1),
        (_, None) => Ok(2),
    }
}

/// Flags first, then a configured shadow, then crossbeam with in-process and with UNIX.
fn ends(args: &ShadowArgs, config: &Config) -> (Endpoint, Vec<Endpoint>) {
    let (mut primary, mut candidates) = match &config.phase {
        Phase::Shadow { primary, candidate } => (
            Endpoint::Phase((**primary).clone()),
            vec![Endpoint::Phase((**candidate).clone())],
        ),
        _ => (
            Endpoint::Phase(Phase::Crossbeam),
            vec![Endpoint::Phase(Phase::InProcess), Endpoint::PrivateUnix],
        ),
    };
    if let Some(given) = &args.primary {
        primary.clone_from(given);
    }
    if !args.candidate.is_empty() {
        candidates.clone_from(&args.candidate);
    }
    (primary, candidates)
}
