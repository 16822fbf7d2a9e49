//! A bus whose phase changes under the application's feet.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::rpc::{Call, CallError, Reply, ServeError, Service, Serving};
use eventbus_trait::{
    BatchRefused, BusState, ConnectError, Event, EventBus, FlushError, PublishError, PublishTopic,
    Publisher, PublisherId, Receipt, Refused, ShutdownError, Stats, Subscribe, SubscribeError,
    Subscription, Topic, TryPublishError, slot,
};
use shadow::Report;
use tokio::sync::watch;

use super::handle::Handle;
use super::lane::Route;
use super::mail::Membership;
use super::source::Source;
use crate::rollout::Controller;

const BACKEND: &str = "phased";

/// A bus that can be moved from one phase to another while it is in use.
///
/// Publishers keep their identity and go on counting, subscriptions go on with the next event, and
/// handles stay. While a cutover holds them, publishers wait within their own deadline, and
/// `try_publish` is `Full` by `(cutover)`. An event that waited for room and was refused may leave
/// a gap in its publisher's sequence.
#[derive(Debug)]
pub struct PhasedBus {
    handle: Arc<Handle>,
    controller: Controller,
}

impl PhasedBus {
    pub(crate) fn new(handle: Arc<Handle>, controller: Controller) -> Arc<Self> {
        Arc::new(Self { handle, controller })
    }

    /// What the comparison of this stage has found so far; none if nothing is compared.
    #[must_use]
    pub fn comparison(&self) -> Option<Report> {
        let fabric = &self.handle.fabric;
        let compared = fabric.opener.attached(&fabric.phase())?;
        Some(compared.report())
    }

    /// What moves it.
    #[must_use]
    pub fn controller(&self) -> &Controller {
        &self.controller
    }
}

#[async_trait]
impl EventBus for PhasedBus {
    fn backend(&self) -> &str {
        BACKEND
    }

    fn publisher_id(&self) -> PublisherId {
        self.handle.lane.publisher_id()
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        let route = self.handle.route(event.topic());
        self.handle.publish(event, &route).await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        let route = self.handle.route(event.topic());
        self.handle.try_publish(event, &route, false)
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        self.handle.publish_batch(events).await
    }

    async fn flush(&self, deadline: Duration) -> Result<(), FlushError> {
        match self.handle.lane.current() {
            Some((bus, _)) => bus.flush(deadline).await,
            None => Err(FlushError::Closed),
        }
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        let backend = PhasedTopic {
            handle: Arc::clone(&self.handle),
            route: self.handle.route(&topic),
        };
        Publisher::new(topic, Arc::new(backend))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        // A cutover moves every subscription that there is.
        let _turn = self.handle.fabric.turn.read().await;
        let Some((bus, generation)) = self.handle.lane.current() else {
            return Err(SubscribeError::Closed);
        };
        let inner = bus.subscribe(subscribe.ungated()).await?;
        let name: Arc<str> = inner.name().into();
        let again = subscribe.ungated().named(&*name);
        let membership = Membership::new(Arc::clone(&name), again, generation);
        self.handle.add_member(&membership);
        let counters = Arc::clone(&membership.counters);
        let source = Source::new(inner, generation, membership);
        Ok(Subscription::new(
            name,
            &subscribe,
            counters,
            Box::new(source),
        ))
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        let fabric = &self.handle.fabric;
        let _turn = fabric.turn.read().await;
        let Some((bus, generation)) = self.handle.lane.current() else {
            return Err(ConnectError::Closed);
        };
        let bus = bus.connect(name).await?;
        let handle = Handle::new(fabric, bus, generation, name, false);
        Ok(Self::new(handle, self.controller.clone()))
    }

    async fn serve(&self, service: Service) -> Result<Serving, ServeError> {
        // A cutover moves every service that there is.
        let _turn = self.handle.fabric.turn.read().await;
        let Some((bus, generation)) = self.handle.lane.current() else {
            return Err(ServeError::Closed);
        };
        self.handle.calls.serve(&bus, generation, service).await
    }

    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        self.handle.calls.call(&self.handle.lane, call).await
    }

    fn stats(&self) -> Stats {
        self.handle.stats(BACKEND)
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.handle.state()
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        let result = {
            let _turn = self.handle.fabric.turn.read().await;
            self.handle.shutdown().await
        };
        self.handle.fabric.rest().await;
        result
    }
}

/// Dropping a handle is shutting it down, without waiting for anything.
impl Drop for PhasedBus {
    fn drop(&mut self) {
        self.handle.abandon();
    }
}

struct PhasedTopic {
    handle: Arc<Handle>,
    route: Arc<Route>,
}

#[async_trait]
impl PublishTopic for PhasedTopic {
    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        self.handle.publish(event, &self.route).await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        self.handle.try_publish(event, &self.route, false)
    }

    fn first_try(&self, slot: &mut Option<Event>) -> Result<Receipt, TryPublishError> {
        slot::by_value(slot, |event| {
            self.handle.try_publish(event, &self.route, true)
        })
    }

    fn refused(&self, event: &Event, reason: &PublishError) {
        self.handle.note_refused(event, reason);
    }
}
