//! CTL-004: who is given a task.

use control::dispatch::{Options, SubmitError, TaskHandle};

use super::parts::{AT_ONCE, HOLD, Hands, task};
use super::scene::Scene;
use crate::stage::Context;
use crate::verdict::{Checked, ensure, ensure_eq};

/// Tasks that each member does at once.
const ROOM: u32 = 2;

/// CTL-004: a task goes to the member that has the capability and the fewest of the dispatcher's tasks, and
/// waits where all are full; where nobody has the capability that is said at once.
pub(crate) async fn ctl_004_a_task_goes_to_who_can(context: Context) -> Checked {
    let scene = Scene::new(&context).await?;
    let agent = scene.agent(Options::default()).await?;
    let hands = Hands::new();
    let can = |of: &str, capability| scene.identity(of).capability(capability).max_tasks(ROOM);
    let first = scene.member(can("first", "work"), &hands).await?;
    let second = scene.member(can("second", "work"), &hands).await?;
    let other = scene.member(can("third", "other"), &hands).await?;
    agent.knows(3).await?;
    let dispatcher = &agent.dispatcher;
    let nobody = dispatcher.submit(task("nothing", AT_ONCE)?).err();
    let capability = "nothing".to_owned();
    let want = SubmitError::NoCapableMember { capability };
    ensure_eq!(nobody, Some(want), "a task that nobody can do");

    let submit = || -> Checked<TaskHandle> { Ok(dispatcher.submit(task("work", HOLD)?)?) };
    let mut tasks: Vec<TaskHandle> = Vec::new();
    for _ in 0..2 * ROOM {
        tasks.push(submit()?);
    }
    begun(&scene, &hands, tasks.len()).await?;
    let at = [&first, &second, &other].map(|member| hands.at(&member.name));
    ensure_eq!(at, [2, 2, 0], "tasks at each member");
    tasks.push(submit()?);
    let now = dispatcher.now();
    ensure_eq!(
        (now.waiting, now.taken),
        (1, 4),
        "waiting, and places taken"
    );
    // Both of the second end, and the one that waits takes the place of the first of them.
    let of_second: Vec<String> = of(&hands, &second.name);
    for id in &of_second {
        let before = hands.begun().len();
        hands.release(id);
        outcome(&scene, &tasks, id, &second.name).await?;
        if before < tasks.len() {
            begun(&scene, &hands, tasks.len()).await?;
        }
    }
    ensure_eq!(hands.at(&second.name), 3, "tasks that the second has begun");
    // It has one now, and the first has two: so it is asked, though it comes later by name.
    tasks.push(submit()?);
    begun(&scene, &hands, tasks.len()).await?;
    ensure_eq!(
        hands.at(&second.name),
        4,
        "of the fewest, tasks that it has begun"
    );
    let apart = dispatcher.submit(task("other", AT_ONCE)?)?;
    let done = scene.stage.wait("a task to end", apart.outcome()).await?;
    let by = done.map(|done| done.member);
    ensure_eq!(by, Ok(other.name.clone()), "who did what it alone can do");
    for task in &tasks {
        hands.release(task.id());
    }
    scene
        .stage
        .wait("no task to be left", dispatcher.idle())
        .await?;
    let counts = dispatcher.counts();
    let all = tasks.len() as u64 + 1;
    ensure_eq!(
        (counts.done, counts.retries),
        (all, 0),
        "done, and tried again"
    );
    for member in [&first, &second, &other] {
        let refused = member.worker.stats().refused;
        ensure!(refused == 0, "`{}` has refused {refused}", member.name);
    }
    Ok(())
}

/// Waits until so many tasks have begun.
async fn begun(scene: &Scene, hands: &Hands, tasks: usize) -> Checked {
    let begun = || hands.begun().len() >= tasks;
    scene.stage.until("tasks to begin", begun).await
}

/// The tasks that a member has begun.
fn of(hands: &Hands, member: &str) -> Vec<String> {
    let begun = hands.begun().into_iter();
    begun
        .filter(|begun| begun.member == member)
        .map(|begun| begun.id)
        .collect()
}

/// Waits until a task has ended, which is to have been done by this member.
async fn outcome(scene: &Scene, tasks: &[TaskHandle], id: &str, member: &str) -> Checked {
    for task in tasks.iter().filter(|task| task.id() == id) {
        let done = scene.stage.wait("a task to end", task.outcome()).await?;
        let by = done.map(|done| done.member);
        ensure_eq!(by, Ok(member.to_owned()), "who did it");
    }
    Ok(())
}
