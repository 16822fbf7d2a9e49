//! Decisions of the core, one by one.

use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::{Correlation, Payload, PublishError};
use tokio::time::Instant;

use super::super::Options;
use super::super::core::{Asked, Core, Step, Taken};
use super::super::spec::{AttemptEnd, Outcome, SubmitError, TaskError, TaskSpec};
use crate::member::{Activity, Identity};
use crate::registry::{Change, Health, Member, Removal};
use crate::tasks::{Answer, FailureReason, Mark, RefusalReason, Report};

/// A core, a clock, and what the core wants done.
pub(super) struct Scene {
    pub(super) core: Core,
    pub(super) now: Instant,
    pub(super) asked: Vec<Asked>,
    pub(super) cancelled: Vec<Mark>,
    pub(super) ended: Vec<(String, Outcome)>,
    /// Ids of the tasks that were taken, in their order.
    submissions: Vec<String>,
}

pub(super) fn member(name: &str, instance: &str, max_tasks: u32) -> Member {
    let mut identity = Identity::new(name, "process")
        .capability("hash")
        .max_tasks(max_tasks);
    identity.instance = instance.to_owned();
    Member {
        identity: Arc::new(identity),
        health: Health::Well,
        activity: Activity::Idle,
        interval: Duration::from_secs(1),
        last_heard: Instant::now(),
    }
}

impl Scene {
    pub(super) fn new(options: Options) -> Self {
        Self {
            core: Core::new("agent".to_owned(), "l".to_owned(), options),
            now: Instant::now(),
            asked: Vec::new(),
            cancelled: Vec::new(),
            ended: Vec::new(),
            submissions: Vec::new(),
        }
    }

    fn with(members: &[&str], max_tasks: u32) -> Self {
        let mut scene = Self::new(Options::default());
        for name in members {
            scene.change(Change::Joined(member(name, "i1", max_tasks)));
        }
        scene
    }

    /// Lets `act` at the core, and releases what is cancelled.
    pub(super) fn act<T>(
        &mut self,
        act: impl FnOnce(&mut Core, Instant, &mut Vec<Step>) -> T,
    ) -> T {
        let mut steps = Vec::new();
        let result = act(&mut self.core, self.now, &mut steps);
        while !steps.is_empty() {
            for step in std::mem::take(&mut steps) {
                match step {
                    Step::Ask(asked) => self.asked.push(*asked),
                    Step::Cancel(off) => {
                        self.cancelled.push(off.mark);
                        self.core.released(&off.seat, self.now, &mut steps);
                    }
                    Step::End { id, outcome } => self.ended.push((id.to_string(), outcome)),
                }
            }
        }
        result
    }

    pub(super) fn change(&mut self, change: Change) {
        self.act(|core, now, steps| core.change(change, now, steps));
    }

    pub(super) fn submit(&mut self, spec: TaskSpec) -> Result<Taken, SubmitError> {
        let id = spec.id.clone();
        let before = self.core.counts.submitted;
        let taken = self.act(|core, now, steps| core.submit(spec, now, steps));
        if self.core.counts.submitted > before {
            self.submissions.push(id);
        }
        taken
    }

    fn task(&mut self, id: &str) {
        self.submit(spec(id)).unwrap();
    }

    pub(super) fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.act(|core, now, steps| core.tick(now, steps));
    }

    /// Whom the core has asked since the last time, and for what.
    fn asks(&mut self) -> Vec<(String, String, u32)> {
        let asked = self.asked.drain(..);
        asked
            .map(|a| (a.seat.member.name.clone(), a.mark.id, a.mark.attempt))
            .collect()
    }

    fn says(&mut self, member: &str, id: &str, attempt: u32, answer: Answer) {
        let submission = self.submissions.iter().rposition(|of| of == id);
        let report = Report {
            mark: Mark {
                id: id.to_owned(),
                dispatcher: "agent".to_owned(),
                life: format!("l-{}", submission.expect("it was submitted") + 1),
                attempt,
            },
            member: member.to_owned(),
            instance: "i1".to_owned(),
            answer,
        };
        self.report(report);
    }

    pub(super) fn report(&mut self, report: Report) {
        self.act(|core, now, steps| core.report(report, now, steps));
    }

    fn outcome(&mut self, id: &str) -> Outcome {
        let at = self.ended.iter().position(|(ended, _)| ended == id);
        self.ended.remove(at.expect("it has ended")).1
    }
}

pub(super) fn spec(id: &str) -> TaskSpec {
    TaskSpec::new("hash", Payload::raw("x"))
        .id(id)
        .deadline(Duration::from_secs(10))
}

fn ask(member: &str, id: &str, attempt: u32) -> (String, String, u32) {
    (member.to_owned(), id.to_owned(), attempt)
}

fn done() -> Answer {
    Answer::Done(Payload::raw("y"))
}

fn full() -> Answer {
    Answer::Refused {
        reason: RefusalReason::Full,
        message: "full".to_owned(),
    }
}

#[test]
fn the_member_with_the_fewest_tasks_is_asked_and_of_equals_the_first_by_name() {
    let mut scene = Scene::with(&["b", "a", "c"], 2);
    for id in ["1", "2", "3", "4"] {
        scene.task(id);
    }
    assert_eq!(
        scene.asks(),
        [
            ask("a", "1", 1),
            ask("b", "2", 1),
            ask("c", "3", 1),
            ask("a", "4", 1)
        ]
    );
    scene.says("b", "2", 1, done());
    scene.task("5");
    assert_eq!(scene.asks(), [ask("b", "5", 1)]);
}

#[test]
fn who_drains_is_unwell_or_is_full_is_not_asked_and_the_task_waits() {
    let mut scene = Scene::with(&["a"], 1);
    let mut drains = member("b", "i1", 9);
    drains.activity = Activity::Draining;
    let mut unwell = member("c", "i1", 9);
    unwell.health = Health::Degraded {
        missed: 2,
        ailment: None,
    };
    scene.change(Change::Joined(drains));
    scene.change(Change::Joined(unwell));
    scene.change(Change::Joined(member("d", "i1", 0)));
    scene.task("1");
    scene.task("2");
    assert_eq!(scene.asks(), [ask("a", "1", 1)]);
    assert_eq!(scene.core.waiting(), 1);
    scene.change(Change::Recovered(member("c", "i1", 9)));
    assert_eq!(scene.asks(), [ask("c", "2", 1)]);
}

#[test]
fn no_capable_member_is_an_error_at_once_that_names_the_capability() {
    let mut scene = Scene::with(&[], 1);
    let error = scene.submit(spec("1")).unwrap_err();
    assert_eq!(error.to_string(), "no member has the capability `hash`");
    scene.submit(spec("2").wait_for_member()).unwrap();
    scene.change(Change::Joined(member("a", "i1", 1)));
    assert_eq!(scene.asks(), [ask("a", "2", 1)]);
    let counts = scene.core.counts;
    assert_eq!((counts.submitted, counts.refused), (1, 1));
}

#[test]
fn what_cannot_be_is_refused_and_the_limit_is_named() {
    let mut scene = Scene::new(Options {
        outstanding: 1,
        ..Options::default()
    });
    scene.change(Change::Joined(member("a", "i1", 1)));
    for bad in [
        spec(""),
        spec("1").deadline(Duration::ZERO),
        spec("1").deadline(Duration::from_secs(1_000_000)),
        TaskSpec::new("no word", Payload::raw("")).id("1"),
    ] {
        assert!(matches!(scene.submit(bad), Err(SubmitError::Invalid(_))));
    }
    scene.task("1");
    let error = scene.submit(spec("2")).unwrap_err();
    assert_eq!(error, SubmitError::Full { limit: 1 });
    assert!(error.to_string().starts_with("1 tasks are outstanding"));
}

#[test]
fn who_does_not_accept_in_time_loses_the_task_and_who_has_accepted_keeps_it() {
    let mut scene = Scene::with(&["a", "b"], 1);
    scene.task("1");
    scene.task("2");
    scene.says("b", "2", 1, Answer::Accepted);
    scene.wait(1_999);
    assert!(scene.cancelled.is_empty());
    scene.wait(1);
    assert_eq!(
        scene.cancelled.len(),
        1,
        "the silent member is told to leave it"
    );
    assert_eq!(scene.core.waiting(), 1, "there is nobody else yet");
    assert_eq!(scene.asks().len(), 2);
    scene.says("b", "2", 1, done());
    assert_eq!(scene.asks(), [ask("b", "1", 2)]);
    scene.says("a", "1", 1, Answer::Accepted);
    scene.says("a", "1", 1, done());
    assert_eq!(
        scene.core.counts.late, 2,
        "an older attempt has nothing to say"
    );
    scene.says("b", "1", 2, done());
    assert_eq!(scene.outcome("1").unwrap().member, "b");
}

#[test]
fn a_member_that_refuses_is_not_asked_again_so_soon() {
    let mut scene = Scene::with(&["a"], 1);
    scene.task("1");
    scene.says("a", "1", 1, full());
    assert_eq!(scene.asks().len(), 1);
    scene.wait(249);
    assert!(scene.asks().is_empty());
    scene.wait(1);
    assert_eq!(scene.asks(), [ask("a", "1", 2)]);
    scene.says("a", "1", 2, full());
    scene.wait(499);
    assert!(
        scene.asks().is_empty(),
        "the second time it is left alone twice as long"
    );
    scene.wait(1);
    assert_eq!(scene.asks(), [ask("a", "1", 3)]);
    scene.task("2");
    scene.says("a", "1", 3, full());
    assert_eq!(scene.asks(), [ask("a", "2", 1)], "another task may ask it");
}

#[test]
fn a_member_that_goes_gives_its_tasks_to_others_in_their_order() {
    let mut scene = Scene::with(&["a"], 3);
    for id in ["1", "2", "3"] {
        scene.task(id);
    }
    scene.says("a", "2", 1, Answer::Accepted);
    scene.asks();
    let reason = Removal::Silent;
    scene.change(Change::Removed {
        member: member("a", "i1", 3),
        reason,
    });
    assert_eq!((scene.core.taken(), scene.core.waiting()), (0, 3));
    scene.change(Change::Joined(member("b", "i1", 2)));
    assert_eq!(scene.asks(), [ask("b", "1", 2), ask("b", "2", 2)]);
    scene.wait(10_000);
    let Err(TaskError::Deadline { attempts, .. }) = scene.outcome("3") else {
        panic!("{:?}", scene.ended);
    };
    assert_eq!(attempts.len(), 1);
    assert_eq!(
        attempts[0].end,
        AttemptEnd::Gone {
            reason: Some(reason)
        }
    );
}

#[test]
fn another_life_of_a_member_has_none_of_the_tasks_of_the_one_before() {
    let mut scene = Scene::with(&["a"], 1);
    scene.task("1");
    scene.change(Change::Resync(vec![member("a", "i2", 1)]));
    assert_eq!(scene.asks(), [ask("a", "1", 1), ask("a", "1", 2)]);
    scene.says("a", "1", 2, done());
    assert!(
        scene.ended.is_empty(),
        "the old life has nothing to say of the new attempt"
    );
    scene.change(Change::Removed {
        member: member("a", "i1", 1),
        reason: Removal::Replaced,
    });
    assert_eq!(scene.core.members(), 1, "a late word about the old life");
    scene.change(Change::Resync(vec![]));
    assert_eq!(scene.core.members(), 0);
}

#[test]
fn the_deadline_ends_a_task_with_the_reason_of_each_attempt() {
    let mut scene = Scene::with(&["a", "b", "c"], 1);
    scene.task("1");
    scene.says("a", "1", 1, full());
    scene.wait(2_000);
    scene.says("c", "1", 3, Answer::Accepted);
    scene.wait(8_000);
    let error = scene.outcome("1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "not done within 10s: `a` refused (full), `b` did not answer within 2s, `c` had not finished"
    );
    assert_eq!((scene.core.outstanding(), scene.core.taken()), (0, 0));
    assert_eq!(scene.core.next_alarm(), None);
}

#[test]
fn a_member_that_says_that_it_is_too_late_ends_it_the_same_way() {
    let mut scene = Scene::with(&["a"], 1);
    scene.task("1");
    let reason = FailureReason::Deadline;
    scene.says(
        "a",
        "1",
        1,
        Answer::Failed {
            reason,
            message: String::new(),
        },
    );
    let error = scene.outcome("1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "not done within 10s: `a` had not finished"
    );
    assert_eq!(scene.core.taken(), 0);
}

#[test]
fn a_failure_is_final_and_so_is_a_result() {
    let mut scene = Scene::with(&["a", "b"], 1);
    scene.task("1");
    let reason = FailureReason::Error;
    scene.says(
        "a",
        "1",
        1,
        Answer::Failed {
            reason,
            message: "no such process".to_owned(),
        },
    );
    let error = scene.outcome("1").unwrap_err();
    assert_eq!(error.to_string(), "`a` failed: no such process");
    scene.asks();
    scene.task("2");
    scene.says("a", "2", 1, done());
    scene.says("a", "2", 1, done());
    assert_eq!(scene.ended.len(), 1);
    assert_eq!(scene.core.counts.late, 1);
}

#[test]
fn one_id_is_one_task_also_after_it_has_ended() {
    let mut scene = Scene::with(&["a"], 1);
    scene.task("1");
    scene.task("1");
    assert_eq!(scene.asks().len(), 1);
    scene.says("a", "1", 1, done());
    let again = scene.submit(spec("1"));
    let Ok(Taken::Ended(_, outcome)) = again else {
        panic!("{again:?}");
    };
    assert_eq!(Ok(outcome.unwrap()), scene.outcome("1"));
    assert_eq!(scene.core.counts.duplicates, 2);
    scene.task("2");
    scene.act(|core, _, steps| core.cancel("2", steps));
    scene.asks();
    scene.task("2");
    assert_eq!(
        scene.asks(),
        [ask("a", "2", 1)],
        "what was cancelled may be asked for anew"
    );
    let old = Report {
        mark: scene.cancelled[0].clone(),
        member: "a".to_owned(),
        instance: "i1".to_owned(),
        answer: Answer::Cancelled,
    };
    scene.report(old);
    assert_eq!(scene.core.counts.late, 1, "that was about the task before");
    scene.says("a", "2", 1, done());
    assert!(
        scene
            .outcome("2")
            .is_err_and(|error| error == TaskError::Cancelled)
    );
    assert!(scene.outcome("2").is_ok());
}

#[test]
fn cancelling_ends_a_task_and_tells_the_member_that_has_it() {
    let mut scene = Scene::with(&["a"], 1);
    scene.task("1");
    scene.task("2");
    assert!(scene.act(|core, _, steps| core.cancel("2", steps)));
    assert!(scene.cancelled.is_empty(), "nobody has it");
    assert!(scene.act(|core, _, steps| core.cancel("1", steps)));
    assert!(!scene.act(|core, _, steps| core.cancel("1", steps)));
    assert_eq!(scene.cancelled.len(), 1);
    assert_eq!(scene.outcome("1"), Err(TaskError::Cancelled));
    assert_eq!(scene.outcome("2"), Err(TaskError::Cancelled));
    assert_eq!((scene.core.outstanding(), scene.core.taken()), (0, 0));
}

#[test]
fn the_higher_priority_goes_first_and_then_who_came_first() {
    let mut scene = Scene::with(&["a"], 1);
    scene.task("first");
    for (id, priority) in [("low", 1), ("high", 9), ("high too", 9)] {
        scene.submit(spec(id).priority(priority)).unwrap();
    }
    for (id, next) in [("first", "high"), ("high", "high too"), ("high too", "low")] {
        scene.asks();
        scene.says("a", id, 1, done());
        assert_eq!(scene.asks(), [ask("a", next, 1)]);
    }
}

#[test]
fn what_cannot_be_published_goes_to_another_member_unless_it_is_hopeless() {
    let mut scene = Scene::with(&["a", "b"], 1);
    scene.task("1");
    let mark = scene.asked[0].mark.clone();
    let denied = PublishError::Denied {
        topic: "tasks.process.a".to_owned(),
    };
    scene.act(|core, now, steps| core.unsent(&mark, Some(denied), now, steps));
    assert_eq!(scene.asks(), [ask("a", "1", 1), ask("b", "1", 2)]);
    scene.act(|core, now, steps| core.unsent(&mark, None, now, steps));
    assert!(scene.asks().is_empty(), "that was about an older attempt");
    let mark = Mark { attempt: 2, ..mark };
    let large = PublishError::TooLarge { size: 2, limit: 1 };
    scene.act(|core, now, steps| core.unsent(&mark, Some(large), now, steps));
    let error = scene.outcome("1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot be sent: event of 2 bytes is over the limit of 1"
    );
    assert_eq!(scene.core.taken(), 0);
}

#[test]
fn a_task_that_nobody_takes_is_given_up_after_so_many_attempts() {
    let mut scene = Scene::new(Options {
        attempts: 2,
        ..Options::default()
    });
    scene.change(Change::Joined(member("a", "i1", 1)));
    scene.task("1");
    scene.says("a", "1", 1, full());
    scene.wait(250);
    scene.says("a", "1", 2, full());
    let error = scene.outcome("1").unwrap_err();
    let says = "given up after 2 attempts: `a` refused (full), `a` refused (full)";
    assert_eq!(error.to_string(), says);
}

#[test]
fn events_of_a_task_are_a_part_of_what_it_was_submitted_for() {
    let mut scene = Scene::with(&["a"], 5);
    let whole = Correlation::new("scan").tag("host", "h");
    scene.submit(spec("1").correlation(&whole)).unwrap();
    assert_eq!(scene.asked[0].correlation, whole.child("1"));
    scene.task("2");
    assert_eq!(scene.asked[1].correlation, Correlation::new("2"));
    let trace = || Some("00-1-2-01".to_owned());
    scene.submit(spec("3").traced(trace())).unwrap();
    scene.submit(spec("4").traced(None)).unwrap();
    let mut elsewhere = whole.clone();
    elsewhere.trace_parent = Some("00-3-4-01".to_owned());
    scene
        .submit(spec("5").correlation(&elsewhere).traced(trace()))
        .unwrap();
    let traces = scene.asked[2..]
        .iter()
        .map(|asked| asked.correlation.trace_parent.clone());
    assert_eq!(
        traces.collect::<Vec<_>>(),
        [trace(), None, elsewhere.trace_parent]
    );
}

#[test]
fn news_of_an_earlier_submission_or_attempt_is_none_of_the_present_one() {
    let mut scene = Scene::with(&["a", "b"], 2);
    scene.task("1");
    let earlier = scene.asked.remove(0).mark;
    scene.act(|core, _, steps| core.cancel("1", steps));
    scene.outcome("1").unwrap_err();
    scene.task("1");
    let present = scene.asked.remove(0).mark;
    assert_ne!(earlier, present);
    assert_eq!(earlier.attempt, present.attempt);
    let too_large = PublishError::TooLarge { size: 9, limit: 8 };
    scene.act(|core, now, steps| {
        core.unsent(&earlier, None, now, steps);
        core.unsent(&earlier, Some(too_large), now, steps);
        core.hopeless(&earlier, "no".to_owned(), steps);
    });
    assert!(scene.ended.is_empty() && scene.asked.is_empty());
    scene.act(|core, now, steps| core.unsent(&present, None, now, steps));
    assert_eq!(scene.asks(), [ask("b", "1", 2)]);
    scene.act(|core, _, steps| core.hopeless(&present, "no".to_owned(), steps));
    assert!(scene.ended.is_empty(), "that attempt is over");
    scene.says("b", "1", 2, done());
    scene.outcome("1").unwrap();
}
