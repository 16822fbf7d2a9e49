//! The primitives of the modules that are model-checked, under one name.
//!
//! Those modules name their primitives through `super::sync`; the models compile the same source a
//! second time beside a `sync` that is loom's.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) use eventbus_trait::Signal;
pub(crate) use parking_lot::Mutex;
pub(crate) use tokio::sync::{Semaphore, SemaphorePermit};
