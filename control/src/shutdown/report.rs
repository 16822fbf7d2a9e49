//! How members have ended.

use std::time::Duration;

use crate::client::OperationError;

/// How all of them have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Each, in the order of kinds and names.
    pub members: Vec<MemberEnd>,
    /// How long it took.
    pub took: Duration,
}

/// How one has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberEnd {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Which life of it.
    pub instance: String,
    /// How it ended.
    pub end: End,
    /// How long it took, from when it was asked.
    pub took: Duration,
}

/// How a member has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Everything that it had taken in is finished.
    Graceful,
    /// It has ended, and something is not finished.
    Forced {
        /// What.
        reason: String,
        /// Pieces of work that were not finished.
        unfinished: usize,
    },
    /// It has not said that it ended.
    Silent {
        /// What is known.
        error: OperationError,
    },
}

impl Report {
    /// Whether all have ended gracefully.
    #[must_use]
    pub fn is_graceful(&self) -> bool {
        self.members
            .iter()
            .all(|member| member.end == End::Graceful)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Graceful => f.write_str("ended gracefully"),
            Self::Forced { reason, .. } => write!(f, "was forced to end: {reason}"),
            Self::Silent { error } => write!(f, "did not say that it ended: {error}"),
        }
    }
}
