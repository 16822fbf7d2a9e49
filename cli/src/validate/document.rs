//! The whole result, as `docs/validate.schema.json` describes it.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::findings::Findings;
use super::recommend::{Recommendation, recommend};

/// Of the document. Fields may come under the same number; none goes or changes its meaning.
const SCHEMA: u32 = 1;

/// What a run has found.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    schema: u32,
    /// Whether every transport that was measured did what it promises.
    pub(crate) passed: bool,
    /// When the run began: RFC 3339, UTC.
    pub(crate) started: String,
    pub(crate) seconds: f64,
    pub(crate) asked: Asked,
    pub(crate) machine: Machine,
    pub(crate) transports: Vec<Findings>,
    pub(crate) recommendations: Vec<Recommendation>,
}

/// What the run was told.
#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    pub(crate) messages: u64,
    pub(crate) payload_bytes: usize,
    pub(crate) rate: u32,
    /// What was done wrong on purpose.
    pub(crate) sabotage: Option<String>,
}

/// Where it ran: figures belong to a machine.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) version: &'static str,
    /// `release`, or `debug`, whose figures say little.
    pub(crate) build: &'static str,
    pub(crate) os: String,
    pub(crate) cores: usize,
    /// Processes that wanted a core, on average over the minute before the run; `null` if that
    /// cannot be told.
    pub(crate) load: Option<f64>,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let arch = std::env::consts::ARCH;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            os: format!("Linux {} {arch}", kernel.trim()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            load: load.split(' ').next().and_then(|load| load.parse().ok()),
        }
    }
}

impl Document {
    pub(crate) fn new(
        asked: Asked,
        machine: Machine,
        began: SystemTime,
        took: Duration,
        transports: Vec<Findings>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            passed: transports.iter().all(|found| found.passed),
            started: humantime::format_rfc3339_seconds(began).to_string(),
            seconds: took.as_secs_f64(),
            asked,
            machine,
            recommendations: recommend(&transports),
            transports,
        }
    }
}
