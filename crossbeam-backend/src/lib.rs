//! The event bus over crossbeam channels, in one process.
//!
//! Every subscription has a bounded channel of its own; publishing puts the event into each
//! matching one, after room has been reserved in all. Subscribers get the published payload
//! itself, whose bytes nobody makes unless somebody asks for them; so a typed payload that is not
//! encoded is not held against the size limit either.
//!
//! There is no runtime, no task and no thread: any executor polls the futures, and plain threads
//! publish and receive as well. Handlers of calls are tasks of the runtime within which their service
//! was served, as in every phase. Only a publisher that waits for room starts the timer thread of
//! `futures-timer`, which the process keeps.
//!
//! Dropping a handle shuts it down, as it does in every phase: its publishers are closed, and its
//! subscriptions end once they have been read.

mod bus;
mod calls;
mod handle;
mod hub;
mod queue;
mod room;
mod route;
mod source;
mod sync;
mod trie;
mod wait;

pub use bus::CrossbeamBus;

/// This crate's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
