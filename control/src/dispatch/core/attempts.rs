//! Attempts: who is asked, and what follows when that came to nothing.

use std::sync::Arc;

use eventbus_trait::PublishError;
use tokio::time::Instant;

use super::super::doing::{Doing, Place};
use super::super::roster::Seat;
use super::super::spec::{AttemptEnd, TaskError};
use super::{Asked, CallOff, Core, Step, turn};
use crate::later::after;
use crate::tasks::Mark;

impl Core {
    /// Tells a member to give a task up that it has.
    pub(super) fn call_off(&self, id: &str, seat: Seat) -> Option<Step> {
        let doing = self.tasks.get(id)?;
        Some(Step::Cancel(Box::new(CallOff {
            mark: self.mark(id, doing),
            correlation: doing.spec.events(),
            seat,
        })))
    }

    /// What the attempt that is under way is called. A number that no other submission has is a part of
    /// it, so that nothing that is said of a task is taken for a word about another one of the same id.
    pub(super) fn mark(&self, id: &str, doing: &Doing) -> Mark {
        Mark {
            id: id.to_owned(),
            dispatcher: self.name.clone(),
            life: format!("{}-{}", self.life, doing.turn),
            attempt: doing.attempt,
        }
    }

    /// Whether this is the attempt that is under way: not an earlier one, nor one of an earlier submission.
    fn is_under_way(&self, mark: &Mark) -> bool {
        self.tasks.get(mark.id.as_str()).is_some_and(|doing| {
            matches!(doing.place, Place::At { .. }) && *mark == self.mark(&mark.id, doing)
        })
    }

    /// The order could not be published.
    pub(in super::super) fn unsent(
        &mut self,
        mark: &Mark,
        reason: Option<PublishError>,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        if !self.is_under_way(mark) {
            return;
        }
        let Some(doing) = self.tasks.get_mut(mark.id.as_str()) else {
            return;
        };
        let hopeless = match &reason {
            Some(PublishError::TooLarge { .. } | PublishError::Codec(_)) => reason.as_ref(),
            _ => None,
        };
        if let Some(reason) = hopeless {
            let reason = reason.to_string();
            self.hopeless(mark, reason, steps);
            return;
        }
        let Place::At { seat, .. } = std::mem::replace(&mut doing.place, Place::Waiting) else {
            return;
        };
        // It may have arrived all the same.
        steps.extend(self.call_off(&mark.id, seat.clone()));
        self.note(&mark.id, &seat, AttemptEnd::Unsent { reason }, now, steps);
    }

    /// The order cannot be sent, to anybody.
    pub(in super::super) fn hopeless(
        &mut self,
        mark: &Mark,
        reason: String,
        steps: &mut Vec<Step>,
    ) {
        if self.is_under_way(mark) {
            self.end_early(&mark.id, TaskError::Unsendable { reason }, steps);
        }
    }

    /// The seat's member has been told to give up the task.
    pub(in super::super) fn released(&mut self, seat: &Seat, now: Instant, steps: &mut Vec<Step>) {
        self.release(seat, now, steps);
    }

    pub(super) fn release(&mut self, seat: &Seat, now: Instant, steps: &mut Vec<Step>) {
        if self.roster.give(seat) {
            for capability in &seat.member.capabilities {
                self.place(capability, now, steps);
            }
        }
    }

    /// The member does not have the task any more: another one may.
    pub(super) fn again(
        &mut self,
        id: &Arc<str>,
        seat: Seat,
        end: AttemptEnd,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        self.note(id, &seat, end, now, steps);
        self.release(&seat, now, steps);
    }

    /// Lets a task wait whose attempt came to nothing, or gives it up.
    pub(super) fn note(
        &mut self,
        id: &str,
        seat: &Seat,
        end: AttemptEnd,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        let Some((id, mut doing)) = self.tasks.remove_entry(id) else {
            return;
        };
        doing.note(seat, end, self.options.pause, now);
        self.counts.retries += 1;
        let given_up = doing.tried.len() >= self.options.attempts;
        let error = given_up.then(|| TaskError::GivenUp {
            attempts: doing.tried.clone(),
        });
        let capability = doing.spec.capability.clone();
        self.wait(&id, &doing);
        self.tasks.insert(Arc::clone(&id), doing);
        match error {
            Some(error) => self.end(&id, Err(error), steps),
            None => {
                self.look_again(&id, now);
                self.place(&capability, now, steps);
            }
        }
    }

    pub(super) fn wait(&mut self, id: &Arc<str>, doing: &Doing) {
        let waiting = self
            .waiting
            .entry(doing.spec.capability.clone())
            .or_default();
        waiting.insert(turn(id, doing));
    }

    pub(super) fn wait_no_more(&mut self, id: &Arc<str>, doing: &Doing) {
        if let Some(waiting) = self.waiting.get_mut(&doing.spec.capability) {
            waiting.remove(&turn(id, doing));
            if waiting.is_empty() {
                self.waiting.remove(&doing.spec.capability);
            }
        }
    }

    /// Asks members that have room, for tasks that wait for this capability.
    pub(super) fn place(&mut self, capability: &str, now: Instant, steps: &mut Vec<Step>) {
        if !self.roster.has_room(capability) {
            return;
        }
        let mut placed = Vec::new();
        for (_, _, id) in self.waiting.get(capability).into_iter().flatten() {
            let Some(doing) = self.tasks.get(id) else {
                continue;
            };
            if doing.due <= now {
                // Its alarm ends it.
                continue;
            }
            // Who has not been asked yet comes before who would have it a second time.
            let new = self.roster.take(capability, |name| !doing.has_asked(name));
            let again = |name: &str| doing.may_ask(name, now);
            let seat = new.or_else(|| self.roster.take(capability, again));
            placed.extend(seat.map(|seat| (Arc::clone(id), seat)));
            if !self.roster.has_room(capability) {
                break;
            }
        }
        for (id, seat) in placed {
            steps.extend(self.ask(&id, seat, now));
        }
    }

    pub(super) fn ask(&mut self, id: &Arc<str>, seat: Seat, now: Instant) -> Option<Step> {
        let mut doing = self.tasks.remove(id)?;
        self.wait_no_more(id, &doing);
        doing.attempt += 1;
        doing.place = Place::At {
            seat: seat.clone(),
            accepted: false,
        };
        let asked = Asked {
            seat,
            mark: self.mark(id, &doing),
            spec: Arc::clone(&doing.spec),
            correlation: doing.spec.events(),
            due: doing.due,
        };
        let answer_by = doing.due.min(after(now, self.options.accept_within));
        self.tasks.insert(Arc::clone(id), doing);
        self.alarm(id, answer_by);
        Some(Step::Ask(Box::new(asked)))
    }

    pub(super) fn alarm(&mut self, id: &Arc<str>, at: Instant) {
        if let Some(doing) = self.tasks.get_mut(id) {
            self.alarms.remove(&(doing.alarm, Arc::clone(id)));
            doing.alarm = at;
            self.alarms.insert((at, Arc::clone(id)));
        }
    }

    /// Sets the alarm of a task that waits.
    pub(super) fn look_again(&mut self, id: &Arc<str>, now: Instant) {
        if let Some(doing) = self.tasks.get(id) {
            let at = doing
                .next_rest(now)
                .map_or(doing.due, |rest| rest.min(doing.due));
            self.alarm(id, at);
        }
    }
}
