//! The admin socket: how an operator's program finds the rollout inside a process.
//!
//! One line of JSON asks, one line answers. The socket is its owner's alone.

mod client;
mod protocol;
mod server;

pub use client::{AdminError, ask};
pub use protocol::{Answer, Request};
pub(crate) use server::Server;
