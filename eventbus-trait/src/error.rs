//! Errors, one enum per operation, the same values in every phase (MIG-005).

use std::fmt;
use std::time::Duration;

use crate::codec::CodecError;
use crate::event::Event;

/// Why [`EventBus::publish`](crate::EventBus::publish) did not take an event. Nobody got it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A matching subscription had no room until the deadline.
    #[error("no room in subscription `{subscription}` for {waited:?}")]
    Backpressure {
        /// The first subscription found full.
        subscription: String,
        /// How long the publisher waited.
        waited: Duration,
    },
    /// The publisher is over its rate limit, and its turn comes after the deadline.
    #[error("over the rate limit; try again in {retry_after:?}")]
    RateLimited {
        /// When the next event will be taken.
        retry_after: Duration,
    },
    /// The event is larger than the bus allows.
    #[error("event of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Size of payload, headers and correlation, in bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The payload is a typed value that could not be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The event is for another topic than the publisher's.
    #[error("event for topic `{topic}` given to the publisher of `{expected}`")]
    WrongTopic {
        /// The event's topic.
        topic: String,
        /// The publisher's topic.
        expected: String,
    },
    /// The broker does not allow this client to publish on the topic (SEC-004).
    #[error("not allowed to publish on `{topic}`")]
    Denied {
        /// The topic.
        topic: String,
    },
    /// There is no connection to the broker.
    #[error("no connection to the broker: {reason}")]
    Disconnected {
        /// What is known of the loss.
        reason: String,
    },
    /// The bus was shut down.
    #[error("bus is closed")]
    Closed,
}

/// Why [`EventBus::try_publish`](crate::EventBus::try_publish) did not take an event. Nobody got
/// it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TryPublishError {
    /// A matching subscription has no room now.
    #[error("no room in subscription `{subscription}`")]
    Full {
        /// The first subscription found full.
        subscription: String,
    },
    /// The publisher is over its rate limit.
    #[error("over the rate limit; try again in {retry_after:?}")]
    RateLimited {
        /// When the next event will be taken.
        retry_after: Duration,
    },
    /// Any reason that waiting does not mend.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// An event that was not taken, and why: the event comes back.
///
/// ```
/// # use eventbus_trait::{Event, PublishError, Refused};
/// # let event = Event::new("a.b", "x").unwrap();
/// let refused = Refused::new(event, PublishError::Closed);
/// assert_eq!(*refused.reason(), PublishError::Closed);
/// assert_eq!(refused.into_event().topic().as_str(), "a.b");
/// ```
#[derive(Clone, PartialEq)]
pub struct Refused<E = PublishError>(Box<(Event, E)>);

impl<E> Refused<E> {
    /// Hands `event` back for `reason`.
    #[must_use]
    pub fn new(event: Event, reason: E) -> Self {
        Self(Box::new((event, reason)))
    }

    /// Why it was not taken.
    #[must_use]
    pub fn reason(&self) -> &E {
        &self.0.1
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.0.0
    }

    /// Takes the event back.
    #[must_use]
    pub fn into_event(self) -> Event {
        self.0.0
    }

    /// Takes both.
    #[must_use]
    pub fn into_parts(self) -> (Event, E) {
        *self.0
    }

    /// The same refusal with another reason.
    #[must_use]
    pub fn map<F>(self, reason: impl FnOnce(E) -> F) -> Refused<F> {
        let (event, error) = *self.0;
        Refused::new(event, reason(error))
    }
}

impl<E: fmt::Display> fmt::Display for Refused<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` not published: {}",
            self.event().topic(),
            self.reason()
        )
    }
}

impl<E: fmt::Debug> fmt::Debug for Refused<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("topic", self.event().topic())
            .field("reason", self.reason())
            .finish_non_exhaustive()
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Refused<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.reason())
    }
}

/// The part of a batch that was not taken: the first of `events` was refused for `reason`, the
/// rest were not tried. The events before them are published.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{accepted} of the batch published, {} not: {reason}", events.len())]
pub struct BatchRefused {
    /// How many events of the batch were taken.
    pub accepted: usize,
    /// The events that were not, in order.
    pub events: Vec<Event>,
    /// Why the first of them was not.
    #[source]
    pub reason: PublishError,
}

/// Why [`EventBus::subscribe`](crate::EventBus::subscribe) made no subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// Another subscription on the bus has this name (SUB-005).
    #[error("subscription name `{name}` is in use on this bus")]
    AlreadySubscribed {
        /// The name.
        name: String,
    },
    /// The handle has as many subscriptions as it may have (SUB-006).
    #[error("this bus has {limit} subscriptions, which is its limit")]
    TooManySubscriptions {
        /// The limit.
        limit: usize,
    },
    /// The capacity is zero or over the limit.
    #[error("capacity of {capacity} is not within 1 to {limit}")]
    Capacity {
        /// What was asked for.
        capacity: usize,
        /// The largest allowed.
        limit: usize,
    },
    /// The name is too long.
    #[error("subscription name of {bytes} bytes is over the limit of {limit}")]
    NameTooLong {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// The broker does not allow this client to subscribe to the filter (SEC-004).
    #[error("not allowed to subscribe to `{filter}`")]
    Denied {
        /// The filter.
        filter: String,
    },
    /// These peers did not say within the deadline that they will send to the subscription.
    #[error("no answer within {waited:?} from {}", peers.join(", "))]
    Timeout {
        /// The silent peers.
        peers: Vec<String>,
        /// How long the call waited.
        waited: Duration,
    },
    /// There is no connection to the broker.
    #[error("no connection to the broker: {reason}")]
    Disconnected {
        /// What is known of the loss.
        reason: String,
    },
    /// The bus was shut down.
    #[error("bus is closed")]
    Closed,
}

/// Why no further handle could be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nothing answers at the address.
    #[error("nothing answers at `{address}`: {reason}")]
    Unreachable {
        /// The address.
        address: String,
        /// What the system said, and what to look at.
        reason: String,
    },
    /// No answer came in time.
    #[error("no answer from `{address}` within {waited:?}")]
    Timeout {
        /// The address.
        address: String,
        /// How long the call waited.
        waited: Duration,
    },
    /// These peers, which are on the broker, did not tell their subscriptions in time.
    #[error("no answer within {waited:?} from {}, which are on the broker at `{address}`", peers.join(", "))]
    Silent {
        /// The address.
        address: String,
        /// The silent peers.
        peers: Vec<String>,
        /// How long the call waited.
        waited: Duration,
    },
    /// Another client has this name (LIF-006).
    #[error("client name `{name}` is in use on the broker")]
    NameInUse {
        /// The name.
        name: String,
    },
    /// No client may have this name.
    #[error(
        "client name `{name}` is not 1 to 64 of A-Z a-z 0-9 _ -, or begins with `eb-` or has `--in-` \
         in it, which are reserved"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// The name leaves no room for the namespace that is appended to it.
    #[error(
        "client name `{name}` is longer than the {limit} bytes that namespace `{namespace}` leaves; \
         shorten one of them"
    )]
    LongName {
        /// The name.
        name: String,
        /// The namespace.
        namespace: String,
        /// Longest name within it, in bytes.
        limit: usize,
    },
    /// The two ends do not trust each other.
    #[error("no TLS with `{address}`: {problem}")]
    Tls {
        /// The address.
        address: String,
        /// What was wrong.
        #[source]
        problem: TlsProblem,
    },
    /// The broker refused.
    #[error("broker at `{address}` refused: {reason}")]
    Refused {
        /// The address.
        address: String,
        /// What it said.
        reason: String,
    },
    /// The bus was shut down.
    #[error("bus is closed")]
    Closed,
}

/// Why a TLS connection to a broker was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The broker's certificate is signed by no authority that this client knows.
    #[error("the broker's certificate is signed by no authority in the CA file")]
    UnknownAuthority,
    /// The broker's certificate has expired.
    #[error("the broker's certificate has expired")]
    Expired,
    /// The broker's certificate is not valid yet.
    #[error("the broker's certificate is not valid yet")]
    NotYetValid,
    /// The broker's certificate was revoked.
    #[error("the broker's certificate was revoked")]
    Revoked,
    /// The broker's certificate is for another name.
    #[error("the broker's certificate is not for `{expected}`")]
    WrongName {
        /// The name that was dialled or set.
        expected: String,
    },
    /// The broker does not take this client's certificate, or wants one.
    #[error("the broker refused this client: {reason}")]
    RefusedByBroker {
        /// What the broker's alert says.
        reason: String,
    },
    /// What answers does not speak TLS.
    #[error("what answers does not speak TLS")]
    NotTls,
    /// Anything else.
    #[error("{reason}")]
    Other {
        /// What was said.
        reason: String,
    },
}

/// Why [`Subscription::try_recv`](crate::Subscription::try_recv) returned nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing is queued now.
    #[error("nothing is queued")]
    Empty,
    /// Nothing is queued and nothing will come.
    #[error("subscription has ended")]
    Closed,
}

/// What [`EventBus::shutdown`](crate::EventBus::shutdown) could not finish before its deadline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// Accepted events were not confirmed by everybody they are for.
    #[error("{unconfirmed} events not confirmed within {waited:?} by {}", subscriptions.join(", "))]
    Unconfirmed {
        /// Copies not confirmed.
        unconfirmed: u64,
        /// The subscriptions they are for.
        subscriptions: Vec<String>,
        /// How long shutdown waited.
        waited: Duration,
    },
}

/// Why [`EventBus::flush`](crate::EventBus::flush) could not say that everything has arrived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The deadline came first. The subscriptions named may still get what was accepted.
    #[error("not confirmed within {waited:?} by {}", subscriptions.join(", "))]
    Unconfirmed {
        /// Subscriptions that have not confirmed.
        subscriptions: Vec<String>,
        /// How long the call waited.
        waited: Duration,
    },
    /// These subscriptions went away before they confirmed. All others have everything.
    #[error("lost before it was confirmed: {}", subscriptions.join(", "))]
    Lost {
        /// Subscriptions that went away.
        subscriptions: Vec<String>,
    },
    /// The backend cannot tell.
    #[error("backend `{backend}` cannot flush")]
    NotSupported {
        /// The backend.
        backend: String,
    },
    /// The bus was shut down.
    #[error("bus is closed")]
    Closed,
}
