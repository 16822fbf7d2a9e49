//! What one process is to measure, as the process that starts it says it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::place::Place;

/// What carries the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Transport {
    Crossbeam,
    InProcess,
    Unix,
    Tcp,
}

/// What to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) transport: Transport,
    /// A broker that runs already: how it was named, and where it is.
    pub(crate) against: Option<(String, Place)>,
    /// Most events of one measurement.
    pub(crate) messages: u64,
    /// Bytes of each payload.
    pub(crate) payload: usize,
    /// Events per second while latency is measured.
    pub(crate) rate: u32,
    /// What the subscriber's handle does wrong on purpose, and to what share of the events.
    pub(crate) sabotage: Option<(String, f64)>,
}

impl Transport {
    /// In the order of the migration.
    pub(crate) const ALL: [Self; 4] = [Self::Crossbeam, Self::InProcess, Self::Unix, Self::Tcp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crossbeam => "crossbeam",
            Self::InProcess => "in-process",
            Self::Unix => "unix",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Transport {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|known| known.name() == text);
        known.ok_or("expected `crossbeam`, `in-process`, `unix` or `tcp`")
    }
}
