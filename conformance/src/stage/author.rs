//! Authors: tasks that publish marked events through one handle, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eventbus_trait::{
    BatchRefused, Correlation, Event, EventBus, Payload, PublishError, Publisher, Receipt, Refused,
    Topic, TryPublishError,
};

use super::Patience;
use crate::history::{Mark, Pending, Recorder, payload};
use crate::seed::{Rng, Seed};
use crate::verdict::{Checked, Unmet};

/// A payload has fewer bytes than this beside its mark.
const MOST_FILLER: u64 = 61;

/// Somebody who publishes. What it publishes is marked with its number and a sequence.
#[derive(Debug)]
pub struct Author {
    bus: Arc<dyn EventBus>,
    number: u32,
    next: AtomicU64,
    recorder: Recorder,
    patience: Patience,
    seed: Seed,
    correlated: bool,
}

impl Author {
    pub(super) fn new(
        bus: Arc<dyn EventBus>,
        number: u32,
        recorder: Recorder,
        patience: Patience,
        seed: Seed,
        correlated: bool,
    ) -> Self {
        Self {
            bus,
            number,
            next: AtomicU64::new(0),
            recorder,
            patience,
            seed,
            correlated,
        }
    }

    /// The handle that it publishes through.
    #[must_use]
    pub fn bus(&self) -> &Arc<dyn EventBus> {
        &self.bus
    }

    /// How long it waits for anything.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience.0
    }

    /// How many events it has written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// The author's own generator, which begins anew each time it is asked for.
    #[must_use]
    pub fn rng(&self) -> Rng {
        self.seed.rng()
    }

    /// The author's next event, with a payload of a size that its seed says.
    #[must_use]
    pub fn event(&self, topic: &Topic) -> Event {
        let sequence = self.next.fetch_add(1, Ordering::SeqCst);
        let mark = Mark {
            author: self.number,
            sequence,
        };
        let filler = self.seed.nth(sequence).below(MOST_FILLER);
        let filler = usize::try_from(filler).unwrap_or_default();
        let event = Event::on(topic.clone(), Payload::from(payload(mark, filler)));
        if self.correlated {
            return event.correlation(Correlation::new(Self::correlation_of(mark)));
        }
        event
    }

    /// The id of the correlation that an event has if its author is
    /// [correlated](super::Stage::correlated_author).
    #[must_use]
    pub fn correlation_of(mark: Mark) -> String {
        format!("work-{mark}")
    }

    /// Whether it has written the event.
    #[must_use]
    pub fn wrote(&self, mark: Mark) -> bool {
        mark.author == self.number
    }

    /// Records that `event` is about to be published, by a way that the author itself has not.
    pub fn invoke(&self, event: &Event) -> Pending {
        self.recorder.invoke(self.bus.publisher_id(), event)
    }

    /// Publishes `event` and records what becomes of it.
    ///
    /// # Errors
    /// As the bus refuses.
    pub async fn send(&self, event: Event) -> Result<Receipt, Refused> {
        let pending = self.invoke(&event);
        let result = self.bus.publish(event).await;
        pending.end(&result);
        result
    }

    /// Publishes `event` without waiting, and records what becomes of it.
    ///
    /// # Errors
    /// As the bus refuses.
    pub fn try_send(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        let pending = self.invoke(&event);
        let result = self.bus.try_publish(event);
        pending.end(&result);
        result
    }

    /// Publishes `event` through a publisher of its topic, which has the author's handle, and
    /// records what becomes of it.
    ///
    /// # Errors
    /// As the bus refuses.
    pub async fn send_by(&self, publisher: &Publisher, event: Event) -> Result<Receipt, Refused> {
        let pending = self.invoke(&event);
        let result = publisher.publish(event).await;
        pending.end(&result);
        result
    }

    /// Publishes `events` as one batch and records what becomes of each.
    ///
    /// # Errors
    /// As the bus refuses.
    pub async fn send_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        let pending: Vec<_> = events.iter().map(|event| self.invoke(event)).collect();
        let result = self.bus.publish_batch(events).await;
        let accepted = result
            .as_ref()
            .map_or_else(|refused| refused.accepted, |_| pending.len());
        for (at, pending) in pending.into_iter().enumerate() {
            pending.end(&if at < accepted { Ok(()) } else { Err(()) });
        }
        result
    }

    /// Publishes the author's next event on `topic`.
    ///
    /// # Errors
    /// Broken, if it is refused.
    pub async fn publish(&self, topic: &str) -> Checked<Receipt> {
        Ok(self.send(self.event(&Topic::new(topic)?)).await?)
    }

    /// Publishes `n` events on `topics` by turns.
    ///
    /// # Errors
    /// Broken, if one is refused.
    pub async fn publish_over(&self, topics: &[&str], n: usize) -> Checked {
        let topics: Vec<Topic> = topics.iter().map(Topic::new).collect::<Result<_, _>>()?;
        for topic in topics.iter().cycle().take(n) {
            self.send(self.event(topic)).await?;
        }
        Ok(())
    }

    /// Publishes `event`, again and again while there is no room.
    ///
    /// # Errors
    /// Broken, if it is refused for another reason, or if room does not come.
    pub async fn insist(&self, event: Event) -> Checked<Receipt> {
        let pending = self.invoke(&event);
        let result = self.insist_unrecorded(event).await;
        pending.end(&result);
        result
    }

    /// Publishes `n` events on `topics` by turns, each again and again while there is no room.
    ///
    /// # Errors
    /// As [`insist`](Self::insist).
    pub async fn insist_over(&self, topics: &[&str], n: usize) -> Checked {
        let topics: Vec<Topic> = topics.iter().map(Topic::new).collect::<Result<_, _>>()?;
        for topic in topics.iter().cycle().take(n) {
            self.insist(self.event(topic)).await?;
        }
        Ok(())
    }

    /// Publishes events on `topic` without waiting until there is no room, also once everything
    /// taken has arrived. Returns how many were taken and what the last was refused for.
    ///
    /// # Errors
    /// Unexercised, if far more are taken than any small subscription may hold: FLW-001 is about
    /// that.
    pub async fn fill(&self, topic: &str) -> Checked<(usize, TryPublishError)> {
        const FAR_TOO_MANY: usize = 100_000;
        let topic = Topic::new(topic)?;
        let (mut taken, mut arriving) = (0, None);
        while taken < FAR_TOO_MANY {
            match self.try_send(self.event(&topic)) {
                Ok(receipt) => {
                    taken += 1;
                    arriving = Some(receipt);
                }
                // What is on its way may make room where it comes from.
                Err(refused) => match arriving.take() {
                    Some(receipt) => receipt.confirmed(self.patience.0).await.map(|_| ())?,
                    None => return Ok((taken, refused.into_parts().1)),
                },
            }
        }
        Err(Unmet::unexercised(format_args!(
            "took {taken} events that nobody read: nothing is ever full"
        )))
    }

    pub(super) async fn insist_unrecorded(&self, event: Event) -> Checked<Receipt> {
        let insisting = async {
            let mut event = event;
            loop {
                match self.bus.publish(event).await.map_err(Refused::into_parts) {
                    Ok(receipt) => return Ok(receipt),
                    Err((back, PublishError::Backpressure { .. })) => event = back,
                    Err((_, reason)) => return Err(Unmet::broken(reason)),
                }
            }
        };
        self.patience.wait("room", insisting).await?
    }
}
