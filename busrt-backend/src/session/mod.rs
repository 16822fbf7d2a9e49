//! The session: what makes a bus of a broker that loses frames without a word.
//!
//! A node is one bus handle. Its events wait in the [`outbox`] until the connection's task, which
//! alone owns the busrt client, sends them in frames; what arrives is taken by the drain task, which
//! waits for nobody, and put into the [`inbox`] of each subscription.
//!
//! Between a node that publishes and a subscription there is a [`link`]: a dense sequence, and
//! credit in events and bytes that the subscriber grants. A publish takes credit on all matching
//! links at once or on none, so whatever is on its way has room at its end, and no queue of the
//! broker ever fills. What has been sent is [kept](kept) until it is acknowledged.
//!
//! A node outlives its [`connection`]. Nodes that come together again tell each other where their
//! subscriptions stand, and each link goes on from there: what is missing is sent again, to the one
//! who misses it, and nobody takes an event twice. A node that stays away too long is given up.

pub(crate) mod acks;
pub(crate) mod command;
pub(crate) mod connection;
pub(crate) mod cost;
mod credit;
pub(crate) mod directory;
mod flush;
mod gathering;
pub(crate) mod inbox;
pub(crate) mod incoming;
pub(crate) mod kept;
pub(crate) mod life;
pub(crate) mod link;
pub(crate) mod membership;
pub(crate) mod node;
pub(crate) mod outbox;
pub(crate) mod pace;
pub(crate) mod places;
pub(crate) mod receipt;
pub(crate) mod routes;
pub(crate) mod run;
pub(crate) mod sending;
pub(crate) mod standing;
pub(crate) mod subscriptions;
mod sync;
#[cfg(test)]
mod tests;
pub(crate) mod waiting;
pub(crate) mod writer;

/// Events of credit that one node hands out in all, but for one event a link: half of what a
/// broker of ours queues for a client.
pub(crate) const CREDIT_BUDGET: u64 = 32_768;
/// The same on a stock broker, whose default queue is 8,192 frames.
pub(crate) const STOCK_CREDIT_BUDGET: u64 = 4_096;
