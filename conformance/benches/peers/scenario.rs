//! What one measurement is: who, in what shape, at what pace; and what came of it.
//!
//! Each is made by a child process of its own, so that processor time and memory are its own. A
//! scenario goes to the child as JSON, and the sample comes back as JSON.

use serde::{Deserialize, Serialize};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    Crossbeam,
    InProcess,
    Unix,
    Tcp,
    RawCrossbeam,
    RawTokio,
    RawInProcess,
    RawUnix,
    RawTcp,
}

impl Contender {
    /// The phases, in the order of the migration.
    pub(crate) const OURS: [Self; 4] = [Self::Crossbeam, Self::InProcess, Self::Unix, Self::Tcp];
    /// Everybody; each raw part stands before what stands on it.
    pub(crate) const ALL: [Self; 9] = [
        Self::RawCrossbeam,
        Self::Crossbeam,
        Self::RawInProcess,
        Self::InProcess,
        Self::RawUnix,
        Self::Unix,
        Self::RawTcp,
        Self::Tcp,
        Self::RawTokio,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crossbeam => "crossbeam",
            Self::InProcess => "in-process",
            Self::Unix => "unix",
            Self::Tcp => "tcp",
            Self::RawCrossbeam => "raw crossbeam",
            Self::RawTokio => "raw tokio mpsc",
            Self::RawInProcess => "raw busrt in process",
            Self::RawUnix => "raw busrt UNIX",
            Self::RawTcp => "raw busrt TCP",
        }
    }

    /// The raw part that a phase stands on.
    pub(crate) fn raw(self) -> Option<Self> {
        match self {
            Self::Crossbeam => Some(Self::RawCrossbeam),
            Self::InProcess => Some(Self::RawInProcess),
            Self::Unix => Some(Self::RawUnix),
            Self::Tcp => Some(Self::RawTcp),
            _ => None,
        }
    }

    /// Whether it goes through busrt's broker over a socket: it waits for confirmations, of which a
    /// number may be outstanding, and a subscriber whose queue is full is disconnected in silence.
    pub(crate) fn is_raw_socket(self) -> bool {
        matches!(self, Self::RawUnix | Self::RawTcp)
    }

    /// Where it runs unless said.
    fn style(self) -> Style {
        match self {
            Self::RawTokio | Self::RawInProcess => Style::Tasks,
            _ => Style::Threads,
        }
    }

    /// Whether it can run so.
    pub(crate) fn can_be(self, style: Style) -> bool {
        match style {
            Style::Threads => self != Self::RawTokio,
            Style::Tasks => self != Self::RawCrossbeam,
        }
    }
}

/// How much is published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// As fast as it goes, for so many seconds.
    Saturated { seconds: f64 },
    /// At scheduled times, so many per second, so many in all.
    Scheduled { per_second: u32, events: u64 },
}

/// Where publishers and subscribers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Style {
    /// Each on a thread of its own.
    Threads,
    /// As tasks of one runtime with two workers.
    Tasks,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) contender: Contender,
    pub(crate) pace: Pace,
    pub(crate) style: Style,
    pub(crate) publishers: usize,
    /// Each gets everything, unless there are several topics.
    pub(crate) subscribers: usize,
    /// Threads that the subscribers are dealt to.
    pub(crate) readers: usize,
    /// Subscriptions beside those, that match nothing that is published.
    pub(crate) idle: usize,
    /// Published in turn, each with exactly its own subscription.
    pub(crate) topics: usize,
    /// Handles that publish in turn.
    pub(crate) connections: usize,
    /// Bytes of each.
    pub(crate) payload: usize,
    pub(crate) at_least_once: bool,
    /// At most once: at full speed, whatever is dropped.
    pub(crate) flooded: bool,
    /// Events published at once.
    pub(crate) batch: usize,
    /// Whether events carry the time, so that latency is measured.
    pub(crate) stamped: bool,
    /// Confirmations that may be outstanding.
    pub(crate) window: usize,
}

impl Scenario {
    /// One publisher, one subscriber, 100 bytes, at least once, one by one, for so many seconds.
    pub(crate) fn headline(contender: Contender, seconds: f64) -> Self {
        Self {
            contender,
            pace: Pace::Saturated { seconds },
            style: contender.style(),
            publishers: 1,
            subscribers: 1,
            readers: 1,
            idle: 0,
            topics: 1,
            connections: 1,
            payload: 100,
            at_least_once: true,
            flooded: false,
            batch: 1,
            stamped: false,
            window: 1024,
        }
    }

    /// Whether publishers have to stay near the readers.
    pub(crate) fn is_held_back(&self) -> bool {
        self.contender.is_raw_socket() || !self.at_least_once && !self.flooded
    }
}

/// What came of one measurement. Nothing was lost, or there is no sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Events that publishing took.
    pub(crate) accepted: u64,
    /// Copies that arrived, and that were dropped and counted.
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
    /// From the first publish to the last arrival.
    pub(crate) seconds: f64,
    /// Of the whole process, in that time.
    pub(crate) cpu_seconds: f64,
    /// Most resident memory, less what was resident before the bus was opened, in bytes.
    pub(crate) memory: u64,
    pub(crate) latency: Option<Latency>,
}

/// One way, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Sample {
    /// Copies that arrived, per second.
    pub(crate) fn rate(&self) -> f64 {
        self.delivered as f64 / self.seconds
    }

    /// Nanoseconds per event published.
    pub(crate) fn cost(&self) -> f64 {
        self.seconds * 1e9 / self.accepted as f64
    }

    /// Nanoseconds of processor time per copy that arrived.
    pub(crate) fn cpu(&self) -> f64 {
        self.cpu_seconds * 1e9 / self.delivered.max(1) as f64
    }
}
