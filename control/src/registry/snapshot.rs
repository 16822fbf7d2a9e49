//! What a registry says of its members.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::member::{Activity, Identity};

/// A member, as it was last heard.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Member {
    /// Who it is and what it can do.
    pub identity: Arc<Identity>,
    /// How it is.
    pub health: Health,
    /// What it says that it is doing.
    pub activity: Activity,
    /// How often it promises to be heard.
    pub interval: Duration,
    /// When it was last heard, by the registry's clock.
    pub last_heard: Instant,
}

impl Member {
    /// Whether it may be given something to do: it is well, and not about to go.
    #[must_use]
    pub fn is_available(&self) -> bool {
        let stays = matches!(self.activity, Activity::Idle | Activity::Collecting);
        stays && self.health == Health::Well
    }
}

/// How a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It is heard when it should be, and says that all is well.
    Well,
    /// It is not heard when it should be, or says that it is not well.
    Degraded {
        /// Intervals that it was not heard for; 0 if it is.
        missed: u32,
        /// What it says of itself.
        ailment: Option<Arc<str>>,
    },
}

/// What has changed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// All members, in the order of their names: at the beginning, and in place of what a watcher
    /// was too slow for. Forget what was before.
    Resync(Vec<Member>),
    /// A member that was not there.
    Joined(Member),
    /// It does something else than before, or is unwell for another reason.
    Changed(Member),
    /// It was well.
    Degraded(Member),
    /// It is well again.
    Recovered(Member),
    /// It is no member any more.
    Removed {
        /// As it was last.
        member: Member,
        /// Why.
        reason: Removal,
    },
}

/// Why a member is none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Removal {
    /// It said so.
    Left,
    /// It was not heard for too long.
    Silent,
    /// Another instance has its name; its own [`Change::Joined`] follows.
    Replaced,
}

impl std::fmt::Display for Removal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Left => "has left",
            Self::Silent => "was silent for too long",
            Self::Replaced => "was replaced",
        })
    }
}

/// What a registry has counted since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RegistryStats {
    /// Members as of now.
    pub members: usize,
    /// Heartbeats that were taken note of.
    pub heard: u64,
    /// Heartbeats refused as malformed.
    pub malformed: u64,
    /// Heartbeats refused because they were published on another member's topic.
    pub wrong_topic: u64,
    /// Heartbeats refused for their interval.
    pub interval: u64,
    /// Heartbeats refused because they are older than what is known.
    pub stale: u64,
    /// Heartbeats refused because an instance has changed its identity.
    pub changed: u64,
    /// Heartbeats refused because a member of another kind has the name, and is there.
    pub other_kind: u64,
    /// Heartbeats refused unread because their member sends too many.
    pub flood: u64,
    /// Heartbeats refused because there is no room for a further member.
    pub crowded: u64,
    /// Heartbeats that the bus dropped because the registry's queue was full.
    pub lost: u64,
    /// Members removed because they were silent.
    pub silent: u64,
}
