//! `eventbus shadow`: one stream, two buses, a verdict.
//!
//! It does what an application under a shadow does, with a source that is at hand: opens both
//! buses, subscribes, publishes until the source ends, reads everything, and reports. Unlike an
//! application it lets the source wait for the candidate, so that everything is compared however
//! fast the source is.

mod comparison;
pub(crate) mod endpoint;
mod feed;
mod output;
mod progress;
mod readers;
mod recording;
mod source;
mod watch;

use eventbus::shadow::Verdict;
use eventbus::{Config, Phase};

use crate::args::ShadowArgs;
use crate::failure::Failure;
use comparison::Comparison;
use endpoint::Endpoint;
use output::Document;
use source::Source;

/// Runs the comparisons and prints them; returns the exit code.
pub(crate) async fn run(args: ShadowArgs) -> Result<u8, Failure> {
    let config = Config::load()?;
    let (primary, candidates) = ends(&args, &config);
    args.check(candidates.len())?;
    let source = Source::new(&args, &config)?;
    let mut document = Document::new(&source);
    for candidate in &candidates {
        let comparison = Comparison {
            args: &args,
            config: &config,
            source: &source,
            primary: &primary,
            candidate,
        };
        let run = comparison.run().await?;
        if !args.json {
            output::print(&run.text())?;
        }
        document.add(run);
    }
    document.finish(&args)?;
    Ok(match document.verdict() {
        Verdict::Match => 0,
        Verdict::Diverged => 1,
        _ => 2,
    })
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
