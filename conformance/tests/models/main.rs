//! What no test can hit on purpose: all interleavings of the code that threads share, by loom.
//!
//! Each model compiles the product's own source a second time, beside a `sync` that is loom's. It
//! says how many executions it must at least have had, so that it cannot shrink to nothing, and has
//! twins with a bug in one step, each of which it must find. How many there were is written to
//! `target/conformance/models`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arc_with_non_send_sync,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a test may panic; what is compiled a second time is not used in all its parts; loom \
              itself watches over the cells that threads share"
)]

mod credit;
mod crossbeam;
mod drain;
mod explore;
mod explorer;
mod inbox;
mod line;
mod mirror;
mod notify;
mod receipt;
mod record;
mod reserve;
mod resume;
mod sabotage;
mod scene;
mod semaphore;
mod session;
mod shadow;
mod shutdown;
mod sync;
mod wake_up;

/// What the session names as the crate's: plain values, on which no threads meet.
use busrt_backend::{topics, wire};
