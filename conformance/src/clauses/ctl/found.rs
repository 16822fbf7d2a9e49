//! CTL-001: members announce themselves.

use std::sync::Arc;

use control::collector::{Ended, Host};
use control::member::Activity;
use control::registry::{Removal, Rules};

use super::parts::Idle;
use super::scene::{OFTEN, RARELY, Scene, Told};
use crate::stage::Context;
use crate::verdict::{Checked, ensure, ensure_eq};

/// CTL-001: who listens finds each member with all that it says of itself, whichever of them was first; that
/// one leaves, and that another life has its name, is told as such.
pub(crate) async fn ctl_001_members_are_found(context: Context) -> Checked {
    let scene = Scene::new(&context).await?;
    // Silence is another clause's.
    let patient = Rules {
        degrade_after: 10_000,
        remove_after: 20_000,
        ..Rules::default()
    };
    let first = scene.registry(patient.clone()).await?;
    let mut told = Told::by(&scene, &first);
    let leaver = scene.identity("leaver").version("1.2.3").max_tasks(3);
    let leaver = leaver.capability("hash").capability("scan");
    let home = scene.handle().await?;
    let host = scene.host(&home, &leaver, Arc::new(Idle), OFTEN).await?;
    let joined = told.joined(&leaver.name).await?;
    ensure_eq!(*joined.identity, leaver, "what a member says of itself");
    ensure!(joined.is_available(), "a new member is {joined:?}");

    let second = scene.registry(patient).await?;
    let mut told_second = Told::by(&scene, &second);
    let joined = told_second.joined(&leaver.name).await?;
    ensure_eq!(
        *joined.identity,
        leaver,
        "the same, heard by who came later"
    );

    let _next = another_life(&scene, &mut told).await?;
    let names = first
        .members()
        .into_iter()
        .map(|member| member.identity.name.clone());
    let names: Vec<String> = names.collect();
    let want = [&*leaver.name, &*scene.name("replaced")];
    ensure_eq!(names, want, "names of all members");

    let shutdown = host.shutdown(scene.stage.patience());
    let ended = scene.stage.wait("a member to end", shutdown).await?;
    ensure!(matches!(ended, Ended::ShutDown(_)), "it ended by {ended:?}");
    for (told, registry) in [(&mut told, &first), (&mut told_second, &second)] {
        let (gone, reason) = told.removed(&leaver.name).await?;
        let end = (gone.activity, reason);
        ensure_eq!(end, (Activity::Leaving, Removal::Left), "who has left");
        ensure!(
            registry.member(&leaver.name).is_none(),
            "who has left is there"
        );
    }
    Ok(())
}

/// A member dies and is there again, before anybody can have noticed.
async fn another_life(scene: &Scene, told: &mut Told) -> Checked<Host> {
    let before = scene.identity("replaced");
    let former = scene.handle().await?;
    let dying = scene.host(&former, &before, Arc::new(Idle), RARELY).await?;
    let joined = told.joined(&before.name).await?;
    ensure_eq!(joined.identity.instance, before.instance, "its instance");
    scene
        .stage
        .wait("a handle to end", former.shutdown())
        .await??;
    drop(dying);
    let after = scene.identity("replaced").version("2");
    let next = scene.handle().await?;
    let next = scene.host(&next, &after, Arc::new(Idle), RARELY).await?;
    let (gone, reason) = told.removed(&before.name).await?;
    let end = (&gone.identity.instance, reason);
    ensure_eq!(
        end,
        (&before.instance, Removal::Replaced),
        "the end of a life"
    );
    let joined = told.joined(&after.name).await?;
    ensure_eq!(*joined.identity, after, "the life after it");
    Ok(next)
}
