//! A bus with one thing changed: every operation goes to the bus inside unless the layer says
//! otherwise.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::rpc::{Call, CallError, Reply, ServeError, Service, Serving};
use eventbus_trait::{
    BatchRefused, BusState, ConnectError, Event, EventBus, FlushError, PublishError, PublishTopic,
    Publisher, PublisherId, Receipt, Refused, ShutdownError, Stats, Subscribe, SubscribeError,
    Subscription, Topic, TryPublishError,
};
use tokio::sync::watch;

/// What a layer changes.
#[async_trait]
pub(super) trait Layered: Send + Sync + 'static {
    /// The bus inside.
    fn inner(&self) -> &Arc<dyn EventBus>;

    /// The bus to subscribe on.
    fn subscribes_on(&self) -> &Arc<dyn EventBus> {
        self.inner()
    }

    /// What is done before an event is published; an error refuses it.
    async fn before_publish(&self, event: &Event) -> Result<(), PublishError> {
        self.before_try_publish(event)
    }

    /// The same where nothing can be waited for.
    fn before_try_publish(&self, event: &Event) -> Result<(), PublishError> {
        let _ = event;
        Ok(())
    }

    /// What is done before a subscription is made; an error refuses it.
    fn before_subscribe(&self, subscribe: &Subscribe) -> Result<(), SubscribeError> {
        let _ = subscribe;
        Ok(())
    }

    /// What is published instead of an event; nothing, if it is lost.
    fn altered(&self, event: Event) -> Option<Event> {
        Some(event)
    }

    /// What is done with a call before it is made; an error ends it.
    async fn before_call(&self, call: Call) -> Result<Call, CallError> {
        Ok(call)
    }

    /// What comes of a call.
    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        let call = self.before_call(call).await?;
        self.inner().call(call).await
    }

    /// Another handle, which the bus inside has made.
    fn beside(&self, handle: Arc<dyn EventBus>) -> Arc<dyn EventBus> {
        handle
    }

    /// How the connection stands.
    fn state(&self) -> watch::Receiver<BusState> {
        self.inner().state()
    }

    /// Counters as of now.
    fn stats(&self) -> Stats {
        self.inner().stats()
    }

    /// What is done once the handle is closed.
    fn after_shutdown(&self) {}
}

/// A bus with a layer around it.
struct LayeredBus<L>(Arc<L>);

/// The bus inside `layer`, with the layer around it.
pub(super) fn layered<L: Layered>(layer: L) -> Arc<dyn EventBus> {
    Arc::new(LayeredBus(Arc::new(layer)))
}

impl<L: Layered> fmt::Debug for LayeredBus<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.inner(), f)
    }
}

#[async_trait]
impl<L: Layered> EventBus for LayeredBus<L> {
    fn backend(&self) -> &str {
        self.0.inner().backend()
    }

    fn publisher_id(&self) -> PublisherId {
        self.0.inner().publisher_id()
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        match self.0.before_publish(&event).await {
            Ok(()) => match self.0.altered(event) {
                Some(event) => self.0.inner().publish(event).await,
                None => Ok(Receipt::ready(0)),
            },
            Err(reason) => Err(Refused::new(event, reason)),
        }
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        match self.0.before_try_publish(&event) {
            Ok(()) => match self.0.altered(event) {
                Some(event) => self.0.inner().try_publish(event),
                None => Ok(Receipt::ready(0)),
            },
            Err(reason) => Err(Refused::new(event, reason.into())),
        }
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        for event in &events {
            if let Err(reason) = self.0.before_publish(event).await {
                let accepted = 0;
                return Err(BatchRefused {
                    accepted,
                    events,
                    reason,
                });
            }
        }
        let events = events.into_iter().filter_map(|event| self.0.altered(event));
        self.0.inner().publish_batch(events.collect()).await
    }

    async fn flush(&self, deadline: Duration) -> Result<(), FlushError> {
        self.0.inner().flush(deadline).await
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        let bus = Self(Arc::clone(&self.0));
        Publisher::new(topic, Arc::new(bus))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        self.0.before_subscribe(&subscribe)?;
        self.0.subscribes_on().subscribe(subscribe).await
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        Ok(self.0.beside(self.0.inner().connect(name).await?))
    }

    async fn serve(&self, service: Service) -> Result<Serving, ServeError> {
        self.0.inner().serve(service).await
    }

    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        self.0.call(call).await
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.0.state()
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        let result = self.0.inner().shutdown().await;
        self.0.after_shutdown();
        result
    }
}

#[async_trait]
impl<L: Layered> PublishTopic for LayeredBus<L> {
    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        EventBus::publish(self, event).await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        EventBus::try_publish(self, event)
    }
}
