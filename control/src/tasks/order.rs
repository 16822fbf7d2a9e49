//! Orders: what a dispatcher tells a member, on `tasks.KIND.NAME`.

use std::time::Duration;

use eventbus_trait::codec::CodecError;
use eventbus_trait::{ContentType, Payload};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::content::Content;
use super::{
    DEFAULT_PRIORITY, LONGEST, Malformed, VERSION, check_capability, check_id, check_name, millis,
};

/// Which order is meant, of which dispatcher: what a report answers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The task's id: the same in each attempt.
    pub id: String,
    /// The dispatcher's name: reports go to `results.DISPATCHER`.
    pub dispatcher: String,
    /// Which submission of the task: attempts are counted anew in each, and another life of the
    /// dispatcher has others.
    pub life: String,
    /// Which attempt it is, counted from 1.
    pub attempt: u32,
}

/// A task as a member gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Whose it is, and which attempt.
    pub mark: Mark,
    /// What is asked for: one of the member's capabilities.
    pub capability: String,
    /// What is left until it has to be done, from when it was sent. Sent in whole milliseconds.
    pub deadline: Duration,
    /// The higher goes first.
    pub priority: u8,
    /// What the capability needs to know.
    pub payload: Payload,
}

/// What a dispatcher tells a member.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Order {
    /// Do this.
    Do(Task),
    /// Give this up, if it is the latest that was heard of the task.
    Cancel(Mark),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Do,
    Cancel,
}

/// The JSON object. Flat, because it is read by people and other languages.
#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    order: Kind,
    id: String,
    dispatcher: String,
    #[serde(default)]
    life: String,
    #[serde(default = "first")]
    attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<Content>,
}

fn first() -> u32 {
    1
}

impl Order {
    /// The order that is meant.
    #[must_use]
    pub fn mark(&self) -> &Mark {
        match self {
            Self::Do(task) => &task.mark,
            Self::Cancel(mark) => mark,
        }
    }

    /// The order as it is sent: JSON.
    ///
    /// # Errors
    /// [`CodecError`] if the task's payload is a typed value that has no encoding.
    pub fn encode(&self) -> Result<Payload, CodecError> {
        let mark = self.mark().clone();
        let mut wire = Wire {
            v: VERSION,
            order: Kind::Cancel,
            id: mark.id,
            dispatcher: mark.dispatcher,
            life: mark.life,
            attempt: mark.attempt,
            capability: None,
            deadline_ms: None,
            priority: None,
            payload: None,
        };
        if let Self::Do(task) = self {
            wire.order = Kind::Do;
            wire.capability = Some(task.capability.clone());
            wire.deadline_ms = Some(millis(task.deadline));
            wire.priority = Some(task.priority);
            wire.payload = Some(Content::of(&task.payload)?);
        }
        encode(&wire)
    }

    /// Reads an order.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let wire: Wire = decode(bytes)?;
        check_version(wire.v)?;
        check_id(&wire.id)?;
        check_name("dispatcher", &wire.dispatcher)?;
        check_life(&wire.life)?;
        let mark = Mark {
            id: wire.id,
            dispatcher: wire.dispatcher,
            life: wire.life,
            attempt: wire.attempt,
        };
        if let Kind::Cancel = wire.order {
            return Ok(Self::Cancel(mark));
        }
        let capability = wire.capability.ok_or(missing("capability"))?;
        check_capability(&capability)?;
        let deadline = Duration::from_millis(wire.deadline_ms.ok_or(missing("deadline_ms"))?);
        if deadline.is_zero() || deadline > LONGEST {
            return Err(Malformed::Field {
                field: "deadline_ms",
                expected: "between a millisecond and a day",
            });
        }
        Ok(Self::Do(Task {
            mark,
            capability,
            deadline,
            priority: wire.priority.unwrap_or(DEFAULT_PRIORITY),
            payload: wire.payload.unwrap_or_default().payload()?,
        }))
    }
}

pub(super) fn encode(wire: &impl Serialize) -> Result<Payload, CodecError> {
    let bytes = serde_json::to_vec(wire).map_err(|error| CodecError {
        action: "encode",
        content_type: ContentType::Json,
        reason: error.to_string(),
    })?;
    Ok(Payload::new(bytes, ContentType::Json))
}

/// The version is looked at first: another one may look like anything.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    serde_json::from_slice(bytes).map_err(|error| match serde_json::from_slice::<Version>(bytes) {
        Ok(Version { v }) if v != VERSION => Malformed::Version { version: v },
        _ => Malformed::Json(wrong(&error)),
    })
}

/// What is wrong with it and where. Not what it says: serde quotes that, and it may be nobody's business.
fn wrong(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Io => "it cannot be read",
        Category::Syntax => "no JSON",
        Category::Data => "not its fields",
        Category::Eof => "it breaks off",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

pub(super) fn check_version(version: u32) -> Result<(), Malformed> {
    if version == VERSION {
        return Ok(());
    }
    Err(Malformed::Version { version })
}

pub(super) fn check_life(life: &str) -> Result<(), Malformed> {
    if life.len() <= super::MAX_ID_BYTES {
        return Ok(());
    }
    Err(Malformed::Field {
        field: "life",
        expected: "at most 128 bytes",
    })
}

pub(super) fn missing(field: &'static str) -> Malformed {
    Malformed::Missing { field }
}
