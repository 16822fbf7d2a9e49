//! A bus that is not there: what a shadow compares with when its candidate cannot be reached.
//!
//! The application must run on its primary all the same, and the report must say that nothing was
//! compared; so the place is taken by a bus that refuses everything.

use std::sync::Arc;

use async_trait::async_trait;
use eventbus_trait::rpc::{Call, CallError, Reply, ServeError, Service, Serving};
use eventbus_trait::{
    BatchRefused, ConnectError, Event, EventBus, PublishError, PublishTopic, Publisher,
    PublisherId, Receipt, Refused, ShutdownError, Stats, Subscribe, SubscribeError, Subscription,
    Topic, TryPublishError,
};

/// Refuses everything for one reason.
#[derive(Debug, Clone)]
pub(crate) struct AbsentBus {
    backend: &'static str,
    id: PublisherId,
    reason: Arc<str>,
}

impl AbsentBus {
    pub(crate) fn new(backend: &'static str, reason: String) -> Self {
        Self {
            backend,
            id: PublisherId::random(),
            reason: reason.into(),
        }
    }

    fn refusal(&self) -> PublishError {
        PublishError::Disconnected {
            reason: self.reason.to_string(),
        }
    }
}

#[async_trait]
impl EventBus for AbsentBus {
    fn backend(&self) -> &str {
        self.backend
    }

    fn publisher_id(&self) -> PublisherId {
        self.id
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        Err(Refused::new(event, self.refusal()))
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        Err(Refused::new(event, self.refusal().into()))
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        Err(BatchRefused {
            accepted: 0,
            events,
            reason: self.refusal(),
        })
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        Publisher::new(topic, Arc::new(self.clone()))
    }

    async fn subscribe(&self, _: Subscribe) -> Result<Subscription, SubscribeError> {
        Err(SubscribeError::Disconnected {
            reason: self.reason.to_string(),
        })
    }

    async fn serve(&self, service: Service) -> Result<Serving, ServeError> {
        Err(ServeError::Disconnected {
            service: service.name().to_owned(),
            reason: self.reason.to_string(),
        })
    }

    async fn call(&self, _: Call) -> Result<Reply, CallError> {
        Err(CallError::Disconnected {
            reason: self.reason.to_string(),
        })
    }

    async fn connect(&self, _: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        Ok(Arc::new(Self::new(self.backend, self.reason.to_string())))
    }

    fn stats(&self) -> Stats {
        Stats {
            backend: self.backend.to_owned(),
            ..Stats::default()
        }
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        Ok(())
    }
}

#[async_trait]
impl PublishTopic for AbsentBus {
    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        EventBus::publish(self, event).await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        EventBus::try_publish(self, event)
    }
}
