//! LIF: handles begin, end, and leave nothing behind.

mod asleep;
mod census;
mod other_end;

use std::sync::Arc;
use std::time::Instant;

use eventbus_trait::{
    ConnectError, Event, EventBus, PublishError, Publisher, Receipt, Subscribe, SubscribeError,
    Subscription, Topic, TryPublishError, TryRecvError,
};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::check::{self, Within};
use crate::harness::Capability;
use crate::stage::{Author, Context, Reader};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

pub(super) use census::lif_004_nothing_is_left_behind;
pub(super) use other_end::{lif_007_a_silent_peer_is_noticed, lif_008_nobody_listens};

/// LIF-001: `shutdown` may be called again, by several tasks at once; every later operation of the
/// handle is `Closed`, and what waits for room then; other handles live on. A handle that is dropped
/// has ended.
pub(crate) async fn lif_001_shutdown_is_idempotent(context: Context) -> Checked {
    let stage = context.stage().await?;
    let (near, far) = (stage.bus(), stage.connect().await?);
    let author = stage.author(&near);
    let mut readers = vec![stage.reader(&near, "a.#").await?];
    let mut ending = stage.reader(&far, "a.#").await?;
    let publisher = far.publisher(Topic::new("a.b")?);
    author.publish("a.b").await?;

    let both = futures_util::future::join(far.shutdown(), far.shutdown());
    let (one, other) = stage.wait("two shutdowns", both).await?;
    one.and(other)?;
    stage.wait("a third shutdown", far.shutdown()).await??;
    everything_is_closed(&far, &publisher).await?;
    ending.read_to_end().await?;

    author.publish_over(&["a.b"], 50).await?;
    stage.drain(&mut readers, &[author]).await?;
    check::lost(&stage.history()).verdict()?;
    stage
        .wait("the first handle's shutdown", near.shutdown())
        .await??;
    stage.wait("its second shutdown", near.shutdown()).await??;
    everything_is_closed(&near, &near.publisher(Topic::new("a.b")?)).await?;
    asleep::publishers_are_closed(&context).await?;
    asleep::a_dropped_handle_ends(&context).await
}

async fn everything_is_closed(bus: &Arc<dyn EventBus>, publisher: &Publisher) -> Checked {
    let event = || Event::new("a.b", "closed");
    let went_on = |what: &str| Unmet::broken(format_args!("{what} went on after shutdown"));
    let closed = PublishError::Closed;

    let refused = bus
        .publish(event()?)
        .await
        .err()
        .ok_or_else(|| went_on("publish"))?;
    ensure_eq!(*refused.reason(), closed, "publish");
    let refused = bus
        .try_publish(event()?)
        .err()
        .ok_or_else(|| went_on("try_publish"))?;
    ensure_eq!(
        *refused.reason(),
        TryPublishError::Publish(closed.clone()),
        "try_publish"
    );
    let refused = publisher.publish(event()?).await;
    let refused = refused.err().ok_or_else(|| went_on("a publisher"))?;
    ensure_eq!(*refused.reason(), closed, "a publisher");
    let refused = bus.publish_batch(vec![event()?, event()?]).await;
    let refused = refused.err().ok_or_else(|| went_on("publish_batch"))?;
    ensure_eq!(
        (refused.accepted, refused.reason),
        (0, closed),
        "publish_batch"
    );
    ensure_eq!(
        refused.events.len(),
        2,
        "events handed back by publish_batch"
    );
    let subscribed = bus.subscribe(Subscribe::to("a.#")?).await.err();
    ensure_eq!(subscribed, Some(SubscribeError::Closed), "subscribe");
    let connected = bus.connect(None).await.err();
    ensure_eq!(connected, Some(ConnectError::Closed), "connect");
    Ok(())
}

/// LIF-002: what was accepted before `shutdown` is read after it, then streams end. That holds for
/// the handle's own subscriptions and for others' subscriptions of what it published.
pub(crate) async fn lif_002_shutdown_drains(context: Context) -> Checked {
    let stage = context.stage().await?;
    let near = stage.bus();
    let author = stage.author(&near);
    let mut readers = vec![stage.reader(&near, "a.#").await?];
    for _ in 0..5 {
        let handle = stage.connect().await?;
        let last_words = stage.author(&handle);
        let mut own = stage.reader(&handle, "a.#").await?;
        author.publish_over(&["a.b"], 40).await?;
        last_words.publish_over(&["a.b", "a.c"], 100).await?;
        author
            .publish("a.b")
            .await?
            .confirmed(stage.patience())
            .await?;
        stage.wait("shutdown", handle.shutdown()).await??;
        let read = own.read_to_end().await?;
        ensure_eq!(read, 141, "events read after shutdown");
        let mut subscription = own.into_subscription();
        ensure_eq!(
            subscription.try_recv().err(),
            Some(TryRecvError::Closed),
            "after the end"
        );
        ensure!(
            subscription.recv().await.is_none(),
            "a stream that had ended went on"
        );
    }
    stage.drain(&mut readers, &[author]).await?;
    check::lost(&stage.history()).verdict()?;
    asleep::receivers_are_woken(&context).await?;
    ends_who_waits(&context).await
}

/// Shutdown ends a stream that somebody waits on, and frees who waits for room in it.
async fn ends_who_waits(context: &Context) -> Checked {
    let stage = context.stage().await?;
    let (near, far) = (stage.bus(), stage.connect().await?);
    let author = stage.author(&near);
    let idle = Subscribe::to("idle")?.named("idle");
    let mut idle = stage.read(&far, idle).await?;
    let full = stage.read(&far, Subscribe::to("full")?.capacity(2)).await?;
    author.fill("full").await?;
    let waiting = tokio::spawn(async move { idle.read_to_end().await });
    let held = {
        let author = Arc::clone(&author);
        let event = author.event(&Topic::new("full")?);
        tokio::spawn(async move { author.insist(event).await.map(|_| ()) })
    };
    stage.wait("shutdown", far.shutdown()).await??;
    let read = stage
        .wait("the end of the stream of `idle`", waiting)
        .await?
        .map_err(Unmet::broken)??;
    ensure_eq!(read, 0, "events on an idle stream");
    stage
        .wait("a publish held up", held)
        .await?
        .map_err(Unmet::broken)??;
    drop(full);
    Ok(())
}

/// LIF-003: a `recv` that was dropped has either returned an event or left it queued.
pub(crate) async fn lif_003_recv_is_cancel_safe(context: Context) -> Checked {
    const EVENTS: usize = 2000;
    let stage = context.stage().await?;
    let author = stage.author(&stage.bus());
    let small = Subscribe::to("a.#")?.capacity(16);
    let mut readers = vec![stage.read(&stage.bus(), small).await?];
    let publishing = Arc::clone(&author);
    let publishing =
        tokio::spawn(async move { publishing.publish_over(&["a.b", "a.c"], EVENTS).await });
    let cancelled = stage
        .wait("events", read_cancelling(&mut readers[0], EVENTS))
        .await?;
    stage
        .wait("the publisher", publishing)
        .await?
        .map_err(Unmet::broken)??;
    if cancelled == 0 {
        return Err(Unmet::unexercised("no `recv` was cancelled"));
    }
    stage.drain(&mut readers, &[author]).await?;
    let history = stage.history();
    check::lost(&history).verdict()?;
    check::duplicates(&history).verdict()?;
    check::nonmonotonic(&history, Within::Author).verdict()
}

/// Receives `events`, dropping a `recv` before each, and returns how many were pending then.
async fn read_cancelling(reader: &mut Reader, events: usize) -> usize {
    let (mut read, mut cancelled) = (0, 0);
    while read < events {
        match reader.next().now_or_never() {
            Some(Some(_)) => read += 1,
            Some(None) => break,
            None => {
                cancelled += 1;
                let short = std::time::Duration::from_micros(cancelled % 7 * 50);
                let next = tokio::time::timeout(short, reader.next()).await;
                read += usize::from(matches!(next, Ok(Some(_))));
            }
        }
    }
    usize::try_from(cancelled).unwrap_or(usize::MAX)
}

/// LIF-005: handles, publishers and receipts are `Send + Sync`, subscriptions are `Send`; and they
/// work from whichever thread.
pub(crate) async fn lif_005_handles_cross_threads(context: Context) -> Checked {
    fn shared<T: Send + Sync + ?Sized>() {}
    fn sent<T: Send>() {}
    shared::<dyn EventBus>();
    shared::<Publisher>();
    shared::<Receipt>();
    shared::<Event>();
    sent::<Subscription>();

    const EVENTS: usize = 300;
    let stage = context.stage().await?;
    let bus = stage.bus();
    let mut threads = Vec::new();
    for _ in 0..2 {
        let subscription = bus.subscribe(Subscribe::to("a.#")?).await?;
        threads.push(on_a_thread(move || count(subscription, EVENTS * 2))?);
    }
    let mut readers = vec![stage.reader(&bus, "a.#").await?];
    let authors = [stage.author(&bus), stage.author(&bus)];
    let topic = Topic::new("a.b")?;
    let mut publishing = Vec::new();
    for author in authors.clone() {
        let topic = topic.clone();
        publishing.push(on_a_thread(move || {
            (0..EVENTS).try_for_each(|_| send_from_a_thread(&author, author.event(&topic)))
        })?);
    }
    for publishing in publishing {
        let ending = async { publishing.await.map_err(Unmet::broken)? };
        stage.while_reading(&mut readers, ending).await?;
    }
    for thread in threads {
        let counted = stage
            .wait("a receiving thread", thread)
            .await?
            .map_err(Unmet::broken)?;
        ensure_eq!(counted, EVENTS * 2, "events received on a thread");
    }
    stage.drain(&mut readers, &authors).await?;
    check::lost(&stage.history()).verdict()
}

/// Does `work` on a thread that no executor knows of.
fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Checked<oneshot::Receiver<T>> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("LIF-005".to_owned());
    // Who waited for the result may have given up.
    let spawned = thread.spawn(move || drop(done.send(work())));
    spawned.map(|_| result).map_err(Unmet::unexercised)
}

/// Publishes without an executor, trying again while there is no room.
fn send_from_a_thread(author: &Author, event: Event) -> Checked {
    let pending = author.invoke(&event);
    let mut result = author.bus().try_publish(event);
    let deadline = Instant::now() + author.patience();
    while let Err(refused) = result {
        let (event, reason) = refused.into_parts();
        if !matches!(reason, TryPublishError::Full { .. }) || Instant::now() > deadline {
            return Err(Unmet::broken(reason));
        }
        std::thread::yield_now();
        result = author.bus().try_publish(event);
    }
    pending.end(&result);
    Ok(())
}

fn count(mut subscription: Subscription, events: usize) -> usize {
    (0..events)
        .take_while(|_| subscription.recv_blocking().is_some())
        .count()
}

/// LIF-006: connecting under a name that another handle has is an error that says so, and the name
/// can be had again after that handle's shutdown.
pub(crate) async fn lif_006_client_names_are_unique(context: Context) -> Checked {
    let stage = context.stage().await?;
    let bus = stage.bus();
    let name = context.client_name();
    let first = bus.connect(Some(name)).await?;
    let taken = ConnectError::NameInUse {
        name: name.to_owned(),
    };
    for handle in [&bus, &first] {
        let second = stage.wait("a refusal", handle.connect(Some(name))).await?;
        ensure_eq!(
            second.err(),
            Some(taken.clone()),
            "a second handle of the name"
        );
    }
    // The refused attempts have not harmed the one that has it.
    let author = stage.author(&first);
    let mut readers = vec![
        stage.reader(&bus, "a.#").await?,
        stage.reader(&first, "a.#").await?,
    ];
    stage
        .while_reading(&mut readers, author.publish_over(&["a.b"], 50))
        .await?;
    stage.drain(&mut readers, &[author]).await?;
    check::lost(&stage.history()).verdict()?;
    stage.wait("shutdown", first.shutdown()).await??;
    let again = stage
        .wait("the name to become free", name_is_free(&bus, name))
        .await??;
    stage.wait("shutdown", again.shutdown()).await??;
    if context.has(Capability::Faults) {
        other_end::a_dead_clients_name_is_free(&context).await?;
    }
    Ok(())
}

async fn name_is_free(
    bus: &Arc<dyn EventBus>,
    name: &str,
) -> Result<Arc<dyn EventBus>, ConnectError> {
    let mut beat = tokio::time::interval(std::time::Duration::from_millis(1));
    loop {
        match bus.connect(Some(name)).await {
            Err(ConnectError::NameInUse { .. }) => {
                beat.tick().await;
            }
            other => return other,
        }
    }
}
