//! Why an operation was not carried out: codes that callers decide by, in every language.

use eventbus_trait::rpc::{Failure, INVALID_REQUEST};

/// What stood against an operation. On the wire it is the code of the error, beside a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
#[non_exhaustive]
pub enum Problem {
    /// The collector refused it, as a whole: code 1.
    Refused = 1,
    /// The configuration is not newer than the one in force: code 2.
    Stale = 2,
    /// It does not go together with what the member does, or another life of it was meant: code 3.
    Conflict = 3,
    /// The member is about to go: code 4.
    Draining = 4,
    /// It was cut off, and may have been carried out in part: code 5.
    CutOff = 5,
    /// Too many operations wait: code 6.
    Busy = 6,
    /// The request is none: code -32602.
    Invalid = INVALID_REQUEST,
}

impl Problem {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> i16 {
        self as i16
    }

    /// The problem of a code, if it is one.
    #[must_use]
    pub fn of(code: i16) -> Option<Self> {
        let all = [
            Self::Refused,
            Self::Stale,
            Self::Conflict,
            Self::Draining,
            Self::CutOff,
            Self::Busy,
            Self::Invalid,
        ];
        all.into_iter().find(|problem| problem.code() == code)
    }

    pub(super) fn failure(self, message: impl Into<String>) -> Failure {
        Failure::new(self.code(), message)
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Problem::Invalid.failure(message)
}

/// Why a collector does not do what it is asked. Nothing of it was done.
///
/// ```
/// use control::collector::Refusal;
/// let refusal = Refusal::new("`interval_ms` is 3, below 10");
/// assert_eq!(refusal.to_string(), "`interval_ms` is 3, below 10");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl Refusal {
    /// For this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// A configuration, or options, that a collector cannot read.
impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}
