//! What was found of a transport; `docs/validate.schema.json` describes each field.
//!
//! It passes from the process that measured to the one that tells, so everything reads back.

use serde::{Deserialize, Serialize};

use super::errors::Errors;
use super::payload::Delivery;
use super::plan::Transport;
use super::properties::Properties;

/// One transport.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) transport: Transport,
    /// The broker that runs already, if it was one.
    pub(crate) against: Option<String>,
    pub(crate) passed: bool,
    /// What it failed by, each a phrase.
    pub(crate) failures: Vec<String>,
    pub(crate) setup: Setup,
    pub(crate) throughput: Throughput,
    pub(crate) latency: Latency,
    /// Of all measurements together.
    pub(crate) delivery: Delivery,
    /// Delivered of accepted, from 0 to 1.
    pub(crate) success_rate: f64,
    pub(crate) errors: Errors,
    pub(crate) recovery: Recovery,
    pub(crate) memory: Memory,
    pub(crate) properties: Properties,
}

/// From nothing to a confirmed subscription; medians of several.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Until the broker listens, if it is a process of its own.
    pub(crate) broker_seconds: Option<f64>,
    /// `open`.
    pub(crate) open_seconds: f64,
    /// The first `subscribe`, confirmed.
    pub(crate) subscribe_seconds: f64,
    /// How often that was done.
    pub(crate) samples: u64,
}

impl Setup {
    /// `open` and the first `subscribe`.
    pub(crate) fn seconds(&self) -> f64 {
        self.open_seconds + self.subscribe_seconds
    }
}

/// As fast as the bus takes them, at least once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Throughput {
    /// Delivered, from the first publish to the last delivery; the median of the rounds.
    pub(crate) events_per_second: f64,
    /// The same of each round.
    pub(crate) rounds: Vec<f64>,
    /// Of all rounds.
    pub(crate) seconds: f64,
    pub(crate) delivery: Delivery,
}

/// One way, from when an event was due to when it was read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Events per second that were asked for.
    pub(crate) rate: u32,
    /// Events per second that were accepted.
    pub(crate) accepted_rate: f64,
    /// Of all rounds together, as the other quantiles.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Medians of the rounds, which a hiccup of the machine does not move.
    pub(crate) p50_typical_us: f64,
    pub(crate) p99_typical_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// The curve, by rising quantile; the last is the maximum.
    pub(crate) distribution: Vec<Point>,
    pub(crate) delivery: Delivery,
}

impl Latency {
    /// Whether events were accepted as fast as they were due.
    pub(crate) fn kept_up(&self) -> bool {
        self.accepted_rate >= f64::from(self.rate) * 0.98
    }
}

/// A point of a latency distribution.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) quantile: f64,
    pub(crate) us: f64,
}

/// What became of the bus when its broker was killed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Recovery {
    Measured(Recovered),
    NotMeasured {
        /// Why not.
        not_measured: String,
    },
}

/// A broker was killed under a paced stream, and started again at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Recovered {
    /// From the kill until a broker listens again.
    pub(crate) broker_seconds: f64,
    /// From the kill until the first event arrives that was published after it; `null` if none did.
    pub(crate) seconds: Option<f64>,
    /// Longest that a publisher was held up meanwhile.
    pub(crate) longest_publish_seconds: f64,
    /// Connections that were lost and made again, of both handles.
    pub(crate) reconnects: u64,
    /// Events that were sent again.
    pub(crate) resent: u64,
    pub(crate) delivery: Delivery,
}

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Of the process that publishes and subscribes, before it opened a bus.
    pub(crate) before: u64,
    /// Of the same after the measurements, with both handles open.
    pub(crate) after: u64,
    /// Most that it ever was.
    pub(crate) peak: u64,
    /// Of the broker's own process after throughput and latency were measured, if it has one.
    pub(crate) broker: Option<u64>,
}

impl Memory {
    pub(crate) fn growth(&self) -> u64 {
        self.after.saturating_sub(self.before)
    }
}

impl Recovery {
    pub(crate) fn measured(&self) -> Option<&Recovered> {
        match self {
            Self::Measured(recovered) => Some(recovered),
            Self::NotMeasured { .. } => None,
        }
    }
}
