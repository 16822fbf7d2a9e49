//! CTL-005 through faults: the process of a member is killed, and the connection of who asks is reset.

use std::time::Duration;

use control::dispatch::Options;
use control::tasks::{Answer, Report};
use eventbus_trait::{Subscribe, Subscription};

use super::parts::task;
use super::scene::{AGENT, Scene};
use crate::harness::{Fault, Opening};
use crate::peer::{CAPABILITY, Part};
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// How long the task may take: it is not to end by that.
const LONG: Duration = Duration::from_secs(600);

/// A member has a task that it does not end; who asks loses the connection, then the member is killed.
/// Another one does it.
pub(super) async fn a_member_is_killed(context: &Context) -> Checked {
    let faulty = context.fault_stage().await?;
    let scene = Scene::on(context, faulty.stage.clone());
    let looks = faulty.open(Opening::default()).await?;
    let reports = looks.subscribe(Subscribe::to(format!("results.{AGENT}"))?);
    let mut reports = scene.stage.wait("a subscription", reports).await??;
    let agent = scene.agent(Options::default()).await?;
    let (dies, lives) = (scene.name("dies"), scene.name("lives"));
    let part = |name: &String| Part::Member { name: name.clone() };
    let mut process = faulty.start_peer(part(&dies)).await?;
    // It hangs at the member of this name.
    let task = task(CAPABILITY, &dies)?.deadline(LONG).wait_for_member();
    let task = agent.dispatcher.submit(task)?;
    accepted(&scene, &mut reports, &dies).await?;
    let before = faulty.struck();
    faulty.strike(Fault::Reset).await?;
    let struck = || faulty.struck() > before;
    scene.stage.until("a fault to strike", struck).await?;
    faulty.heal().await?;
    let _other = faulty.start_peer(part(&lives)).await?;
    process.kill()?;
    let outcome = scene.stage.wait("a task to end", task.outcome()).await?;
    let done = outcome.map_err(Unmet::broken)?;
    ensure_eq!(done.member, lives, "who did it");
    ensure!(done.attempt > 1, "done at attempt {}", done.attempt);
    let counts = agent.dispatcher.counts();
    ensure_eq!(
        (counts.submitted, counts.done),
        (1, 1),
        "submitted, and done"
    );
    scene
        .stage
        .wait("no task to be left", agent.dispatcher.idle())
        .await
}

/// Waits until a member says that it has the task.
async fn accepted(scene: &Scene, reports: &mut Subscription, member: &str) -> Checked {
    let accepting = async {
        while let Some(event) = reports.recv().await {
            let report = Report::decode(&event.bytes()?)?;
            if report.member == member && report.answer == Answer::Accepted {
                return Ok(());
            }
        }
        Err(Unmet::broken("reports have ended"))
    };
    scene
        .stage
        .wait("the task to be accepted", accepting)
        .await?
}
