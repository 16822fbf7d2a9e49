//! What became of an event that was not simply delivered, told to the log (OBS-002).
//!
//! Every backend tells it by these functions, so that each kind has one message and each field one
//! name, whichever phase an event went through: `publisher`, `topic`, `sequence`, `correlation`,
//! `subscription`, `reason`. What is not known of an event is left out. They are lines for each
//! event, at the level debug of [`TARGET`]; what a backend sums up, it tells beside them.
//!
//! Invariant: nothing is formatted unless somebody listens. Who has to collect first asks
//! [`is_told`], and nobody tells under a lock that publishers need.

use std::fmt::Display;

use tracing::field::display;
use tracing::{Level, debug, event_enabled};

use crate::error::{PublishError, TryPublishError};
use crate::event::Event;
use crate::origin::PublisherId;

/// The target of all these lines: `RUST_LOG=eventbus::events=debug` shows them and nothing else.
pub const TARGET: &str = "eventbus::events";

/// Why an event was refused.
pub trait Refusal: Display {
    /// The subscription that is to blame, if one is.
    fn subscription(&self) -> Option<&str>;
}

impl Refusal for PublishError {
    fn subscription(&self) -> Option<&str> {
        match self {
            Self::Backpressure { subscription, .. } => Some(subscription),
            _ => None,
        }
    }
}

impl Refusal for TryPublishError {
    fn subscription(&self) -> Option<&str> {
        match self {
            Self::Full { subscription } => Some(subscription),
            Self::RateLimited { .. } => None,
            Self::Publish(reason) => reason.subscription(),
        }
    }
}

/// Whether anybody listens.
#[inline]
#[must_use]
pub fn is_told() -> bool {
    // With the fields of the lines, since a filter may look at them.
    event_enabled!(
        target: TARGET,
        Level::DEBUG,
        message, publisher, topic, sequence, correlation, subscription, reason
    )
}

/// Tells that `publisher`, if it is known, has its event back. An event that was never accepted
/// has no sequence, unless a layer above gave it one.
#[cold]
pub fn refused(publisher: Option<PublisherId>, event: &Event, reason: &dyn Refusal) {
    // A stamp that is not given is left over from another publish.
    let given = event.origin().filter(|_| event.has_given_origin());
    let publisher = given.map(|origin| origin.publisher).or(publisher);
    let publisher = publisher.map(display);
    debug!(
        target: TARGET,
        publisher,
        topic = %event.topic(),
        sequence = given.map(|origin| origin.sequence),
        correlation = correlation(event),
        subscription = reason.subscription(),
        %reason,
        "event refused"
    );
}

/// Tells that `subscription` will not get an event that was accepted.
#[cold]
pub fn dropped(subscription: &str, event: &Event, reason: &str) {
    let origin = event.origin();
    let publisher = origin.map(|origin| display(origin.publisher));
    debug!(
        target: TARGET,
        publisher,
        topic = %event.topic(),
        sequence = origin.map(|origin| origin.sequence),
        correlation = correlation(event),
        subscription,
        reason,
        "event dropped"
    );
}

/// Tells that an event is sent to `subscription` again, or, if it waited for its subscriber to come
/// back, for the first time.
#[cold]
pub fn sent_again(subscription: &str, event: &Event, reason: &str) {
    let origin = event.origin();
    let publisher = origin.map(|origin| display(origin.publisher));
    debug!(
        target: TARGET,
        publisher,
        topic = %event.topic(),
        sequence = origin.map(|origin| origin.sequence),
        correlation = correlation(event),
        subscription,
        reason,
        "event sent again"
    );
}

fn correlation(event: &Event) -> Option<&str> {
    event.get_correlation().map(|correlation| &*correlation.id)
}
