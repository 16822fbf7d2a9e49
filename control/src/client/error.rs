//! Why a member has not done what it was asked.

use eventbus_trait::rpc::CallError;

use crate::collector::Problem;

/// Why an operation has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The member says no.
    #[error("`{member}` does not `{operation}`: {message}")]
    Refused {
        /// The member.
        member: String,
        /// The operation.
        operation: String,
        /// What stands against it.
        problem: Problem,
        /// The same in words.
        message: String,
    },
    /// The call itself has failed.
    #[error("`{operation}`: {error}")]
    Call {
        /// The operation.
        operation: String,
        /// Why.
        #[source]
        error: CallError,
    },
    /// The request has no JSON form. Nobody was asked.
    #[error("request of `{operation}` has no JSON form: {reason}")]
    BadRequest {
        /// The operation.
        operation: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Whoever serves the name has answered something else. It has been carried out, if it is a member.
    #[error("what `{member}` answers to `{operation}` is no such reply: {reason}")]
    BadReply {
        /// The member.
        member: String,
        /// The operation.
        operation: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl OperationError {
    pub(super) fn of(member: &str, operation: &str, error: CallError) -> Self {
        let operation = operation.to_owned();
        match error {
            CallError::Failed { code, message, .. } if Problem::of(code).is_some() => {
                Self::Refused {
                    member: member.to_owned(),
                    operation,
                    problem: Problem::of(code).unwrap_or(Problem::Refused),
                    message,
                }
            }
            error => Self::Call { operation, error },
        }
    }

    /// What stands against it, if the member says so.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        match self {
            Self::Refused { problem, .. } => Some(*problem),
            _ => None,
        }
    }

    /// Whether it may have been carried out, as a whole or in part.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::Refused { problem, .. } => *problem == Problem::CutOff,
            Self::Call { error, .. } => error.may_have_run(),
            Self::BadRequest { .. } => false,
            Self::BadReply { .. } => true,
        }
    }
}
