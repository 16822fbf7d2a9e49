//! Reports: what a member says of a task, on `results.DISPATCHER`.
//!
//! `accepted` may be said several times. Of one order, at most one of the others is meant: a member that
//! has *refused* a task will not do it, and another one may; the rest is final.

use eventbus_trait::Payload;
use eventbus_trait::codec::CodecError;
use serde::{Deserialize, Serialize};

use super::content::Content;
use super::order::{check_life, check_version, decode, encode, missing};
use super::{MAX_MESSAGE_BYTES, Malformed, Mark, VERSION, check_id, check_name, cut};

/// Why a member gives a task back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefusalReason {
    /// It does as much as it may, and as much waits.
    Full,
    /// It takes no new tasks.
    Draining,
    /// It has no such capability.
    Incapable,
    /// It had taken the task and stops before it is done.
    Interrupted,
    /// Anything else.
    Other,
}

/// Why a task that a member has done has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureReason {
    /// The task's own deadline passed.
    Deadline,
    /// The handler panicked.
    Panic,
    /// The result is larger than the bus takes.
    TooLarge,
    /// The handler says so.
    Error,
}

/// What a member says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// It has the task, and will say more.
    Accepted,
    /// It will not do it. Another member may.
    Refused {
        /// Why.
        reason: RefusalReason,
        /// The same for people.
        message: String,
    },
    /// It is done.
    Done(Payload),
    /// It was tried, and there is no result.
    Failed {
        /// Why.
        reason: FailureReason,
        /// The same for people.
        message: String,
    },
    /// It was given up because the dispatcher said so.
    Cancelled,
}

/// What a member says of one order.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The order.
    pub mark: Mark,
    /// The member's name.
    pub member: String,
    /// Which life of it.
    pub instance: String,
    /// What it says.
    pub answer: Answer,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Accepted,
    Refused,
    Done,
    Failed,
    Cancelled,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    report: Kind,
    id: String,
    dispatcher: String,
    #[serde(default)]
    life: String,
    attempt: u32,
    member: String,
    instance: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Content>,
}

impl Answer {
    /// In one word, as in JSON and as the stage of the event's correlation.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused { .. } => "refused",
            Self::Done(_) => "done",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Accepted => Kind::Accepted,
            Self::Refused { .. } => Kind::Refused,
            Self::Done(_) => Kind::Done,
            Self::Failed { .. } => Kind::Failed,
            Self::Cancelled => Kind::Cancelled,
        }
    }
}

impl Report {
    /// The report as it is sent: JSON. A message is cut to 1 KiB.
    ///
    /// # Errors
    /// [`CodecError`] if the result is a typed value that has no encoding.
    pub fn encode(&self) -> Result<Payload, CodecError> {
        let (mut reason, mut text, mut result) = (None, None, None);
        match &self.answer {
            Answer::Accepted | Answer::Cancelled => {}
            Answer::Done(payload) => result = Some(Content::of(payload)?),
            Answer::Refused {
                reason: why,
                message,
            } => {
                (reason, text) = (word(why), Some(message.clone()));
            }
            Answer::Failed {
                reason: why,
                message,
            } => {
                (reason, text) = (word(why), Some(message.clone()));
            }
        }
        encode(&Wire {
            v: VERSION,
            report: self.answer.kind(),
            id: self.mark.id.clone(),
            dispatcher: self.mark.dispatcher.clone(),
            life: self.mark.life.clone(),
            attempt: self.mark.attempt,
            member: self.member.clone(),
            instance: self.instance.clone(),
            reason,
            message: text.map(|text| cut(text, MAX_MESSAGE_BYTES)),
            result,
        })
    }

    /// Reads a report.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let wire: Wire = decode(bytes)?;
        check_version(wire.v)?;
        check_id(&wire.id)?;
        check_name("dispatcher", &wire.dispatcher)?;
        check_name("member", &wire.member)?;
        check_life(&wire.life)?;
        check_life(&wire.instance)?;
        let message = cut(wire.message.unwrap_or_default(), MAX_MESSAGE_BYTES);
        let answer = match wire.report {
            Kind::Accepted => Answer::Accepted,
            Kind::Cancelled => Answer::Cancelled,
            Kind::Done => Answer::Done(wire.result.ok_or(missing("result"))?.payload()?),
            Kind::Refused => Answer::Refused {
                reason: reason(wire.reason).unwrap_or(RefusalReason::Other),
                message,
            },
            Kind::Failed => Answer::Failed {
                reason: reason(wire.reason).unwrap_or(FailureReason::Error),
                message,
            },
        };
        Ok(Self {
            mark: Mark {
                id: wire.id,
                dispatcher: wire.dispatcher,
                life: wire.life,
                attempt: wire.attempt,
            },
            member: wire.member,
            instance: wire.instance,
            answer,
        })
    }
}

fn word(reason: &impl Serialize) -> Option<String> {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(word)) => Some(word),
        _ => None,
    }
}

fn reason<T: for<'a> Deserialize<'a>>(word: Option<String>) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word?)).ok()
}
