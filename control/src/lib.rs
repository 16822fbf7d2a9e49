//! What collectors and their agent say to each other besides events, over any [`EventBus`](eventbus_trait::EventBus).
//!
//! A *member* is a collector or another process of the application that others may ask for something.
//! It serves its operations under its name, and says on `health.*` that it lives. A *dispatcher* gives
//! members tasks, and their results are gathered by what they belong to.

pub mod client;
pub mod collector;
mod complaints;
pub mod dispatch;
mod intake;
mod lanes;
mod later;
pub mod member;
pub mod registry;
mod remember;
pub mod results;
pub mod shutdown;
pub mod tasks;

#[cfg(doctest)]
#[doc = include_str!("../../docs/control.md")]
struct Guide;
