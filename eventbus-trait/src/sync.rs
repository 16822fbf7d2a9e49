//! The primitives of the modules that are model-checked, under one name.
//!
//! Those modules name their primitives through `super::sync`; the model tests compile the same
//! source a second time beside a `sync` that is loom's.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard as Guard};
