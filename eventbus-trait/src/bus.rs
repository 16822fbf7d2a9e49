//! The bus: one trait, implemented by every phase.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::{
    BatchRefused, ConnectError, FlushError, PublishError, Refused, ShutdownError, SubscribeError,
    TryPublishError,
};
use crate::event::Event;
use crate::fate;
use crate::origin::PublisherId;
use crate::payload::Payload;
use crate::rate::Rate;
use crate::receipt::Receipt;
use crate::rpc::{Call, CallError, Reply, ServeError, Service, Serving};
use crate::slot;
use crate::state::BusState;
use crate::stats::Stats;
use crate::subscribe::Subscribe;
use crate::subscription::Subscription;
use crate::topic::Topic;

/// Limits that every backend keeps alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Largest event, in bytes of payload, headers and correlation: 1 MiB.
    pub max_event_size: usize,
    /// How long `publish` waits, for a turn under `rate` and for room together: 5 s.
    pub publish_deadline: Duration,
    /// Most subscriptions of one handle: 16,384.
    pub max_subscriptions: usize,
    /// Most calls of one handle that are under way at once: 1,024.
    pub max_calls: usize,
    /// How fast each handle may publish; as fast as it can, if not said. All its publishers share it,
    /// and each event of a batch counts.
    pub rate: Option<Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_event_size: 1 << 20,
            publish_deadline: Duration::from_secs(5),
            max_subscriptions: 16_384,
            max_calls: 1_024,
            rate: None,
        }
    }
}

/// Longest name of a client, in bytes.
const MAX_CLIENT_NAME: usize = 64;

/// Before the namespace at the end of a client's name on a broker.
const NAMESPACE: &str = "--in-";
/// Clients that a broker and its sessions name themselves begin so.
const OWN: &str = "eb-";

/// Checks a client's name as every backend has to, so that a name that one takes is good for all:
/// 1 to 64 of `A-Z a-z 0-9 _ -`, not beginning with `eb-` and without `--in-`.
///
/// # Errors
/// [`ConnectError::BadName`].
pub fn check_client_name(name: &str) -> Result<(), ConnectError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let reserved = name.starts_with(OWN) || name.contains(NAMESPACE);
    if (1..=MAX_CLIENT_NAME).contains(&name.len()) && name.bytes().all(allowed) && !reserved {
        return Ok(());
    }
    Err(ConnectError::BadName {
        name: name.to_owned(),
    })
}

/// One handle of an event bus: it publishes, subscribes, and is one publisher with an identity of
/// its own. [`connect`](Self::connect) makes further handles of the same bus.
///
/// ```
/// use std::sync::Arc;
/// use eventbus_trait::{Event, EventBus, Subscribe};
///
/// async fn greet(bus: Arc<dyn EventBus>) -> Result<(), Box<dyn std::error::Error>> {
///     let mut greetings = bus.subscribe(Subscribe::to("greetings.#")?).await?;
///     bus.publish(Event::json("greetings.hello", "world")?).await?;
///     let event = greetings.recv().await.ok_or("bus closed")?;
///     assert_eq!(*event.decode_json::<String>()?, "world");
///     Ok(())
/// }
/// ```
#[async_trait]
pub trait EventBus: Send + Sync + fmt::Debug {
    /// Which backend this is: `crossbeam`, `in-process`, `unix` …
    fn backend(&self) -> &str;

    /// This handle's identity as a publisher.
    fn publisher_id(&self) -> PublisherId;

    /// Publishes an event.
    ///
    /// An `AtLeastOnce` event waits until all matching subscriptions have room, and enters none
    /// before (FLW-001). With a rate limit set, any event waits for its turn under it first, unless
    /// that would take longer than the deadline: then it is `RateLimited` at once (FLW-005). Cancelling
    /// before it returns leaves the event either published or not, never half (DEL-005).
    ///
    /// # Errors
    /// The event comes back in [`Refused`]; nobody got it.
    async fn publish(&self, event: Event) -> Result<Receipt, Refused>;

    /// Publishes an event if that needs no waiting.
    ///
    /// # Errors
    /// The event comes back in [`Refused`]; nobody got it.
    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>>;

    /// Publishes events in order, up to the first that is refused. The receipt is for all.
    ///
    /// # Errors
    /// [`BatchRefused`] has the events that were not published.
    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused>;

    /// Waits until everything that this handle accepted before the call is confirmed as a receipt
    /// is (DEL-010): every matching subscription has it in its queue. At most for `deadline`.
    /// Cancelling it is harmless.
    ///
    /// # Errors
    /// [`FlushError`] names the subscriptions that have not confirmed.
    async fn flush(&self, deadline: Duration) -> Result<(), FlushError> {
        let _ = deadline;
        Err(FlushError::NotSupported {
            backend: self.backend().to_owned(),
        })
    }

    /// A publisher for one topic, which saves looking its subscriptions up for each event.
    fn publisher(&self, topic: Topic) -> Publisher;

    /// Subscribes. Whatever any connected publisher publishes after this returned is seen
    /// (SUB-001).
    ///
    /// # Errors
    /// [`SubscribeError`].
    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError>;

    /// Another handle of the same bus: a publisher of its own and, where there is a broker, a
    /// connection of its own. Without a name it gets one; see [`check_client_name`] for what a name is.
    ///
    /// # Errors
    /// [`ConnectError`].
    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError>;

    /// Serves a service: whoever calls its name on this bus gets its answers, until what is returned
    /// is stopped or dropped. Call it within a tokio runtime, which handlers then run on. See
    /// [`rpc`](crate::rpc) for what holds in every phase.
    ///
    /// # Errors
    /// [`ServeError`]; [`ServeError::NotSupported`] by a backend that has no RPC.
    async fn serve(&self, service: Service) -> Result<Serving, ServeError> {
        let _ = service;
        Err(ServeError::NotSupported {
            backend: self.backend().to_owned(),
        })
    }

    /// Calls a method of a service, and waits for its reply within the call's deadline. Dropping the
    /// future cancels the call: its handler is dropped, and nothing of it is left (RPC-007).
    ///
    /// # Errors
    /// [`CallError`], which says whether the call [may have run](CallError::may_have_run);
    /// [`CallError::NotSupported`] by a backend that has no RPC.
    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        let _ = call;
        Err(CallError::NotSupported {
            backend: self.backend().to_owned(),
        })
    }

    /// Counters as of now.
    fn stats(&self) -> Stats;

    /// How the connection stands, and a watch on its changes. A bus without a connection is always
    /// [`Connected`](BusState::Connected).
    fn state(&self) -> watch::Receiver<BusState> {
        watch::channel(BusState::Connected).1
    }

    /// Ends this handle: what it accepted is delivered, its subscriptions end once they have been
    /// read, its calls and those that its services handle are let finish until the publish deadline,
    /// later operations are `Closed`. Idempotent. Dropping the handle does the same without
    /// waiting.
    ///
    /// # Errors
    /// [`ShutdownError`] says what could not be confirmed in time. The handle is closed all the
    /// same.
    async fn shutdown(&self) -> Result<(), ShutdownError>;
}

/// A backend's side of a [`Publisher`].
#[async_trait]
pub trait PublishTopic: Send + Sync {
    /// As [`EventBus::publish`].
    ///
    /// # Errors
    /// The event comes back.
    async fn publish(&self, event: Event) -> Result<Receipt, Refused>;

    /// As [`EventBus::try_publish`].
    ///
    /// # Errors
    /// The event comes back.
    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>>;

    /// As `try_publish`, but as the first step of a `publish`, which goes on to wait: finding no
    /// room is no refusal yet and is not counted as one. The event is taken out of its
    /// [`slot`] once nothing can fail any more, so `Ok` leaves the slot empty: layers tell by that what
    /// has become of it, and [`Publisher`] panics over one that is full in a debug build. An empty slot is a
    /// publish to nobody, also on a closed handle.
    ///
    /// # Errors
    /// The event is where it was, as it was: one that is gone is reported as published to nobody.
    fn first_try(&self, slot: &mut Option<Event>) -> Result<Receipt, TryPublishError> {
        slot::by_value(slot, |event| self.try_publish(event))
    }

    /// Takes note of an event that the [`Publisher`] itself refused: counts it and tells the log
    /// whose it was.
    fn refused(&self, event: &Event, reason: &PublishError) {
        fate::refused(None, event, reason);
    }
}

/// Publishes to one topic. Cloning shares the publisher: it has its handle's identity.
#[derive(Clone)]
pub struct Publisher {
    topic: Topic,
    backend: Arc<dyn PublishTopic>,
}

impl Publisher {
    /// Puts a publisher together: for backends.
    #[must_use]
    pub fn new(topic: Topic, backend: Arc<dyn PublishTopic>) -> Self {
        Self {
            topic: topic.interned(),
            backend,
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// An event on this topic.
    #[inline]
    #[must_use]
    pub fn event(&self, payload: impl Into<Payload>) -> Event {
        Event::on(self.topic.clone(), payload.into())
    }

    /// Publishes an event on this topic; no future is boxed unless it has to wait.
    ///
    /// # Errors
    /// The event comes back; [`PublishError::WrongTopic`] if it is for another topic.
    // An async function would move the event once more, before it is published.
    pub fn publish(
        &self,
        event: Event,
    ) -> impl Future<Output = Result<Receipt, Refused>> + Send + '_ {
        let mut slot = Some(event);
        async move {
            if let Some(event) = slot.take_if(|event| !self.owns(event)) {
                return Err(self.not_ours(event));
            }
            match self.backend.first_try(&mut slot) {
                Ok(receipt) => return Ok(receipt),
                Err(TryPublishError::Publish(reason)) => return slot::refused(slot.take(), reason),
                Err(_) => {}
            }
            match slot.take() {
                Some(event) => self.backend.publish(event).await,
                None => slot::refused(None, PublishError::Closed),
            }
        }
    }

    /// Publishes an event on this topic if that needs no waiting.
    ///
    /// # Errors
    /// The event comes back; [`PublishError::WrongTopic`] if it is for another topic.
    pub fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        if self.owns(&event) {
            self.backend.try_publish(event)
        } else {
            Err(self.not_ours(event).map(Into::into))
        }
    }

    /// As `try_publish`, but as the first step of a publish that goes on to wait, as
    /// [`PublishTopic::first_try`]: for layers above a bus.
    ///
    /// # Errors
    /// The event is where it was, as it was.
    #[inline]
    pub fn first_try(&self, slot: &mut Option<Event>) -> Result<Receipt, TryPublishError> {
        if slot.as_ref().is_none_or(|event| self.owns(event)) {
            let result = self.backend.first_try(slot);
            debug_assert!(
                result.is_err() || slot.is_none(),
                "`PublishTopic::first_try` has published an event and left it in its slot"
            );
            result
        } else {
            slot::by_value(slot, |event| Err(self.not_ours(event).map(Into::into)))
        }
    }

    /// Takes note of a refusal, as [`PublishTopic::refused`]: for layers above a bus.
    pub fn refused(&self, event: &Event, reason: &PublishError) {
        self.backend.refused(event, reason);
    }

    /// Whether the event is this publisher's to publish.
    #[inline]
    fn owns(&self, event: &Event) -> bool {
        event.topic().is(&self.topic)
    }

    #[cold]
    fn not_ours(&self, event: Event) -> Refused {
        let reason = PublishError::WrongTopic {
            topic: event.topic().to_string(),
            expected: self.topic.to_string(),
        };
        self.backend.refused(&event, &reason);
        Refused::new(event, reason)
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Publishes what stays in its slot.
    struct Leaves;

    #[async_trait]
    impl PublishTopic for Leaves {
        async fn publish(&self, _: Event) -> Result<Receipt, Refused> {
            Ok(Receipt::ready(0))
        }

        fn try_publish(&self, _: Event) -> Result<Receipt, Refused<TryPublishError>> {
            Ok(Receipt::ready(0))
        }

        fn first_try(&self, _: &mut Option<Event>) -> Result<Receipt, TryPublishError> {
            Ok(Receipt::ready(0))
        }
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic = "left it in its slot"]
    fn a_backend_that_publishes_an_event_and_keeps_it_is_told_so() {
        let publisher = Publisher::new(Topic::new("a").unwrap(), Arc::new(Leaves));
        let mut slot = Some(publisher.event("x"));
        let _ = publisher.first_try(&mut slot);
    }
}
