//! Which task runs, waits, is refused: the worker as a state machine without time, bus or runtime.
//!
//! Invariant: at most `max_tasks` handlers are alive and at most `queue` tasks wait; each task that was
//! accepted gets exactly one answer that ends it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use eventbus_trait::Correlation;
use tokio::time::Instant;

use super::memory::{Key, Memory, key};
use super::{TaskFailure, Work};
use crate::intake::Hold;
use crate::tasks::{Answer, FailureReason, Mark, Order, RefusalReason, Task};

/// What the worker has to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Start a handler. Its end is told by [`Intake::ended`] under this number, however it ends.
    Start(u64, Box<Work>),
    /// Drop the handler's future.
    Abort(u64),
    /// Tell the dispatcher, until it is too late.
    Tell(Box<Told>),
}

/// An answer on its way to a dispatcher.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) mark: Mark,
    pub(super) answer: Answer,
    pub(super) correlation: Correlation,
    pub(super) until: Instant,
    /// The member does not go before this is told.
    pub(super) _hold: Option<Arc<Hold>>,
}

#[derive(Debug)]
pub(super) struct Intake {
    capabilities: BTreeSet<String>,
    max_tasks: usize,
    max_waiting: usize,
    held: HashMap<Key, Held>,
    waiting: BTreeMap<Turn, Key>,
    /// Handlers that are alive, by number; of those that were given up, too.
    alive: HashMap<u64, Option<Key>>,
    alarms: BTreeSet<(Instant, Key)>,
    memory: Memory,
    draining: bool,
    number: u64,
    pub(super) counts: Counts,
}

/// The higher priority goes first, then who came first.
type Turn = (Reverse<u8>, u64);

#[derive(Debug)]
struct Held {
    task: Task,
    correlation: Correlation,
    due: Instant,
    place: Place,
    hold: Option<Arc<Hold>>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Waiting(Turn),
    Running(u64),
}

/// What has become of orders, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) repeated: u64,
    pub(super) refused: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) panicked: u64,
    pub(super) cancelled: u64,
    pub(super) interrupted: u64,
    pub(super) unsendable: u64,
}

impl Intake {
    pub(super) fn new(
        capabilities: BTreeSet<String>,
        max_tasks: usize,
        max_waiting: usize,
        memory: Memory,
    ) -> Self {
        Self {
            capabilities,
            max_tasks,
            max_waiting,
            held: HashMap::new(),
            waiting: BTreeMap::new(),
            alive: HashMap::new(),
            alarms: BTreeSet::new(),
            memory,
            draining: false,
            number: 0,
            counts: Counts::default(),
        }
    }

    /// Tasks that are not over yet: those that run and those that wait.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Handlers that are there, also of tasks that were given up and whose handler has not noticed yet.
    pub(super) fn alive(&self) -> usize {
        self.alive.len()
    }

    pub(super) fn remembered(&self) -> usize {
        self.memory.len()
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Takes no more.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// An order has come.
    pub(super) fn order(
        &mut self,
        order: Order,
        correlation: Correlation,
        hold: Option<Arc<Hold>>,
        now: Instant,
    ) -> Vec<Step> {
        match order {
            Order::Do(task) => self.take(task, correlation, hold, now),
            Order::Cancel(mark) => self.cancel(&mark),
        }
    }

    fn take(
        &mut self,
        task: Task,
        correlation: Correlation,
        hold: Option<Arc<Hold>>,
        now: Instant,
    ) -> Vec<Step> {
        let key = key(&task.mark);
        let told = |answer| {
            Step::Tell(Box::new(Told {
                mark: task.mark.clone(),
                answer,
                correlation: correlation.clone(),
                until: now + task.deadline,
                _hold: hold.clone(),
            }))
        };
        if let Some(held) = self.held.get_mut(&key) {
            self.counts.repeated += 1;
            let step = told(Answer::Accepted);
            self.alarms.remove(&(held.due, key.clone()));
            held.due = now + task.deadline;
            self.alarms.insert((held.due, key));
            held.task.mark = task.mark;
            held.correlation = correlation;
            return vec![step];
        }
        if let Some(answer) = self.memory.get(&task.mark) {
            self.counts.repeated += 1;
            return vec![told(answer.clone())];
        }
        if let Some((reason, message)) = self.objection(&task) {
            self.counts.refused += 1;
            return vec![told(Answer::Refused { reason, message })];
        }
        let mut steps = vec![told(Answer::Accepted)];
        self.counts.accepted += 1;
        self.memory.forget(&task.mark);
        self.number += 1;
        let turn = (Reverse(task.priority), self.number);
        let due = now + task.deadline;
        self.alarms.insert((due, key.clone()));
        self.waiting.insert(turn, key.clone());
        let held = Held {
            task,
            correlation,
            due,
            place: Place::Waiting(turn),
            hold,
        };
        self.held.insert(key, held);
        self.start(&mut steps);
        steps
    }

    fn objection(&self, task: &Task) -> Option<(RefusalReason, String)> {
        if self.draining {
            let message = "takes no new tasks: it is about to stop".to_owned();
            return Some((RefusalReason::Draining, message));
        }
        if !self.capabilities.contains(&task.capability) {
            let message = format!("has no capability `{}`", task.capability);
            return Some((RefusalReason::Incapable, message));
        }
        if self.max_tasks == 0 {
            let message = "does no tasks: its `max_tasks` is 0".to_owned();
            return Some((RefusalReason::Incapable, message));
        }
        let (runs, waits) = (self.alive.len(), self.waiting.len());
        if runs >= self.max_tasks && waits >= self.max_waiting {
            let message = format!("{runs} tasks run and {waits} wait, which are its limits");
            return Some((RefusalReason::Full, message));
        }
        None
    }

    /// Starts what waits as far as there is room.
    fn start(&mut self, steps: &mut Vec<Step>) {
        while self.alive.len() < self.max_tasks {
            let Some((_, key)) = self.waiting.pop_first() else {
                return;
            };
            let Some(held) = self.held.get_mut(&key) else {
                continue;
            };
            self.number += 1;
            held.place = Place::Running(self.number);
            let work = Work {
                task: held.task.clone(),
                deadline: held.due,
                correlation: held.correlation.clone(),
            };
            self.alive.insert(self.number, Some(key));
            steps.push(Step::Start(self.number, Box::new(work)));
        }
    }

    fn cancel(&mut self, mark: &Mark) -> Vec<Step> {
        let key = key(mark);
        if self
            .held
            .get(&key)
            .is_none_or(|held| held.task.mark != *mark)
        {
            // Over, or asked for again since: nothing is left to be cancelled.
            return Vec::new();
        }
        let mut steps = Vec::new();
        self.give_up(&key, Answer::Cancelled, &mut steps);
        self.start(&mut steps);
        steps
    }

    /// Ends tasks whose deadline has passed.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some((at, key)) = self.alarms.first().cloned() {
            if at > now {
                break;
            }
            let answer = Answer::Failed {
                reason: FailureReason::Deadline,
                message: "not done by its deadline".to_owned(),
            };
            self.give_up(&key, answer, &mut steps);
        }
        self.start(&mut steps);
        steps
    }

    /// Gives back everything that is there: others may do it.
    pub(super) fn interrupt(&mut self) -> Vec<Step> {
        self.draining = true;
        let mut steps = Vec::new();
        for key in self.held.keys().cloned().collect::<Vec<_>>() {
            let answer = Answer::Refused {
                reason: RefusalReason::Interrupted,
                message: "stopped before it was done".to_owned(),
            };
            self.give_up(&key, answer, &mut steps);
        }
        steps
    }

    fn give_up(&mut self, key: &Key, answer: Answer, steps: &mut Vec<Step>) {
        if let Some(held) = self.held.get(key)
            && let Place::Running(number) = held.place
        {
            // Its place is taken until the handler is gone.
            self.alive.insert(number, None);
            steps.push(Step::Abort(number));
        }
        self.end(key, answer, steps);
    }

    /// A handler is gone. What it returned; nothing if it was aborted.
    pub(super) fn ended(&mut self, number: u64, result: Option<Ran>) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(Some(key)) = self.alive.remove(&number) {
            let answer = match result {
                Some(Ran::Returned(Ok(payload))) => Answer::Done(payload),
                Some(Ran::Returned(Err(TaskFailure(message)))) => Answer::Failed {
                    reason: FailureReason::Error,
                    message,
                },
                Some(Ran::Panicked(message)) => {
                    self.counts.panicked += 1;
                    Answer::Failed {
                        reason: FailureReason::Panic,
                        message,
                    }
                }
                None => Answer::Refused {
                    reason: RefusalReason::Interrupted,
                    message: "its runtime stopped".to_owned(),
                },
            };
            self.end(&key, answer, &mut steps);
        }
        self.start(&mut steps);
        steps
    }

    /// The result cannot be sent: the task has failed after all.
    pub(super) fn unsendable(
        &mut self,
        told: &Told,
        reason: FailureReason,
        message: String,
    ) -> Told {
        self.counts.unsendable += 1;
        let answer = Answer::Failed { reason, message };
        if !self.held.contains_key(&key(&told.mark)) {
            self.memory.forget(&told.mark);
            self.memory.put(&told.mark, &answer);
        }
        Told {
            answer,
            ..told.clone()
        }
    }

    fn end(&mut self, key: &Key, answer: Answer, steps: &mut Vec<Step>) {
        let Some(held) = self.held.remove(key) else {
            return;
        };
        self.alarms.remove(&(held.due, key.clone()));
        if let Place::Waiting(turn) = held.place {
            self.waiting.remove(&turn);
        }
        let lasting = match &answer {
            Answer::Accepted => false,
            Answer::Done(_) => bump(&mut self.counts.done),
            // Asked for with another deadline, it may come to an end.
            Answer::Failed { reason, .. } => {
                bump(&mut self.counts.failed) && *reason != FailureReason::Deadline
            }
            Answer::Cancelled => bump(&mut self.counts.cancelled),
            Answer::Refused { .. } => !bump(&mut self.counts.interrupted),
        };
        if lasting {
            self.memory.put(&held.task.mark, &answer);
        }
        steps.push(Step::Tell(Box::new(Told {
            mark: held.task.mark,
            answer,
            correlation: held.correlation,
            // The dispatcher may be a little behind.
            until: held.due + super::GRACE,
            _hold: held.hold,
        })));
    }
}

/// How a handler ended by itself.
#[derive(Debug)]
pub(super) enum Ran {
    Returned(Result<eventbus_trait::Payload, TaskFailure>),
    Panicked(String),
}

fn bump(count: &mut u64) -> bool {
    *count += 1;
    true
}
