//! CTL-006: orders and reports that come twice.

use std::sync::Arc;
use std::time::Duration;

use control::dispatch::Options;
use control::tasks::{
    Answer, DEFAULT_PRIORITY, Mark, Order, Report, Task, orders_topic, reports_topic,
};
use eventbus_trait::{ContentType, Event, EventBus, Payload, Subscribe, Subscription};

use super::parts::{AT_ONCE, HOLD, Hands, named, task};
use super::scene::{AGENT, KIND, Scene};
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// Who orders by hand.
const BY_HAND: &str = "ctl-by-hand";
/// Tasks of which each order comes twice.
const TASKS: u32 = 20;

/// CTL-006: a task whose order comes again is done once, and its answer repeated; a report that comes again,
/// and a task that is submitted again, change nothing.
pub(crate) async fn ctl_006_a_task_is_done_once(context: Context) -> Checked {
    let scene = Scene::new(&context).await?;
    orders_come_twice(&scene).await?;
    reports_come_twice(&scene).await
}

/// The member's side, which is asked by hand.
async fn orders_come_twice(scene: &Scene) -> Checked {
    let hands = Hands::new();
    let identity = scene.identity("ordered").capability("work").max_tasks(4);
    let home = scene.handle().await?;
    let worker = scene
        .worker(&home, &identity, hands.of(&identity.name))
        .await?;
    let bus = scene.stage.bus();
    let reports = bus.subscribe(Subscribe::to(reports_topic(BY_HAND))?);
    let mut hand = ByHand {
        bus: Arc::clone(&bus),
        topic: orders_topic(KIND, &identity.name),
        reports: scene.stage.wait("a subscription", reports).await??,
    };
    // While it is under way.
    hand.order("held", 1, HOLD).await?;
    hand.order("held", 1, HOLD).await?;
    for _ in 0..2 {
        hand.answered(scene, "held", 1, Answer::Accepted).await?;
    }
    hands.release("held");
    let done = || Answer::Done(named(&identity.name));
    hand.answered(scene, "held", 1, done()).await?;
    // When it is done, and as another attempt of somebody who has not heard of that.
    for attempt in [1, 2] {
        hand.order("held", attempt, HOLD).await?;
        hand.answered(scene, "held", attempt, done()).await?;
    }
    ensure_eq!(hands.times("held"), 1, "times that the task was begun");
    for task in 0..TASKS {
        let id = format!("task-{task}");
        hand.order(&id, 1, AT_ONCE).await?;
        hand.order(&id, 1, AT_ONCE).await?;
    }
    scene
        .stage
        .until("every order to be answered", || {
            let stats = worker.stats();
            stats.repeated >= u64::from(TASKS) + 3 && stats.accepted == stats.done
        })
        .await?;
    for task in 0..TASKS {
        let times = hands.times(&format!("task-{task}"));
        ensure_eq!(times, 1, "times that task {task} was begun");
    }
    let stats = worker.stats();
    let want = (u64::from(TASKS) + 1, u64::from(TASKS) + 3);
    ensure_eq!(
        (stats.done, stats.repeated),
        want,
        "done, and asked for again"
    );
    Ok(())
}

/// The dispatcher's side: each report is published once more, by somebody else.
async fn reports_come_twice(scene: &Scene) -> Checked {
    let hands = Hands::new();
    let agent = scene.agent(Options::default()).await?;
    let echo = scene.handle().await?;
    let reports = echo.subscribe(Subscribe::to(reports_topic(AGENT))?);
    let mut reports = scene.stage.wait("a subscription", reports).await??;
    let identity = scene.identity("reports").capability("work").max_tasks(4);
    let member = scene.member(identity, &hands).await?;
    agent.knows(1).await?;
    let submit = || {
        agent
            .dispatcher
            .submit(task("work", AT_ONCE)?.id("once").wait_for_member())
            .map_err(Unmet::from)
    };
    let first = submit()?;
    let outcome = scene.stage.wait("a task to end", first.outcome()).await?;
    let done = outcome.clone().map_err(Unmet::broken)?;
    ensure_eq!(done.member, member.name, "who did it");
    let echoing = async {
        for _ in 0..2 {
            let Some(event) = reports.recv().await else {
                return Err(Unmet::broken("reports have ended"));
            };
            let again = Event::on(event.topic().clone(), event.payload().clone());
            echo.publish(again).await?;
        }
        Ok(())
    };
    scene.stage.wait("reports", echoing).await??;
    let late = || agent.dispatcher.counts().late == 2;
    scene
        .stage
        .until("repeated reports to be counted", late)
        .await?;
    let second = submit()?;
    let second = scene.stage.wait("the same task", second.outcome()).await?;
    ensure_eq!(second, outcome, "how it ended, submitted again");
    ensure_eq!(hands.times("once"), 1, "times that it was begun");
    let counts = agent.dispatcher.counts();
    let each = (counts.submitted, counts.done, counts.duplicates);
    ensure_eq!(each, (1, 1, 1), "submitted, done, and submitted again");
    ensure!(first.try_outcome() == Some(outcome), "the end has changed");
    Ok(())
}

/// A dispatcher that repeats itself.
struct ByHand {
    bus: Arc<dyn EventBus>,
    topic: String,
    reports: Subscription,
}

impl ByHand {
    async fn order(&mut self, id: &str, attempt: u32, how: &str) -> Checked {
        let how = serde_json::to_vec(how).map_err(Unmet::broken)?;
        let order = Order::Do(Task {
            mark: mark(id, attempt),
            capability: "work".to_owned(),
            deadline: Duration::from_secs(600),
            priority: DEFAULT_PRIORITY,
            payload: Payload::new(how, ContentType::Json),
        });
        let event = Event::new(&*self.topic, order.encode()?)?;
        self.bus.publish(event).await?;
        Ok(())
    }

    /// The next report is this answer to this attempt.
    async fn answered(&mut self, scene: &Scene, id: &str, attempt: u32, answer: Answer) -> Checked {
        let event = scene.stage.wait("a report", self.reports.recv()).await?;
        let Some(event) = event else {
            return Err(Unmet::broken("reports have ended"));
        };
        let report = Report::decode(&event.bytes()?)?;
        ensure_eq!(report.mark, mark(id, attempt), "what a report is about");
        ensure_eq!(report.answer, answer, "what it says");
        Ok(())
    }
}

fn mark(id: &str, attempt: u32) -> Mark {
    Mark {
        id: id.to_owned(),
        dispatcher: BY_HAND.to_owned(),
        life: "1".to_owned(),
        attempt,
    }
}
