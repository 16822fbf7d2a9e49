//! SEC-007: a broker that has no file descriptor left.

use std::time::{Duration, Instant};

use crate::check;
use crate::harness::{Fault, Opening};
use crate::stage::{Context, Faulty};
use crate::verdict::{Checked, Unmet, ensure};

/// Attempts to connect in vain, and how often one is made: for a second and more, which is many of
/// the steps that CPU time is counted in.
const ATTEMPTS: u32 = 12;
const PACE: Duration = Duration::from_millis(100);
/// How long one of them may take.
const WITHIN: Duration = Duration::from_millis(200);

/// SEC-007: while it cannot accept, the broker uses little of the time that passes; those inside
/// notice nothing, and when there are descriptors again, others come in.
pub(crate) async fn sec_007_no_descriptors_no_spinning(context: Context) -> Checked {
    let faulty = context.fault_stage().await?;
    let stage = &faulty.stage;
    let (near, far) = (stage.bus(), faulty.open(Opening::default()).await?);
    let mut authors = vec![stage.author(&near), stage.author(&far)];
    let mut readers = vec![
        stage.reader(&near, "a.#").await?,
        stage.reader(&far, "a.#").await?,
    ];
    for author in &authors {
        let publishing = author.insist_over(&["a.b"], 50);
        stage.while_reading(&mut readers, publishing).await?;
    }
    let before = faulty.struck();
    faulty.strike(Fault::NoDescriptors).await?;
    if faulty.struck() == before {
        return Err(Unmet::unexercised(
            "the broker's descriptors were not taken",
        ));
    }
    let (used, passed) = knock_in_vain(&faulty).await?;
    ensure!(
        used <= passed / 4,
        "the broker used {used:?} of CPU time in {passed:?} in which it could do nothing"
    );
    for author in &authors {
        let publishing = author.insist_over(&["a.b"], 50);
        stage.while_reading(&mut readers, publishing).await?;
    }
    faulty.heal().await?;
    let late = stage.wait("room at the door", comes_in(&faulty)).await?;
    let late = stage.author(&late);
    let publishing = late.insist_over(&["a.b"], 50);
    stage.while_reading(&mut readers, publishing).await?;
    authors.push(late);
    stage.drain(&mut readers, &authors).await?;
    let history = stage.history();
    check::lost(&history).verdict()?;
    check::duplicates(&history).verdict()
}

/// Comes to the door again and again, and returns the CPU time that the broker used meanwhile, and
/// the time that passed. The attempts before the first that failed do not count.
async fn knock_in_vain(faulty: &Faulty) -> Checked<(Duration, Duration)> {
    let knock = || {
        faulty.try_open(Opening {
            within: Some(WITHIN),
            ..Opening::default()
        })
    };
    let stage = &faulty.stage;
    let unexercised = |text: &str| Unmet::unexercised(text);
    if stage.wait("an answer", knock()).await?.is_ok() {
        return Err(unexercised("the broker had a descriptor left"));
    }
    let cpu = || {
        let cpu = faulty.broker_cpu();
        cpu.ok_or_else(|| unexercised("nobody knows what the broker uses"))
    };
    let (began, before) = (Instant::now(), cpu()?);
    let mut beat = tokio::time::interval(PACE);
    for _ in 0..ATTEMPTS {
        beat.tick().await;
        if stage.wait("an answer", knock()).await?.is_ok() {
            return Err(unexercised("the broker had a descriptor left"));
        }
    }
    Ok((cpu()?.saturating_sub(before), began.elapsed()))
}

/// Whoever knocked before may still be in the line.
async fn comes_in(faulty: &Faulty) -> std::sync::Arc<dyn eventbus_trait::EventBus> {
    let mut beat = tokio::time::interval(PACE);
    loop {
        beat.tick().await;
        if let Ok(bus) = faulty.try_open(Opening::default()).await {
            return bus;
        }
    }
}
