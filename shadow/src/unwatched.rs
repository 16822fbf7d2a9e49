//! Which events were published while no candidate was attached: none of them is compared, and none
//! is ever taken for a divergence of what is.
//!
//! An event that nobody doubled may still come out of the primary long after a candidate was
//! attached. Remembering each would cost what a comparison costs, so what is kept is one number for
//! each publisher: how far it had come without a candidate.
//!
//! Invariant: the number has moved before the event is on the primary, so whoever sees the event
//! there finds it below.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use eventbus_trait::{Origin, PublisherId, process_epoch};
use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};

/// Most lives of publishers that are told apart.
const MOST: usize = 65_536;

/// How far each publisher has come without a candidate.
#[derive(Debug, Default)]
pub(crate) struct Unwatched {
    by_life: RwLock<HashMap<Life, Arc<Bound>, RandomState>>,
    /// Whether there were more publishers than are told apart.
    full: AtomicBool,
}

/// A publisher in one of its epochs.
type Life = (PublisherId, u64);

/// All sequences of a publisher's life below this may be unwatched.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    below: AtomicU64,
    /// Where a handle of this shadow is, if it is one.
    own: Option<Arc<Own>>,
}

/// The sequences that a handle stamps itself. While it has no candidate its bound is wherever the
/// next one is, so that a publish need not move both.
#[derive(Debug)]
pub(crate) struct Own {
    next: AtomicU64,
    watched: AtomicBool,
    bound: OnceLock<Arc<Bound>>,
}

/// The bound of the publisher that was seen last, so that it is not looked up each time.
#[derive(Debug, Default)]
pub(crate) struct LastBound(Mutex<Option<(Life, Arc<Bound>)>>);

impl Bound {
    /// Notes that `sequence` is published without a candidate.
    pub(crate) fn pass(&self, sequence: u64) {
        self.below
            .fetch_max(sequence.saturating_add(1), Ordering::AcqRel);
    }

    /// Sequences below this may be unwatched, and while its handle has no candidate others too.
    pub(crate) fn below(&self) -> u64 {
        self.below.load(Ordering::Acquire)
    }

    fn is_above(&self, sequence: u64) -> bool {
        let of_now = self.own.as_ref().filter(|own| !own.is_watched());
        sequence < self.below()
            || of_now.is_some_and(|own| sequence < own.next.load(Ordering::Acquire))
    }
}

impl Default for Own {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            watched: AtomicBool::new(false),
            bound: OnceLock::new(),
        }
    }
}

impl Own {
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::SeqCst)
    }

    /// The next sequence, for an event that is doubled.
    pub(crate) fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// The next sequence, for an event of the handle `id` that is not doubled.
    pub(crate) fn take_unwatched(self: &Arc<Self>, all: &Unwatched, id: PublisherId) -> u64 {
        let bound = self.bound.get_or_init(|| all.own_bound(id, self));
        let sequence = self.take();
        // Whoever begins to watch says so before it looks how far this has come: either it sees
        // this sequence, or this sees that it is watched.
        if self.is_watched() {
            bound.pass(sequence);
        }
        sequence
    }

    /// Gives a sequence back, if it was the last.
    pub(crate) fn give_back(&self, sequence: u64) {
        let last = sequence + 1;
        let _ = self
            .next
            .compare_exchange(last, sequence, Ordering::SeqCst, Ordering::Relaxed);
    }

    /// What is stamped from now on is watched, or no more.
    pub(crate) fn watch(&self, watched: bool) {
        self.watched.store(watched, Ordering::SeqCst);
        if watched && let Some(bound) = self.bound.get() {
            let next = self.next.load(Ordering::SeqCst);
            bound.below.fetch_max(next, Ordering::AcqRel);
        }
    }
}

impl Unwatched {
    /// The bound of a publisher's life, made if there is none and there is room.
    pub(crate) fn bound(&self, publisher: PublisherId, epoch: u64) -> Arc<Bound> {
        let life = (publisher, epoch);
        if let Some(bound) = self.by_life.read().get(&life) {
            return Arc::clone(bound);
        }
        let mut by_life = self.by_life.write();
        if by_life.len() >= MOST && !by_life.contains_key(&life) {
            self.full.store(true, Ordering::Release);
            return Arc::default();
        }
        Arc::clone(by_life.entry(life).or_default())
    }

    /// The bound of a handle of this shadow in this process.
    fn own_bound(&self, id: PublisherId, own: &Arc<Own>) -> Arc<Bound> {
        let bound = Arc::new(Bound {
            below: AtomicU64::new(0),
            own: Some(Arc::clone(own)),
        });
        let mut by_life = self.by_life.write();
        if by_life.len() < MOST {
            by_life.insert((id, process_epoch()), Arc::clone(&bound));
        } else {
            self.full.store(true, Ordering::Release);
        }
        bound
    }

    /// The bound of the publisher's life that `origin` is of.
    pub(crate) fn find(&self, origin: &Origin) -> Option<Arc<Bound>> {
        let life = (origin.publisher, origin.epoch);
        self.by_life.read().get(&life).cloned()
    }

    /// Whether the event may have been published without a candidate. `by_primary` is whether the
    /// primary delivered it, where such events are to be expected.
    pub(crate) fn may_be(&self, origin: &Origin, by_primary: bool) -> bool {
        let life = (origin.publisher, origin.epoch);
        match self.by_life.read().get(&life) {
            Some(bound) => bound.is_above(origin.sequence),
            None => by_primary && self.full.load(Ordering::Acquire),
        }
    }
}

impl LastBound {
    /// Notes that an event is published without a candidate.
    pub(crate) fn pass(&self, all: &Unwatched, origin: &Origin) {
        let life = (origin.publisher, origin.epoch);
        let mut last = self.0.lock();
        match &*last {
            Some((of, bound)) if *of == life => bound.pass(origin.sequence),
            _ => {
                let bound = all.bound(origin.publisher, origin.epoch);
                bound.pass(origin.sequence);
                *last = Some((life, bound));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(publisher: u8, sequence: u64) -> Origin {
        Origin {
            publisher: PublisherId([publisher; 16]),
            epoch: 1,
            sequence,
        }
    }

    #[test]
    fn each_publisher_has_its_own_bound() {
        let all = Unwatched::default();
        let last = LastBound::default();
        for (publisher, sequence) in [(1, 5), (2, 9), (1, 3)] {
            last.pass(&all, &origin(publisher, sequence));
        }
        assert!(all.may_be(&origin(1, 5), true) && !all.may_be(&origin(1, 6), true));
        assert!(all.may_be(&origin(2, 9), false) && !all.may_be(&origin(2, 10), false));
        assert!(!all.may_be(&origin(3, 0), true), "nobody heard of it");
    }

    #[test]
    fn a_full_table_excuses_the_primary_alone() {
        let all = Unwatched::default();
        for n in 0..=MOST as u128 {
            all.bound(PublisherId(n.to_be_bytes()), 1);
        }
        assert!(all.may_be(&origin(7, 0), true));
        assert!(!all.may_be(&origin(7, 0), false));
        assert_eq!(all.by_life.read().len(), MOST);
    }
}
