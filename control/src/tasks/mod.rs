//! Tasks: what a dispatcher asks of a member, and what the member says of it.
//!
//! An [`Order`] goes out on `tasks.KIND.NAME`, a [`Report`] comes back on `results.DISPATCHER`. Both are
//! events whose payload is one JSON object that says everything, so that whoever reads only payloads, as a
//! client in another language may, misses nothing. Time is said as what is left, because no two processes
//! share a clock.
//!
//! Invariant: an order or a report that exists keeps the bounds below; what does not is refused as it is read.

mod content;
mod order;
mod report;
#[cfg(test)]
mod tests;
pub mod worker;

use std::time::Duration;

pub use order::{Mark, Order, Task};
pub use report::{Answer, FailureReason, RefusalReason, Report};

/// The version that is written; a reader refuses any other.
pub const VERSION: u32 = 1;
/// Longest id of a task, in bytes.
pub const MAX_ID_BYTES: usize = 128;
/// Longest name of a capability, in bytes.
pub const MAX_CAPABILITY_BYTES: usize = 64;
/// Longest message in a report, in bytes; a longer one is cut.
pub const MAX_MESSAGE_BYTES: usize = 1024;
/// Longest that a task may take, from when it is submitted until it has ended: a day.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Priority of a task that asks for none. A higher one goes first.
pub const DEFAULT_PRIORITY: u8 = 100;

/// Where orders for a member are published.
#[must_use]
pub fn orders_topic(kind: &str, member: &str) -> String {
    format!("tasks.{kind}.{member}")
}

/// Where reports for a dispatcher are published.
#[must_use]
pub fn reports_topic(dispatcher: &str) -> String {
    format!("results.{dispatcher}")
}

/// An order or a report that is not taken: what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It is no such JSON object.
    #[error("not a message of the control plane: {0}")]
    Json(String),
    /// It is of another version.
    #[error("version {version} is not {VERSION}, the only one that is known here")]
    Version {
        /// Its version.
        version: u32,
    },
    /// A field is not there, though this kind of message has it.
    #[error("`{field}` is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field is not within its bounds.
    #[error("`{field}` is not {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
}

/// Whether a task may have this id: 1 to 128 bytes without control characters.
pub(crate) fn check_id(id: &str) -> Result<(), Malformed> {
    if (1..=MAX_ID_BYTES).contains(&id.len()) && !id.contains(char::is_control) {
        return Ok(());
    }
    Err(Malformed::Field {
        field: "id",
        expected: "1 to 128 bytes without control characters",
    })
}

/// Whether this can be a capability: what a member may say that it can do.
pub(crate) fn check_capability(capability: &str) -> Result<(), Malformed> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=MAX_CAPABILITY_BYTES).contains(&capability.len()) && capability.bytes().all(allowed) {
        return Ok(());
    }
    Err(Malformed::Field {
        field: "capability",
        expected: "1 to 64 of A-Z a-z 0-9 _ -",
    })
}

/// Whether this can be a name: it becomes a part of a topic.
fn check_name(field: &'static str, name: &str) -> Result<(), Malformed> {
    eventbus_trait::check_client_name(name).map_err(|_| Malformed::Field {
        field,
        expected: "a name of 1 to 64 of A-Z a-z 0-9 _ -",
    })
}

/// At most so many bytes of a text, cut at a character.
fn cut(mut text: String, bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes));
    text
}

/// A duration in whole milliseconds, rounded up, so that what is left is never said to be nothing.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
