//! The admin socket: how an operator's program finds the rollout inside a process.
//!
//! One line of JSON asks, one line answers. The socket is its owner's alone, and each end looks who is
//! at the other.

mod client;
mod protocol;
mod server;

pub use client::{AdminError, ask};
pub use protocol::{Answer, Request};
pub(crate) use server::Server;

/// Whether a process of this user may be at the other end: one of our own, or root's.
fn is_trusted(uid: u32) -> bool {
    uid == rustix::process::geteuid().as_raw() || uid == 0
}
