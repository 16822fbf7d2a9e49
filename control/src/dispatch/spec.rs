//! What a dispatcher is asked for, and how it ends.

use std::fmt;
use std::time::Duration;

use eventbus_trait::codec::CodecError;
use eventbus_trait::{ContentType, Correlation, Payload, PublishError, PublisherId};
use serde::Serialize;

use crate::registry::Removal;
use crate::tasks::{DEFAULT_PRIORITY, FailureReason, Malformed, RefusalReason};

/// How long a task may take that does not say so.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// A task to be done by whoever can.
///
/// ```
/// use std::time::Duration;
/// use control::dispatch::TaskSpec;
/// use eventbus_trait::Correlation;
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let task = TaskSpec::json("hash", &4711)?
///     .deadline(Duration::from_secs(5))
///     .priority(200)
///     .correlation(&Correlation::new("scan-7"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSpec {
    pub(super) id: String,
    pub(super) capability: String,
    pub(super) payload: Payload,
    pub(super) deadline: Duration,
    pub(super) priority: u8,
    pub(super) correlation: Option<Correlation>,
    pub(super) patient: bool,
    trace_parent: Option<String>,
}

impl TaskSpec {
    /// A task that asks for a capability, with a random id.
    #[must_use]
    pub fn new(capability: impl Into<String>, payload: Payload) -> Self {
        Self {
            id: PublisherId::random().to_string(),
            capability: capability.into(),
            payload,
            deadline: DEFAULT_DEADLINE,
            priority: DEFAULT_PRIORITY,
            correlation: None,
            patient: false,
            trace_parent: None,
        }
    }

    /// The same with `value` as JSON.
    ///
    /// # Errors
    /// [`CodecError`] if `value` has no JSON form.
    pub fn json(
        capability: impl Into<String>,
        value: &(impl Serialize + ?Sized),
    ) -> Result<Self, CodecError> {
        let bytes = serde_json::to_vec(value).map_err(|error| CodecError {
            action: "encode",
            content_type: ContentType::Json,
            reason: error.to_string(),
        })?;
        Ok(Self::new(
            capability,
            Payload::new(bytes, ContentType::Json),
        ))
    }

    /// Gives it an id: 1 to 128 bytes. Two tasks of one id are the same task.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// When it has to be done, from when it is submitted, whatever happens in between: 30 s without it, a
    /// day at most.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The higher goes first, where tasks have to wait: 100 without it.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// What it is a part of: its orders and reports are correlated by the task's id, as a
    /// [`child`](Correlation::child) of this.
    #[must_use]
    pub fn correlation(mut self, whole: &Correlation) -> Self {
        self.correlation = Some(whole.clone());
        self
    }

    /// Part of the trace that it is submitted in, unless it was said that it is of another.
    pub(super) fn traced(mut self, trace: Option<String>) -> Self {
        if trace.is_some() && self.trace().is_none() {
            self.trace_parent = trace;
        }
        self
    }

    fn trace(&self) -> Option<&String> {
        self.correlation.as_ref()?.trace_parent.as_ref()
    }

    /// What its events are correlated by.
    pub(super) fn events(&self) -> Correlation {
        let mut own = match &self.correlation {
            Some(whole) => whole.child(&self.id),
            None => Correlation::new(&self.id),
        };
        if self.trace_parent.is_some() {
            own.trace_parent.clone_from(&self.trace_parent);
        }
        own
    }

    /// Waits for a capable member, until its deadline, if there is none: just after a start, say.
    /// Without it, that is an error at once.
    #[must_use]
    pub fn wait_for_member(mut self) -> Self {
        self.patient = true;
        self
    }
}

/// Why a task was not taken. Nobody was asked to do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// No member has the capability, whether it could take the task now or not.
    #[error("no member has the capability `{capability}`")]
    NoCapableMember {
        /// The capability.
        capability: String,
    },
    /// As many tasks are outstanding as may be.
    #[error(
        "{limit} tasks are outstanding, which is the limit; wait for one, or raise `outstanding`"
    )]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The task asks for something that cannot be.
    #[error(transparent)]
    Invalid(#[from] Malformed),
    /// The dispatcher has stopped, or its bus is closed.
    #[error("the dispatcher has stopped")]
    Closed,
}

/// A task is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// Its result.
    pub result: Payload,
    /// Who did it.
    pub member: String,
    /// The attempt that came to this end, counted from 1.
    pub attempt: u32,
}

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// A member tried, and says why it failed. Nobody else is asked.
    #[error("`{member}` failed: {message}")]
    Failed {
        /// Who tried.
        member: String,
        /// Why.
        reason: FailureReason,
        /// The same for people.
        message: String,
    },
    /// It was not done in time.
    #[error("not done within {deadline:?}: {}", each(attempts))]
    Deadline {
        /// The task's deadline.
        deadline: Duration,
        /// What became of each attempt.
        attempts: Vec<Attempt>,
    },
    /// So many members were asked that it is not worth while to ask another one.
    #[error("given up after {} attempts: {}", attempts.len(), each(attempts))]
    GivenUp {
        /// What became of each attempt.
        attempts: Vec<Attempt>,
    },
    /// It cannot be sent to anybody.
    #[error("cannot be sent: {reason}")]
    Unsendable {
        /// Why.
        reason: String,
    },
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The dispatcher, or its bus, was stopped before it was done.
    #[error("the dispatcher has stopped")]
    Closed,
}

/// How a task ends.
pub type Outcome = Result<Done, TaskError>;

/// One attempt that came to nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Who was asked.
    pub member: String,
    /// Which life of it.
    pub instance: String,
    /// What became of it.
    pub end: AttemptEnd,
}

/// Why an attempt came to nothing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// The member gave the task back.
    Refused {
        /// Why.
        reason: RefusalReason,
        /// The same for people.
        message: String,
    },
    /// It did not accept within the time that it has for that.
    Silent {
        /// That time.
        waited: Duration,
    },
    /// It is no member any more.
    Gone {
        /// Why not, if that is known.
        reason: Option<Removal>,
    },
    /// The order could not be published.
    Unsent {
        /// Why not.
        reason: Option<PublishError>,
    },
    /// It had the task when its deadline came.
    Unfinished,
    /// It gave the task up, without being told to.
    Cancelled,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ", self.member)?;
        match &self.end {
            AttemptEnd::Refused { message, .. } => write!(f, "refused ({message})"),
            AttemptEnd::Silent { waited } => write!(f, "did not answer within {waited:?}"),
            AttemptEnd::Gone {
                reason: Some(reason),
            } => write!(f, "{reason}"),
            AttemptEnd::Gone { reason: None } => f.write_str("is no member any more"),
            AttemptEnd::Unsent {
                reason: Some(reason),
            } => write!(f, "was not reached ({reason})"),
            AttemptEnd::Unsent { reason: None } => f.write_str("was not reached in time"),
            AttemptEnd::Unfinished => f.write_str("had not finished"),
            AttemptEnd::Cancelled => f.write_str("gave it up"),
        }
    }
}

fn each(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        return "no member had room for it".to_owned();
    }
    let each: Vec<_> = attempts.iter().map(Attempt::to_string).collect();
    each.join(", ")
}
