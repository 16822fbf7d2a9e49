//! What MIG-001 and MIG-002 say of candidates that come and go while the bus is in use, of a
//! comparison that samples, of the file of divergences, and of what is nobody's promise.

use std::path::PathBuf;
use std::time::Duration;

use eventbus_trait::PublisherId;
use futures_util::future::join;

use super::{EVENTS, sees_all, shadow, wrapped};
use crate::harness::{Comparison, Depth};
use crate::mutants::Defect;
use crate::stage::{Context, Shadowed};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// How often to try until publishers come in another order.
const ROUNDS: usize = 20;
/// How long a candidate that hangs is waited for.
const SHORT: Duration = Duration::from_millis(50);

/// Candidates, good and bad, come and go while the application publishes and reads.
pub(super) async fn candidates_come_and_go(context: &Context) -> Checked {
    let (shadow, _) = shadow(context, Defect::None).await?;
    let stage = &shadow.stage;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let mut readers = vec![
        stage.reader(&bus, "a.#").await?,
        stage.reader(&bus, "*.b").await?,
    ];
    for defect in [Defect::Drops, Defect::Panics, Defect::Hangs, Defect::None] {
        let coming = async {
            shadow.detach(SHORT).await?;
            shadow.attach(wrapped(defect).0, Depth::default()).await
        };
        let publishing = author.publish_over(&["a.b", "a.c", "other"], 200);
        let both = async {
            let (published, came) = join(publishing, coming).await;
            published.and(came)
        };
        let told = |unmet: Unmet| super::about(defect, &unmet);
        stage
            .while_reading(&mut readers, both)
            .await
            .map_err(told)?;
        let publishing = author.publish_over(&["a.b", "a.c", "other"], 50);
        stage
            .while_reading(&mut readers, publishing)
            .await
            .map_err(told)?;
    }
    stage.drain(&mut readers, &[author]).await?;
    sees_all(&stage.history())?;
    context.close(shadow.stage).await
}

/// What a candidate that has just come does wrong is found, and of what was published before it came,
/// and is read only now, nothing is said.
pub(super) async fn a_candidate_is_judged_from_when_it_came(context: &Context) -> Checked {
    let (counted, injected, _) = attached(context, Defect::Drops, Depth::default()).await?;
    let told = format!("of a candidate that came later: {counted:?}");
    ensure_eq!(counted.missing, injected, "found and injected {told}");
    ensure_eq!(counted.divergences(), injected, "all divergences {told}");
    ensure_eq!(counted.unverified, 0, "not compared {told}");
    Ok(())
}

/// Sampling leaves out contents and nothing else.
pub(super) async fn a_sample_is_of_contents_alone(context: &Context) -> Checked {
    for (defect, sample) in [
        (Defect::Corrupts, 0.0),
        (Defect::Corrupts, 1.0),
        (Defect::Drops, 0.0),
    ] {
        let depth = Depth { sample, file: None };
        let (counted, injected, _) = attached(context, defect, depth).await?;
        let told = format!("of {defect:?} by a sample of {sample}: {counted:?}");
        let found = if defect == Defect::Corrupts && sample == 0.0 {
            0
        } else {
            injected
        };
        ensure_eq!(counted.divergences(), found, "divergences {told}");
        let unsampled = if sample == 0.0 { counted.matched } else { 0 };
        ensure_eq!(counted.unsampled, unsampled, "left out {told}");
        ensure_eq!(counted.unverified, 0, "not compared {told}");
    }
    Ok(())
}

/// Every divergence is in the file, and comes out of it as it was told.
pub(super) async fn a_file_says_the_same_again(context: &Context) -> Checked {
    for defect in [Defect::Drops, Defect::Duplicates, Defect::ReordersTopic] {
        let file = File::new();
        let depth = Depth {
            file: Some(file.0.clone()),
            ..Depth::default()
        };
        let (counted, injected, shadow) = attached(context, defect, depth).await?;
        let replayed = shadow.replay(&file.0).await?;
        let told = format!("of {defect:?}: {replayed:?}, {counted:?}");
        ensure_eq!(replayed.reproduced, injected, "reproduced {told}");
        ensure_eq!(replayed.otherwise, 0, "not as told {told}");
    }
    Ok(())
}

/// The order of different publishers is nobody's promise: it is measured, and no divergence.
pub(super) async fn publishers_in_another_order_are_measured(context: &Context) -> Checked {
    let (shadow, place) = shadow(context, Defect::ReordersAuthors).await?;
    let stage = &shadow.stage;
    let (bus, other) = (stage.bus(), stage.connect().await?);
    let mut readers = vec![stage.reader(&bus, "a.#").await?];
    let authors = [stage.author(&bus), stage.author(&other)];
    let struck = || place.get().map_or(0, |candidate| candidate.injected());
    // A candidate that keeps up has no two events to tell the other way round.
    for _ in 0..ROUNDS {
        let publishing = async {
            for _ in 0..EVENTS / 4 {
                authors[0].publish("a.b").await?;
                authors[1].publish("a.b").await?;
            }
            Ok(())
        };
        stage.while_reading(&mut readers, publishing).await?;
        stage.drain(&mut readers, &authors).await?;
        if struck() > 0 {
            break;
        }
    }
    let counted = shadow.compare().await;
    let injected = struck();
    let told = format!("where {injected} were reordered: {counted:?}");
    ensure_eq!(counted.divergences(), 0, "divergences {told}");
    ensure_eq!(counted.unverified, 0, "not compared {told}");
    if injected == 0 {
        return Err(Unmet::unexercised("no publishers came in another order"));
    }
    ensure!(counted.inverted > 0, "not measured {told}");
    context.close(shadow.stage).await
}

/// What is found of a candidate that comes while events of before are still unread, and how often its
/// defect struck.
async fn attached(
    context: &Context,
    defect: Defect,
    depth: Depth,
) -> Checked<(Comparison, u64, Shadowed)> {
    let (shadow, _) = shadow(context, Defect::None).await?;
    let stage = &shadow.stage;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let mut readers = vec![
        stage.reader(&bus, "a.#").await?,
        stage.reader(&bus, "a.b").await?,
    ];
    shadow.detach(stage.patience()).await?;
    author.publish_over(&["a.b"], EARLIER as usize).await?;
    let (wrap, place) = wrapped(defect);
    shadow.attach(wrap, depth).await?;
    let publishing = author.publish_over(&["a.b"], EVENTS as usize);
    stage.while_reading(&mut readers, publishing).await?;
    stage.drain(&mut readers, &[author]).await?;
    let counted = shadow.detach(stage.patience()).await?;
    let injected = place.get().map_or(0, |candidate| candidate.injected());
    let told = format!("with a candidate that has {defect:?}: {counted:?}");
    if injected == 0 {
        return Err(Unmet::unexercised(format_args!("{defect:?} never struck")));
    }
    ensure!(counted.adds_up(), "classes do not add up {told}");
    ensure_eq!(counted.in_flight, 0, "not classified {told}");
    let due = 2 * EVENTS..2 * EVENTS + EARLIER;
    ensure!(due.contains(&counted.expected), "compared {told}");
    context.close(stage.clone()).await?;
    Ok((counted, injected, shadow))
}

/// Fewer than this are published besides, to say that all has been read.
const EARLIER: u64 = 200;

/// A file of its own, gone at the end.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        let name = format!("conformance-divergences-{}.jsonl", PublisherId::random());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
