//! A bus whose events and calls say which span they come from.
//!
//! It stands above all others, a shadow and a rollout too: what is doubled or moved is the same event, and
//! all sides see the same correlation. What comes in needs nothing of it, since an event brings its trace
//! along and handlers are run by the service itself.
//!
//! Invariant: outside of a trace it changes nothing, and who gets an event back gets it as it was.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::rpc::{Call, CallError, Reply, ServeError, Service, Serving};
use eventbus_trait::trace::TraceParent;
use eventbus_trait::{
    BatchRefused, BusState, ConnectError, Event, EventBus, FlushError, PublishError, PublishTopic,
    Publisher, PublisherId, Receipt, Refused, ShutdownError, Stats, Subscribe, SubscribeError,
    Subscription, Topic, TryPublishError, slot,
};
use tokio::sync::watch;

/// Gives what is published and called the current span as its trace parent; see
/// [`Event::in_current_span`].
///
/// [`open`](crate::open) returns one. It is for buses that are opened otherwise, as by
/// [`open_shadow`](crate::open_shadow).
#[derive(Debug)]
pub struct TracedBus {
    bus: Arc<dyn EventBus>,
}

impl TracedBus {
    /// Puts it above `bus`.
    #[must_use]
    pub fn new(bus: Arc<dyn EventBus>) -> Arc<Self> {
        Arc::new(Self { bus })
    }
}

/// An event as it goes out, and as it came if it is another one now.
struct Marked {
    event: Event,
    before: Option<Event>,
}

impl Marked {
    fn new(event: Event) -> Self {
        Self::within(event, TraceParent::current())
    }

    fn within(event: Event, here: Option<TraceParent>) -> Self {
        match here {
            None => Self {
                event,
                before: None,
            },
            Some(here) => Self {
                before: Some(event.clone()),
                event: event.coming_from(here),
            },
        }
    }

    /// Publishes it, and hands back what was given.
    fn now<E>(
        self,
        publish: impl FnOnce(Event) -> Result<Receipt, Refused<E>>,
    ) -> Result<Receipt, Refused<E>> {
        publish(self.event).map_err(|refused| back(refused, self.before))
    }
}

fn back<E>(refused: Refused<E>, before: Option<Event>) -> Refused<E> {
    let (event, reason) = refused.into_parts();
    Refused::new(before.unwrap_or(event), reason)
}

#[async_trait]
impl EventBus for TracedBus {
    fn backend(&self) -> &str {
        self.bus.backend()
    }

    fn publisher_id(&self) -> PublisherId {
        self.bus.publisher_id()
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        let Marked { event, before } = Marked::new(event);
        let published = self.bus.publish(event).await;
        published.map_err(|refused| back(refused, before))
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        Marked::new(event).now(|event| self.bus.try_publish(event))
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        let Some(here) = TraceParent::current() else {
            return self.bus.publish_batch(events).await;
        };
        let mut before = events.clone();
        let marked = |event: Event| event.coming_from(here);
        let published = self
            .bus
            .publish_batch(events.into_iter().map(marked).collect());
        published.await.map_err(|mut refused| {
            let accepted = before.len().saturating_sub(refused.events.len());
            refused.events = before.split_off(accepted);
            refused
        })
    }

    async fn flush(&self, deadline: Duration) -> Result<(), FlushError> {
        self.bus.flush(deadline).await
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        let publisher = self.bus.publisher(topic.clone());
        Publisher::new(topic, Arc::new(TracedTopic { publisher }))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        self.bus.subscribe(subscribe).await
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        Ok(Self::new(self.bus.connect(name).await?))
    }

    async fn serve(&self, service: Service) -> Result<Serving, ServeError> {
        self.bus.serve(service).await
    }

    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        self.bus.call(call.in_current_span()).await
    }

    fn stats(&self) -> Stats {
        self.bus.stats()
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.bus.state()
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.bus.shutdown().await
    }
}

struct TracedTopic {
    publisher: Publisher,
}

#[async_trait]
impl PublishTopic for TracedTopic {
    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        let Marked { event, before } = Marked::new(event);
        let published = self.publisher.publish(event).await;
        published.map_err(|refused| back(refused, before))
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        Marked::new(event).now(|event| self.publisher.try_publish(event))
    }

    fn first_try(&self, slot: &mut Option<Event>) -> Result<Receipt, TryPublishError> {
        let Some(here) = TraceParent::current() else {
            return self.publisher.first_try(slot);
        };
        slot::by_value(slot, |event| {
            let publish = |event| slot::by_slot(event, |slot| self.publisher.first_try(slot));
            Marked::within(event, Some(here)).now(publish)
        })
    }

    fn refused(&self, event: &Event, reason: &PublishError) {
        self.publisher.refused(event, reason);
    }
}
