//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::report::results::Method;

/// Measures the phases beside the raw parts that they stand on, and checks the project's targets.
///
/// Exit code 0: measured. 1: a target is missed, with --check.
#[derive(Debug, Parser)]
#[command(name = "peers")]
pub(crate) struct Args {
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds, in each of which everything runs once
    #[arg(long, default_value_t = 5, value_parser = rounds)]
    pub(crate) rounds: usize,
    /// A third of the time, for a first look
    #[arg(long)]
    quick: bool,
    /// Fail if a target is missed
    #[arg(long)]
    pub(crate) check: bool,
    /// Results as JSON; cargo runs this in the package's directory
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Tables as Markdown, likewise
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Write docs/performance.md, its figures and its results
    #[arg(long, conflicts_with = "only")]
    pub(crate) docs: bool,
    /// Measure nothing: take the results in docs/performance.json
    #[arg(long)]
    pub(crate) stored: bool,
    /// One measurement, for the parent
    #[arg(long, hide = true)]
    pub(crate) child: Option<String>,
    /// `cargo bench` adds it
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a run consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Headline,
    Matrix,
    Latency,
    Curves,
}

impl Args {
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    pub(crate) fn method(&self) -> Method {
        let scale = if self.quick { 1.0 / 3.0 } else { 1.0 };
        Method {
            rounds: self.rounds,
            headline_seconds: 0.6 * scale,
            table_seconds: 0.2 * scale,
            curve_seconds: 0.1 * scale,
            per_second: 10_000,
            scheduled: if self.quick { 3_000 } else { 10_000 },
        }
    }
}

fn rounds(text: &str) -> Result<usize, String> {
    let rounds = text.parse().ok().filter(|rounds| *rounds > 0);
    rounds.ok_or_else(|| format!("`{text}` is no number of rounds"))
}
