//! What members say of themselves: the wire format of `health.*`.
//!
//! Every heartbeat says everything. So whoever comes later, or comes back, knows all members after one
//! interval, and nothing has to be asked for or remembered.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Takes the heartbeats of all members.
pub const HEARTBEATS: &str = "health.#";

/// Who a member is and what it can do. It does not change while the member lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Its name, which is that of its service: see [`check_client_name`](eventbus_trait::check_client_name).
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
        format!("health.{}.{}", self.identity.kind, self.identity.name)
    }

    /// When the next one is due.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}
