//! Receipts: knowing that every subscription has an event.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

/// What a publish returns: the event is accepted. Dropping it is fine; awaiting
/// [`confirmed`](Self::confirmed) tells when every matching subscription has the event in its
/// queue (DEL-010).
pub struct Receipt(State);

enum State {
    Confirmed(Confirmation),
    Pending(Box<dyn Confirm>),
    UpTo(Arc<dyn ConfirmUpTo>, u64),
}

/// Every matching subscription has the event or events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// Copies queued: for one event the number of subscriptions that matched, for a batch the sum.
    pub deliveries: u64,
}

/// Why a receipt was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The deadline came first. The subscriptions named may still get the event.
    #[error("not confirmed within {waited:?} by {}", subscriptions.join(", "))]
    Unconfirmed {
        /// Subscriptions that have not confirmed.
        subscriptions: Vec<String>,
        /// How long the receipt waited.
        waited: Duration,
    },
    /// These subscriptions went away before they confirmed.
    #[error("lost before it was confirmed: {}", subscriptions.join(", "))]
    Lost {
        /// Subscriptions that went away.
        subscriptions: Vec<String>,
    },
    /// The bus was shut down first.
    #[error("bus is closed")]
    Closed,
}

/// A backend's side of a receipt that is not confirmed yet.
#[async_trait]
pub trait Confirm: Send + Sync {
    /// Waits for all confirmations, at most until `deadline` from now.
    ///
    /// # Errors
    /// [`ReceiptError`] names the subscriptions that have not confirmed.
    async fn confirmed(&self, deadline: Duration) -> Result<Confirmation, ReceiptError>;
}

/// A stream of events to one subscription that is confirmed in order: a receipt for one of them
/// needs no memory of its own.
#[async_trait]
pub trait ConfirmUpTo: Send + Sync {
    /// Waits until the event with this place in the stream is confirmed, at most until `deadline`
    /// from now.
    ///
    /// # Errors
    /// [`ReceiptError`] names the subscription if it has not confirmed.
    async fn confirmed(
        self: Arc<Self>,
        place: u64,
        deadline: Duration,
    ) -> Result<Confirmation, ReceiptError>;
}

impl Receipt {
    /// A receipt that is confirmed already.
    #[inline]
    #[must_use]
    pub fn ready(deliveries: u64) -> Self {
        Self(State::Confirmed(Confirmation { deliveries }))
    }

    /// A receipt that a backend will confirm.
    #[must_use]
    pub fn pending(confirm: Box<dyn Confirm>) -> Self {
        Self(State::Pending(confirm))
    }

    /// A receipt that one stream will confirm, once it is confirmed up to `place`.
    #[inline]
    #[must_use]
    pub fn up_to(stream: Arc<dyn ConfirmUpTo>, place: u64) -> Self {
        Self(State::UpTo(stream, place))
    }

    /// The confirmation, if it is known without waiting.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Option<Confirmation> {
        match &self.0 {
            State::Confirmed(confirmation) => Some(*confirmation),
            State::Pending(_) | State::UpTo(..) => None,
        }
    }

    /// Waits until every matching subscription has the event, at most until `deadline` from now.
    ///
    /// # Errors
    /// [`ReceiptError`] names the subscriptions that have not confirmed.
    pub async fn confirmed(&self, deadline: Duration) -> Result<Confirmation, ReceiptError> {
        match &self.0 {
            State::Confirmed(confirmation) => Ok(*confirmation),
            State::Pending(confirm) => confirm.confirmed(deadline).await,
            State::UpTo(stream, place) => Arc::clone(stream).confirmed(*place, deadline).await,
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Confirmed(confirmation) => write!(f, "Receipt({confirmation:?})"),
            State::Pending(_) | State::UpTo(..) => f.write_str("Receipt(pending)"),
        }
    }
}
