//! Calls over a broker: busrt's own RPC frames, with what they lack.
//!
//! A service is a client of the broker with the service's name, so the broker says at once that there
//! is none, keeps names unique, and its rules for names and calls hold. Its connection is one of its
//! own, unless the handle itself has the name. Calls go out over the handle's connection, and so their
//! replies come in there, past all queues of events.
//!
//! What busrt's own RPC client leaves open is closed here: each call has a deadline; a reply is taken
//! from the client that was asked and from nobody else; a call that ends leaves nothing; and whoever
//! has calls under way asks after the other end ([`port`]), so that its death is noticed, and a new
//! life under an old name is not taken for it.

pub(crate) mod connection;
mod contexts;
mod handle;
mod made;
mod pending;
pub(crate) mod port;
mod seat;
mod serve;

pub(crate) use handle::Calls;
