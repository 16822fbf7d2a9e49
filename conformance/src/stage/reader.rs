//! Readers: subscriptions whose items are written into the history.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus_trait::{Event, Item, Payload, Subscription, SubscriptionStats, TopicError};

use super::Patience;
use crate::history::{Op, Recorder};
use crate::verdict::{Checked, Unmet};

/// A fence: an event sent behind others, on a topic that one reader alone takes. Once it has come,
/// everything that its author published before has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence(pub u64);

const MAGIC: &[u8] = b"\0ebf\xff";

/// The topic of fences for one reader.
pub(super) fn fence_topic(reader: u32) -> String {
    format!("conformance.fence.{reader}")
}

fn fence_of(event: &Event) -> Option<Fence> {
    let bytes = event.bytes().ok()?;
    let number = bytes.strip_prefix(MAGIC)?.first_chunk::<8>()?;
    Some(Fence(u64::from_be_bytes(*number)))
}

/// Whether `event` is a fence. A predicate must let fences through.
#[must_use]
pub fn is_fence(event: &Event) -> bool {
    fence_of(event).is_some()
}

/// Somebody who receives. Fences are taken out; everything else goes into the history.
#[derive(Debug)]
pub struct Reader {
    number: u32,
    name: Arc<str>,
    subscription: Subscription,
    recorder: Recorder,
    patience: Patience,
    fences: Vec<Fence>,
    lagged: u64,
}

impl Reader {
    pub(super) fn new(
        number: u32,
        subscription: Subscription,
        recorder: Recorder,
        patience: Patience,
    ) -> Self {
        Self {
            number,
            name: subscription.name().into(),
            subscription,
            recorder,
            patience,
            fences: Vec::new(),
            lagged: 0,
        }
    }

    /// The subscription's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many events it was told in band that it lost.
    #[must_use]
    pub fn lagged(&self) -> u64 {
        self.lagged
    }

    /// The subscription's counters.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        self.subscription.stats()
    }

    /// Waits for the next event; `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let item = self.subscription.recv_item().await?;
            if let Some(event) = self.note(item) {
                return Some(event);
            }
        }
    }

    /// Waits for the next event, which is due.
    ///
    /// # Errors
    /// Broken, if it does not come.
    pub async fn expect(&mut self) -> Checked<Event> {
        let (patience, due) = (self.patience, format!("an event in `{}`", self.name));
        let next = patience.wait(&due, self.next()).await?;
        next.ok_or_else(|| Unmet::broken(format_args!("`{}` has ended", self.name)))
    }

    /// Reads what is queued now and returns how many events that were.
    pub fn take(&mut self) -> usize {
        let mut taken = 0;
        while let Ok(item) = self.subscription.try_recv_item() {
            taken += usize::from(self.note(item).is_some());
        }
        taken
    }

    /// Reads to the end of a stream that has one, and returns how many events that were.
    ///
    /// # Errors
    /// Broken, if it does not end.
    pub async fn read_to_end(&mut self) -> Checked<usize> {
        let (mut read, patience) = (0, self.patience);
        let end = format!("the end of the stream of `{}`", self.name);
        while patience.wait(&end, self.next()).await?.is_some() {
            read += 1;
        }
        self.note_drained();
        Ok(read)
    }

    /// Waits until the subscription's counters satisfy `condition`, and returns them. Reads
    /// nothing.
    ///
    /// # Errors
    /// Broken, with the counters, if that does not come about.
    pub async fn counted(
        &mut self,
        mut condition: impl FnMut(&SubscriptionStats) -> bool,
    ) -> Checked<SubscriptionStats> {
        let deadline = Instant::now() + self.patience.0;
        let mut beat = tokio::time::interval(Duration::from_millis(1));
        loop {
            let stats = self.stats();
            if condition(&stats) {
                return Ok(stats);
            }
            if Instant::now() > deadline {
                let waited = self.patience.0;
                return Err(Unmet::broken(format_args!(
                    "waited {waited:?} for counters; the last are {stats:?}"
                )));
            }
            beat.tick().await;
        }
    }

    /// Reads on until `matched` events have been counted and none is queued: the way to drain a
    /// subscription that may lose a fence.
    ///
    /// # Errors
    /// Broken, if that does not come about.
    pub async fn read_until_matched(&mut self, matched: u64) -> Checked {
        loop {
            let queued = |s: &SubscriptionStats| s.queued > 0 || s.matched >= matched;
            let stats = self.counted(queued).await?;
            self.take();
            if stats.queued == 0 {
                self.note_drained();
                return Ok(());
            }
        }
    }

    /// Ends the subscription and returns its last counters.
    ///
    /// # Errors
    /// Broken, if it does not end.
    pub async fn unsubscribe(self) -> Checked<SubscriptionStats> {
        self.recorder.record(Op::Ended(Arc::clone(&self.name)));
        self.patience
            .wait("unsubscribe", self.subscription.unsubscribe())
            .await
    }

    /// The subscription itself, for what a reader does not do. The history sees it as ended.
    #[must_use]
    pub fn into_subscription(self) -> Subscription {
        self.recorder.record(Op::Ended(Arc::clone(&self.name)));
        self.subscription
    }

    /// A fence for this reader.
    ///
    /// # Errors
    /// None: the topic is valid.
    pub fn fence_event(&self, fence: Fence) -> Result<Event, TopicError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(fence.0.to_be_bytes());
        Event::new(&*fence_topic(self.number), Payload::from(bytes))
    }

    pub(super) async fn read_until(&mut self, mut awaited: Vec<Fence>) -> Checked {
        loop {
            awaited.retain(|fence| !self.fences.contains(fence));
            self.fences.clear();
            if awaited.is_empty() {
                return Ok(());
            }
            let Some(item) = self.subscription.recv_item().await else {
                return Err(Unmet::broken(format_args!(
                    "`{}` ended before a fence",
                    self.name
                )));
            };
            self.note(item);
        }
    }

    pub(super) fn note_drained(&self) {
        self.recorder.record(Op::Drained(Arc::clone(&self.name)));
    }

    fn note(&mut self, item: Item) -> Option<Event> {
        match item {
            Item::Lagged(n) => {
                self.lagged += n;
                self.recorder.record(Op::Lagged(Arc::clone(&self.name), n));
                None
            }
            Item::Event(event) => match fence_of(&event) {
                Some(fence) => {
                    self.fences.push(fence);
                    None
                }
                None => {
                    self.recorder.delivered(&self.name, &event);
                    Some(event)
                }
            },
        }
    }
}
