//! What there is to see of a process at one moment: plain data between its sources and its views.
//!
//! The page, the metrics, the terminal and the frozen report are all made of this and of nothing
//! else, so they cannot say different things. Times are milliseconds since 1970, durations
//! milliseconds or microseconds, as the name says.
//!
//! Invariant: its size is bounded, whatever the bus, the shadow and the rollout have seen.

use std::collections::BTreeMap;

use eventbus_trait::Stats;
use serde::{Deserialize, Serialize};
use shadow::{Glance, Report, ShadowBus};

use super::history::History;
use super::rows::LeftOut;
use crate::rollout::status::Status;

/// The version of this document; another number means that a field has gone or changed its meaning.
pub const SCHEMA: u32 = 1;
/// Most divergences of a report's list that are kept; [`Glance`] has the newest.
const MOST_FIRST: usize = 20;

/// What there is to see of a process at one moment. A part that it does not have is absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Observed {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What the process calls itself.
    pub title: String,
    /// The version of this crate.
    pub version: String,
    /// When this was.
    pub at_ms: u64,
    /// Since when the process is looked at, in milliseconds.
    pub uptime_ms: u64,
    /// Whether it can do its work.
    pub health: Health,
    /// What its bus has done: all handles that are looked at, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<Stats>,
    /// How many of its subscriptions, topic families and services have no line of their own in `stats`.
    #[serde(default, skip_serializing_if = "LeftOut::is_nobody")]
    pub left_out: LeftOut,
    /// How many trace parents the process has met that were none.
    #[serde(default)]
    pub refused_trace_parents: u64,
    /// Its shadow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadowed>,
    /// Its rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Status>,
    /// The broker that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<Brokered>,
    /// How it was before.
    pub history: History,
}

/// Whether a process can do its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// `ok`, or in one word why not: `draining`, `failing`, `stuck`.
    pub status: String,
    /// What stands against `ok`, in one sentence each.
    pub reasons: Vec<String>,
}

/// A comparison: its report, and what is beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Shadowed {
    /// The report, with the first 20 divergences.
    pub report: Report,
    /// Where divergences are, the newest, and both sides' latencies.
    pub glance: Glance,
}

/// A broker: the counters of its front door.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Brokered {
    /// Connections now.
    pub connections: u64,
    /// Most connections.
    pub max_connections: u64,
    /// Sessions now.
    pub sessions: u64,
    /// Connections accepted, refused ones included.
    pub accepted: u64,
    /// Connections refused, or ended for what they sent, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Frames denied to clients whose connection stayed.
    pub denied: u64,
    /// Frames from clients.
    pub frames: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Accepting that failed.
    pub accept_errors: u64,
    /// How long the directory of sessions has not gone round, in microseconds.
    pub silent_us: u64,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            status: "ok".to_owned(),
            reasons: Vec::new(),
        }
    }
}

impl Health {
    /// Whether the process can do its work.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Notes what stands against it; the first word given is the status.
    pub(super) fn not(&mut self, status: &str, reason: String) {
        if self.reasons.is_empty() {
            status.clone_into(&mut self.status);
        }
        self.reasons.push(reason);
    }
}

impl Shadowed {
    /// A look at a shadow.
    #[must_use]
    pub fn of(shadow: &ShadowBus) -> Self {
        Self {
            report: shadow.report_with(MOST_FIRST),
            glance: shadow.glance(),
        }
    }

    /// What keeps the comparison from being whole, in one sentence each.
    pub(super) fn troubles(&self) -> Vec<String> {
        let r = &self.report;
        let mut troubles = Vec::new();
        if let Some(why) = &r.disabled {
            troubles.push(format!("shadow disabled: {why}"));
        }
        for (hook, n) in &r.hook_errors {
            troubles.push(format!("hook {hook} failed: {n}"));
        }
        if let Some(file) = r
            .divergence_file
            .as_ref()
            .filter(|file| file.dropped > 0 || file.error.is_some())
        {
            let why = file.error.as_deref().unwrap_or("no room");
            let (n, path) = (file.dropped, &file.path);
            troubles.push(format!("divergences not written to {path}: {n}, {why}"));
        }
        troubles
    }
}

#[cfg(feature = "busrt")]
impl Brokered {
    /// What a broker that takes so many connections has counted. All reasons to refuse are there from
    /// the start, at 0: a counter that appears with its first refusal has not increased, to Prometheus.
    #[must_use]
    pub fn of(stats: &busrt_backend::broker::BrokerStats, max_connections: usize) -> Self {
        let reasons = busrt_backend::broker::BrokerStats::reasons();
        let mut refused: BTreeMap<String, u64> =
            reasons.map(|reason| (reason.to_owned(), 0)).collect();
        for (reason, n) in &stats.refused {
            refused.insert((*reason).to_owned(), *n);
        }
        Self {
            connections: stats.connections as u64,
            max_connections: max_connections as u64,
            sessions: stats.sessions as u64,
            accepted: stats.accepted,
            refused,
            denied: stats.denied,
            frames: stats.frames,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            accept_errors: stats.accept_errors,
            silent_us: u64::try_from(stats.silent.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// Adds what another handle of the same process has done.
pub(super) fn add(sum: &mut Stats, more: Stats) {
    if sum.backend.is_empty() {
        sum.backend = more.backend;
    }
    sum.published += more.published;
    sum.refused += more.refused;
    sum.dropped += more.dropped;
    sum.malformed += more.malformed;
    sum.reconnects += more.reconnects;
    sum.resends += more.resends;
    sum.given_up += more.given_up;
    for (family, n) in more.families {
        let of_family = sum.families.entry(family).or_default();
        of_family.published += n.published;
        of_family.deliveries += n.deliveries;
    }
    sum.subscriptions.extend(more.subscriptions);
    sum.calls += more.calls;
    sum.services.extend(more.services);
}
