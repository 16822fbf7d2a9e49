//! Any orders, ends and times: bounds hold, and each accepted task ends once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use eventbus_trait::{Correlation, Payload};
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::intake::{Intake, Ran, Step};
use super::super::memory::Memory;
use crate::tasks::{Answer, Mark, Order, Task};

const MAX_TASKS: usize = 2;
const QUEUE: usize = 3;
const REMEMBER: usize = 4;

#[derive(Debug, Clone)]
enum Act {
    Do {
        id: u8,
        attempt: u32,
        priority: u8,
        deadline: u64,
        able: bool,
    },
    Cancel {
        id: u8,
        attempt: u32,
    },
    End {
        which: prop::sample::Index,
        panics: bool,
    },
    Wait(u64),
    Drain,
}

fn act() -> impl Strategy<Value = Act> {
    let index = any::<prop::sample::Index>();
    prop_oneof![
        6 => (0..8_u8, 1..3_u32, any::<u8>(), 1..50_u64, prop::bool::weighted(0.9)).prop_map(
            |(id, attempt, priority, deadline, able)| Act::Do { id, attempt, priority, deadline, able }
        ),
        2 => (0..8_u8, 1..3_u32).prop_map(|(id, attempt)| Act::Cancel { id, attempt }),
        4 => (index, any::<bool>()).prop_map(|(which, panics)| Act::End { which, panics }),
        2 => (0..20_u64).prop_map(Act::Wait),
        1 => Just(Act::Drain),
    ]
}

fn mark(id: u8, attempt: u32) -> Mark {
    Mark {
        id: id.to_string(),
        dispatcher: "agent".to_owned(),
        life: String::new(),
        attempt,
    }
}

/// What was seen from outside.
#[derive(Default)]
struct Seen {
    open: HashSet<String>,
    finals: u64,
    alive: HashSet<u64>,
    aborted: HashSet<u64>,
    answered: HashMap<String, Answer>,
}

impl Seen {
    fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Start(number, work) => {
                    assert!(
                        self.open.contains(&work.task.mark.id),
                        "started before it was accepted"
                    );
                    assert!(self.alive.insert(number));
                }
                Step::Abort(number) => {
                    assert!(self.alive.contains(&number));
                    assert!(self.aborted.insert(number), "aborted twice");
                }
                Step::Tell(told) => self.told(told.mark.id, told.answer),
            }
        }
    }

    fn told(&mut self, id: String, answer: Answer) {
        match answer {
            Answer::Accepted => {
                self.open.insert(id);
            }
            Answer::Refused { .. } if !self.open.contains(&id) => {}
            last => {
                if let Answer::Done(payload) = &last {
                    let bytes = payload.bytes().unwrap();
                    let number = std::str::from_utf8(&bytes).unwrap().parse().unwrap();
                    let aborted = self.aborted.contains(&number);
                    assert!(!aborted, "what was given up has a result");
                }
                if self.open.remove(&id) {
                    self.finals += 1;
                    self.answered.insert(id, last);
                } else {
                    // A repeated order: the same as before.
                    assert_eq!(self.answered.get(&id), Some(&last), "two answers to {id}");
                }
            }
        }
    }
}

fn intake() -> Intake {
    let capabilities = ["hash".to_owned()].into();
    Intake::new(
        capabilities,
        MAX_TASKS,
        QUEUE,
        Memory::new(REMEMBER, 1 << 10),
    )
}

fn apply(intake: &mut Intake, seen: &mut Seen, act: Act, now: &mut Instant) -> Vec<Step> {
    match act {
        Act::Do {
            id,
            attempt,
            priority,
            deadline,
            able,
        } => {
            let task = Task {
                mark: mark(id, attempt),
                capability: if able { "hash" } else { "fly" }.to_owned(),
                deadline: Duration::from_millis(deadline),
                priority,
                payload: Payload::raw("x"),
            };
            intake.order(Order::Do(task), Correlation::new("c"), None, *now)
        }
        Act::Cancel { id, attempt } => intake.order(
            Order::Cancel(mark(id, attempt)),
            Correlation::new("c"),
            None,
            *now,
        ),
        Act::End { which, panics } => {
            let mut alive: Vec<u64> = seen.alive.iter().copied().collect();
            alive.sort_unstable();
            if alive.is_empty() {
                return Vec::new();
            }
            let number = *which.get(&alive);
            seen.alive.remove(&number);
            let ran = match panics {
                true => Ran::Panicked("oh".to_owned()),
                false => Ran::Returned(Ok(Payload::raw(number.to_string()))),
            };
            // An aborted handler may have ended by itself first.
            intake.ended(number, Some(ran))
        }
        Act::Wait(millis) => {
            *now += Duration::from_millis(millis);
            intake.tick(*now)
        }
        Act::Drain => {
            intake.drain();
            Vec::new()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn each_accepted_task_ends_once_and_bounds_hold(acts in prop::collection::vec(act(), 1..120)) {
        let (mut intake, mut seen, mut now) = (intake(), Seen::default(), Instant::now());
        for act in acts {
            let steps = apply(&mut intake, &mut seen, act, &mut now);
            seen.take(steps);
            prop_assert!(intake.alive() <= MAX_TASKS);
            prop_assert!(intake.waiting() <= QUEUE);
            prop_assert!(intake.remembered() <= REMEMBER);
            prop_assert_eq!(intake.held(), seen.open.len());
            prop_assert_eq!(intake.alive(), seen.alive.len());
        }
        now += Duration::from_secs(1);
        seen.take(intake.tick(now));
        for number in seen.alive.drain().collect::<Vec<_>>() {
            let steps = intake.ended(number, None);
            prop_assert!(steps.is_empty(), "over is over: {:?}", steps);
        }
        prop_assert!(seen.open.is_empty());
        prop_assert_eq!((intake.held(), intake.waiting(), intake.alive()), (0, 0, 0));
        prop_assert_eq!(intake.next_alarm(), None);
        let counts = intake.counts;
        prop_assert_eq!(counts.accepted, seen.finals);
        let ended = counts.done + counts.failed + counts.cancelled + counts.interrupted;
        prop_assert_eq!(ended, counts.accepted);
    }
}

#[test]
fn the_memory_of_results_is_bounded_in_bytes_too() {
    let mut memory = Memory::new(100, 10);
    let done = |bytes: usize| Answer::Done(Payload::raw(vec![0; bytes]));
    for id in 0..5 {
        memory.put(&mark(id, 1), &done(4));
    }
    assert_eq!(memory.len(), 2);
    assert_eq!(memory.get(&mark(2, 1)), None);
    assert_eq!(memory.get(&mark(4, 7)), Some(&done(4)));
    memory.put(&mark(9, 1), &done(11));
    assert_eq!(memory.len(), 2, "what is too large alone displaces nobody");
    memory.forget(&mark(4, 1));
    memory.put(&mark(5, 1), &done(6));
    assert_eq!(
        memory.len(),
        2,
        "what was forgotten has given its bytes back"
    );
}
