//! OBS: what a bus tells of itself. Counters are checked; latency histograms are not built, and
//! reconnects and resends are checked to be none where nothing was disturbed.

mod logs;
mod traces;

pub(super) use logs::obs_002_losses_are_in_the_log;
pub(super) use traces::{obs_003_correlation_goes_along, obs_004_a_workflow_is_one_trace};

use std::sync::Arc;

use eventbus_trait::{Delivery, FamilyStats, Limits, Subscribe, Topic};

use crate::stage::{Author, Context};
use crate::verdict::{Checked, ensure, ensure_eq};

/// OBS-001: counters by topic family and by subscription, queue depth, refusals and losses are
/// those of what happened.
pub(crate) async fn obs_001_counters(context: Context) -> Checked {
    let limits = Limits {
        max_event_size: 4096,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let before = bus.stats();
    ensure_eq!(before.published, 0, "events published on a new bus");

    let mut all = stage.reader(&bus, "events.#").await?;
    let some = Subscribe::to("events.process.*")?.named("some");
    let mut some = stage.read(&bus, some).await?;
    publish_by_family(&author).await?;
    all.counted(|stats| stats.queued == 56).await?;
    some.counted(|stats| stats.queued == 36).await?;
    let stats = bus.stats();
    ensure_eq!(stats.published, 66, "events published, of {stats:?}");
    ensure_eq!(stats.refused, 2, "events refused, of {stats:?}");
    ensure_eq!(stats.dropped, 0, "copies dropped, of {stats:?}");
    let undisturbed = (stats.malformed, stats.reconnects, stats.resends);
    ensure_eq!(
        undisturbed,
        (0, 0, 0),
        "malformed, reconnects and resends undisturbed"
    );
    let families = [
        ("events.process", 36, 72),
        ("events.network", 20, 20),
        ("alone", 10, 0),
    ];
    for (name, published, deliveries) in families {
        let want = FamilyStats {
            published,
            deliveries,
        };
        ensure_eq!(stats.families.get(name), Some(&want), "family `{name}`");
    }
    for _ in 0..10 {
        all.expect().await?;
    }
    let depth = |name: &str| {
        let subscriptions = bus.stats().subscriptions;
        let found = subscriptions.into_iter().find(|stats| stats.name == name);
        found.map(|stats| (stats.delivered, stats.queued))
    };
    ensure_eq!(
        depth(all.name()),
        Some((10, 46)),
        "delivered and queued after ten were read"
    );
    ensure_eq!(
        depth("some"),
        Some((0, 36)),
        "delivered and queued where nothing was read"
    );
    refusals_for_room(&context).await
}

/// Publishes 36 events of `events.process`, 20 of `events.network` and 10 of `alone`, and has two
/// refused.
async fn publish_by_family(author: &Author) -> Checked {
    author
        .publish_over(&["events.process.new", "events.process.exit"], 30)
        .await?;
    author.publish_over(&["events.network.connect"], 20).await?;
    author.publish_over(&["alone"], 10).await?;
    let topic = Topic::new("events.process.new")?;
    author
        .send_batch((0..5).map(|_| author.event(&topic)).collect())
        .await?;
    author
        .send(author.event(&topic).delivery(Delivery::AtMostOnce))
        .await?;
    let large = || author.event(&topic).header("large", "x".repeat(4096));
    ensure!(
        author.send(large()).await.is_err(),
        "a large event was taken"
    );
    ensure!(author.try_send(large()).is_err(), "a large event was taken");
    Ok(())
}

/// A full queue is seen in the depth, and what was turned away in the refusals.
async fn refusals_for_room(context: &Context) -> Checked {
    let stage = context.stage().await?;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let mut reader = stage.read(&bus, Subscribe::to("a.b")?.capacity(4)).await?;
    let (taken, _) = author.fill("a.b").await?;
    let taken = taken as u64;
    reader.counted(|stats| stats.queued == taken).await?;
    let stats = bus.stats();
    let refused = stage.history().refused();
    ensure_eq!(stats.published, taken, "events published");
    ensure_eq!(stats.refused, refused as u64, "events refused");
    reader.read_until_matched(taken).await?;
    ensure_eq!(reader.stats().delivered, taken, "deliveries");
    ensure_eq!(reader.stats().dropped, 0, "losses");

    author.fill("a.b").await?;
    let topic = Topic::new("a.b")?;
    let (publisher, event) = (bus.publisher(topic.clone()), author.event(&topic));
    let by = Arc::clone(&author);
    let waiting = async move { by.send_by(&publisher, event).await.map(drop) };
    let waiting = stage.asleep("a publisher without room", waiting).await?;
    reader.expect().await?;
    waiting.woken(&stage, "by room").await??;
    let refused = stage.history().refused();
    ensure_eq!(
        bus.stats().refused,
        refused as u64,
        "events refused, after one that waited and was taken"
    );
    Ok(())
}
