//! Bugs to be seeded: each weakens one primitive, and so one step of the code that relies on it.
//!
//! Invariant: a bug is there only while [`with`] runs, on its thread; loom and shuttle run all
//! threads of a model on one.

use std::cell::Cell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Who waits is noted only when it sleeps, after its last look.
    NotedLate,
    /// Nobody who waits is told.
    ToldNobody,
    /// One of those who wait is told, and not all.
    ToldOne,
    /// A permit for nobody in particular is not stored.
    NoPermit,
    /// Who waits for something to come is not told that it has.
    FilledInSilence,
    /// Closing is not told.
    ClosedInSilence,
}

thread_local! {
    static SEEDED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Runs `work` with a bug.
pub(crate) fn with<T>(bug: Bug, work: impl FnOnce() -> T) -> T {
    struct Mended;
    impl Drop for Mended {
        fn drop(&mut self) {
            SEEDED.set(None);
        }
    }
    SEEDED.set(Some(bug));
    let _mended = Mended;
    work()
}

/// Whether the bug is there.
pub(crate) fn has(bug: Bug) -> bool {
    SEEDED.get() == Some(bug)
}
