//! Verdicts: what a clause ends in.
//!
//! Two values would not do: a clause that could not show its subject, or that a backend has
//! declared unbuilt, is neither kept nor broken, and a table that counts it as passed lies.
//!
//! Invariant: only a clause that exercised its subject and found it kept ends in [`Verdict::Pass`].

use std::fmt;

use crate::clause::Level;

/// How a clause ended for a phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The clause was exercised and held.
    Pass,
    /// The clause was broken; the text names the anomaly.
    Fail(String),
    /// A clause that is a SHOULD was broken, in the same words. Does not fail the run.
    FailShould(String),
    /// The clause never came to exercise its subject. Counts as a failure of the run.
    Inconclusive(String),
    /// The phase has no such thing, by a capability that it declares.
    NotApplicable(String),
    /// The phase does not hold the clause yet, by a waiver that it declares.
    Waived(String),
}

impl Verdict {
    /// Whether the run fails because of this verdict.
    #[must_use]
    pub fn fails_the_run(&self) -> bool {
        matches!(self, Self::Fail(_) | Self::Inconclusive(_))
    }

    /// The verdict on a clause of this level: what breaks a SHOULD fails nothing.
    #[must_use]
    pub fn at(self, level: Level) -> Self {
        match (self, level) {
            (Self::Fail(reason), Level::Should) => Self::FailShould(reason),
            (verdict, _) => verdict,
        }
    }

    /// One word for a table.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail(_) => "FAIL",
            Self::FailShould(_) => "FAIL (should)",
            Self::Inconclusive(_) => "INCONCLUSIVE",
            Self::NotApplicable(_) => "n/a",
            Self::Waived(_) => "waived",
        }
    }

    /// Why, unless the clause passed.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Pass => None,
            Self::Fail(reason)
            | Self::FailShould(reason)
            | Self::Inconclusive(reason)
            | Self::NotApplicable(reason)
            | Self::Waived(reason) => Some(reason),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            None => f.write_str(self.word()),
            Some(reason) => write!(f, "{}: {reason}", self.word()),
        }
    }
}

/// Why a clause ends before its last line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// The clause is broken.
    #[error("{0}")]
    Broken(String),
    /// The clause cannot be judged: its subject was never exercised.
    #[error("inconclusive: {0}")]
    Unexercised(String),
    /// The phase has no such thing.
    #[error("not applicable: {0}")]
    NotApplicable(String),
}

/// What a clause returns; `Ok` is a pass.
pub type Checked<T = ()> = Result<T, Unmet>;

impl Unmet {
    /// The clause is broken, in these words.
    pub fn broken(text: impl fmt::Display) -> Self {
        Self::Broken(text.to_string())
    }

    /// The clause was not exercised, in these words.
    pub fn unexercised(text: impl fmt::Display) -> Self {
        Self::Unexercised(text.to_string())
    }

    /// What keeps other clauses from being exercised breaks the one that is about it.
    pub(crate) fn into_breach(self) -> Self {
        match self {
            Self::Unexercised(text) => Self::Broken(text),
            other => other,
        }
    }
}

impl From<Checked> for Verdict {
    fn from(checked: Checked) -> Self {
        match checked {
            Ok(()) => Self::Pass,
            Err(Unmet::Broken(text)) => Self::Fail(text),
            Err(Unmet::Unexercised(text)) => Self::Inconclusive(text),
            Err(Unmet::NotApplicable(text)) => Self::NotApplicable(text),
        }
    }
}

/// An error of the bus that the clause did not expect breaks the clause.
macro_rules! broken_by {
    ($($error:ty: $doing:literal),* $(,)?) => {
        $(impl From<$error> for Unmet {
            fn from(error: $error) -> Self {
                Self::Broken(format!(concat!($doing, " failed: {}"), error))
            }
        })*
    };
}

broken_by! {
    eventbus_trait::Refused: "publish",
    eventbus_trait::Refused<eventbus_trait::TryPublishError>: "try_publish",
    eventbus_trait::BatchRefused: "publish_batch",
    eventbus_trait::SubscribeError: "subscribe",
    eventbus_trait::ConnectError: "connect",
    eventbus_trait::ShutdownError: "shutdown",
    eventbus_trait::FlushError: "flush",
    eventbus_trait::ReceiptError: "confirming a receipt",
    eventbus_trait::TopicError: "making a topic",
    eventbus_trait::FilterError: "making a filter",
    eventbus_trait::EventError: "making an event",
    eventbus_trait::CodecError: "encoding",
    eventbus_trait::rpc::ServeError: "serve",
    eventbus_trait::rpc::CallError: "call",
    control::registry::RegistryError: "starting a registry",
    control::collector::HostError: "serving a member",
    control::client::OperationError: "an operation",
    control::dispatch::DispatchError: "starting a dispatcher",
    control::dispatch::SubmitError: "submitting a task",
    control::tasks::Malformed: "reading a report",
    control::tasks::worker::WorkError: "starting a worker",
    control::results::GatherError: "gathering",
    control::shutdown::OrderError: "shutting members down",
}

/// Ends the clause as broken unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::verdict::Unmet::Broken(format!($($text)+)));
        }
    };
}

/// Ends the clause as broken unless two values are equal.
macro_rules! ensure_eq {
    ($have:expr, $want:expr, $($text:tt)+) => {
        match (&$have, &$want) {
            (have, want) => if *have != *want {
                return Err($crate::verdict::Unmet::Broken(format!(
                    "{}: have {have:?}, want {want:?}", format_args!($($text)+)
                )));
            }
        }
    };
}

pub(crate) use {ensure, ensure_eq};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inconclusive_clause_fails_the_run_and_a_waived_one_does_not() {
        let text = || "x".to_owned();
        assert!(Verdict::Fail(text()).fails_the_run());
        assert!(Verdict::Inconclusive(text()).fails_the_run());
        assert!(!Verdict::Waived(text()).fails_the_run());
        assert!(!Verdict::NotApplicable(text()).fails_the_run());
        assert!(!Verdict::Pass.fails_the_run());
    }

    #[test]
    fn a_broken_should_fails_no_run_and_is_no_pass() {
        let broken = || Verdict::Fail("late".into());
        let should = broken().at(Level::Should);
        assert!(!should.fails_the_run());
        assert_eq!(should.to_string(), "FAIL (should): late");
        assert_eq!(broken().at(Level::Must), broken());
        let unexercised = Verdict::Inconclusive("nothing".into());
        assert_eq!(unexercised.clone().at(Level::Should), unexercised);
    }

    #[test]
    fn an_unexpected_error_breaks_the_clause() {
        let error: Unmet = eventbus_trait::ConnectError::Closed.into();
        assert_eq!(error, Unmet::Broken("connect failed: bus is closed".into()));
    }
}
