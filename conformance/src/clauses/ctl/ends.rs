//! CTL-005: how tasks end.

use std::sync::Arc;
use std::time::Duration;

use control::collector::TasksOnly;
use control::dispatch::{AttemptEnd, Options, Outcome, TaskError, TaskHandle};
use control::tasks::worker::Worker;
use control::tasks::{FailureReason, Order, RefusalReason};
use eventbus_trait::{Event, EventBus, Subscribe, Subscription};
use futures_util::future::try_join4;

use super::faults::a_member_is_killed;
use super::parts::{AT_ONCE, FAIL, HANG, HOLD, Hands, task};
use super::scene::{Agent, RARELY, Scene, Voice};
use crate::harness::Capability;
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// The deadline of a task that is not done by then.
const DEADLINE: Duration = Duration::from_secs(2);
/// When who dies would have said that it lives.
const NO_MORE: Duration = Duration::from_millis(1);

/// CTL-005: a task ends once: as its member says; as another one says, when its member has died; as
/// cancelled; or by its deadline, with what became of each attempt.
pub(crate) async fn ctl_005_a_task_ends_once(context: Context) -> Checked {
    let scene = Scene::new(&context).await?;
    let looks = scene.handle().await?;
    let orders = looks.subscribe(Subscribe::to("tasks.#")?);
    let mut orders = scene.stage.wait("a subscription", orders).await??;
    let play = Play {
        agent: scene.agent(Options::default()).await?,
        hands: Hands::new(),
        scene,
    };
    let told = try_join4(
        play.as_it_is_told(),
        play.moved(),
        play.cancelled(),
        play.overdue(&mut orders),
    );
    told.await?;
    let (stage, dispatcher) = (&play.scene.stage, &play.agent.dispatcher);
    stage.wait("no task to be left", dispatcher.idle()).await?;
    let now = dispatcher.now();
    ensure_eq!(
        (now.outstanding, now.taken),
        (0, 0),
        "tasks, and places taken"
    );
    let c = dispatcher.counts();
    let ended = c.done + c.failed + c.overdue + c.cancelled;
    ensure_eq!((c.submitted, ended), (5, 5), "submitted, and ended: {c:?}");
    let each = (c.done, c.failed, c.overdue, c.cancelled);
    ensure_eq!(each, (2, 1, 1, 1), "done, failed, overdue and cancelled");
    if context.has(Capability::Faults) {
        a_member_is_killed(&context).await?;
    }
    Ok(())
}

struct Play {
    scene: Scene,
    agent: Agent,
    hands: Hands,
}

/// A member that does one task at a time.
struct Member {
    name: String,
    home: Arc<dyn EventBus>,
    worker: Worker,
    voice: Voice,
}

impl Play {
    /// A member that has one capability, once it is known.
    async fn member(&self, of: &str, capability: &str) -> Checked<Member> {
        let identity = self.scene.identity(of).capability(capability).max_tasks(1);
        let home = self.scene.handle().await?;
        let handler = self.hands.of(&identity.name);
        let worker = self.scene.worker(&home, &identity, handler).await?;
        // Another handle speaks for it, which does not die with it.
        let mut voice = Voice::new(&self.scene.stage.bus(), &identity);
        voice.promise(RARELY).await?;
        self.known(&identity.name).await?;
        Ok(Member {
            name: identity.name,
            home,
            worker,
            voice,
        })
    }

    async fn known(&self, name: &str) -> Checked {
        let known = || self.agent.registry.member(name).is_some();
        self.scene.stage.until("a member to be known", known).await
    }

    /// Gives a task to whoever has the capability: it is known, so that this needs no patience; but the
    /// dispatcher hears of it a moment after the registry.
    fn submit(&self, capability: &str, how: &str) -> Checked<TaskHandle> {
        let task = task(capability, how)?.wait_for_member();
        Ok(self.agent.dispatcher.submit(task)?)
    }

    /// How a task ended, which is the same each time.
    async fn outcome(&self, task: &TaskHandle) -> Checked<Outcome> {
        let stage = &self.scene.stage;
        let outcome = stage.wait("a task to end", task.outcome()).await?;
        let again = stage.wait("the same end again", task.outcome()).await?;
        ensure_eq!(again, outcome, "the end of a task, asked for again");
        Ok(outcome)
    }

    async fn begun(&self, task: &TaskHandle, times: usize) -> Checked {
        let begun = || self.hands.times(task.id()) >= times;
        self.scene.stage.until("a task to begin", begun).await
    }

    /// Its member is a collector that does tasks.
    async fn as_it_is_told(&self) -> Checked {
        let identity = self.scene.identity("told").capability("told").max_tasks(1);
        let home = self.scene.handle().await?;
        let collector = Arc::new(TasksOnly(self.hands.of(&identity.name)));
        let member = self.scene.host(&home, &identity, collector, RARELY).await?;
        self.known(&identity.name).await?;
        let task = self.submit("told", AT_ONCE)?;
        let done = self.outcome(&task).await?.map_err(Unmet::broken)?;
        let by = (done.member, done.attempt);
        ensure_eq!(by, (identity.name.clone(), 1), "by whom, at which attempt");
        let result = done.result.bytes()?;
        let want = format!("{:?}", identity.name);
        ensure_eq!(&result[..], want.as_bytes(), "result");
        ensure!(!task.cancel(), "what has ended is cancelled");
        let failed = self.outcome(&self.submit("told", FAIL)?).await?;
        let want = TaskError::Failed {
            member: identity.name.clone(),
            reason: FailureReason::Error,
            message: "it cannot be done".to_owned(),
        };
        ensure_eq!(failed, Err(want), "a task that its member fails");
        let did = member
            .tasks()
            .map(|did| (did.accepted, did.done, did.failed));
        ensure_eq!(did, Some((2, 1, 1)), "accepted, done and failed");
        Ok(())
    }

    /// Its member dies in the middle of it: its handle ends, and nothing is heard of it when it promised.
    async fn moved(&self) -> Checked {
        let mut dies = self.member("a-moved", "moved").await?;
        let task = self.submit("moved", HOLD)?;
        self.begun(&task, 1).await?;
        let lives = self.member("b-moved", "moved").await?;
        let ending = dies.home.shutdown();
        self.scene.stage.wait("a handle to end", ending).await??;
        dies.voice.promise(NO_MORE).await?;
        self.begun(&task, 2).await?;
        self.hands.release(task.id());
        let done = self.outcome(&task).await?.map_err(Unmet::broken)?;
        let by = (done.member, done.attempt);
        ensure_eq!(by, (lives.name, 2), "by whom, at which attempt");
        ensure_eq!(self.hands.times(task.id()), 2, "times that it was begun");
        Ok(())
    }

    async fn cancelled(&self) -> Checked {
        let member = self.member("cancelled", "cancelled").await?;
        let task = self.submit("cancelled", HANG)?;
        self.begun(&task, 1).await?;
        ensure!(task.cancel(), "a task that is under way is not cancelled");
        ensure!(!task.cancel(), "a task is cancelled twice");
        let outcome = self.outcome(&task).await?;
        ensure_eq!(
            outcome,
            Err(TaskError::Cancelled),
            "the end of who is cancelled"
        );
        let given_up = || member.worker.stats().cancelled == 1;
        let stage = &self.scene.stage;
        stage.until("the member to give it up", given_up).await
    }

    /// One member gives it back, and the other does not come to an end with it.
    async fn overdue(&self, orders: &mut Subscription) -> Checked {
        let full = self.member("a-overdue", "overdue").await?;
        full.worker.drain();
        let hangs = self.member("b-overdue", "overdue").await?;
        let spec = task("overdue", HANG)?.deadline(DEADLINE).wait_for_member();
        let task = self.agent.dispatcher.submit(spec)?;
        let Err(TaskError::Deadline { deadline, attempts }) = self.outcome(&task).await? else {
            return Err(Unmet::broken(
                "a task that hangs was not ended by its deadline",
            ));
        };
        ensure_eq!(deadline, DEADLINE, "the deadline");
        let asked = self.asked(orders, task.id()).await?;
        let tried: Vec<&String> = attempts.iter().map(|attempt| &attempt.member).collect();
        ensure_eq!(tried, asked.iter().collect::<Vec<_>>(), "who was asked");
        let Some((last, before)) = attempts.split_last() else {
            return Err(Unmet::broken("a task with a member has no attempt"));
        };
        ensure_eq!(last.end, AttemptEnd::Unfinished, "the last attempt");
        ensure_eq!(last.member, hangs.name, "who had it last");
        for attempt in before {
            let draining = matches!(
                &attempt.end,
                AttemptEnd::Refused {
                    reason: RefusalReason::Draining,
                    ..
                }
            );
            ensure!(
                draining && attempt.member == full.name,
                "an attempt: {attempt}"
            );
        }
        Ok(())
    }

    /// Who was asked to do a task, by the orders that were published up to now.
    async fn asked(&self, orders: &mut Subscription, id: &str) -> Checked<Vec<String>> {
        let fence = Event::json("tasks.fence", &id)?;
        self.scene.stage.bus().publish(fence).await?;
        let read = async {
            let mut asked = Vec::new();
            while let Some(event) = orders.recv().await {
                let topic = event.topic().as_str();
                if topic == "tasks.fence" {
                    break;
                }
                let member = topic.rsplit('.').next().unwrap_or_default().to_owned();
                if let Order::Do(task) = Order::decode(&event.bytes()?)?
                    && task.mark.id == id
                {
                    asked.push(member);
                }
            }
            Ok(asked)
        };
        self.scene.stage.wait("orders", read).await?
    }
}
