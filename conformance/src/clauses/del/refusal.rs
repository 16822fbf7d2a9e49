//! DEL-004 and DEL-005: events that were not accepted, or not known to be.

use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::{Event, Limits, PublishError, Refused, Subscribe, Topic, TryPublishError};
use futures_util::FutureExt;

use crate::check;
use crate::history::{Op, digest};
use crate::stage::{Author, Context, Reader};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// DEL-004: what was refused, for whatever reason, comes back and is never delivered.
pub(crate) async fn del_004_refused_is_never_delivered(context: Context) -> Checked {
    let limits = Limits {
        publish_deadline: Duration::from_millis(20),
        max_event_size: 4096,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let topic = Topic::new("a.b")?;
    let reader = stage.read(&bus, Subscribe::to("a.#")?.capacity(4)).await?;
    let mut readers = [reader];

    let full = TryPublishError::Full {
        subscription: readers[0].name().into(),
    };
    // Room comes again and again, and nothing that was refused with it.
    for _ in 0..6 {
        ensure_eq!(author.fill("a.b").await?.1, full, "try_publish");
        let no_room = |reason: &_| matches!(reason, PublishError::Backpressure { .. });
        refused(&author, author.event(&topic), no_room).await?;
        let large = author.event(&topic).header("large", "x".repeat(4096));
        refused(&author, large, |reason| {
            matches!(reason, PublishError::TooLarge { .. })
        })
        .await?;
        stage.drain(&mut readers, &[Arc::clone(&author)]).await?;
    }
    stage.wait("shutdown", bus.shutdown()).await??;
    refused(&author, author.event(&topic), |reason| {
        *reason == PublishError::Closed
    })
    .await?;
    readers[0].read_to_end().await?;
    check::refused(&stage.history()).verdict()
}

/// Publishes what has to be refused for a reason that `why` accepts, and holds what comes back
/// against what was sent.
async fn refused(
    author: &Arc<Author>,
    event: Event,
    why: impl Fn(&PublishError) -> bool,
) -> Checked {
    let sent = digest(&event);
    match author.send(event).await {
        Ok(_) => Err(Unmet::broken(
            "an event that had to be refused was accepted",
        )),
        Err(refusal) => {
            ensure!(
                why(refusal.reason()),
                "refused for the wrong reason: {refusal}"
            );
            ensure_eq!(digest(refusal.event()), sent, "the event handed back");
            Ok(())
        }
    }
}

/// DEL-005: a publish that was cancelled, at whatever point, comes once or never.
pub(crate) async fn del_005_cancelled_at_most_once(context: Context) -> Checked {
    let stage = context.stage().await?;
    let author = stage.author(&stage.bus());
    let topic = Topic::new("a.b")?;
    let mut readers = vec![
        stage
            .read(&stage.bus(), Subscribe::to("a.#")?.capacity(4))
            .await?,
        stage.reader(&stage.bus(), "a.b").await?,
    ];
    author.fill("a.b").await?;
    for _ in 0..40 {
        // Polled once against a full queue.
        if let Some(result) = author.send(author.event(&topic)).now_or_never() {
            result
                .map_err(Refused::into_parts)
                .map_err(|(_, reason)| Unmet::broken(reason))?;
        }
    }
    let (reading, cancelling) =
        futures_util::future::join(read_slowly(&mut readers[0]), cancel_many(&author, &topic))
            .await;
    reading.and(cancelling)?;
    // Nothing that was given up stands in the way of what comes after it.
    stage
        .while_reading(&mut readers, author.insist_over(&["a.b"], 60))
        .await?;
    stage.drain(&mut readers, &[author]).await?;
    let history = stage.history();
    let cancelled = history
        .entries
        .iter()
        .filter(|e| matches!(e.op, Op::Unknown(_)))
        .count();
    if cancelled == 0 {
        return Err(Unmet::unexercised(
            "no publish was cancelled before it was done",
        ));
    }
    check::duplicates(&history).verdict()?;
    check::phantoms(&history).verdict()?;
    check::nonmonotonic(&history, check::Within::Author).verdict()?;
    check::lost(&history).verdict()
}

/// Cancels publishes at every point that a short time may hit, while room comes and goes.
async fn cancel_many(author: &Arc<Author>, topic: &Topic) -> Checked {
    for turn in 0..150_u64 {
        let sending = author.send(author.event(topic));
        let time = Duration::from_micros(turn * 17 % 1500);
        if let Ok(Err(refused)) = tokio::time::timeout(time, sending).await {
            return Err(refused.into());
        }
    }
    Ok(())
}

async fn read_slowly(reader: &mut Reader) -> Checked {
    let mut beat = tokio::time::interval(Duration::from_millis(1));
    for _ in 0..150 {
        beat.tick().await;
        reader.take();
    }
    Ok(())
}
