//! What a registry takes for a heartbeat, and when it takes a member for gone.

use std::time::Duration;

/// Largest heartbeat, in bytes. A member with all that an identity may have stays below.
pub(super) const MAX_HEARTBEAT_BYTES: usize = 16 << 10;

/// What a registry goes by.
///
/// ```
/// use control::registry::Rules;
/// let strict = Rules { remove_after: 3, ..Rules::default() };
/// assert_eq!(strict.check(), Ok(()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// A member is degraded when it was not heard for so many of its intervals: 2.
    pub degrade_after: u32,
    /// It is removed after so many: 5.
    pub remove_after: u32,
    /// Most members; further ones are refused until there is room: 4,096.
    pub max_members: usize,
    /// Shortest interval that a member may promise: 50 ms.
    pub min_interval: Duration,
    /// Longest: 5 minutes.
    pub max_interval: Duration,
    /// Heartbeats that may wait to be read: 8,192.
    pub queue: usize,
    /// Changes that a watcher may be behind before it gets [`Resync`](super::Change::Resync)
    /// instead: 1,024.
    pub watch_queue: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            degrade_after: 2,
            remove_after: 5,
            max_members: 4_096,
            min_interval: Duration::from_millis(50),
            max_interval: Duration::from_secs(300),
            queue: 8_192,
            watch_queue: 1_024,
        }
    }
}

/// Why rules are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// A count is zero, or too large.
    #[error("`{what}` is {value}, not within 1 to {limit}")]
    OutOfRange {
        /// Which.
        what: &'static str,
        /// What it is.
        value: usize,
        /// The largest allowed.
        limit: usize,
    },
    /// Members would be removed before they are degraded.
    #[error(
        "`remove_after` is {remove_after}, not more than `degrade_after`, which is {degrade_after}"
    )]
    Order {
        /// Intervals until a member is degraded.
        degrade_after: u32,
        /// Intervals until it is removed.
        remove_after: u32,
    },
    /// No interval is allowed.
    #[error("intervals from {min:?} to {max:?} are none; the shortest is 1ms, the longest a day")]
    Intervals {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
}

/// Longest interval that rules may allow.
const A_DAY: Duration = Duration::from_secs(86_400);
const MOST: usize = 1 << 20;

impl Rules {
    /// Checks that they can be kept.
    ///
    /// # Errors
    /// [`RulesError`] names what cannot.
    pub fn check(&self) -> Result<(), RulesError> {
        let counts = [
            ("degrade_after", self.degrade_after as usize),
            ("remove_after", self.remove_after as usize),
            ("max_members", self.max_members),
            ("queue", self.queue),
            ("watch_queue", self.watch_queue),
        ];
        for (what, value) in counts {
            if !(1..=MOST).contains(&value) {
                return Err(RulesError::OutOfRange {
                    what,
                    value,
                    limit: MOST,
                });
            }
        }
        if self.remove_after <= self.degrade_after {
            return Err(RulesError::Order {
                degrade_after: self.degrade_after,
                remove_after: self.remove_after,
            });
        }
        let (min, max) = (self.min_interval, self.max_interval);
        if min < Duration::from_millis(1) || min > max || max > A_DAY {
            return Err(RulesError::Intervals { min, max });
        }
        Ok(())
    }
}

/// Why a registry took no note of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It is no heartbeat.
    #[error("malformed: {reason}")]
    Malformed {
        /// What is wrong with it: one line, whatever it quotes.
        reason: String,
    },
    /// It was published where another member's heartbeats are.
    #[error("it is of `{claims}`, and was published on `{topic}`")]
    WrongTopic {
        /// Where it belongs.
        claims: String,
        /// Where it was.
        topic: String,
    },
    /// It promises the next one too soon, or too late.
    #[error("its interval is {interval:?}, not within {min:?} to {max:?}")]
    Interval {
        /// What it promises.
        interval: Duration,
        /// The shortest allowed.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// It is older than what is known: of a life that was replaced, or repeated.
    #[error("it is older than what is known of its member")]
    Stale,
    /// The member says that it is somebody else now.
    #[error("its identity has changed within one instance")]
    Changed,
    /// A member of another kind has the name, and is there.
    #[error("its kind is `{kind}`, but the member of this name is of `{known}`, and is there")]
    OtherKind {
        /// What it says that it is.
        kind: String,
        /// What the member is.
        known: String,
    },
    /// The member's heartbeats come much faster than it promised.
    #[error("too many for its interval")]
    Flood,
    /// There are as many members as may be.
    #[error("{limit} members are known, which is the limit")]
    Crowded {
        /// The limit.
        limit: usize,
    },
}
