//! CTL-002: members that are not heard.

use std::time::Duration;

use control::registry::{Change, Health, Member, Removal, Rules};

use super::scene::{RARELY, Scene, Told, Voice};
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// The interval of who is silent soon.
const SOON: Duration = Duration::from_millis(10);

/// CTL-002: who is not heard when it promised is degraded, and removed when that goes on; who is heard again
/// has recovered; each of it is told, and of nobody else.
pub(crate) async fn ctl_002_silence_is_noticed(context: Context) -> Checked {
    let scene = Scene::new(&context).await?;
    let strict = Rules {
        min_interval: Duration::from_millis(1),
        ..Rules::default()
    };
    let patient = Rules {
        remove_after: 1_000_000,
        ..strict.clone()
    };
    let (patient, strict) = (
        scene.registry(patient).await?,
        scene.registry(strict).await?,
    );
    let mut by_patient = Told::by(&scene, &patient);
    let mut by_strict = Told::by(&scene, &strict);
    let home = scene.handle().await?;
    let (steady, fickle) = (scene.identity("steady"), scene.identity("fickle"));
    Voice::new(&home, &steady).promise(RARELY).await?;
    by_patient.joined(&steady.name).await?;
    by_strict.joined(&steady.name).await?;

    let mut voice = Voice::new(&home, &fickle);
    voice.promise(SOON).await?;
    by_patient.joined(&fickle.name).await?;
    missed(&by_patient.degraded(&fickle.name).await?, 2)?;
    silence(&mut by_strict, &fickle.name).await?;
    ensure!(
        strict.member(&fickle.name).is_none(),
        "who is removed is there"
    );
    let stays = patient.member(&fickle.name);
    ensure!(
        stays.is_some_and(|member| !member.is_available()),
        "who is degraded is as well as ever"
    );

    voice.promise(SOON).await?;
    match by_patient.next_of(&fickle.name).await? {
        Change::Recovered(member) if member.health == Health::Well => {}
        other => {
            return Err(Unmet::broken(format_args!("heard again, but: {other:?}")));
        }
    }
    missed(&by_patient.degraded(&fickle.name).await?, 2)?;
    silence(&mut by_strict, &fickle.name).await?;
    let told: Vec<&Change> = by_patient
        .untaken
        .iter()
        .chain(&by_strict.untaken)
        .collect();
    ensure!(told.is_empty(), "something was told of {told:?}");
    for registry in [&patient, &strict] {
        let steady = registry.member(&steady.name);
        ensure!(
            steady.is_some_and(|member| member.is_available()),
            "who keeps its promise is not well"
        );
    }
    Ok(())
}

/// A member joins, is degraded, and removed, in this order.
async fn silence(told: &mut Told, name: &str) -> Checked {
    told.joined(name).await?;
    missed(&told.degraded(name).await?, 2)?;
    let Change::Removed { member, reason } = told.next_of(name).await? else {
        return Err(Unmet::broken("who is silent is not removed"));
    };
    ensure_eq!(reason, Removal::Silent, "why it was removed");
    missed(&member, 5)
}

/// Whether a member is told to have missed so many intervals at least.
fn missed(member: &Member, least: u32) -> Checked {
    match member.health {
        Health::Degraded { missed, .. } if missed >= least => Ok(()),
        _ => Err(Unmet::broken(format_args!(
            "it should have missed {least} intervals: {:?}",
            member.health
        ))),
    }
}
