//! What members say of themselves: the wire format of `health.*`.
//!
//! Every heartbeat says everything. So whoever comes later, or comes back, knows all members after one
//! interval, and nothing has to be asked for or remembered.

use std::collections::BTreeSet;
use std::time::Duration;

use eventbus_trait::plain::Plain;
use eventbus_trait::{ConnectError, MAX_SEGMENT_BYTES, PublisherId, check_client_name};
use serde::{Deserialize, Serialize};

/// Takes the heartbeats of all members.
pub const HEARTBEATS: &str = "health.#";

/// Who a member is and what it can do. It does not change while the member lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Its name, which is that of its service: see [`check_client_name`].
    pub name: String,
    /// This life of it. Another one under the same name is another instance.
    pub instance: String,
    /// What kind of collector it is, `process` say: of the same characters as a name.
    pub kind: String,
    /// Its version, for people.
    pub version: String,
    /// What tasks it can do.
    pub capabilities: BTreeSet<String>,
    /// Tasks that it does at once; none if 0.
    pub max_tasks: u32,
}

/// What a member is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// It is there, and does not collect.
    Idle,
    /// It collects.
    Collecting,
    /// It takes no new task and finishes those that it has.
    Draining,
    /// It goes now. There is no further heartbeat of this instance.
    Leaving,
}

/// One heartbeat: the payload of an event on [`topic`](Self::topic), as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who it is of.
    pub identity: Identity,
    /// What it is doing.
    pub activity: Activity,
    /// Why it is not well, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ailment: Option<String>,
    /// When the next one is due, in milliseconds.
    pub interval_ms: u64,
    /// Counted from 1 in each instance.
    pub number: u64,
}

impl Heartbeat {
    /// Where heartbeats of this member are published: `health.KIND.NAME`.
    #[must_use]
    pub fn topic(&self) -> String {
        Self::topic_of(&self.identity)
    }

    /// Where heartbeats of a member with this identity are published.
    #[must_use]
    pub fn topic_of(identity: &Identity) -> String {
        format!("health.{}.{}", identity.kind, identity.name)
    }

    /// When the next one is due.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}

/// Longest version and longest instance, in bytes.
const MAX_TEXT_BYTES: usize = 64;
/// Most capabilities of a member.
pub const MAX_CAPABILITIES: usize = 64;
/// Longest ailment, in bytes.
pub const MAX_AILMENT_BYTES: usize = 512;

/// What is wrong with what a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Nobody on a bus may have this name.
    #[error(transparent)]
    Name(#[from] ConnectError),
    /// It is no part of a topic.
    #[error("{what} `{value}` is not 1 to 64 of A-Z a-z 0-9 _ -")]
    Word {
        /// Whether it is a kind, an instance or a capability.
        what: &'static str,
        /// What it is, in one line of at most 64 characters, with a mark if it was cut.
        value: String,
    },
    /// A text is too long, or has characters that are no text.
    #[error("{what} is not up to {limit} bytes without control characters")]
    Text {
        /// Which.
        what: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// It can do too much.
    #[error("{count} capabilities are over the limit of {MAX_CAPABILITIES}")]
    Capabilities {
        /// How many.
        count: usize,
    },
}

impl Identity {
    /// An identity that can do nothing yet, of a new instance.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            instance: PublisherId::random().to_string(),
            kind: kind.into(),
            version: String::new(),
            capabilities: BTreeSet::new(),
            max_tasks: 0,
        }
    }

    /// Sets the version.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Adds a kind of task that it can do.
    #[must_use]
    pub fn capability(mut self, capability: impl Into<String>) -> Self {
        self.capabilities.insert(capability.into());
        self
    }

    /// Sets how many tasks it does at once.
    #[must_use]
    pub fn max_tasks(mut self, most: u32) -> Self {
        self.max_tasks = most;
        self
    }

    /// Checks that it can be a member's.
    ///
    /// # Errors
    /// [`IdentityError`] names what cannot.
    pub fn check(&self) -> Result<(), IdentityError> {
        check_client_name(&self.name)?;
        check_word("kind", &self.kind)?;
        check_word("instance", &self.instance)?;
        check_text("version", &self.version, MAX_TEXT_BYTES)?;
        let count = self.capabilities.len();
        if count > MAX_CAPABILITIES {
            return Err(IdentityError::Capabilities { count });
        }
        let mut each = self.capabilities.iter();
        each.try_for_each(|capability| check_word("capability", capability))
    }
}

impl Heartbeat {
    /// Checks what it says, but for where and when it was heard.
    ///
    /// # Errors
    /// [`IdentityError`] names what is wrong.
    pub fn check(&self) -> Result<(), IdentityError> {
        self.identity.check()?;
        let ailment = self.ailment.as_deref().unwrap_or_default();
        check_text("ailment", ailment, MAX_AILMENT_BYTES)
    }
}

fn check_word(what: &'static str, value: &str) -> Result<(), IdentityError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=MAX_SEGMENT_BYTES).contains(&value.len()) && value.bytes().all(allowed) {
        return Ok(());
    }
    let value = Plain::field(value).at_most(MAX_SEGMENT_BYTES).to_string();
    Err(IdentityError::Word { what, value })
}

fn check_text(what: &'static str, value: &str, limit: usize) -> Result<(), IdentityError> {
    if value.len() <= limit && !value.chars().any(char::is_control) {
        return Ok(());
    }
    Err(IdentityError::Text { what, limit })
}
