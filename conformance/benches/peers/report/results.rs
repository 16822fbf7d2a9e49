//! The results of a run, as they are stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that a run found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) method: Method,
    pub(crate) targets: Vec<Target>,
    pub(crate) headline: Option<Table>,
    pub(crate) matrix: Vec<Table>,
    pub(crate) latency: Vec<Table>,
    pub(crate) curves: Vec<Curve>,
}

/// Where it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) system: String,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    /// Of what is compared, by crate.
    pub(crate) versions: BTreeMap<String, String>,
}

/// How long and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Method {
    /// Rounds, in each of which everything runs once.
    pub(crate) rounds: usize,
    /// Seconds of publishing in each sample: of the headline, of the other tables, of the curves.
    pub(crate) headline_seconds: f64,
    pub(crate) table_seconds: f64,
    pub(crate) curve_seconds: f64,
    /// Scheduled events: per second, and in each sample.
    pub(crate) per_second: u32,
    pub(crate) scheduled: u64,
}

/// What `design.md` of the project wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Least, or most.
    pub(crate) bound: Bound,
    pub(crate) target: f64,
    pub(crate) measured: f64,
}

/// Which way a target bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    AtLeast,
    AtMost,
}

impl Target {
    pub(crate) fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtLeast => self.measured >= self.target,
            Bound::AtMost => self.measured <= self.target,
        }
    }
}

/// Contenders under one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) rows: Vec<Row>,
}

/// One contender. Figures are medians of the rounds; a ratio is the median of the rounds' ratios.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// The raw part beside it, if it is one of ours.
    pub(crate) beside: Option<String>,
    /// Copies that arrived, per second.
    pub(crate) rate: f64,
    pub(crate) rate_ratio: Option<f64>,
    /// The rounds, in order.
    pub(crate) rates: Vec<f64>,
    /// Nanoseconds of wall time per event published.
    pub(crate) cost: f64,
    /// Nanoseconds of processor time per copy that arrived.
    pub(crate) cpu: f64,
    /// Bytes of memory, at most.
    pub(crate) memory: f64,
    /// Share of the copies that was dropped, at most once.
    pub(crate) dropped: f64,
    /// Confirmations that were outstanding at most, if it waits for any.
    pub(crate) window: Option<usize>,
    pub(crate) latency: Option<Percentiles>,
    pub(crate) p50_ratio: Option<f64>,
}

/// One way, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Of all rounds.
    pub(crate) max: f64,
}

/// What an event costs when something grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Curve {
    /// For file names.
    pub(crate) name: String,
    pub(crate) title: String,
    /// What grows.
    pub(crate) grows: String,
    pub(crate) series: Vec<Series>,
}

/// One phase's part of a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<Point>,
}

/// Medians of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) x: u64,
    /// Nanoseconds of wall time per event published.
    pub(crate) cost: f64,
    /// Nanoseconds of processor time per copy that arrived.
    pub(crate) cpu: f64,
}
