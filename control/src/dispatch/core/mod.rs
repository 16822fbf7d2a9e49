//! Who is asked, again, or no more: the dispatcher as a state machine without time, bus or runtime.
//!
//! A task waits or is at one member. Whatever ends an attempt, short of an answer, makes it wait again; what
//! ends the task takes it out, and that happens once. A seat at a member is taken with an attempt and given
//! back when the member has said its last word, or has been told to give the task up.
//!
//! Invariant: a task that is outstanding has one alarm, and stands in `waiting` exactly if it waits.

mod alarms;
mod attempts;
mod members;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use eventbus_trait::{Correlation, Payload};
use tokio::time::Instant;

use super::doing::{Doing, Place};
use super::roster::{Roster, Seat};
use super::spec::{AttemptEnd, Done, Outcome, SubmitError, TaskError, TaskSpec};
use super::{Counts, Options};
use crate::remember::Remembered;
use crate::tasks::{Answer, FailureReason, LONGEST, Malformed, Mark, Report};
use crate::tasks::{check_capability, check_id};

/// What has to be done next.
#[derive(Debug)]
pub(super) enum Step {
    /// Publish the order. Then tell [`Core::unsent`] if that failed.
    Ask(Box<Asked>),
    /// Take the order back, or publish that it is cancelled. Then give the seat [back](Core::released).
    Cancel(Box<CallOff>),
    /// The task has ended.
    End { id: Arc<str>, outcome: Outcome },
}

/// An order to be published.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) seat: Seat,
    pub(super) mark: Mark,
    pub(super) spec: Arc<TaskSpec>,
    pub(super) correlation: Correlation,
    pub(super) due: Instant,
}

/// A cancellation to be published.
#[derive(Debug)]
pub(super) struct CallOff {
    pub(super) seat: Seat,
    pub(super) mark: Mark,
    pub(super) correlation: Correlation,
}

#[derive(Debug)]
pub(super) struct Core {
    name: String,
    life: String,
    options: Options,
    roster: Roster,
    tasks: HashMap<Arc<str>, Doing>,
    /// By capability; the higher priority goes first, then who came first.
    waiting: HashMap<String, BTreeSet<Turn>>,
    alarms: BTreeSet<(Instant, Arc<str>)>,
    ended: Remembered<Arc<str>, Outcome>,
    turns: u64,
    pub(super) counts: Counts,
}

type Turn = (Reverse<u8>, u64, Arc<str>);

/// What became of a submission.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is outstanding; it may have been so before.
    Outstanding(Arc<str>),
    /// It had ended before.
    Ended(Arc<str>, Outcome),
}

impl Core {
    pub(super) fn new(name: String, life: String, options: Options) -> Self {
        Self {
            name,
            life,
            roster: Roster::new(options.ahead),
            ended: Remembered::new(options.remember, options.remember_bytes),
            options,
            tasks: HashMap::new(),
            waiting: HashMap::new(),
            alarms: BTreeSet::new(),
            turns: 0,
            counts: Counts::default(),
        }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.values().map(BTreeSet::len).sum()
    }

    /// Seats that are taken at members that are there.
    pub(super) fn taken(&self) -> usize {
        self.roster.taken()
    }

    pub(super) fn members(&self) -> usize {
        self.roster.members()
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Takes a task, or says that it has it already.
    pub(super) fn submit(
        &mut self,
        spec: TaskSpec,
        now: Instant,
        steps: &mut Vec<Step>,
    ) -> Result<Taken, SubmitError> {
        let id: Arc<str> = spec.id.as_str().into();
        if self.tasks.contains_key(&id) {
            self.counts.duplicates += 1;
            return Ok(Taken::Outstanding(id));
        }
        if let Some(outcome) = self.ended.get(&id) {
            self.counts.duplicates += 1;
            return Ok(Taken::Ended(id, outcome.clone()));
        }
        if let Err(error) = self.check(&spec) {
            self.counts.refused += 1;
            return Err(error);
        }
        self.counts.submitted += 1;
        self.turns += 1;
        let capability = spec.capability.clone();
        let doing = Doing::new(Arc::new(spec), self.turns, now);
        self.alarms.insert((doing.alarm, Arc::clone(&id)));
        self.wait(&id, &doing);
        self.tasks.insert(Arc::clone(&id), doing);
        self.place(&capability, now, steps);
        Ok(Taken::Outstanding(id))
    }

    fn check(&self, spec: &TaskSpec) -> Result<(), SubmitError> {
        check_id(&spec.id)?;
        check_capability(&spec.capability)?;
        if spec.deadline.is_zero() || spec.deadline > LONGEST {
            return Err(SubmitError::Invalid(Malformed::Field {
                field: "deadline",
                expected: "more than nothing and at most a day",
            }));
        }
        let limit = self.options.outstanding;
        if self.tasks.len() >= limit {
            return Err(SubmitError::Full { limit });
        }
        if !spec.patient && !self.roster.is_capable(&spec.capability) {
            let capability = spec.capability.clone();
            return Err(SubmitError::NoCapableMember { capability });
        }
        Ok(())
    }

    /// Ends a task because nobody wants it any more. Whether it was outstanding.
    pub(super) fn cancel(&mut self, id: &str, steps: &mut Vec<Step>) -> bool {
        self.end_early(id, TaskError::Cancelled, steps)
    }

    /// Ends everything that is outstanding.
    pub(super) fn end_all(&mut self, error: &TaskError, steps: &mut Vec<Step>) {
        for id in self.tasks.keys().cloned().collect::<Vec<_>>() {
            self.end_early(&id, error.clone(), steps);
        }
    }

    fn end_early(&mut self, id: &str, error: TaskError, steps: &mut Vec<Step>) -> bool {
        let Some(doing) = self.tasks.get_mut(id) else {
            return false;
        };
        let place = std::mem::replace(&mut doing.place, Place::Waiting);
        if let Place::At { seat, .. } = place {
            let step = self.call_off(id, seat);
            steps.extend(step);
        }
        self.end(id, Err(error), steps);
        true
    }

    /// A member says something.
    pub(super) fn report(&mut self, report: Report, now: Instant, steps: &mut Vec<Step>) {
        let Some((id, seat)) = self.current(&report) else {
            self.counts.late += 1;
            return;
        };
        let member = report.member;
        let outcome = match report.answer {
            Answer::Accepted => {
                if let Some(doing) = self.tasks.get_mut(&id) {
                    doing.place = Place::At {
                        seat,
                        accepted: true,
                    };
                    let due = doing.due;
                    self.alarm(&id, due);
                }
                return;
            }
            Answer::Refused { reason, message } => {
                return self.again(
                    &id,
                    seat,
                    AttemptEnd::Refused { reason, message },
                    now,
                    steps,
                );
            }
            Answer::Cancelled => {
                return self.again(&id, seat, AttemptEnd::Cancelled, now, steps);
            }
            Answer::Done(result) => Ok(Done {
                result,
                member,
                attempt: report.mark.attempt,
            }),
            Answer::Failed {
                reason: FailureReason::Deadline,
                ..
            } => {
                return self.too_late(&id, Some(seat), now, steps);
            }
            Answer::Failed { reason, message } => Err(TaskError::Failed {
                member,
                reason,
                message,
            }),
        };
        self.release(&seat, now, steps);
        self.end(&id, outcome, steps);
    }

    /// The task and seat that a report is about, if it is of the attempt that is under way.
    fn current(&self, report: &Report) -> Option<(Arc<str>, Seat)> {
        let (id, doing) = self.tasks.get_key_value(report.mark.id.as_str())?;
        let Place::At { seat, .. } = &doing.place else {
            return None;
        };
        let is = report.mark == self.mark(id, doing)
            && report.member == seat.member.name
            && report.instance == seat.member.instance;
        is.then(|| (Arc::clone(id), seat.clone()))
    }

    /// Takes a task out. Its seat is somebody else's to give back.
    fn end(&mut self, id: &str, outcome: Outcome, steps: &mut Vec<Step>) {
        let Some((id, doing)) = self.tasks.remove_entry(id) else {
            return;
        };
        self.alarms.remove(&(doing.alarm, Arc::clone(&id)));
        self.wait_no_more(&id, &doing);
        let lasting = self.counts.count(&outcome);
        if lasting {
            let bytes = match &outcome {
                Ok(done) => done.result.known_len().unwrap_or_default(),
                Err(_) => 0,
            };
            self.ended.put(Arc::clone(&id), outcome.clone(), bytes);
        }
        steps.push(Step::End { id, outcome });
    }
}

fn turn(id: &Arc<str>, doing: &Doing) -> Turn {
    (Reverse(doing.spec.priority), doing.turn, Arc::clone(id))
}

impl Asked {
    /// The order as it is at this time; nothing if it is too late for it.
    pub(super) fn order(&self, now: Instant) -> Option<crate::tasks::Order> {
        let deadline = self.due.saturating_duration_since(now);
        (!deadline.is_zero()).then(|| {
            crate::tasks::Order::Do(crate::tasks::Task {
                mark: self.mark.clone(),
                capability: self.spec.capability.clone(),
                deadline,
                priority: self.spec.priority,
                payload: Payload::clone(&self.spec.payload),
            })
        })
    }
}
