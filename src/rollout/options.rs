//! What a rollout is told when it is opened.

use std::path::PathBuf;
use std::time::Duration;

use super::status::Mode;
use crate::phase::Phase;

/// A rollout from one phase to another, and the ones between.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Rollout {
    /// The phases, from the first to the last; at least two, none twice.
    pub phases: Vec<Phase>,
    /// The file that says which phase holds.
    pub journal: PathBuf,
    /// The socket at which `eventbus rollout` finds it, if there is to be one.
    pub admin: Option<PathBuf>,
    /// Who decides that it goes on: somebody.
    pub mode: Mode,
    /// Whether each phase is compared with the next one before it is left: yes.
    pub shadow: bool,
    /// How long a cutover may hold publishers before it is given up: 2 s.
    pub hold: Duration,
    /// Whether it goes back a stage when its gates have failed, instead of standing still: no.
    pub fall_back: bool,
    /// When it may go on.
    pub gates: Gates,
    /// Programs that may object.
    pub hooks: Hooks,
}

/// When a stage may be left for the next one.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Gates {
    /// Least events compared, or published where nothing is compared: 10,000.
    pub min_events: u64,
    /// Most divergences: 0.
    pub max_divergences: u64,
    /// Largest ratio of the candidate's median latency to the primary's: 50.
    pub latency_ratio: f64,
    /// Least share of what the primary delivered that the candidate delivered and that was compared
    /// with it: 0.99.
    pub throughput_ratio: f64,
    /// Least time in the stage: 60 s.
    pub min_time: Duration,
    /// How many evaluations in a row have to pass: 3.
    pub successes: u32,
    /// After how many failed ones it stands still, or goes back: 1.
    pub failures: u32,
    /// Time between evaluations: 1 s.
    pub interval: Duration,
    /// How old evidence may be: 5 min.
    pub stale: Duration,
    /// After how long without a verdict it pauses: 1 h.
    pub patience: Duration,
}

/// Programs that are run around each move, with `EVENTBUS_ROLLOUT_FROM`, `EVENTBUS_ROLLOUT_TO` and
/// `EVENTBUS_ROLLOUT_DIRECTION` in their environment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hooks {
    /// Run before a move; if one does not end with 0, the move is not made.
    pub before: Vec<PathBuf>,
    /// Run after a move; if one does not end with 0, that is logged.
    pub after: Vec<PathBuf>,
    /// How long each may take before it counts as failed: 30 s.
    pub timeout: Duration,
}

impl Rollout {
    /// A rollout over these phases, with everything else as it is by default.
    #[must_use]
    pub fn new(phases: Vec<Phase>, journal: impl Into<PathBuf>) -> Self {
        Self {
            phases,
            journal: journal.into(),
            admin: None,
            mode: Mode::Manual,
            shadow: true,
            hold: Duration::from_secs(2),
            fall_back: false,
            gates: Gates::default(),
            hooks: Hooks::default(),
        }
    }
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            min_events: 10_000,
            max_divergences: 0,
            latency_ratio: 50.0,
            throughput_ratio: 0.99,
            min_time: Duration::from_secs(60),
            successes: 3,
            failures: 1,
            interval: Duration::from_secs(1),
            stale: Duration::from_secs(300),
            patience: Duration::from_secs(3_600),
        }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            before: Vec::new(),
            after: Vec::new(),
            timeout: Duration::from_secs(30),
        }
    }
}
