//! CTL-008: what is kept is bounded.

use control::dispatch::{self, SubmitError};
use control::registry::Rules;
use control::results::{Absence, Ended, GatherError, Options, Wanted};
use eventbus_trait::{Correlation, Event, Payload};

use super::parts::{AT_ONCE, HOLD, Hands, task};
use super::scene::{Scene, Told};
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// Bytes that a gatherer may keep.
const BYTES: usize = 4096;
/// Parts that one gathering may have.
const PARTS: usize = 4;

/// CTL-008: members, tasks, gatherings, their parts and their bytes are bounded; what finds no room is
/// refused with the limit, or counted and named, and afterwards there is room again.
pub(crate) async fn ctl_008_what_is_kept_is_bounded(context: Context) -> Checked {
    let scene = Scene::new(&context).await?;
    results(&scene).await?;
    tasks(&scene).await?;
    members(&scene).await
}

async fn results(scene: &Scene) -> Checked {
    let gather = scene
        .gather(Options {
            gatherings: 2,
            parts: PARTS,
            bytes: BYTES,
        })
        .await?;
    let patience = scene.stage.patience() * 2;
    let three = Wanted::ids("whole", ["a", "b", "c"]).within(patience);
    let many = Wanted::ids("whole", ["1", "2", "3", "4", "5"]);
    let parts = many_parts();
    ensure_eq!(gather.begin(many).err(), Some(parts), "too many parts");
    let gathering = gather.begin(three.clone())?;
    let kept = gather.begin(three.clone())?;
    let full = GatherError::Full { limit: 2 };
    ensure_eq!(
        gather.begin(three.clone()).err(),
        Some(full),
        "one gathering more"
    );
    drop(kept);
    let home = scene.handle().await?;
    let large = || vec![0x2a_u8; BYTES / 2];
    for id in ["a", "b", "c"] {
        let of = Correlation::new("whole").child(id);
        // Two of them together are too large.
        let event = Event::new("results.ctl.large", Payload::raw(large()))?.correlation(of);
        home.publish(event).await?;
        let kept = gather.stats().bytes;
        ensure!(kept <= BYTES, "{kept} bytes are kept, of {BYTES}");
    }
    let gathered = scene.stage.wait("what was gathered", gathering.gathered());
    let gathered = gathered.await?;
    ensure_eq!(gathered.ended, Ended::NoRoom, "why it ended");
    let (there, refused) = (gathered.parts.len(), gathered.refused);
    ensure_eq!((there, refused), (1, 2), "parts, and those without room");
    let whole = gathered.parts[0].payload.bytes()?;
    ensure_eq!(&whole[..], &large()[..], "the part that found room");
    for missing in &gathered.missing {
        ensure_eq!(
            missing.why,
            Absence::NoRoom,
            "why `{}` is missing",
            missing.name
        );
    }
    ensure_eq!(gathered.missing.len(), 2, "parts that are missing");
    let stats = gather.stats();
    let left = (stats.gatherings, stats.bytes, stats.refused);
    ensure_eq!(left, (0, 0, 2), "gatherings, bytes kept, and parts refused");
    drop(gather.begin(three)?);
    Ok(())
}

fn many_parts() -> GatherError {
    GatherError::TooManyParts {
        parts: PARTS + 1,
        limit: PARTS,
    }
}

async fn tasks(scene: &Scene) -> Checked {
    let options = dispatch::Options {
        outstanding: 2,
        ..dispatch::Options::default()
    };
    let agent = scene.agent(options).await?;
    let hands = Hands::new();
    let identity = scene.identity("busy").capability("work").max_tasks(1);
    let _member = scene.member(identity, &hands).await?;
    agent.knows(1).await?;
    let dispatcher = &agent.dispatcher;
    let first = dispatcher.submit(task("work", HOLD)?)?;
    let second = dispatcher.submit(task("work", AT_ONCE)?)?;
    let third = dispatcher.submit(task("work", AT_ONCE)?).err();
    ensure_eq!(third, Some(SubmitError::Full { limit: 2 }), "one task more");
    let begun = || hands.times(first.id()) == 1;
    scene.stage.until("a task to begin", begun).await?;
    ensure_eq!(
        hands.begun().len(),
        1,
        "tasks at a member with room for one"
    );
    hands.release(first.id());
    for task in [&first, &second] {
        let outcome = scene.stage.wait("a task to end", task.outcome()).await?;
        outcome.map_err(Unmet::broken)?;
    }
    let third = dispatcher.submit(task("work", AT_ONCE)?)?;
    let outcome = scene.stage.wait("a task to end", third.outcome()).await?;
    outcome.map(drop).map_err(Unmet::broken)
}

async fn members(scene: &Scene) -> Checked {
    let rules = Rules {
        max_members: 2,
        ..Rules::default()
    };
    let registry = scene.registry(rules).await?;
    let mut told = Told::by(scene, &registry);
    let home = scene.handle().await?;
    for of in ["one", "two", "three"] {
        scene.announce(&home, &scene.identity(of)).await?;
    }
    for of in ["one", "two"] {
        told.joined(&scene.name(of)).await?;
    }
    let counted = || registry.stats().crowded == 1;
    scene
        .stage
        .until("who finds no room to be counted", counted)
        .await?;
    ensure_eq!(registry.members().len(), 2, "members");
    ensure!(
        registry.member(&scene.name("three")).is_none(),
        "one too many"
    );
    Ok(())
}
