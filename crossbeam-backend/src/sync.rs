//! The primitives of the modules that are model-checked, under one name.
//!
//! Those modules name what threads meet at through `super::sync`; the models compile the same
//! source a second time beside a `sync` that is loom's. Plain statistics stay out of it.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::thread::yield_now;

pub(crate) use eventbus_trait::Signal;
pub(crate) use futures_timer::Delay;
pub(crate) use parking_lot::{Mutex, RwLock};

/// How often a publisher looks for room before it sleeps.
pub(crate) const PATIENCE: u32 = 10;
