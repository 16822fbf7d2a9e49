//! The subscriptions of a comparison, each read all the time by a task of its own.

use std::sync::Arc;

use eventbus::{EventBus, Subscribe, Subscription};
use tokio::task::JoinSet;

use super::output::Reader;
use super::source::Source;
use crate::failure::Failure;

/// Tasks that read until their subscriptions end.
#[derive(Debug)]
pub(crate) struct Readers(JoinSet<(u32, Reader)>);

impl Readers {
    /// Subscribes and begins to read.
    pub(crate) async fn subscribe(
        bus: &Arc<dyn EventBus>,
        source: &Source,
        count: u32,
    ) -> Result<Self, Failure> {
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let filter = source.filter(number);
            // Names are unique on a bus, and another run may use the same broker.
            let name = format!("reader-{number}-{}", std::process::id());
            let subscribe = Subscribe::to(filter)
                .map_err(|reason| Failure::io("name a filter", reason))?
                .named(&name);
            let subscription = bus.subscribe(subscribe).await?;
            let reader = Reader {
                name,
                filter: filter.to_owned(),
                received: 0,
            };
            tasks.spawn(async move { (number, read(subscription, reader).await) });
        }
        Ok(Self(tasks))
    }

    /// Waits until all subscriptions have ended, and says what they got.
    pub(crate) async fn join(self) -> Vec<Reader> {
        let mut readers = self.0.join_all().await;
        readers.sort_by_key(|(number, _)| *number);
        readers.into_iter().map(|(_, reader)| reader).collect()
    }
}

async fn read(mut subscription: Subscription, mut reader: Reader) -> Reader {
    while subscription.recv().await.is_some() {
        reader.received += 1;
    }
    reader
}
