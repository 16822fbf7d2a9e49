//! A publishing process: publishes as far as it is told, and tries again what is refused.
//!
//! A refused event is handed back and was delivered to nobody (DEL-004), so that publishing it
//! again under its number is the application's right, and the one way to keep its streams dense.

use std::sync::Arc;
use std::time::{Duration, Instant};

use conformance::check::stream::StreamId;
use eventbus_trait::{EventBus, PublishError, Publisher as TopicPublisher, Refused, Topic};
use tokio::sync::mpsc::Receiver;

use crate::peer::{Speaker, connect, count};
use crate::words::{Done, Order, Publisher, Word, orders, payload, say, topic};

/// How soon an event is tried again that was refused at once.
const RETRY: Duration = Duration::from_millis(10);

pub(crate) async fn play(part: Publisher) -> Result<(), String> {
    let mut orders = orders();
    let bus = connect(&part.door, &format!("publisher-{}", part.number)).await?;
    let speaker = Speaker::start(&bus);
    say(&Word::Ready);
    let mut work = Work::new(part, &bus, &speaker)?;
    let mut accepted = 0;
    loop {
        speaker.doing("waits for orders");
        match next(&mut orders).await? {
            Order::Publish(limit) => {
                speaker.doing("publishes");
                while accepted < limit {
                    work.publish(accepted).await?;
                    accepted += 1;
                    speaker.events(accepted);
                }
            }
            Order::End(_) => break,
        }
    }
    speaker.doing("shuts down");
    let shutdown = bus.shutdown().await;
    let mut done = work.done;
    done.shutdown = shutdown.err().map(|error| error.to_string());
    count(&mut done, &bus);
    drop(speaker);
    say(&Word::Done(Box::new(done)));
    Ok(())
}

pub(crate) async fn next(orders: &mut Receiver<Order>) -> Result<Order, String> {
    let gone = || "the coordinator is gone".to_owned();
    orders.recv().await.ok_or_else(gone)
}

struct Work<'a> {
    part: Publisher,
    publishers: Vec<TopicPublisher>,
    speaker: &'a Speaker,
    done: Done,
}

impl<'a> Work<'a> {
    fn new(part: Publisher, bus: &Arc<dyn EventBus>, speaker: &'a Speaker) -> Result<Self, String> {
        let publishers = (0..part.topics).map(|number| {
            let id = StreamId {
                publisher: part.number,
                topic: number,
            };
            let topic = Topic::new(topic(id)).map_err(|error| error.to_string())?;
            Ok(bus.publisher(topic))
        });
        let done = Done {
            accepted: vec![0; part.topics as usize],
            ..Done::default()
        };
        Ok(Self {
            publishers: publishers.collect::<Result<_, String>>()?,
            part,
            speaker,
            done,
        })
    }

    /// Publishes the `overall`th event until it is accepted.
    async fn publish(&mut self, overall: u64) -> Result<(), String> {
        let topic = (overall % u64::from(self.part.topics)) as usize;
        let id = StreamId {
            publisher: self.part.number,
            topic: topic as u32,
        };
        let number = self.done.accepted[topic];
        let bytes = payload(id, number, overall, self.part.payload);
        let publisher = &self.publishers[topic];
        let mut event = publisher.event(bytes);
        let began = Instant::now();
        let refused = self.done.refused;
        loop {
            match publisher.publish(event).await.map_err(Refused::into_parts) {
                Ok(_) => break,
                Err((back, reason)) => {
                    self.done.refused += 1;
                    event = back;
                    self.wait_after(&reason).await?;
                }
            }
        }
        if self.done.refused > refused {
            self.speaker.doing("publishes");
        }
        self.done.accepted[topic] += 1;
        self.done.longest_wait = self.done.longest_wait.max(began.elapsed());
        Ok(())
    }

    async fn wait_after(&self, reason: &PublishError) -> Result<(), String> {
        self.speaker.doing(format!("was refused: {reason}"));
        match reason {
            // It has waited already.
            PublishError::Backpressure { .. } => Ok(()),
            PublishError::Disconnected { .. } => {
                let _ = tokio::time::timeout(RETRY, std::future::pending::<()>()).await;
                Ok(())
            }
            other => Err(other.to_string()),
        }
    }
}
