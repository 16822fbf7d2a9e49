//! What a rollout tells of itself: to the admin socket, a page, a terminal.
//!
//! Plain data that serde reads and writes, so that whoever shows it needs nothing of the machinery.
//! Times are milliseconds since 1970, durations microseconds, because both travel as JSON.
//!
//! Invariant: a status is a snapshot taken under one lock; its parts belong together.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a rollout stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// The phase that carries the application's events, as configuration writes it.
    pub phase: String,
    /// Which of `stages` it is in.
    pub stage: usize,
    /// All stages, from the first to the last.
    pub stages: Vec<StageStatus>,
    /// Who decides that it goes on.
    pub mode: Mode,
    /// What it is doing.
    pub activity: Activity,
    /// The cutover under way, if there is one.
    pub cutover: Option<CutoverStatus>,
    /// The gates between this stage and the next, as last measured; none in the last stage.
    pub gates: Vec<GateStatus>,
    /// Evaluations of the gates in a row that passed.
    pub successes: u32,
    /// How many in a row it takes to go on.
    pub successes_wanted: u32,
    /// Evaluations of the gates that failed since the stage began.
    pub failures: u32,
    /// After how many it goes back, or halts.
    pub failures_allowed: u32,
    /// When the stage began.
    pub stage_since_ms: u64,
    /// What happened, oldest first; the newest hundred.
    pub history: Vec<HistoryEntry>,
    /// The last thing that went wrong, if anything did.
    pub last_error: Option<String>,
    /// Longest time that a publisher was held up by a cutover, over all cutovers of this process.
    pub longest_publish_delay_us: u64,
    /// Cutovers of this process that were completed.
    pub cutovers: u64,
}

/// A stage: a phase, with or without a shadow on the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageStatus {
    /// `crossbeam`, or `shadow(crossbeam, in-process)`.
    pub name: String,
    /// The phase that carries the events.
    pub phase: String,
    /// The phase that is compared with it, if one is.
    pub candidate: Option<String>,
}

/// A stage as somebody names it who gives orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StageRef {
    /// Its place in [`Status::stages`], from 0.
    Index(usize),
    /// Its name there.
    Name(String),
}

#[cfg(feature = "rollout")]
impl StageRef {
    /// Whether the stage at `index` is called so.
    pub(crate) fn is(&self, index: usize, name: &str) -> bool {
        match self {
            Self::Index(this) => *this == index,
            Self::Name(this) => this == name,
        }
    }
}

impl fmt::Display for StageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // As people count.
            Self::Index(index) => write!(f, "number {}", index + 1),
            Self::Name(name) => write!(f, "`{name}`"),
        }
    }
}

/// Who decides that a rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Mode {
    /// Somebody, by `advance` and `back`.
    #[default]
    Manual,
    /// The gates.
    Automatic,
}

/// What a rollout is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Activity {
    /// It measures the gates of its stage.
    Watching,
    /// The gates have passed, and somebody is to say `advance`.
    Asking,
    /// It moves to another stage.
    Moving,
    /// Somebody paused it, or what it measured was inconclusive for too long.
    Paused,
    /// A gate failed too often, and it neither goes on nor back by itself.
    Halted,
    /// It is in its last stage.
    Done,
}

/// A cutover under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CutoverStatus {
    /// Its number in the journal.
    pub number: u64,
    /// The phase that it leaves.
    pub from: String,
    /// The phase that it goes to.
    pub to: String,
    /// The step under way.
    pub step: Step,
    /// When it began.
    pub since_ms: u64,
}

/// The steps of a cutover, numbered as in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// 1: the journal says that it begins.
    Begin = 1,
    /// 2: the new phase is opened.
    Open = 2,
    /// 3: every subscription is made there as well.
    Subscribe = 3,
    /// 4: publishers are held, and what they sent is waited for.
    Hold = 4,
    /// 5: the journal says that the new phase holds.
    Commit = 5,
    /// 6: publishers go on, in the new phase.
    Switch = 6,
    /// 7: subscriptions read what is left of the old phase.
    Drain = 7,
    /// 8: the old phase is closed.
    Close = 8,
    /// 9: the journal says that it is done.
    Done = 9,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 9] = [
        Self::Begin,
        Self::Open,
        Self::Subscribe,
        Self::Hold,
        Self::Commit,
        Self::Switch,
        Self::Drain,
        Self::Close,
        Self::Done,
    ];

    /// Its number, from 1.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The step with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.number() == number)
    }

    /// What it does, in a few words.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Begin => "note in the journal that the cutover begins",
            Self::Open => "open the new phase",
            Self::Subscribe => "subscribe every subscription there as well",
            Self::Hold => "hold publishers until the old phase has delivered",
            Self::Commit => "note in the journal that the new phase holds",
            Self::Switch => "let publishers go on in the new phase",
            Self::Drain => "end the old phase's subscriptions once they are read",
            Self::Close => "close the old phase",
            Self::Done => "note in the journal that the cutover is done",
        }
    }
}

/// One gate between a stage and the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GateStatus {
    /// `events`, `divergences`, `latency`, `throughput`, `time`.
    pub name: String,
    /// What is wanted, with its unit: `at least 10000 events`.
    pub wanted: String,
    /// What was measured, with its unit; none if it could not be.
    pub measured: Option<String>,
    /// How far it is, from 0 to 1, where that can be said.
    pub progress: Option<f64>,
    /// What follows.
    pub verdict: Verdict,
}

/// What follows from a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Verdict {
    /// It is as wanted.
    Pass,
    /// It is not, and waiting does not help.
    Fail,
    /// It cannot be said yet.
    Inconclusive,
    /// It was as wanted, too long ago.
    Stale,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// When.
    pub at_ms: u64,
    /// What.
    pub what: What,
    /// The stage before.
    pub from: String,
    /// The stage after; the same, if it did not change.
    pub to: String,
    /// Why, in one sentence.
    pub reason: String,
    /// How long it took.
    pub took_us: u64,
    /// How long publishers were held by it.
    pub publish_delay_us: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum What {
    /// The process started in this stage.
    Started,
    /// It went on to the next stage.
    Advanced,
    /// It went back to the stage before.
    WentBack,
    /// A move was given up before its commit; the stage is as it was.
    Aborted,
    /// Somebody or something paused it.
    Paused,
    /// Somebody let it go on.
    Resumed,
    /// A gate failed too often.
    Halted,
}

/// What a move would do, step by step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plan {
    /// The stage now.
    pub from: String,
    /// The stage after; none if there is nowhere to go.
    pub to: Option<String>,
    /// What would be done, in order.
    pub steps: Vec<PlannedStep>,
    /// What stands against it, in one sentence each; empty if nothing does.
    pub objections: Vec<String>,
}

/// A step of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedStep {
    /// The cutover's step, or none if no cutover does it.
    pub step: Option<Step>,
    /// What would be done, in one sentence.
    pub what: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begin => "begin",
            Self::Open => "open",
            Self::Subscribe => "subscribe",
            Self::Hold => "hold",
            Self::Commit => "commit",
            Self::Switch => "switch",
            Self::Drain => "drain",
            Self::Close => "close",
            Self::Done => "done",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::Stale => "stale",
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manual => "manual",
            Self::Automatic => "automatic",
        })
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Watching => "watching",
            Self::Asking => "asking",
            Self::Moving => "moving",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Done => "done",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_the_number_that_the_journal_knows_it_by() {
        for (number, step) in (1..).zip(Step::ALL) {
            assert_eq!(step.number(), number);
            assert_eq!(Step::from_number(number), Some(step));
        }
        assert_eq!(Step::from_number(0), None);
        assert_eq!(Step::from_number(10), None);
    }
}
