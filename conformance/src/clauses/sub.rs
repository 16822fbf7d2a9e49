//! SUB: subscriptions begin, end, overlap and decide.

mod gates;
mod lives;
mod restored;

pub(super) use gates::{sub_003_one_copy, sub_004_a_copy_each, sub_009_gates_decide_alike};
pub(super) use lives::{
    sub_002_nothing_after_unsubscribe, sub_005_names_are_unique, sub_006_subscriptions_are_limited,
};
pub(super) use restored::sub_007_subscriptions_are_restored;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eventbus_trait::{
    Delivery, EventBus, Limits, PublishError, Refused, Subscribe, Topic, TryPublishError,
};

use crate::check;
use crate::stage::{Author, Context, Reader, Stage};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// SUB-001: whatever is published after `subscribe` returned is seen, by handles that were
/// connected before and by those that connect later, in the middle of a stream too.
pub(crate) async fn sub_001_barrier(context: Context) -> Checked {
    let stage = context.stage().await?;
    let (near, far) = (stage.bus(), stage.connect().await?);
    let mut readers = Vec::new();
    let mut authors = vec![stage.author(&near), stage.author(&far)];
    for turn in 0..25 {
        let mut reader = stage
            .reader(if turn % 2 == 0 { &near } else { &far }, "a.#")
            .await?;
        for author in &authors {
            author.publish("a.b").await?;
        }
        if turn % 8 == 0 {
            // A publisher that is not there yet when the subscription is made.
            let late = stage.author(&stage.connect().await?);
            late.publish("a.b").await?;
            authors.push(late);
        }
        stage
            .drain(std::slice::from_mut(&mut reader), &authors)
            .await?;
        readers.push(reader);
        if readers.len() > 4 {
            readers.remove(0).unsubscribe().await?;
        }
    }
    in_the_middle(&stage, &far, &mut readers).await?;
    stage.drain(&mut readers, &authors).await?;
    check::lost(&stage.history()).verdict()
}

/// Subscribes while another handle publishes without a pause.
async fn in_the_middle(
    stage: &Stage,
    far: &Arc<dyn EventBus>,
    readers: &mut Vec<Reader>,
) -> Checked {
    const TURNS: u64 = 8;
    const STEP: u64 = 200;
    let author = stage.author(far);
    let allowed = Arc::new(AtomicU64::new(0));
    let last = (TURNS + 1) * STEP;
    let streaming = tokio::spawn(stream(Arc::clone(&author), Arc::clone(&allowed), last));
    for turn in 0..TURNS {
        allowed.store((turn + 1) * STEP, Ordering::SeqCst);
        let flowing = || author.written() > turn * STEP || streaming.is_finished();
        let subscribing = async {
            stage.until("the stream to flow", flowing).await?;
            stage.reader(&stage.bus(), "flow").await
        };
        let reader = stage.while_reading(readers, subscribing).await?;
        readers.push(reader);
    }
    allowed.store(last, Ordering::SeqCst);
    let ending = async { streaming.await.map_err(Unmet::broken)? };
    stage.while_reading(readers, ending).await?;
    stage.drain(readers, &[author]).await
}

/// Publishes `last` events without a pause, but never more than `allowed`.
async fn stream(author: Arc<Author>, allowed: Arc<AtomicU64>, last: u64) -> Checked {
    let topic = Topic::new("flow")?;
    while author.written() < last {
        if author.written() < allowed.load(Ordering::SeqCst) {
            author.send(author.event(&topic)).await?;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// SUB-008: a stalled subscription holds up publishers of what it takes, until it is read, and
/// nobody else: not other topics of the same handle, not other handles, not `AtMostOnce`.
pub(crate) async fn sub_008_a_stall_is_local(context: Context) -> Checked {
    let limits = Limits {
        // Whatever waits does so for longer than anything here is waited for.
        publish_deadline: context.patience() * 2,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let (near, far) = (stage.bus(), stage.connect().await?);
    let stalled = stage
        .read(&near, Subscribe::to("slow.#")?.capacity(4))
        .await?;
    let mut free = vec![
        stage.reader(&near, "free.#").await?,
        stage.reader(&far, "free.#").await?,
    ];
    let authors = [stage.author(&near), stage.author(&far)];
    let mut held = Vec::new();
    for author in &authors {
        let (_, full) = author.fill("slow.a").await?;
        ensure_eq!(
            full,
            TryPublishError::Full {
                subscription: stalled.name().into()
            },
            "fill"
        );
        held.push(tokio::spawn(hold(Arc::clone(author))));
    }
    for author in &authors {
        let publishing = author.publish_over(&["free.a", "free.b"], 400);
        stage.while_reading(&mut free, publishing).await?;
        let topic = Topic::new("slow.a")?;
        let fleeting = author.send(author.event(&topic).delivery(Delivery::AtMostOnce));
        stage
            .wait("a publish that waits for nobody", fleeting)
            .await??;
    }
    stage.drain(&mut free, &authors).await?;
    for held in &held {
        ensure!(
            !held.is_finished(),
            "a publish went past a full subscription"
        );
    }
    let mut readers = vec![stalled];
    let reading = stage.drain(&mut readers, &authors);
    let (reading, held) =
        futures_util::future::join(reading, futures_util::future::try_join_all(held)).await;
    reading?;
    for sent in held.map_err(Unmet::broken)? {
        sent?;
    }
    stage.drain(&mut readers, &authors).await?;
    check::lost(&stage.history()).verdict()
}

/// Publishes one event more than there is room for, and waits as long as it takes.
async fn hold(author: Arc<Author>) -> Result<(), Unmet> {
    let topic = Topic::new("slow.a")?;
    match author
        .send(author.event(&topic))
        .await
        .map_err(Refused::into_parts)
    {
        Ok(_) => Ok(()),
        Err((event, PublishError::Backpressure { .. })) => author.insist(event).await.map(|_| ()),
        Err((_, reason)) => Err(Unmet::broken(reason)),
    }
}
