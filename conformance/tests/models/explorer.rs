//! Who explores: loom, all interleavings; a deadline never comes.

pub(crate) use loom::{sync, thread};

/// Whether a deadline that is asked for has come.
pub(crate) fn is_over() -> bool {
    false
}
