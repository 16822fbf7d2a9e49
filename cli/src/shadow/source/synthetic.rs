//! Events made up from a seed: as many, as large and as fast as asked for.
//!
//! The source must not be what limits a comparison at full speed, so payloads are slices of one
//! random block, which costs a counter each, and events go out in batches.

use std::sync::Arc;

use bytes::Bytes;
use eventbus::{ContentType, Event, EventBus, Payload, Topic};
use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::task::JoinSet;

use super::pace::Pace;
use crate::failure::Failure;
use crate::shadow::feed::Feed;

/// Random bytes beyond the payload's own length, from which slices begin.
const SPREAD: usize = 1 << 16;

/// What the events look like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Shape {
    /// Events per second over all publishers; full speed without it.
    pub(crate) rate: Option<u64>,
    /// Bytes in each payload.
    pub(crate) payload: usize,
    pub(crate) topics: u32,
    pub(crate) publishers: u32,
    /// Events after which a publisher begins anew, with another handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restart_every: Option<u64>,
    pub(crate) seed: u64,
}

/// Publishes until the feed wants no more, each publisher on its own handle and task.
pub(crate) async fn run(
    shape: &Shape,
    bus: &Arc<dyn EventBus>,
    feed: &Arc<Feed>,
) -> Result<(), Failure> {
    let topics = (0..shape.topics)
        .map(|n| Topic::new(format!("synthetic.topic-{n}")))
        .collect::<Result<Arc<[_]>, _>>()
        .map_err(|reason| Failure::io("name a topic", reason))?;
    let block = block(shape);
    let mut tasks = JoinSet::new();
    for number in 0..shape.publishers {
        let publisher = Publisher {
            number,
            bus: bus.connect(None).await?,
            feed: Arc::clone(feed),
            generator: Generator::new(shape, number, &topics, &block),
            pace: Pace::new(shape.rate, shape.publishers),
            first: Arc::clone(bus),
            restart_every: shape.restart_every.unwrap_or(u64::MAX),
        };
        tasks.spawn(publisher.run());
    }
    // The first failure drops the set, which ends the other tasks.
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|reason| Failure::io("run a publisher", reason))??;
    }
    Ok(())
}

fn block(shape: &Shape) -> Bytes {
    let mut block = vec![0; SPREAD.saturating_add(shape.payload)];
    SmallRng::seed_from_u64(shape.seed).fill_bytes(&mut block);
    block.into()
}

struct Publisher {
    number: u32,
    bus: Arc<dyn EventBus>,
    feed: Arc<Feed>,
    generator: Generator,
    pace: Pace,
    /// The bus that its handles are made of.
    first: Arc<dyn EventBus>,
    restart_every: u64,
}

impl Publisher {
    async fn run(mut self) -> Result<(), Failure> {
        let mut published = 0;
        while !self.feed.is_over() {
            if published >= self.restart_every {
                self.close().await;
                self.bus = self.first.connect(None).await?;
                published = 0;
            }
            let due = self.pace.due(usize::MAX).await;
            if due == 0 {
                // Nothing is owed yet, which is not the end.
                continue;
            }
            let claimed = self.feed.claim(due);
            if claimed == 0 {
                break;
            }
            let events = self.generator.by_ref().take(claimed).collect();
            self.feed.publish(&self.bus, self.number, events).await?;
            published += claimed as u64;
        }
        self.close().await;
        Ok(())
    }

    async fn close(&self) {
        // Every event has been accepted, and what was accepted is delivered; a handle that cannot
        // confirm it in time shows in the comparison.
        if let Err(reason) = self.bus.shutdown().await {
            tracing::warn!(publisher = self.number, %reason, "publisher closed early");
        }
    }
}

/// An endless row of events, the same for the same seed and number.
struct Generator {
    random: SmallRng,
    topics: Arc<[Topic]>,
    block: Bytes,
    payload: usize,
}

impl Generator {
    fn new(shape: &Shape, number: u32, topics: &Arc<[Topic]>, block: &Bytes) -> Self {
        Self {
            random: SmallRng::seed_from_u64(shape.seed.wrapping_add(u64::from(number) + 1)),
            topics: Arc::clone(topics),
            block: block.clone(),
            payload: shape.payload,
        }
    }
}

impl Iterator for Generator {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let topic = self
            .topics
            .get(self.random.random_range(0..self.topics.len()))?;
        let from = self.random.random_range(0..SPREAD);
        let bytes = self.block.slice(from..from + self.payload);
        let payload = Payload::new(bytes, ContentType::Raw);
        Some(Event::on(topic.clone(), payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator(seed: u64, number: u32) -> Generator {
        let shape = Shape {
            rate: None,
            payload: 100,
            topics: 3,
            publishers: 2,
            seed,
            restart_every: None,
        };
        let topics = [Topic::new("a").unwrap(), Topic::new("b").unwrap()].into();
        Generator::new(&shape, number, &topics, &block(&shape))
    }

    #[test]
    fn a_seed_gives_the_same_events_again_and_another_gives_others() {
        let events = |seed, number| generator(seed, number).take(50).collect::<Vec<_>>();
        assert_eq!(events(7, 0), events(7, 0));
        assert_ne!(events(7, 0), events(7, 1));
        assert_ne!(events(7, 0), events(8, 0));
        assert!(events(7, 0).iter().all(|e| e.known_size() == Some(100)));
    }
}
