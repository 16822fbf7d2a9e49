//! The bus itself: the trait's operations, put together from the parts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::rpc::{Call, CallError, Reply, ServeError, Service, Serving};
use eventbus_trait::{
    BatchRefused, ConnectError, Event, EventBus, FlushError, Limits, PublishError, PublishTopic,
    Publisher, PublisherId, Receipt, Refused, ShutdownError, Stats, Subscribe, SubscribeError,
    Subscription, Topic, TryPublishError, check_client_name, slot,
};

use super::calls::{Calls, Exchange};
use super::handle::{Attempt, Handle};
use super::hub::Hub;
use super::route::Path;
use super::source::Source;
use super::wait;

const BACKEND: &str = "crossbeam";

/// An event bus inside one process, over bounded crossbeam channels.
///
/// ```
/// use crossbeam_backend::CrossbeamBus;
/// use eventbus_trait::{Event, EventBus, Limits, Subscribe};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = CrossbeamBus::new(Limits::default());
/// let mut events = bus.subscribe(Subscribe::to("events.#")?).await?;
/// bus.publish(Event::json("events.process.new", &7)?).await?;
/// assert_eq!(*events.recv().await.ok_or("closed")?.decode_json::<i32>()?, 7);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CrossbeamBus {
    handle: Arc<Handle>,
    calls: Calls,
}

impl CrossbeamBus {
    /// A new bus, and its first handle. [`connect`](EventBus::connect) makes further ones.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        let max_calls = limits.max_calls;
        Arc::new(Self {
            handle: Handle::new(&Hub::new(limits), None),
            calls: Calls::new(Arc::new(Exchange::default()), max_calls),
        })
    }
}

#[async_trait]
impl EventBus for CrossbeamBus {
    fn backend(&self) -> &str {
        BACKEND
    }

    fn publisher_id(&self) -> PublisherId {
        self.handle.publisher
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        wait::publish(&self.handle, event, Path::Topic)
            .await
            .map(Receipt::ready)
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        try_publish(&self.handle, event, Path::Topic)
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        let mut events = events.into_iter();
        let (mut accepted, mut deliveries) = (0, 0);
        while let Some(event) = events.next() {
            match wait::publish(&self.handle, event, Path::Topic).await {
                Ok(queued) => deliveries += queued,
                Err(refused) => {
                    let (first, reason) = refused.into_parts();
                    return Err(BatchRefused {
                        accepted,
                        events: std::iter::once(first).chain(events).collect(),
                        reason,
                    });
                }
            }
            accepted += 1;
        }
        Ok(Receipt::ready(deliveries))
    }

    /// An event is in the queues before it counts as accepted.
    async fn flush(&self, _: Duration) -> Result<(), FlushError> {
        if self.handle.is_closed() {
            return Err(FlushError::Closed);
        }
        Ok(())
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        let backend = TopicPublisher {
            place: self.handle.add_publisher(),
            handle: Arc::clone(&self.handle),
        };
        Publisher::new(topic, Arc::new(backend))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        let (queue, receiver) = self.handle.hub.attach(&self.handle, &subscribe)?;
        let name = Arc::clone(&queue.name);
        let counters = Arc::clone(&queue.counters);
        let source = Source::new(queue, receiver, &self.handle);
        Ok(Subscription::new(
            name,
            &subscribe,
            counters,
            Box::new(source),
        ))
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        if self.handle.is_closed() {
            return Err(ConnectError::Closed);
        }
        let hub = &self.handle.hub;
        if let Some(name) = name {
            check_client_name(name)?;
            hub.claim(name)?;
        }
        let handle = Handle::new(hub, name);
        let calls = self.calls.another(hub.limits.max_calls);
        Ok(Arc::new(Self { handle, calls }))
    }

    async fn serve(&self, service: Service) -> Result<Serving, ServeError> {
        self.calls.serve(&self.handle, service)
    }

    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        self.calls
            .call(call, self.handle.hub.limits.max_event_size)
            .await
    }

    fn stats(&self) -> Stats {
        let mut stats = self.handle.stats(BACKEND);
        self.calls.add_to(&mut stats);
        stats
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.calls
            .finish(self.handle.hub.limits.publish_deadline)
            .await;
        self.handle.close();
        Ok(())
    }
}

impl Drop for CrossbeamBus {
    fn drop(&mut self) {
        self.calls.end();
        self.handle.close();
    }
}

/// A publisher whose route has a place of its own.
struct TopicPublisher {
    handle: Arc<Handle>,
    place: usize,
}

#[async_trait]
impl PublishTopic for TopicPublisher {
    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        wait::publish(&self.handle, event, Path::Publisher(self.place))
            .await
            .map(Receipt::ready)
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        try_publish(&self.handle, event, Path::Publisher(self.place))
    }

    fn refused(&self, event: &Event, reason: &PublishError) {
        self.handle.refuse(event, reason);
    }

    fn first_try(&self, slot: &mut Option<Event>) -> Result<Receipt, TryPublishError> {
        let tried = first_try(&self.handle, slot, Path::Publisher(self.place));
        tried.inspect_err(|reason| {
            if let (TryPublishError::Publish(reason), Some(event)) = (reason, slot) {
                self.handle.refuse(event, reason);
            }
        })
    }
}

impl Drop for TopicPublisher {
    fn drop(&mut self) {
        self.handle.remove_publisher(self.place);
    }
}

fn try_publish(
    handle: &Handle,
    event: Event,
    path: Path,
) -> Result<Receipt, Refused<TryPublishError>> {
    slot::by_slot(event, |slot| first_try(handle, slot, path))
        .inspect_err(|refused| handle.refuse(refused.event(), refused.reason()))
}

/// Publishes without waiting; a refusal is not counted yet.
fn first_try(
    handle: &Handle,
    slot: &mut Option<Event>,
    path: Path,
) -> Result<Receipt, TryPublishError> {
    let admission = match slot {
        Some(event) => handle.admit(event),
        None => return Ok(Receipt::ready(0)),
    };
    let admission =
        admission.map_err(|retry_after| TryPublishError::RateLimited { retry_after })?;
    match handle.attempt(slot, path) {
        Attempt::Queued(queued) => {
            if let Some(admission) = admission {
                admission.used();
            }
            Ok(Receipt::ready(queued))
        }
        Attempt::Full(queue) => Err(TryPublishError::Full {
            subscription: queue.name.to_string(),
        }),
        Attempt::Refused(reason) => Err(reason.into()),
    }
}
