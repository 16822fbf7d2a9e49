//! The session: what makes a bus of a broker that loses frames without a word.
//!
//! A node is one bus handle. Its events wait in the [`outbox`] until the writer task, which alone
//! owns the busrt client, sends them in frames; what arrives is taken by the drain task, which
//! waits for nobody, and put into the [`inbox`] of each subscription.
//!
//! Between a node that publishes and a subscription there is a [`link`]: a dense sequence, and
//! credit in events and bytes that the subscriber grants. A publish takes credit on all matching
//! links at once or on none, so whatever is on its way has room at its end, and no queue of the
//! broker ever fills: that is how nothing is lost between connected peers.

pub(crate) mod acks;
pub(crate) mod inbox;
pub(crate) mod incoming;
pub(crate) mod link;
pub(crate) mod membership;
pub(crate) mod node;
pub(crate) mod outbox;
pub(crate) mod receipt;
pub(crate) mod routes;
pub(crate) mod subscriptions;
pub(crate) mod writer;

/// What every event costs in bytes of credit besides its own.
pub(crate) const EVENT_OVERHEAD: u64 = 64;
