//! What a run has shown, and its verdict.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::args::Args;
use crate::run::Run;
use crate::words::{Done, Found};

/// Faults by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Faults {
    pub(crate) kills: u32,
    pub(crate) resets: u32,
    pub(crate) partitions: u32,
    pub(crate) stalls: u32,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kills,
            resets,
            partitions,
            stalls,
        } = self;
        write!(
            f,
            "{kills} kills, {resets} resets, {partitions} partitions, {stalls} stalls"
        )
    }
}

/// What the coordinator counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) struck: Faults,
    /// While the clock runs.
    pub(crate) began: Option<Instant>,
    pub(crate) elapsed: Duration,
    pub(crate) memory: BTreeMap<String, u64>,
}

/// The verdict of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Pass,
    Fail,
    /// A fault that was asked for never struck.
    Inconclusive,
}

/// What a run has shown.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    reasons: Vec<String>,
    seed: u64,
    events: u64,
    accepted: u64,
    refused: u64,
    asked: Faults,
    struck: Faults,
    reconnects: u64,
    resends: u64,
    given_up: u64,
    malformed: u64,
    seconds: f64,
    events_per_second: f64,
    longest_publish_wait_seconds: f64,
    subscribers: Vec<Found>,
    peak_memory_bytes: BTreeMap<String, u64>,
    waiting: Vec<String>,
}

impl Report {
    pub(crate) fn of(
        args: &Args,
        seed: u64,
        run: &Run<'_>,
        ended: Result<(), String>,
        waiting: Vec<String>,
    ) -> Self {
        let done = |peer: &crate::scene::Peer| peer.done.clone().unwrap_or_default();
        let publishers: Vec<Done> = run.scene.publishers.iter().map(done).collect();
        let subscribers: Vec<Done> = run.scene.subscribers.iter().map(done).collect();
        let all = || publishers.iter().chain(&subscribers);
        let sum = |of: fn(&Done) -> u64| all().map(of).sum::<u64>();
        let accepted = publishers.iter().flat_map(|done| &done.accepted).sum();
        let seconds = run.tally.elapsed.as_secs_f64();
        let mut report = Self {
            verdict: Verdict::Pass,
            reasons: ended.err().into_iter().collect(),
            seed,
            events: args.events,
            accepted,
            refused: sum(|done| done.refused),
            asked: Run::asked(args),
            struck: run.tally.struck,
            reconnects: sum(|done| done.reconnects),
            resends: sum(|done| done.resends),
            given_up: sum(|done| done.given_up),
            malformed: sum(|done| done.malformed),
            seconds,
            events_per_second: if seconds > 0.0 {
                accepted as f64 / seconds
            } else {
                0.0
            },
            longest_publish_wait_seconds: all()
                .map(|done| done.longest_wait.as_secs_f64())
                .fold(0.0, f64::max),
            peak_memory_bytes: run.tally.memory.clone(),
            waiting,
            subscribers: subscribers.iter().map(|done| done.found.clone()).collect(),
        };
        let named = run
            .scene
            .peers()
            .map(|peer| (peer.process.name(), done(peer)));
        report.judge(named);
        report
    }

    fn judge<'a>(&mut self, peers: impl Iterator<Item = (&'a str, Done)>) {
        for (name, done) in peers {
            if done.found.anomalies() > 0 {
                let count = done.found.anomalies();
                self.reasons.push(format!("{name} found {count} anomalies"));
            }
            if done.lagged > 0 {
                let lagged = done.lagged;
                self.reasons
                    .push(format!("{name} was told of {lagged} lost events"));
            }
            if let Some(error) = done.shutdown {
                self.reasons.push(format!("{name} on shutdown: {error}"));
            }
        }
        if self.given_up > 0 {
            let given_up = self.given_up;
            self.reasons
                .push(format!("{given_up} copies were given up"));
        }
        if !self.reasons.is_empty() {
            self.verdict = Verdict::Fail;
        } else if self.asked != self.struck {
            self.verdict = Verdict::Inconclusive;
            self.reasons.push("not every fault struck".to_owned());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Inconclusive => "INCONCLUSIVE",
        };
        let Self {
            seed,
            accepted,
            refused,
            ..
        } = self;
        writeln!(f, "seed               {seed}")?;
        writeln!(
            f,
            "events             {accepted} of {} accepted, {refused} refusals tried again",
            self.events
        )?;
        writeln!(f, "faults struck      {}", self.struck)?;
        if self.asked != self.struck {
            writeln!(f, "faults asked for   {}", self.asked)?;
        }
        writeln!(f, "reconnects         {}", self.reconnects)?;
        writeln!(f, "resends            {}", self.resends)?;
        writeln!(f, "not understood     {} messages", self.malformed)?;
        writeln!(
            f,
            "time               {:.1} s, {:.0} events/s",
            self.seconds, self.events_per_second
        )?;
        writeln!(
            f,
            "longest publish    {:.3} s",
            self.longest_publish_wait_seconds
        )?;
        let mib = |bytes: &u64| *bytes as f64 / f64::from(1 << 20);
        let memory = self.peak_memory_bytes.iter();
        let memory: Vec<_> = memory
            .map(|(name, bytes)| format!("{name} {:.0}", mib(bytes)))
            .collect();
        writeln!(f, "peak memory, MiB   {}", memory.join(", "))?;
        for (number, found) in self.subscribers.iter().enumerate() {
            writeln!(
                f,
                "subscriber {number}       {} received, {} lost, {} unseen, {} duplicates, {} nonmonotonic, {} phantoms, \
                 {} corrupted; {} out of order across topics",
                found.received,
                found.lost,
                found.unseen,
                found.duplicates,
                found.nonmonotonic,
                found.phantoms,
                found.corrupted,
                found.across_topics
            )?;
            for example in &found.examples {
                writeln!(f, "  {example}")?;
            }
        }
        for line in &self.waiting {
            writeln!(f, "  {line}")?;
        }
        for reason in &self.reasons {
            writeln!(f, "{reason}")?;
        }
        writeln!(f, "{verdict}")
    }
}
