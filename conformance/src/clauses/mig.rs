//! MIG: what a shadow owes to the application, and to whoever reads its report; what a move from one
//! phase to another owes to both; and what any phase owes to an application that is to move.

mod calls;
mod coming;
mod cutover;
mod errors;

pub(super) use calls::mig_006_calls_are_the_primarys;
pub(super) use cutover::{mig_003_a_cutover_is_not_noticed, mig_004_a_crash_leaves_one_phase};
pub(super) use errors::mig_005_errors_are_the_same;

use std::sync::{Arc, OnceLock};

use eventbus_trait::{EventBus, Topic};

use crate::check::{self, Within};
use crate::harness::{Comparison, Wrap};
use crate::history::History;
use crate::mutants::{Defect, MutantBus};
use crate::stage::{Context, Shadowed};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// MIG-001: under shadow the application gets the primary's events, order and errors, whatever
/// the candidate does: lose, repeat, invent, corrupt, refuse, panic, or never answer; and also while
/// candidates come and go.
pub(crate) async fn mig_001_the_primary_alone(context: Context) -> Checked {
    let bad_candidates = [
        Defect::None,
        Defect::Drops,
        Defect::Duplicates,
        Defect::Corrupts,
        Defect::Invents,
        Defect::ReordersTopic,
        Defect::RefusesAll,
        Defect::Panics,
        Defect::Hangs,
    ];
    for defect in bad_candidates {
        let (shadow, _) = shadow(&context, defect).await?;
        let seen = sees_the_primary(&shadow).await;
        seen.map_err(|unmet| about(defect, &unmet))?;
        context
            .close(shadow.stage)
            .await
            .map_err(|unmet| about(defect, &unmet))?;
    }
    coming::candidates_come_and_go(&context).await
}

fn about(defect: Defect, unmet: &Unmet) -> Unmet {
    Unmet::broken(format_args!(
        "with a candidate that has {defect:?}: {unmet}"
    ))
}

async fn sees_the_primary(shadow: &Shadowed) -> Checked {
    let stage = &shadow.stage;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let mut readers = vec![
        stage.reader(&bus, "a.#").await?,
        stage.reader(&bus, "*.b").await?,
    ];
    let publishing = author.publish_over(&["a.b", "a.c", "other"], 300);
    stage.while_reading(&mut readers, publishing).await?;
    let receipt = author
        .publish("a.b")
        .await?
        .confirmed(stage.patience())
        .await?;
    ensure_eq!(receipt.deliveries, 2, "deliveries that a receipt tells of");
    let large = author
        .event(&Topic::new("a.b")?)
        .header("large", "x".repeat(2 << 20));
    let refused = author.send(large).await.is_err();
    ensure!(refused, "an event over the primary's limit was taken");
    stage.drain(&mut readers, &[author]).await?;
    let history = stage.history();
    sees_all(&history)?;
    check::refused(&history).verdict()
}

/// Everything once, in order, unaltered, and nothing else.
fn sees_all(history: &History) -> Checked {
    check::lost(history).verdict()?;
    check::duplicates(history).verdict()?;
    check::phantoms(history).verdict()?;
    check::corrupted(history).verdict()?;
    check::nonmonotonic(history, Within::Author).verdict()
}

/// MIG-002: what the candidate does wrong is found, each in its class and as often as it was
/// done, and nothing else is; what was delivered alike is matched. So it is from when a candidate
/// came, with a sample of contents, and in the file of divergences.
pub(crate) async fn mig_002_divergences_are_classified(context: Context) -> Checked {
    let classes: [(Defect, Class); 6] = [
        (Defect::None, |_| 0),
        (Defect::Drops, |c| c.missing),
        (Defect::Duplicates, |c| c.duplicate),
        (Defect::Corrupts, |c| c.differs),
        (Defect::Invents, |c| c.phantom),
        (Defect::ReordersTopic, |c| c.reordered),
    ];
    for (defect, class) in classes {
        let (counted, injected) = divergences(&context, defect).await?;
        let told = format!("with a candidate that has {defect:?}: {counted:?}");
        ensure!(counted.adds_up(), "classes do not add up {told}");
        ensure_eq!(counted.in_flight, 0, "not classified {told}");
        ensure_eq!(counted.unverified, 0, "not compared {told}");
        ensure!(counted.expected >= 2 * EVENTS, "compared too little {told}");
        ensure_eq!(class(&counted), injected, "found and injected {told}");
        ensure_eq!(counted.divergences(), injected, "all divergences {told}");
        let beyond = counted.duplicate + counted.phantom;
        let unmatched = counted.divergences() - beyond;
        ensure_eq!(
            counted.matched,
            counted.expected - unmatched,
            "matched {told}"
        );
        located(&counted, injected)?;
        if injected == 0 && defect != Defect::None {
            return Err(Unmet::unexercised(format_args!("{defect:?} never struck")));
        }
    }
    coming::a_candidate_is_judged_from_when_it_came(&context).await?;
    coming::a_sample_is_of_contents_alone(&context).await?;
    coming::a_file_says_the_same_again(&context).await?;
    coming::publishers_in_another_order_are_measured(&context).await
}

/// The first divergences are located, at places of their own, on the topic that was published to.
fn located(counted: &Comparison, injected: u64) -> Checked {
    let places = &counted.places;
    ensure!(
        places.is_empty() == (injected == 0),
        "{injected} divergences, located {places:?}"
    );
    ensure!(
        places.iter().all(|(topic, _)| topic == "a.b"),
        "wrong topic in {places:?}"
    );
    Ok(())
}

const EVENTS: u64 = 1000;

/// The count that a defect has to show in.
type Class = fn(&Comparison) -> u64;

/// What a shadow finds in a run against a candidate with a defect, and how often that struck.
async fn divergences(context: &Context, defect: Defect) -> Checked<(Comparison, u64)> {
    let (shadow, candidate) = shadow(context, defect).await?;
    let stage = &shadow.stage;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let mut readers = vec![
        stage.reader(&bus, "a.#").await?,
        stage.reader(&bus, "a.b").await?,
    ];
    let publishing = author.publish_over(&["a.b"], EVENTS as usize);
    stage.while_reading(&mut readers, publishing).await?;
    stage.drain(&mut readers, &[author]).await?;
    let counted = shadow.compare().await;
    let injected = candidate.get().map_or(0, |candidate| candidate.injected());
    context.close(shadow.stage).await?;
    Ok((counted, injected))
}

/// A shadow whose candidate has a defect, and the candidate.
async fn shadow(
    context: &Context,
    defect: Defect,
) -> Checked<(Shadowed, Arc<OnceLock<Arc<MutantBus>>>)> {
    let (wrap, candidate) = wrapped(defect);
    Ok((context.shadow_stage(wrap).await?, candidate))
}

/// What puts a defect around a candidate, and where that is then to be found.
fn wrapped(defect: Defect) -> (Wrap, Arc<OnceLock<Arc<MutantBus>>>) {
    let candidate = Arc::new(OnceLock::new());
    let place = Arc::clone(&candidate);
    let wrap: Wrap = Box::new(move |inner| {
        let mutant = MutantBus::new(inner, defect);
        let _ = place.set(Arc::clone(&mutant));
        mutant as Arc<dyn EventBus>
    });
    (wrap, candidate)
}
