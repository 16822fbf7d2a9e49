//! What is known of one member.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::snapshot::{Health, Member};
use crate::member::{Activity, Heartbeat, Identity};

/// Heartbeats beyond its interval that a member may send at once: it sends one whenever something
/// about it changes.
const BURST: u32 = 32;
/// Heartbeats that it may send in one interval, in the long run.
const RATE: u32 = 8;
/// Former instances of a name that are remembered, so that they do not come back.
const FORMER: usize = 8;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) identity: Arc<Identity>,
    pub(super) activity: Activity,
    pub(super) ailment: Option<Arc<str>>,
    pub(super) interval: Duration,
    pub(super) heard: Instant,
    /// Whether it was told that it is overdue.
    pub(super) overdue: bool,
    number: u64,
    /// Instances that had the name before.
    former: VecDeque<String>,
    /// When its heartbeats would be within their rate, had each waited for its turn.
    turn: Instant,
}

impl Entry {
    pub(super) fn new(heartbeat: Heartbeat, now: Instant) -> Self {
        Self {
            activity: heartbeat.activity,
            interval: heartbeat.interval(),
            ailment: heartbeat.ailment.map(Into::into),
            number: heartbeat.number,
            identity: Arc::new(heartbeat.identity),
            heard: now,
            overdue: false,
            former: VecDeque::new(),
            turn: now,
        }
    }

    /// Another life of the name, which remembers the ones before.
    pub(super) fn replaced_by(&self, heartbeat: Heartbeat, now: Instant) -> Self {
        let mut next = Self::new(heartbeat, now);
        next.turn = self.turn;
        next.former.clone_from(&self.former);
        next.former.truncate(FORMER - 1);
        next.former.push_front(self.identity.instance.clone());
        next
    }

    /// Whether this instance had the name before the present one.
    pub(super) fn knows_former(&self, instance: &str) -> bool {
        self.former.iter().any(|former| former == instance)
    }

    /// Whether it is later than what is known.
    pub(super) fn is_news(&self, heartbeat: &Heartbeat) -> bool {
        heartbeat.number > self.number
    }

    pub(super) fn hear(&mut self, heartbeat: Heartbeat, now: Instant) {
        self.activity = heartbeat.activity;
        self.interval = heartbeat.interval();
        self.ailment = heartbeat.ailment.map(Into::into);
        self.number = heartbeat.number;
        self.heard = now;
        self.overdue = false;
    }

    /// Whether one more heartbeat is within the rate.
    pub(super) fn takes_turn(&mut self, now: Instant) -> bool {
        let turn = self.turn.max(now) + self.interval / RATE;
        if turn.duration_since(now) > self.interval / RATE * BURST {
            return false;
        }
        self.turn = turn;
        true
    }

    pub(super) fn is_well(&self) -> bool {
        !self.overdue && self.ailment.is_none()
    }

    /// Intervals since it was heard, or since `floor`, from when on it could be.
    fn missed(&self, floor: Instant, now: Instant) -> u32 {
        let silent = now.saturating_duration_since(self.heard.max(floor));
        let intervals = silent.as_nanos() / self.interval.as_nanos().max(1);
        u32::try_from(intervals).unwrap_or(u32::MAX)
    }

    /// When it has missed so many.
    pub(super) fn due(&self, floor: Instant, missed: u32) -> Instant {
        self.heard.max(floor) + self.interval * missed
    }

    pub(super) fn member(&self, floor: Instant, now: Instant) -> Member {
        let health = if self.is_well() {
            Health::Well
        } else {
            let missed = if self.overdue {
                self.missed(floor, now)
            } else {
                0
            };
            Health::Degraded {
                missed,
                ailment: self.ailment.clone(),
            }
        };
        Member {
            identity: Arc::clone(&self.identity),
            health,
            activity: self.activity,
            interval: self.interval,
            last_heard: self.heard,
        }
    }
}
