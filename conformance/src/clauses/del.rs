//! DEL: delivery, by the histories of what was published and what came.

mod content;
mod counting;
mod refusal;
mod typed;

pub(super) use content::{del_006_unaltered, del_007_too_large};
pub(super) use counting::{
    del_008_conservation, del_009_at_most_once_never_waits, del_010_receipt, del_011_flush,
};
pub(super) use refusal::{del_004_refused_is_never_delivered, del_005_cancelled_at_most_once};
pub(super) use typed::del_012_as_its_codec_wrote_it;

use std::sync::Arc;

use eventbus_trait::{Delivery, Topic, TryPublishError};
use futures_util::future::try_join_all;
use rand::RngExt as _;
use tokio::sync::Barrier;

use crate::check;
use crate::stage::{Author, Context, Reader, Stage};
use crate::verdict::{Checked, Unmet};

/// DEL-001: an accepted event reaches every matching subscription, on the publisher's handle and
/// on others, from several publishers at once; and the more so while nobody reads.
pub(crate) async fn del_001_reaches_every_subscription(context: Context) -> Checked {
    let stage = context.stage().await?;
    let (near, far) = (stage.bus(), stage.connect().await?);
    let mut readers = vec![
        stage.reader(&near, "events.#").await?,
        stage.reader(&far, "events.#").await?,
        stage.reader(&far, "events.*.new").await?,
        stage.reader(&near, "events.process.exit").await?,
    ];
    let authors = vec![stage.author(&near), stage.author(&far), stage.author(&near)];
    let topics = [
        "events.process.new",
        "events.process.exit",
        "events.network.new",
        "other",
    ];
    stage
        .while_reading(&mut readers, publish_all(&authors, &topics, 400))
        .await?;
    // Many more than wait in any queue unasked: what has no room must be refused.
    let topic = Topic::new(topics[0])?;
    for _ in 0..10_000 {
        let offered = authors[0].try_send(authors[0].event(&topic));
        let reason = offered.map_err(|refused| refused.into_parts().1);
        if let Err(reason @ TryPublishError::Publish(_)) = reason {
            return Err(Unmet::broken(reason));
        }
    }
    stage.drain(&mut readers, &authors).await?;
    check::lost(&stage.history()).verdict()
}

/// DEL-002: nothing comes that nobody published, or that the subscription does not take.
pub(crate) async fn del_002_no_phantom(context: Context) -> Checked {
    let (stage, _readers) = crowd(&context).await?;
    check::phantoms(&stage.history()).verdict()
}

/// DEL-003: a subscription never yields the same event twice.
pub(crate) async fn del_003_no_duplicate(context: Context) -> Checked {
    let (stage, _readers) = crowd(&context).await?;
    check::duplicates(&stage.history()).verdict()
}

/// Several authors on one handle, both deliveries, subscriptions that overlap and some that take
/// nothing of it; read to the end.
async fn crowd(context: &Context) -> Checked<(Stage, Vec<Reader>)> {
    let stage = context.stage().await?;
    let bus = stage.bus();
    let mut readers = Vec::new();
    for filter in ["a.#", "a.b", "*.b", "b.#", "nothing.#"] {
        readers.push(stage.reader(&bus, filter).await?);
    }
    let authors = vec![stage.author(&bus), stage.author(&bus)];
    let topics = ["a", "a.b", "a.c", "b.b", "c"];
    stage
        .while_reading(&mut readers, publish_all(&authors, &topics, 400))
        .await?;
    let topic = Topic::new("a.b")?;
    for _ in 0..200 {
        let event = authors[0].event(&topic).delivery(Delivery::AtMostOnce);
        authors[0].send(event).await?;
    }
    stage.drain(&mut readers, &authors).await?;
    Ok((stage, readers))
}

/// Lets each author publish `n` events over `topics`, all authors at once. Which topic comes next,
/// and where an author lets others in, is for its seed to say.
pub(super) async fn publish_all(authors: &[Arc<Author>], topics: &[&str], n: usize) -> Checked {
    let topics: Vec<Topic> = topics.iter().map(Topic::new).collect::<Result<_, _>>()?;
    let start = Arc::new(Barrier::new(authors.len()));
    let publishing = authors.iter().map(|author| {
        let (author, topics, start) = (Arc::clone(author), topics.clone(), Arc::clone(&start));
        let task = tokio::spawn(async move {
            start.wait().await;
            let mut rng = author.rng();
            for _ in 0..n {
                let topic = &topics[rng.random_range(0..topics.len())];
                author.send(author.event(topic)).await?;
                // Lets the others in, where publishing never waits.
                if rng.random_bool(0.75) {
                    tokio::task::yield_now().await;
                }
            }
            Ok(())
        });
        async { task.await.map_err(Unmet::broken)? }
    });
    try_join_all(publishing).await.map(|_| ())
}
