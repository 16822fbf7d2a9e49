//! ORD: order. Each author's own order is what a bus owes; how two authors' events interleave is
//! nobody's, unless one is the effect of the other.

mod causal;
mod control;

pub(super) use causal::ord_005_cause_before_effect;
pub(super) use control::ord_004_control_passes_full_queues;

use std::sync::Arc;

use eventbus_trait::{Topic, TryPublishError};

use crate::check::{self, Within};
use crate::clauses::del::publish_all;
use crate::history::History;
use crate::stage::{Author, Context, Reader, Stage};
use crate::verdict::{Checked, Unmet};

const TOPICS: &[&str] = &["a.b", "a.c", "b.c.d"];

/// ORD-001: each subscription sees a publisher's events on one topic in the order of publishing.
pub(crate) async fn ord_001_order_within_a_topic(context: Context) -> Checked {
    let (stage, authors, mut readers) = cast(&context).await?;
    stage
        .while_reading(&mut readers, publish_all(&authors, TOPICS, 900))
        .await?;
    stage.drain(&mut readers, &authors).await?;
    check::nonmonotonic(&stage.history(), Within::Topic).verdict()
}

/// ORD-002: and across topics too, by whichever of the publishing calls, and the stamps say so.
pub(crate) async fn ord_002_order_across_topics(context: Context) -> Checked {
    let (stage, authors, mut readers) = cast(&context).await?;
    stage
        .while_reading(&mut readers, publish_all(&authors, TOPICS, 900))
        .await?;
    for author in &authors {
        stage
            .while_reading(&mut readers, by_every_call(author))
            .await?;
    }
    stage.drain(&mut readers, &authors).await?;
    let history = stage.history();
    check::nonmonotonic(&history, Within::Author).verdict()?;
    check::stamps(&history, Within::Author).verdict()
}

/// Publishes 300 events, each by another of the calls that a handle has.
async fn by_every_call(author: &Author) -> Checked {
    let topics: Vec<Topic> = TOPICS.iter().map(Topic::new).collect::<Result<_, _>>()?;
    let publishers: Vec<_> = topics
        .iter()
        .map(|t| author.bus().publisher(t.clone()))
        .collect();
    for turn in 0..300 {
        let at = turn % topics.len();
        let event = author.event(&topics[at]);
        match turn % 4 {
            0 => {
                author.send(event).await?;
            }
            1 => match author
                .try_send(event)
                .map_err(|refused| refused.into_parts().1)
            {
                Ok(_) | Err(TryPublishError::Full { .. }) => {}
                Err(reason) => return Err(Unmet::broken(reason)),
            },
            2 => {
                author.send_by(&publishers[at], event).await?;
            }
            _ => {
                author
                    .send_batch(vec![event, author.event(&topics[0])])
                    .await?;
            }
        }
    }
    Ok(())
}

/// ORD-003: two tasks that publish through one handle each keep their own order.
pub(crate) async fn ord_003_two_tasks_one_handle(context: Context) -> Checked {
    let stage = context.stage().await?;
    let bus = stage.bus();
    let mut readers = vec![
        stage.reader(&bus, "#").await?,
        stage.reader(&bus, "a.b").await?,
    ];
    let authors: Vec<_> = (0..3).map(|_| stage.author(&bus)).collect();
    stage
        .while_reading(&mut readers, publish_all(&authors, TOPICS, 600))
        .await?;
    stage.drain(&mut readers, &authors).await?;
    let history = stage.history();
    if !interleaves(&history, readers[0].name()) {
        return Err(Unmet::unexercised(
            "the tasks published one after the other",
        ));
    }
    check::nonmonotonic(&history, Within::Author).verdict()
}

/// Whether events of one author came between those of another.
fn interleaves(history: &History, subscription: &str) -> bool {
    let authors = history
        .marks_of(subscription)
        .into_iter()
        .flatten()
        .map(|mark| mark.author);
    let mut turns: Vec<u32> = authors.collect();
    turns.dedup();
    turns.len() > 3
}

/// Two handles with an author each, three subscriptions.
async fn cast(context: &Context) -> Checked<(Stage, Vec<Arc<Author>>, Vec<Reader>)> {
    let stage = context.stage().await?;
    let (near, far) = (stage.bus(), stage.connect().await?);
    let readers = vec![
        stage.reader(&near, "#").await?,
        stage.reader(&far, "a.*").await?,
        stage.reader(&far, "b.#").await?,
    ];
    let authors = vec![stage.author(&near), stage.author(&far)];
    Ok((stage, authors, readers))
}
