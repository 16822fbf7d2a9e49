//! Schedules by chance, of casts that are too large to explore them all.
//!
//! As in the models, the product's own source is compiled a second time, here beside a `sync` that
//! is shuttle's. Half of the schedules are wholly by chance, half have few changes of thread at
//! places by chance (PCT), which finds what needs a certain order of few steps. A failure prints
//! the seed; `CONFORMANCE_SEED` takes it. Each cast has twins with a bug, which must be found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::duplicate_mod,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a test may panic; what is compiled a second time is not used in all its parts; the \
              stand-ins are compiled once more to be held against the originals"
)]

mod bus;
#[path = "../models/crossbeam.rs"]
mod crossbeam;
mod explorer;
mod likeness;
mod links;
mod mirror;
#[path = "../models/notify.rs"]
mod notify;
#[path = "../models/record.rs"]
mod record;
mod run;
#[path = "../models/sabotage.rs"]
mod sabotage;
#[path = "../models/semaphore.rs"]
mod semaphore;
#[path = "../models/session.rs"]
mod session;
#[path = "../models/shadow.rs"]
mod shadow;
#[path = "../models/sync.rs"]
mod sync;
mod wake_up;

/// What the session names as the crate's: plain values, on which no threads meet.
use busrt_backend::{topics, wire};
