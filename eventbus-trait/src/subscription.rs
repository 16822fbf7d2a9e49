//! A subscription: the stream of events that `subscribe` returns.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::thread::Thread;

use async_trait::async_trait;

use crate::error::TryRecvError;
use crate::event::Event;
use crate::stats::{SubscriptionCounters, SubscriptionStats, count};
use crate::subscribe::{Gate, Subscribe};

/// How often a blocking receiver looks before it sleeps: going to sleep and being woken costs more
/// than an event that is just about to arrive.
const PATIENCE: u32 = 10;
/// How many of these looks follow a spin, each twice as long, instead of giving the processor away.
/// The first is long enough for several events: a receiver that looks at once after each event
/// takes the cache line from under the publisher's hands and makes both slower by half.
const SPINS: u32 = 4;

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// An event.
    Event(Event),
    /// This many events were dropped at this place of the stream (FLW-002).
    Lagged(u64),
}

/// A backend's side of a subscription: where its items come from.
#[async_trait]
pub trait EventSource: Send {
    /// The next item, if one is queued.
    ///
    /// # Errors
    /// Nothing is queued now, or nothing will come.
    fn try_next(&mut self) -> Result<Item, TryRecvError>;

    /// The next item, `None` after the last. When it is pending, the waker is called once
    /// something is queued or the source has ended.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>>;

    /// Items accepted and not yet taken, as measured now. Asked before the counters are read, so
    /// that a source may bring its counters up to date here.
    fn queued(&self) -> u64;

    /// Ends the subscription and frees what it holds. Dropping the source does the same without
    /// waiting.
    async fn close(&mut self);
}

/// A stream of events in publish order per publisher and topic.
///
/// Dropping it ends the subscription; [`unsubscribe`](Self::unsubscribe) does the same, waits
/// until it is done, and returns the final counters.
pub struct Subscription {
    name: Arc<str>,
    gate: Gate,
    counters: Arc<SubscriptionCounters>,
    source: Box<dyn EventSource>,
}

impl Subscription {
    /// Puts a subscription together: for backends. The correlation filter and the predicate of
    /// `subscribe` are applied here; topics, `exclude_own`, capacity and overflow are the
    /// source's. `counters` are those that the backend shows in its statistics.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        subscribe: &Subscribe,
        counters: Arc<SubscriptionCounters>,
        source: Box<dyn EventSource>,
    ) -> Self {
        Self {
            name,
            gate: subscribe.gate(),
            counters,
            source,
        }
    }

    /// The name that stands in errors, logs and counters.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Receives the next event, in publish order per publisher and topic.
    ///
    /// Returns `None` after [`shutdown`](crate::EventBus::shutdown), once everything accepted has
    /// been read. Cancel-safe: an event is either returned or still queued. Marks of lost events
    /// are passed over (they stay counted); [`recv_item`](Self::recv_item) returns them.
    pub async fn recv(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives the next event, or the mark that says how many were dropped at this place. Only a
    /// subscription that may lose events has marks. Cancel-safe.
    pub async fn recv_item(&mut self) -> Option<Item> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Receives the next event on a plain thread, `None` after the last.
    pub fn recv_blocking(&mut self) -> Option<Event> {
        for patience in 0..PATIENCE {
            match self.try_recv() {
                Ok(event) => return Some(event),
                Err(TryRecvError::Closed) => return None,
                Err(TryRecvError::Empty) if patience < SPINS => spin(16 << patience),
                Err(TryRecvError::Empty) => std::thread::yield_now(),
            }
        }
        block_on(|cx| self.poll_recv(cx))
    }

    /// The next event if one is queued.
    ///
    /// # Errors
    /// [`TryRecvError`]: nothing is queued now, or nothing will come.
    pub fn try_recv(&mut self) -> Result<Event, TryRecvError> {
        loop {
            match self.source.try_next()? {
                Item::Event(event) if self.admits(&event) => return Ok(event),
                _ => {}
            }
        }
    }

    /// The next event or mark if one is queued.
    ///
    /// # Errors
    /// [`TryRecvError`]: nothing is queued now, or nothing will come.
    pub fn try_recv_item(&mut self) -> Result<Item, TryRecvError> {
        loop {
            // As it is, and not taken apart and put together again: an event is large.
            let next = self.source.try_next();
            match &next {
                Ok(Item::Event(event)) if !self.admits(event) => {}
                _ => return next,
            }
        }
    }

    /// Polls for the next event.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            match ready!(self.source.poll_next(cx)) {
                Some(Item::Event(event)) if self.admits(&event) => {
                    return Poll::Ready(Some(event));
                }
                Some(_) => {}
                None => return Poll::Ready(None),
            }
        }
    }

    /// Polls for the next event or mark.
    pub fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            let next = self.source.poll_next(cx);
            match &next {
                Poll::Ready(Some(Item::Event(event))) if !self.admits(event) => {}
                _ => return next,
            }
        }
    }

    /// Counters as of now.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        self.counters.snapshot(&self.name, self.source.queued())
    }

    /// Ends the subscription: nothing comes after this returns (SUB-002). Events still queued are
    /// given up; the counters returned say how many.
    pub async fn unsubscribe(mut self) -> SubscriptionStats {
        self.source.close().await;
        self.stats()
    }

    /// Whether the application gets `event`, which is counted either way. By reference: an event
    /// is large, and is moved as seldom as can be.
    fn admits(&mut self, event: &Event) -> bool {
        if !self.gate.admits(event) {
            count(&self.counters.filtered, 1);
            return false;
        }
        // This is the only place that counts, so adding needs no read-modify-write. Release: who
        // reads `delivered` sees everything that was counted before.
        let delivered = self.counters.delivered.load(Ordering::Relaxed) + 1;
        self.counters.delivered.store(delivered, Ordering::Release);
        true
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl futures_core::Stream for Subscription {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll_recv(cx)
    }
}

fn spin(times: u32) {
    for _ in 0..times {
        std::hint::spin_loop();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
