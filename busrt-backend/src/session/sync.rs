//! The primitives of the modules that are model-checked, under one name.
//!
//! Those modules name what threads and tasks meet at through `super::sync`; the models compile the
//! same source a second time beside a `sync` that is loom's. Plain statistics stay out of it.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

pub(crate) use eventbus_trait::Signal;
pub(crate) use parking_lot::{Mutex, MutexGuard};
pub(crate) use tokio::sync::Notify;

/// A publisher with less credit than this, in events, may soon wait for more.
pub(crate) const PLENTY: u64 = 64;
