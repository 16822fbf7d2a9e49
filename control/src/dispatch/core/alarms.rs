//! What follows from nothing but time: members that were silent for too long, deadlines, and rests that are over.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::doing::Place;
use super::super::roster::Seat;
use super::super::spec::{AttemptEnd, TaskError};
use super::{Core, Step};

impl Core {
    /// Does what is due.
    pub(in super::super) fn tick(&mut self, now: Instant, steps: &mut Vec<Step>) {
        while let Some((at, id)) = self.alarms.first().cloned() {
            if at > now {
                return;
            }
            self.rings(&id, now, steps);
        }
    }

    pub(super) fn rings(&mut self, id: &Arc<str>, now: Instant, steps: &mut Vec<Step>) {
        let Some(doing) = self.tasks.get_mut(id) else {
            return;
        };
        if doing.due <= now {
            let place = std::mem::replace(&mut doing.place, Place::Waiting);
            let seat = match place {
                Place::Waiting => None,
                Place::At { seat, .. } => {
                    steps.extend(self.call_off(id, seat.clone()));
                    Some(seat)
                }
            };
            return self.ends_late(id, seat.as_ref(), now, steps);
        }
        match &mut doing.place {
            Place::Waiting => {
                let capability = doing.spec.capability.clone();
                self.look_again(id, now);
                self.place(&capability, now, steps);
            }
            Place::At { accepted: true, .. } => {
                let due = doing.due;
                self.alarm(id, due);
            }
            place => {
                let Place::At { seat, .. } = std::mem::replace(place, Place::Waiting) else {
                    return;
                };
                let waited = self.options.accept_within;
                steps.extend(self.call_off(id, seat.clone()));
                self.note(id, &seat, AttemptEnd::Silent { waited }, now, steps);
            }
        }
    }

    /// The member itself says that the deadline has passed.
    pub(super) fn too_late(
        &mut self,
        id: &Arc<str>,
        seat: Option<Seat>,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        self.ends_late(id, seat.as_ref(), now, steps);
        if let Some(seat) = seat {
            self.release(&seat, now, steps);
        }
    }

    pub(super) fn ends_late(
        &mut self,
        id: &Arc<str>,
        seat: Option<&Seat>,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        let Some(doing) = self.tasks.get_mut(id) else {
            return;
        };
        if let Some(seat) = seat {
            doing.note(seat, AttemptEnd::Unfinished, self.options.pause, now);
        }
        let error = TaskError::Deadline {
            deadline: doing.spec.deadline,
            attempts: std::mem::take(&mut doing.tried),
        };
        self.end(id, Err(error), steps);
    }
}
