//! Any members, answers and times: each task ends once, bounds hold, and no seat is lost.

use std::collections::{BTreeMap, HashSet};

use eventbus_trait::Payload;
use prop::sample::Index;
use proptest::prelude::*;

use super::super::Options;
use super::super::core::{CallOff, Core, Step};
use super::decisions::{Scene, member, spec};
use crate::member::Activity;
use crate::registry::{Change, Removal};
use crate::tasks::{Answer, FailureReason, Mark, RefusalReason, Report};

const NAMES: [&str; 3] = ["a", "b", "c"];
const MAX_TASKS: u32 = 2;
const OUTSTANDING: usize = 6;

#[derive(Debug, Clone)]
enum Act {
    Submit {
        id: u8,
        priority: u8,
        deadline: u64,
    },
    Cancel(u8),
    /// A member answers an order that it ever got.
    Answer {
        which: Index,
        how: u8,
    },
    /// An order could not be published.
    Unsent(Index),
    /// A cancellation has gone out.
    Release(Index),
    Join {
        name: usize,
        instance: u8,
        available: bool,
    },
    Remove {
        name: usize,
        instance: u8,
    },
    Resync(Vec<(usize, u8)>),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let index = any::<Index>;
    prop_oneof![
        6 => (0..12_u8, 0..3_u8, 1..9_000_u64)
            .prop_map(|(id, priority, deadline)| Act::Submit { id, priority, deadline }),
        2 => (0..12_u8).prop_map(Act::Cancel),
        8 => (index(), 0..6_u8).prop_map(|(which, how)| Act::Answer { which, how }),
        1 => index().prop_map(Act::Unsent),
        4 => index().prop_map(Act::Release),
        3 => (0..3_usize, 0..2_u8, any::<bool>())
            .prop_map(|(name, instance, available)| Act::Join { name, instance, available }),
        2 => (0..3_usize, 0..2_u8).prop_map(|(name, instance)| Act::Remove { name, instance }),
        1 => prop::collection::vec((0..3_usize, 0..2_u8), 0..3).prop_map(Act::Resync),
        3 => (0..3_000_u64).prop_map(Act::Wait),
    ]
}

/// The core, and all that was seen of it.
struct World {
    scene: Scene,
    /// Orders ever given: to whom, and which.
    orders: Vec<(String, String, Mark)>,
    /// Cancellations that have not gone out.
    calls_off: Vec<CallOff>,
    open: HashSet<String>,
    submitted: u64,
    ended: u64,
}

impl World {
    fn new() -> Self {
        let options = Options {
            outstanding: OUTSTANDING,
            attempts: 5,
            ..Options::default()
        };
        Self {
            scene: Scene::new(options),
            orders: Vec::new(),
            calls_off: Vec::new(),
            open: HashSet::new(),
            submitted: 0,
            ended: 0,
        }
    }

    fn with<T>(
        &mut self,
        act: impl FnOnce(&mut Core, tokio::time::Instant, &mut Vec<Step>) -> T,
    ) -> T {
        let mut steps = Vec::new();
        let result = act(&mut self.scene.core, self.scene.now, &mut steps);
        for step in steps {
            match step {
                Step::Ask(asked) => {
                    let member = &asked.seat.member;
                    let (name, instance) = (member.name.clone(), member.instance.clone());
                    let known = self.orders.iter().any(|(_, _, mark)| *mark == asked.mark);
                    assert!(!known, "one order for two attempts");
                    self.orders.push((name, instance, asked.mark.clone()));
                    assert!(asked.due > self.scene.now, "asked for after its deadline");
                }
                Step::Cancel(off) => self.calls_off.push(*off),
                Step::End { id, .. } => {
                    assert!(
                        self.open.remove(&*id),
                        "{id} ended twice or was never taken"
                    );
                    self.ended += 1;
                }
            }
        }
        result
    }

    fn submit(&mut self, id: u8, priority: u8, deadline: u64) {
        let id = id.to_string();
        let deadline = std::time::Duration::from_millis(deadline);
        let spec = spec(&id).priority(priority).deadline(deadline);
        // Before, because it may end within the call.
        let was_open = !self.open.insert(id.clone());
        let before = self.scene.core.counts.submitted;
        let taken = self.with(|core, now, steps| core.submit(spec, now, steps));
        let is_new = self.scene.core.counts.submitted > before;
        self.submitted += u64::from(is_new);
        assert!(!(is_new && was_open), "{id} taken twice");
        if !is_new && !was_open {
            self.open.remove(&id);
        }
        assert!(taken.is_ok() || !is_new);
    }

    fn answer(&mut self, which: Index, how: u8) {
        if self.orders.is_empty() {
            return;
        }
        let (member, instance, mark) = which.get(&self.orders).clone();
        let message = String::new();
        let answer = match how {
            0 | 1 => Answer::Accepted,
            2 => Answer::Refused {
                reason: RefusalReason::Full,
                message,
            },
            3 => Answer::Failed {
                reason: FailureReason::Deadline,
                message,
            },
            4 => Answer::Cancelled,
            _ => Answer::Done(Payload::raw("y")),
        };
        let report = Report {
            mark,
            member,
            instance,
            answer,
        };
        self.with(|core, now, steps| core.report(report, now, steps));
    }

    fn join(&self, name: usize, instance: u8, available: bool) -> crate::registry::Member {
        let mut member = member(NAMES[name], &instance.to_string(), MAX_TASKS);
        if !available {
            member.activity = Activity::Draining;
        }
        member
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Submit {
                id,
                priority,
                deadline,
            } => self.submit(id, priority, deadline),
            Act::Cancel(id) => {
                self.with(|core, _, steps| core.cancel(&id.to_string(), steps));
            }
            Act::Answer { which, how } => self.answer(which, how),
            Act::Unsent(which) if !self.orders.is_empty() => {
                let (_, _, mark) = which.get(&self.orders).clone();
                self.with(|core, now, steps| core.unsent(&mark, None, now, steps));
            }
            Act::Release(which) if !self.calls_off.is_empty() => {
                let at = which.index(self.calls_off.len());
                let off = self.calls_off.swap_remove(at);
                self.with(|core, now, steps| core.released(&off.seat, now, steps));
            }
            Act::Unsent(_) | Act::Release(_) => {}
            Act::Join {
                name,
                instance,
                available,
            } => {
                let member = self.join(name, instance, available);
                self.with(|core, now, steps| core.change(Change::Changed(member), now, steps));
            }
            Act::Remove { name, instance } => {
                let member = self.join(name, instance, true);
                let change = Change::Removed {
                    member,
                    reason: Removal::Silent,
                };
                self.with(|core, now, steps| core.change(change, now, steps));
            }
            Act::Resync(members) => {
                let members: BTreeMap<_, _> = members.into_iter().collect();
                let members = members
                    .into_iter()
                    .map(|(n, i)| self.join(n, i, true))
                    .collect();
                self.with(|core, now, steps| core.change(Change::Resync(members), now, steps));
            }
            Act::Wait(millis) => {
                self.scene.now += std::time::Duration::from_millis(millis);
                self.with(|core, now, steps| core.tick(now, steps));
            }
        }
        self.check();
    }

    fn check(&self) {
        let core = &self.scene.core;
        assert_eq!(core.outstanding(), self.open.len());
        assert!(core.outstanding() <= OUTSTANDING);
        assert!(
            core.taken() <= core.members() * MAX_TASKS as usize,
            "more than members take"
        );
        assert!(core.waiting() <= core.outstanding());
        assert_eq!(core.next_alarm().is_some(), core.outstanding() > 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn each_task_ends_once_bounds_hold_and_no_seat_is_lost(
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let mut world = World::new();
        for name in 0..2 {
            world.act(Act::Join { name, instance: 0, available: true });
        }
        for act in acts {
            world.act(act);
        }
        world.act(Act::Wait(20_000));
        prop_assert_eq!(world.scene.core.outstanding(), 0);
        prop_assert_eq!(world.scene.core.waiting(), 0);
        prop_assert_eq!(world.scene.core.next_alarm(), None);
        prop_assert_eq!(world.submitted, world.ended);
        while let Some(off) = world.calls_off.pop() {
            world.with(|core, now, steps| core.released(&off.seat, now, steps));
        }
        prop_assert_eq!(world.scene.core.taken(), 0);
        let counts = world.scene.core.counts;
        let ends = counts.done + counts.failed + counts.overdue + counts.given_up
            + counts.unsendable + counts.cancelled + counts.closed;
        prop_assert_eq!(ends, counts.submitted);
    }
}
