//! A mutant's publisher: the way of its events is the handle's own.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use async_trait::async_trait;
use eventbus_trait::{Event, EventBus, PublishTopic, Receipt, Refused, TryPublishError, slot};

use super::bus::{Core, Tried};

/// Polls `future` once, for the task that goes on to wait for it.
pub(super) async fn once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

pub(super) struct MutantPublisher(pub(super) Arc<Core>);

#[async_trait]
impl PublishTopic for MutantPublisher {
    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        let mut publishing = Box::pin(self.0.publish(event));
        if let Poll::Ready(result) = once(publishing.as_mut()).await {
            return result;
        }
        self.0.waits.fetch_add(1, Ordering::SeqCst);
        publishing.await
    }

    fn try_publish(&self, event: Event) -> Tried {
        self.0
            .try_publish(event, |bus, event| bus.try_publish(event))
    }

    fn first_try(&self, slot: &mut Option<Event>) -> Result<Receipt, TryPublishError> {
        let first_try = |bus: &dyn EventBus, event: Event| {
            let publisher = bus.publisher(event.topic().clone());
            slot::by_slot(event, |slot| publisher.first_try(slot))
        };
        slot::by_value(slot, |event| self.0.try_publish(event, first_try))
    }
}
