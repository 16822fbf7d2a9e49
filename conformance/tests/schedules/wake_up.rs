//! `Signal`, compiled a second time with shuttle's primitives.

pub(crate) mod sync {
    //! What `signal` names its primitives by.
    pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use shuttle::sync::{Mutex, MutexGuard as Guard};
}

#[path = "../../../eventbus-trait/src/signal.rs"]
pub(crate) mod signal;
