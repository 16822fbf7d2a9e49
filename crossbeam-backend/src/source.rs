//! The receiving side of a subscription.
//!
//! Invariant: an entry that was lost events in front of it is handed over as two items; in between
//! it is held here and counted as queued.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use async_trait::async_trait;
use crossbeam_channel::Receiver;
use eventbus_trait::{Event, EventSource, Item, TryRecvError, fate};

use super::handle::Handle;
use super::hub::Hub;
use super::queue::{Entry, Next, Queue};

/// The receiving side of a subscription.
#[derive(Debug)]
pub(crate) struct Source {
    queue: Arc<Queue>,
    receiver: Receiver<Entry>,
    hub: Arc<Hub>,
    owner: Weak<Handle>,
    held: Option<Event>,
    /// How many events were given up when the subscription was closed.
    given_up: Option<u64>,
}

impl Source {
    /// The receiving side of `queue`.
    pub(crate) fn new(queue: Arc<Queue>, receiver: Receiver<Entry>, owner: &Arc<Handle>) -> Self {
        Self {
            queue,
            receiver,
            hub: Arc::clone(&owner.hub),
            owner: Arc::downgrade(owner),
            held: None,
            given_up: None,
        }
    }

    #[cold]
    fn hold(&mut self, lost: u64, event: Event) -> Item {
        self.held = Some(event);
        self.queue.hold(true);
        Item::Lagged(lost)
    }

    #[cold]
    fn release(&mut self) -> Result<Item, TryRecvError> {
        self.queue.hold(false);
        self.held.take().map(Item::Event).ok_or(TryRecvError::Empty)
    }

    fn end(&mut self) {
        if self.given_up.is_some() {
            return;
        }
        self.hub.detach(&self.queue);
        self.given_up = Some(self.queue.measure());
        if let Some(owner) = self.owner.upgrade() {
            owner.subscriptions.lock().remove(&self.queue.id);
        }
        let held = self.held.take();
        let queued = std::iter::from_fn(|| self.receiver.try_recv().ok());
        let queued = queued.map(|entry| entry.into_parts().1);
        for event in held.into_iter().chain(queued) {
            fate::dropped(
                &self.queue.name,
                &event,
                "unread when its subscription ended",
            );
        }
    }
}

#[async_trait]
impl EventSource for Source {
    fn try_next(&mut self) -> Result<Item, TryRecvError> {
        if self.held.is_some() {
            return self.release();
        }
        match self.queue.next(&self.receiver) {
            Next::Entry(Entry::Event(event)) => Ok(Item::Event(event)),
            Next::Entry(Entry::After(both)) => Ok(self.hold(both.0, both.1)),
            Next::Lagged(lost) => Ok(Item::Lagged(lost)),
            Next::Empty => Err(TryRecvError::Empty),
            Next::Ended => Err(TryRecvError::Closed),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        match self.try_next() {
            Err(TryRecvError::Empty) => {}
            other => return Poll::Ready(other.ok()),
        }
        self.queue.signal().register(cx.waker());
        match self.try_next() {
            Err(TryRecvError::Empty) => Poll::Pending,
            other => Poll::Ready(other.ok()),
        }
    }

    fn queued(&self) -> u64 {
        self.given_up.unwrap_or_else(|| self.queue.measure())
    }

    async fn close(&mut self) {
        self.end();
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.end();
    }
}
