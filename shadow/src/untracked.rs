//! Deliveries that are only counted: nothing about them is remembered.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::class::{Class, Counts, Reason};

/// Why a delivery is not tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Untracked {
    /// There was no room for the event in the queue to the candidate.
    QueueFull,
    /// There was no candidate to give it to.
    Unavailable,
    /// The application wants it ignored.
    Ignored,
    /// Its publish was dropped: nobody knows what became of it.
    Cancelled,
}

const ALL: [Untracked; 4] = [
    Untracked::QueueFull,
    Untracked::Unavailable,
    Untracked::Ignored,
    Untracked::Cancelled,
];

/// How many there are of each.
#[derive(Debug, Default)]
pub(crate) struct Tally([AtomicU64; ALL.len()]);

/// A tally whose first thread adds to it without a locked instruction, which would cost as much as the
/// rest of what is done about an event that is turned away. For every other thread it is as any tally.
#[derive(Debug, Default)]
pub(crate) struct Biased {
    /// The thread that came first.
    owner: AtomicU64,
    /// What that thread alone writes, so it only grows.
    own: Tally,
    others: Tally,
    /// What of `own` was taken out.
    taken: Mutex<[u64; ALL.len()]>,
}

/// No thread's.
const NO_THREAD: u64 = 0;

/// A number that no other thread has or will have.
fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(NO_THREAD + 1);
    thread_local!(static THIS: u64 = NEXT.fetch_add(1, Ordering::Relaxed));
    THIS.with(|this| *this)
}

impl Untracked {
    fn class(self) -> Class {
        match self {
            Self::QueueFull => Class::Unverified(Reason::QueueFull),
            Self::Unavailable => Class::Unverified(Reason::Unavailable),
            Self::Ignored => Class::Ignored,
            Self::Cancelled => Class::Unverified(Reason::Cancelled),
        }
    }
}

impl Tally {
    pub(crate) fn add(&self, why: Untracked) {
        self.0[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes everything out, and returns it.
    pub(crate) fn take(&self) -> [u64; ALL.len()] {
        self.0.each_ref().map(|n| n.swap(0, Ordering::Relaxed))
    }

    pub(crate) fn add_all(&self, taken: [u64; ALL.len()]) {
        for (n, taken) in self.0.iter().zip(taken).filter(|(_, taken)| *taken > 0) {
            n.fetch_add(taken, Ordering::Relaxed);
        }
    }

    /// Adds all of them; returns how many there are.
    pub(crate) fn add_to(&self, counts: &mut Counts) -> u64 {
        let mut all = 0;
        for (n, why) in self.0.iter().zip(ALL) {
            let n = n.load(Ordering::Relaxed);
            *counts.of(why.class()) += n;
            all += n;
        }
        counts.expected += all;
        all
    }
}

impl Biased {
    #[inline]
    pub(crate) fn add(&self, why: Untracked) {
        if self.is_own() {
            let own = &self.own.0[why as usize];
            own.store(own.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            self.others.add(why);
        }
    }

    #[inline]
    fn is_own(&self) -> bool {
        let (owner, this) = (self.owner.load(Ordering::Relaxed), this_thread());
        owner == this || (owner == NO_THREAD && self.adopt(this))
    }

    #[cold]
    fn adopt(&self, thread: u64) -> bool {
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        self.owner
            .compare_exchange(NO_THREAD, thread, success, failure)
            .is_ok()
    }

    /// Takes everything out, and returns it.
    pub(crate) fn take(&self) -> [u64; ALL.len()] {
        let mut all = self.others.take();
        let mut taken = self.taken.lock();
        for ((all, own), taken) in all.iter_mut().zip(&self.own.0).zip(&mut *taken) {
            let own = own.load(Ordering::Relaxed);
            *all += own - std::mem::replace(taken, own);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_threads_add_is_taken_once() {
        const EACH: u64 = 10_000;
        let tally = Biased::default();
        let mut taken = [0; ALL.len()];
        std::thread::scope(|scope| {
            let adders: Vec<_> = [Untracked::QueueFull, Untracked::Ignored, Untracked::Ignored]
                .into_iter()
                .map(|why| {
                    let tally = &tally;
                    scope.spawn(move || (0..EACH).for_each(|_| tally.add(why)))
                })
                .collect();
            let mut done = false;
            while !done {
                // First: what is added before they are done is taken afterwards.
                done = adders.iter().all(|adder| adder.is_finished());
                let now = tally.take();
                taken.iter_mut().zip(now).for_each(|(all, n)| *all += n);
            }
        });
        assert_eq!(taken, [EACH, 0, 2 * EACH, 0]);
        assert_eq!(tally.take(), [0; ALL.len()]);
    }
}
