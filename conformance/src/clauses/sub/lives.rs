//! SUB-002, SUB-005 and SUB-006: how a subscription ends, and how many there may be.

use std::sync::Arc;

use eventbus_trait::{Event, EventBus, Limits, Subscribe, SubscribeError, Topic};

use crate::check;
use crate::stage::{Author, Context, Stage};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// SUB-002: once a subscription has ended, by `unsubscribe` or by being dropped, nothing comes any
/// more, nobody waits for it, and what it held is freed.
pub(crate) async fn sub_002_nothing_after_unsubscribe(context: Context) -> Checked {
    let stage = context.stage().await?;
    let (near, far) = (stage.bus(), stage.connect().await?);
    for publishing in [&near, &far] {
        let author = stage.author(publishing);
        for way in [End::Unsubscribe, End::Drop] {
            ends(&stage, &author, way).await?;
            begins_with_nothing(&stage, &author, way).await?;
        }
    }
    Ok(())
}

/// How a subscription ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Unsubscribe,
    Drop,
}

/// Fills a subscription until a publish waits for it, ends it, and sees what is left of it.
async fn ends(stage: &Stage, author: &Arc<Author>, way: End) -> Checked {
    let bus = stage.bus();
    let mut witness = [stage.reader(&bus, "a.#").await?];
    let held = Arc::new(());
    let inside = Arc::clone(&held);
    let gate = move |_: &Event| Arc::strong_count(&inside) > 0;
    let subscribe = Subscribe::to("a.#")?
        .named("ending")
        .capacity(4)
        .matching(gate);
    let ending = stage.read(&bus, subscribe).await?;
    let (queued, _) = author.fill("a.b").await?;
    ensure!(queued > 0, "a subscription of 4 took nothing");
    let waiting = {
        let (author, topic) = (Arc::clone(author), Topic::new("a.b")?);
        tokio::spawn(async move { author.insist(author.event(&topic)).await.map(|_| ()) })
    };
    match way {
        End::Unsubscribe => ending.unsubscribe().await.map(|_| ())?,
        End::Drop => drop(ending.into_subscription()),
    }
    // Whoever waited for the subscription goes on without it.
    stage
        .wait("a publish held up by it", waiting)
        .await?
        .map_err(Unmet::broken)??;
    stage
        .until("what it held to be freed", || Arc::strong_count(&held) == 1)
        .await?;
    let counted = || {
        bus.stats()
            .subscriptions
            .iter()
            .any(|stats| stats.name == "ending")
    };
    stage.until("its counters to go", || !counted()).await?;
    let receipt = author.publish("a.b").await?;
    let deliveries = receipt.confirmed(stage.patience()).await?.deliveries;
    ensure_eq!(
        deliveries,
        1,
        "subscriptions that have an event after one has ended"
    );
    stage.drain(&mut witness, &[Arc::clone(author)]).await?;
    check::lost(&stage.history()).verdict()?;
    let [witness] = witness;
    witness.unsubscribe().await.map(|_| ())
}

/// A later subscription of the same name gets nothing that was left for the one before.
async fn begins_with_nothing(stage: &Stage, author: &Arc<Author>, way: End) -> Checked {
    let bus = stage.bus();
    if way == End::Drop {
        stage
            .wait("the name to become free", name_is_free(&bus, "ending"))
            .await??;
    }
    let before = stage.history().topics_of("ending").len();
    let mut next = [stage
        .read(&bus, Subscribe::to("a.#")?.named("ending"))
        .await?];
    author.publish("a.c").await?;
    stage.drain(&mut next, &[Arc::clone(author)]).await?;
    let history = stage.history();
    let came = &history.topics_of("ending")[before..];
    ensure_eq!(*came, ["a.c"], "what the next subscription of the name got");
    let [next] = next;
    next.unsubscribe().await.map(|_| ())
}

/// Waits until a name that was in use can be had.
async fn name_is_free(bus: &Arc<dyn EventBus>, name: &str) -> Checked {
    let mut beat = tokio::time::interval(std::time::Duration::from_millis(1));
    loop {
        match bus.subscribe(Subscribe::to("never")?.named(name)).await {
            Ok(probe) => {
                probe.unsubscribe().await;
                return Ok(());
            }
            Err(SubscribeError::AlreadySubscribed { .. }) => {
                beat.tick().await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// SUB-005: a name in use anywhere on the bus is refused; it is free again when its subscription
/// has ended.
pub(crate) async fn sub_005_names_are_unique(context: Context) -> Checked {
    let stage = context.stage().await?;
    let (near, far) = (stage.bus(), stage.connect().await?);
    let named = |name: &str| Ok::<_, Unmet>(Subscribe::to("a.#")?.named(name));
    let first = stage.read(&near, named("one")?).await?;
    ensure_eq!(first.name(), "one", "name of a subscription");
    let taken = SubscribeError::AlreadySubscribed { name: "one".into() };
    for bus in [&near, &far] {
        let error = bus.subscribe(named("one")?).await.err();
        ensure_eq!(
            error,
            Some(taken.clone()),
            "a second subscription of the name"
        );
    }
    let other = stage.read(&far, named("two")?).await?;
    let (a, b) = (
        stage.reader(&near, "a.#").await?,
        stage.reader(&far, "a.#").await?,
    );
    ensure!(
        a.name() != b.name() && !a.name().is_empty(),
        "names given by the bus are equal"
    );
    // The refused attempts have disturbed nobody.
    let mut readers = vec![first, other, a, b];
    let author = stage.author(&near);
    author.publish_over(&["a.b"], 20).await?;
    stage.drain(&mut readers, &[author]).await?;
    let history = stage.history();
    check::lost(&history).verdict()?;
    check::duplicates(&history).verdict()?;
    readers.remove(0).unsubscribe().await?;
    for bus in [&far, &near] {
        stage.read(bus, named("one")?).await?.unsubscribe().await?;
    }
    drop(stage.read(&far, named("one")?).await?.into_subscription());
    stage
        .wait("the name to become free", name_is_free(&near, "one"))
        .await?
}

/// SUB-006: a handle has `max_subscriptions` at most, and has room again when one has ended.
pub(crate) async fn sub_006_subscriptions_are_limited(context: Context) -> Checked {
    let limits = Limits {
        max_subscriptions: 3,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let bus = stage.bus();
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(stage.reader(&bus, "a.#").await?);
    }
    let over = SubscribeError::TooManySubscriptions { limit: 3 };
    for _ in 0..2 {
        let error = bus.subscribe(Subscribe::to("a.#")?).await.err();
        ensure_eq!(error, Some(over.clone()), "one subscription over the limit");
    }
    for capacity in [0, eventbus_trait::MAX_CAPACITY + 1] {
        readers.remove(0).unsubscribe().await?;
        let error = bus
            .subscribe(Subscribe::to("a.#")?.capacity(capacity))
            .await
            .err();
        let limit = eventbus_trait::MAX_CAPACITY;
        ensure_eq!(
            error,
            Some(SubscribeError::Capacity { capacity, limit }),
            "capacity"
        );
        readers.push(stage.reader(&bus, "a.#").await?);
    }
    readers.remove(0).unsubscribe().await?;
    readers.push(stage.reader(&bus, "a.#").await?);
    let author = stage.author(&bus);
    author.publish_over(&["a.b"], 20).await?;
    stage.drain(&mut readers, &[author]).await?;
    check::lost(&stage.history()).verdict()
}
