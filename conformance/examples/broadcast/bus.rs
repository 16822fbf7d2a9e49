//! An event bus over `tokio::sync::broadcast`, as one would write it in an afternoon.
//!
//! One broadcast channel carries all topics, and each subscription takes its own out of it. That is
//! a good channel and no bus of this contract: a receiver that falls behind by more than the
//! channel's capacity loses the oldest events, whatever it asked for, and the sender never learns
//! of it. The suite says so clause by clause.

use std::collections::{BTreeMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};

use async_trait::async_trait;
use eventbus_trait::{
    BatchRefused, ConnectError, Event, EventBus, EventSource, FamilyStats, Item, Limits, Origin,
    PublishError, PublishTopic, Publisher, PublisherId, Receipt, Refused, ShutdownError, Stats,
    Subscribe, SubscribeError, Subscription, SubscriptionCounters, Topic, TryPublishError,
    TryRecvError, count, process_epoch,
};
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::wrappers::{BroadcastStream, WatchStream};

/// How far a receiver may fall behind.
const CAPACITY: usize = 4096;

/// What all handles of one bus share.
#[derive(Debug)]
struct Hub {
    sender: broadcast::Sender<Event>,
    names: Mutex<HashSet<String>>,
    clients: Mutex<HashSet<String>>,
    limits: Limits,
}

/// One handle.
#[derive(Debug)]
pub(crate) struct BroadcastBus(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    hub: Arc<Hub>,
    id: PublisherId,
    client: Option<String>,
    sequence: AtomicU64,
    refused: AtomicU64,
    subscriptions: AtomicUsize,
    families: Mutex<BTreeMap<String, FamilyStats>>,
    closed: watch::Sender<bool>,
}

impl BroadcastBus {
    /// The first handle of a new bus.
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let hub = Hub {
            sender: broadcast::Sender::new(CAPACITY),
            names: Mutex::default(),
            clients: Mutex::default(),
            limits,
        };
        Self::on(Arc::new(hub), None)
    }

    fn on(hub: Arc<Hub>, client: Option<String>) -> Arc<Self> {
        Arc::new(Self(Arc::new(Handle {
            hub,
            id: PublisherId::random(),
            client,
            sequence: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            subscriptions: AtomicUsize::new(0),
            families: Mutex::default(),
            closed: watch::Sender::new(false),
        })))
    }
}

impl Handle {
    fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    fn check(&self, event: &Event) -> Result<(), PublishError> {
        if self.is_closed() {
            return Err(PublishError::Closed);
        }
        let size = event.bytes()?.len() + event.meta_size();
        let limit = self.hub.limits.max_event_size;
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        Ok(())
    }

    fn send(&self, mut event: Event) -> Result<Receipt, Refused> {
        if let Err(reason) = self.check(&event) {
            count(&self.refused, 1);
            return Err(Refused::new(event, reason));
        }
        event.accept(|| Origin {
            publisher: self.id,
            epoch: process_epoch(),
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
        });
        let family = event.topic().family().to_owned();
        // Nobody listening is no error.
        let receivers = self.hub.sender.send(event).unwrap_or(0) as u64;
        let mut families = self.families.lock();
        let family = families.entry(family).or_default();
        family.published += 1;
        family.deliveries += receivers;
        Ok(Receipt::ready(receivers))
    }
}

#[async_trait]
impl EventBus for BroadcastBus {
    fn backend(&self) -> &str {
        "broadcast"
    }

    fn publisher_id(&self) -> PublisherId {
        self.0.id
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        self.0.send(event)
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        self.0
            .send(event)
            .map_err(|refused| refused.map(Into::into))
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        let mut receipt = Receipt::ready(0);
        let mut events = events.into_iter();
        let mut accepted = 0;
        while let Some(event) = events.next() {
            match self.0.send(event).map_err(Refused::into_parts) {
                Ok(last) => receipt = last,
                Err((back, reason)) => {
                    let events = std::iter::once(back).chain(events).collect();
                    return Err(BatchRefused {
                        accepted,
                        events,
                        reason,
                    });
                }
            }
            accepted += 1;
        }
        Ok(receipt)
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        Publisher::new(topic, Arc::new(Self(Arc::clone(&self.0))))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        let handle = &self.0;
        if handle.is_closed() {
            return Err(SubscribeError::Closed);
        }
        subscribe.check()?;
        let limit = handle.hub.limits.max_subscriptions;
        if handle.subscriptions.load(Ordering::SeqCst) >= limit {
            return Err(SubscribeError::TooManySubscriptions { limit });
        }
        let own = || PublisherId::random().to_string();
        let name = subscribe.name().map_or_else(own, str::to_owned);
        if !handle.hub.names.lock().insert(name.clone()) {
            return Err(SubscribeError::AlreadySubscribed { name });
        }
        handle.subscriptions.fetch_add(1, Ordering::SeqCst);
        let counters = Arc::new(SubscriptionCounters::default());
        let source = Source {
            events: Some(BroadcastStream::new(handle.hub.sender.subscribe())),
            closed: WatchStream::new(handle.closed.subscribe()),
            ending: false,
            name: name.clone(),
            subscribe: subscribe.ungated(),
            counters: Arc::clone(&counters),
            handle: Arc::clone(handle),
        };
        let source = Box::new(source);
        Ok(Subscription::new(name.into(), &subscribe, counters, source))
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        let handle = &self.0;
        if handle.is_closed() {
            return Err(ConnectError::Closed);
        }
        if let Some(name) = name
            && !handle.hub.clients.lock().insert(name.to_owned())
        {
            let name = name.to_owned();
            return Err(ConnectError::NameInUse { name });
        }
        Ok(Self::on(Arc::clone(&handle.hub), name.map(str::to_owned)))
    }

    fn stats(&self) -> Stats {
        let handle = &self.0;
        Stats {
            backend: self.backend().to_owned(),
            published: handle.sequence.load(Ordering::Relaxed),
            refused: handle.refused.load(Ordering::Relaxed),
            families: handle.families.lock().clone(),
            ..Stats::default()
        }
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.0.closed.send_replace(true);
        if let Some(name) = &self.0.client {
            self.0.hub.clients.lock().remove(name);
        }
        Ok(())
    }
}

#[async_trait]
impl PublishTopic for BroadcastBus {
    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        self.0.send(event)
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        EventBus::try_publish(self, event)
    }
}

/// The receiving side of a subscription.
struct Source {
    /// None once the subscription has ended.
    events: Option<BroadcastStream<Event>>,
    closed: WatchStream<bool>,
    ending: bool,
    name: String,
    subscribe: Subscribe,
    counters: Arc<SubscriptionCounters>,
    handle: Arc<Handle>,
}

impl Source {
    fn takes(&self, event: &Event) -> bool {
        let own = event
            .origin()
            .is_some_and(|o| o.publisher == self.handle.id);
        self.subscribe.takes(event.topic()) && !(own && self.subscribe.excludes_own())
    }

    fn end(&mut self) {
        if self.events.take().is_some() {
            self.handle.hub.names.lock().remove(&self.name);
            self.handle.subscriptions.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl EventSource for Source {
    fn try_next(&mut self) -> Result<Item, TryRecvError> {
        match self.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(item)) => Ok(item),
            Poll::Ready(None) => Err(TryRecvError::Closed),
            Poll::Pending => Err(TryRecvError::Empty),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            let Some(events) = &mut self.events else {
                return Poll::Ready(None);
            };
            match Pin::new(events).poll_next(cx) {
                Poll::Ready(Some(Ok(event))) if self.takes(&event) => {
                    count(&self.counters.matched, 1);
                    return Poll::Ready(Some(Item::Event(event)));
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(BroadcastStreamRecvError::Lagged(lost)))) => {
                    // Some of these were for others: nobody knows how many.
                    count(&self.counters.matched, lost);
                    count(&self.counters.dropped, lost);
                    return Poll::Ready(Some(Item::Lagged(lost)));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if self.ending => return Poll::Ready(None),
                Poll::Pending => {
                    // Once the handle is closed, what is still queued comes first.
                    let closed = ready!(Pin::new(&mut self.closed).poll_next(cx));
                    self.ending = closed != Some(false);
                }
            }
        }
    }

    fn queued(&self) -> u64 {
        0
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
