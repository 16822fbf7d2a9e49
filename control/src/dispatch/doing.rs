//! One task that is outstanding.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::roster::Seat;
use super::spec::{Attempt, AttemptEnd, TaskSpec};

/// Longest that a member is not asked again that did not take the task.
const LONGEST_REST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Doing {
    pub(super) spec: Arc<TaskSpec>,
    pub(super) due: Instant,
    /// Its place among those of its priority.
    pub(super) turn: u64,
    /// The attempt that is under way or was the last one, counted from 1.
    pub(super) attempt: u32,
    pub(super) place: Place,
    pub(super) tried: Vec<Attempt>,
    rests: Vec<Rest>,
    /// When the core looks after it next.
    pub(super) alarm: Instant,
}

#[derive(Debug)]
pub(super) enum Place {
    /// It waits for a member with room.
    Waiting,
    /// A member was asked.
    At { seat: Seat, accepted: bool },
}

/// A member that is not asked again so soon.
#[derive(Debug)]
struct Rest {
    member: String,
    times: u32,
    until: Instant,
}

impl Doing {
    pub(super) fn new(spec: Arc<TaskSpec>, turn: u64, now: Instant) -> Self {
        let due = now + spec.deadline;
        Self {
            spec,
            due,
            turn,
            attempt: 0,
            place: Place::Waiting,
            tried: Vec::new(),
            rests: Vec::new(),
            alarm: due,
        }
    }

    /// Whether this member may be asked at this time.
    pub(super) fn may_ask(&self, member: &str, now: Instant) -> bool {
        let rest = self.rests.iter().find(|rest| rest.member == member);
        rest.is_none_or(|rest| rest.until <= now)
    }

    /// Whether this member was asked before and did not take the task.
    pub(super) fn has_asked(&self, member: &str) -> bool {
        self.rests.iter().any(|rest| rest.member == member)
    }

    /// When another member may be asked that may not be now.
    pub(super) fn next_rest(&self, now: Instant) -> Option<Instant> {
        let ahead = self.rests.iter().map(|rest| rest.until);
        ahead.filter(|until| *until > now).min()
    }

    /// Notes what became of the attempt at this seat. Who did not take the task rests the longer the
    /// more often that was so.
    pub(super) fn note(&mut self, seat: &Seat, end: AttemptEnd, pause: Duration, now: Instant) {
        let member = &seat.member;
        if !matches!(end, AttemptEnd::Gone { .. }) {
            let rest = match self
                .rests
                .iter_mut()
                .find(|rest| rest.member == member.name)
            {
                Some(rest) => rest,
                None => {
                    let member = member.name.clone();
                    let until = now;
                    self.rests.push(Rest {
                        member,
                        times: 0,
                        until,
                    });
                    let last = self.rests.len() - 1;
                    &mut self.rests[last]
                }
            };
            let longer = 2_u32.saturating_pow(rest.times);
            rest.until = now + pause.saturating_mul(longer).min(LONGEST_REST);
            rest.times += 1;
        }
        self.tried.push(Attempt {
            member: member.name.clone(),
            instance: member.instance.clone(),
            end,
        });
        self.place = Place::Waiting;
    }
}
