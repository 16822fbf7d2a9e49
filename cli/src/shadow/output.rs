//! What a run has found: for people, and for programs.
//!
//! There is one JSON schema however many comparisons were made: `runs` is a list of one or more.
//! It is described in `docs/shadow.md`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use eventbus::observe::{Observed, frozen};
use eventbus::shadow::sabotage::SabotageBus;
use eventbus::shadow::{DivergenceClass, Report, Verdict};
use serde::Serialize;

use super::endpoint::Endpoint;
use super::observing::{TITLE, is_page};
use super::source::Source;
use crate::args::{Sabotaging, ShadowArgs};
use crate::failure::Failure;

/// The whole result.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    verdict: Verdict,
    source: &'a Source,
    runs: Vec<Run>,
    left_out: Vec<LeftOut>,
}

/// A comparison that was asked for and not made, or not brought to its end.
#[derive(Debug, Serialize)]
struct LeftOut {
    primary: String,
    candidate: String,
}

/// One comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) primary: String,
    pub(crate) candidate: String,
    pub(crate) verdict: Verdict,
    /// Events that the source published.
    pub(crate) published: u64,
    /// From the first event to the last.
    pub(crate) seconds: f64,
    pub(crate) events_per_second: f64,
    pub(crate) subscriptions: Vec<Reader>,
    pub(crate) sabotage: Option<SabotageCount>,
    pub(crate) report: Report,
    /// For the page.
    #[serde(skip)]
    pub(crate) observed: Observed,
}

/// One subscription of the run.
#[derive(Debug, Serialize)]
pub(crate) struct Reader {
    pub(crate) name: String,
    pub(crate) filter: String,
    /// Events that it has read from the primary.
    pub(crate) received: u64,
}

/// What was done to the candidate, and what of it was found.
#[derive(Debug, Serialize)]
pub(crate) struct SabotageCount {
    kind: String,
    rate: f64,
    seed: u64,
    /// Deliveries that the saboteur spoilt.
    injected: u64,
    /// Deliveries that the comparison found spoilt in this way.
    counted: u64,
    /// Of the first 10,000 injected, those found at their very place.
    located: u64,
    /// Deliveries that it found spoilt in any other way.
    otherwise: u64,
}

impl SabotageCount {
    pub(crate) fn new(asked: Sabotaging, seed: u64, bus: &SabotageBus, report: &Report) -> Self {
        let class = bus.kind().divergence();
        let counted = counted(class, report);
        let found: BTreeSet<_> = report
            .divergences
            .iter()
            .filter(|found| found.class == class)
            .map(|d| (&*d.subscription, &*d.topic, d.publisher.clone(), d.sequence))
            .collect();
        let injections = bus.injections();
        let located = injections.iter().filter(|i| {
            let place = (
                &*i.subscription,
                &*i.topic,
                i.publisher.to_string(),
                i.sequence,
            );
            found.contains(&place)
        });
        Self {
            kind: asked.kind.to_string(),
            rate: asked.rate,
            seed,
            injected: bus.injected(),
            counted,
            located: located.count() as u64,
            otherwise: report.diverged().saturating_sub(counted),
        }
    }
}

fn counted(class: DivergenceClass, report: &Report) -> u64 {
    match class {
        DivergenceClass::Missing => report.missing,
        DivergenceClass::Late => report.late,
        DivergenceClass::Reordered => report.reordered,
        DivergenceClass::Differs => report.differs,
        DivergenceClass::Duplicate => report.duplicates,
        DivergenceClass::Phantom => report.phantoms,
    }
}

impl<'a> Document<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        Self {
            verdict: Verdict::Inconclusive,
            source,
            runs: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Adds a comparison.
    pub(crate) fn add(&mut self, run: Run) {
        self.runs.push(run);
        self.judge();
    }

    /// Adds what was not compared.
    pub(crate) fn leave_out(&mut self, primary: &Endpoint, candidates: &[Endpoint]) {
        self.left_out.extend(candidates.iter().map(|end| LeftOut {
            primary: primary.to_string(),
            candidate: end.to_string(),
        }));
        self.judge();
    }

    /// The worst verdict is the whole's, and of what was left out there is none.
    fn judge(&mut self) {
        let any = |verdict| self.runs.iter().any(|run| run.verdict == verdict);
        self.verdict = if any(Verdict::Diverged) {
            Verdict::Diverged
        } else if any(Verdict::Inconclusive) || !self.left_out.is_empty() || self.is_empty() {
            Verdict::Inconclusive
        } else {
            Verdict::Match
        };
    }

    /// What was not compared, if anything was not.
    pub(crate) fn left_out(&self) -> Option<String> {
        let were = match self.left_out.len() {
            0 => return None,
            1 => "was",
            _ => "were",
        };
        let names = self
            .left_out
            .iter()
            .map(|out| format!("`{}`", out.candidate));
        let names: Vec<_> = names.collect();
        Some(format!("{} {were} not compared", names.join(" and ")))
    }

    /// The page's, with what its one comparison does not say by itself.
    fn title(&self) -> String {
        let verdict = self.verdict;
        match self.left_out() {
            Some(left_out) => format!("{TITLE}: {verdict}; {left_out}"),
            None if self.runs.len() > 1 => format!("{TITLE}: {verdict}"),
            None => TITLE.to_owned(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Writes the JSON document, or the page, to where it was asked for.
    pub(crate) fn finish(&self, args: &ShadowArgs) -> Result<(), Failure> {
        if !args.json && args.report.is_none() {
            return Ok(());
        }
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|reason| Failure::io("write the report as JSON", reason))?;
        text.push('\n');
        let written = args.report.as_ref().map_or(Ok(()), |path| {
            let page = is_page(path).then(|| {
                let seen: Vec<_> = self.runs.iter().map(|run| &run.observed).collect();
                frozen(&self.title(), &seen)
            });
            std::fs::write(path, page.as_ref().unwrap_or(&text))
                .map_err(|reason| Failure::io(format!("write `{}`", path.display()), reason))
        });
        if args.json {
            print(&text)?;
        }
        written
    }
}

impl Run {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let Self {
            primary,
            candidate,
            published,
            seconds,
            ..
        } = self;
        let mut text = format!(
            "{primary} and {candidate}: {published} events in {seconds:.2} s to {} subscriptions\n",
            self.subscriptions.len()
        );
        text.push_str(self.report.table().trim_end());
        text.push('\n');
        if let Some(sabotage) = &self.sabotage {
            let SabotageCount {
                kind,
                injected,
                counted,
                ..
            } = sabotage;
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "sabotage `{kind}`: {injected} injected, {counted} counted"
            );
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "verdict: {}\n", self.verdict);
        text
    }
}

/// Prints to standard output. Nobody reading on is no failure: the exit code is still the answer.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(reason) if reason.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::io("write to standard output", reason))
        }
        _ => Ok(()),
    }
}
