//! What is to be gathered, and what was.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use eventbus_trait::{Correlation, Payload, Topic};

use crate::tasks::{Malformed, Report};

/// How long is waited by whoever does not say so.
const DEFAULT_WITHIN: Duration = Duration::from_secs(30);

/// What is to be gathered: parts of one whole, how many, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub(super) root: String,
    pub(super) of: Of,
    /// `None`: as many as come until the deadline.
    pub(super) enough: Option<usize>,
    pub(super) within: Duration,
}

/// What tells one part from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Of {
    /// The id of its correlation.
    Ids(BTreeSet<String>),
    /// Its topic.
    Topics(BTreeSet<String>),
    /// Its topic, its id and its sequence.
    Any,
}

impl Wanted {
    fn new(root: impl Into<String>, of: Of, enough: usize) -> Self {
        Self {
            root: root.into(),
            of,
            enough: Some(enough),
            within: DEFAULT_WITHIN,
        }
    }

    /// One part for each of these ids of correlations, such as tasks have.
    #[must_use]
    pub fn ids<I: Into<String>>(root: impl Into<String>, ids: impl IntoIterator<Item = I>) -> Self {
        let ids: BTreeSet<String> = ids.into_iter().map(Into::into).collect();
        let all = ids.len();
        Self::new(root, Of::Ids(ids), all)
    }

    /// One part for each of these topics, such as `results.process.procmond-1`.
    #[must_use]
    pub fn topics<T: Into<String>>(
        root: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
    ) -> Self {
        let topics: BTreeSet<String> = topics.into_iter().map(Into::into).collect();
        let all = topics.len();
        Self::new(root, Of::Topics(topics), all)
    }

    /// So many parts, whosever they are.
    #[must_use]
    pub fn any(root: impl Into<String>, parts: usize) -> Self {
        Self::new(root, Of::Any, parts)
    }

    /// Is content with the first so many.
    #[must_use]
    pub fn first(mut self, parts: usize) -> Self {
        self.enough = Some(parts.min(self.named().unwrap_or(parts)));
        self
    }

    /// Takes what comes until the deadline, also when everything that was named is there.
    #[must_use]
    pub fn until_deadline(mut self) -> Self {
        self.enough = None;
        self
    }

    /// How long to wait at most: 30 s without it.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// How many parts were named.
    pub(super) fn named(&self) -> Option<usize> {
        match &self.of {
            Of::Ids(names) | Of::Topics(names) => Some(names.len()),
            Of::Any => None,
        }
    }
}

/// One result.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Where it was published.
    pub topic: Topic,
    /// What it belongs to.
    pub correlation: Correlation,
    /// What it says.
    pub payload: Payload,
}

impl Part {
    /// What it says of a task: done or failed.
    ///
    /// # Errors
    /// [`Malformed`] if it is no report of a task.
    pub fn report(&self) -> Result<Report, Malformed> {
        let bytes = self.payload.bytes();
        Report::decode(&bytes.map_err(|error| Malformed::Json(error.to_string()))?)
    }
}

/// A part that was wanted and is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The id or the topic, whichever was named.
    pub name: String,
    /// Why it is not there.
    pub why: Absence,
}

/// Why a part is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Absence {
    /// It did not come.
    Silent,
    /// It came, and there was no room for it.
    NoRoom,
    /// A member gave it up because its dispatcher said so, and no result has come.
    Cancelled,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Absence::Silent => write!(f, "`{}` did not come", self.name),
            Absence::Cancelled => write!(f, "`{}` was cancelled", self.name),
            Absence::NoRoom => write!(f, "`{}` came and found no room", self.name),
        }
    }
}

/// Why nothing more is gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// There is as much as was wanted.
    Enough,
    /// The deadline has passed.
    Deadline,
    /// Everything that was named has come, and some of it found no room.
    NoRoom,
    /// The gatherer or its bus was closed.
    Closed,
}

/// What was gathered.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathered {
    /// In the order in which they came.
    pub parts: Vec<Part>,
    /// What was named and is not there, in the order of names.
    pub missing: Vec<Missing>,
    /// How many fewer there are than were wanted.
    pub short: usize,
    /// Parts that came again, and were left out.
    pub repeated: u64,
    /// Parts that found no room.
    pub refused: u64,
    /// Why it ended.
    pub ended: Ended,
}

impl Gathered {
    pub(super) fn nothing(ended: Ended) -> Self {
        Self {
            parts: Vec::new(),
            missing: Vec::new(),
            short: 0,
            repeated: 0,
            refused: 0,
            ended,
        }
    }

    /// Whether as much is there as was wanted; never until a deadline, where nobody said how much that is.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.ended == Ended::Enough
    }
}
