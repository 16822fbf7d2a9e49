//! Who sleeps when a handle ends, and what a handle leaves that is dropped: parts of LIF-001 and
//! LIF-002.

use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::{EventBus, Limits, PublishError, Refused, Subscribe, SubscribeError, Topic};
use tokio::sync::oneshot;

use super::{name_is_free, on_a_thread};
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// A `recv` that sleeps when its handle shuts down is woken and ends, on an executor and on a
/// plain thread.
pub(super) async fn receivers_are_woken(context: &Context) -> Checked {
    let stage = context.stage().await?;
    let far = stage.connect().await?;
    let mut idle = far.subscribe(Subscribe::to("idle")?).await?;
    let mut blocked = far.subscribe(Subscribe::to("idle")?).await?;
    let (begin, begun) = oneshot::channel();
    let thread = on_a_thread(move || {
        // Who waited for this may have given up.
        let _ = begin.send(());
        blocked.recv_blocking().is_none()
    })?;
    stage
        .wait("a thread", begun)
        .await?
        .map_err(Unmet::unexercised)?;
    let receiving = async move { idle.recv().await.is_none() };
    let receiving = stage.asleep("a `recv`", receiving).await?;
    stage.wait("shutdown", far.shutdown()).await??;
    let ended = receiving.woken(&stage, "at shutdown").await?;
    ensure!(ended, "an idle stream yielded an event at shutdown");
    let ended = stage
        .wait("a `recv_blocking` to be woken at shutdown", thread)
        .await?
        .map_err(Unmet::broken)?;
    ensure!(ended, "an idle stream yielded an event at shutdown");
    Ok(())
}

/// A publish that waits for room when its handle is shut down ends as `Closed`, long before its
/// deadline, however it was published.
pub(super) async fn publishers_are_closed(context: &Context) -> Checked {
    // Who waits for the deadline is waited for in vain.
    let limits = Limits {
        publish_deadline: context.patience() * 2,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let (near, far) = (stage.bus(), stage.connect().await?);
    let author = stage.author(&far);
    let _full = stage
        .read(&near, Subscribe::to("full")?.capacity(1))
        .await?;
    author.fill("full").await?;
    let topic = Topic::new("full")?;
    let publisher = far.publisher(topic.clone());
    let event = || author.event(&topic);
    let reason = |refused: Refused| refused.into_parts().1;

    let (by, one) = (Arc::clone(&author), event());
    let by_bus = async move { by.send(one).await.err().map(reason) };
    let by_bus = stage.asleep("a publish without room", by_bus).await?;
    let (by, one) = (Arc::clone(&author), event());
    let by_publisher = async move { by.send_by(&publisher, one).await.err().map(reason) };
    let by_publisher = stage
        .asleep("a publisher without room", by_publisher)
        .await?;
    let (by, batch) = (Arc::clone(&author), vec![event(), event()]);
    let by_batch = async move { by.send_batch(batch).await.err().map(|r| r.reason) };
    let by_batch = stage.asleep("a batch without room", by_batch).await?;

    stage.wait("shutdown", far.shutdown()).await??;
    for waiting in [by_bus, by_publisher, by_batch] {
        let reason = waiting.woken(&stage, "at shutdown").await?;
        ensure_eq!(
            reason,
            Some(PublishError::Closed),
            "a publish that waited for room at shutdown"
        );
    }
    Ok(())
}

/// A handle that nobody has any more has ended: its streams end once they are read, and its name
/// and theirs can be had again.
pub(super) async fn a_dropped_handle_ends(context: &Context) -> Checked {
    const EVENTS: usize = 3;
    let stage = context.stage().await?;
    let near = stage.bus();
    let author = stage.author(&near);
    let client = context.client_name();
    let dropped = stage.wait("a handle", near.connect(Some(client))).await??;
    let mut own = stage
        .read(&dropped, Subscribe::to("a.#")?.named("dropped"))
        .await?;
    for _ in 0..EVENTS {
        let receipt = author.publish("a.b").await?;
        receipt.confirmed(stage.patience()).await?;
    }
    drop(dropped);
    let read = own.read_to_end().await?;
    ensure_eq!(read, EVENTS, "events read after the handle was dropped");
    drop(own);
    let again = stage
        .wait(
            "a dropped handle's name to become free",
            name_is_free(&near, client),
        )
        .await??;
    stage
        .wait(
            "a dropped handle's subscription's name to become free",
            subscribe_again(&near),
        )
        .await??;
    stage.wait("shutdown", again.shutdown()).await??;
    Ok(())
}

async fn subscribe_again(bus: &Arc<dyn EventBus>) -> Checked {
    let mut beat = tokio::time::interval(Duration::from_millis(1));
    loop {
        match bus.subscribe(Subscribe::to("a.#")?.named("dropped")).await {
            Err(SubscribeError::AlreadySubscribed { .. }) => {
                beat.tick().await;
            }
            other => return Ok(other.map(drop)?),
        }
    }
}
