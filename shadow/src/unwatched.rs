//! Which events were published on the primary alone: none of them is compared, and none is ever taken
//! for a divergence of what is.
//!
//! An event that nobody doubled may still come out of the primary long after a candidate was
//! attached. Remembering each would cost what a comparison costs, so what is kept is two numbers for
//! each publisher: how far it had come when the candidate was attached, and how far that which the
//! candidate had no room for reaches. What comes out of the candidate needs no such excuse, as it
//! was never given any of it; only what an earlier comparison gave it may still come out of it.
//!
//! Invariant: the numbers have moved before the event is on the primary, so whoever sees the event
//! there finds it below.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use eventbus_trait::{Origin, PublisherId, process_epoch};
use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};

use crate::class::Side;

/// Most lives of publishers that are told apart.
const MOST: usize = 65_536;
/// How far ahead of what was shed its bound may be: a power of two.
const STRIDE: u64 = 64;
/// Nobody watches.
const NOBODY: u64 = 0;

/// How far each publisher has come without a candidate.
#[derive(Debug, Default)]
pub(crate) struct Unwatched {
    by_life: RwLock<HashMap<Life, Arc<Bound>, RandomState>>,
    /// Whether there were more publishers than are told apart.
    full: AtomicBool,
}

/// A publisher in one of its epochs.
type Life = (PublisherId, u64);

/// What of a publisher's life may be on the primary alone.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    /// All sequences below this may be of before the candidate was attached.
    before: AtomicU64,
    /// All below this may have found no room; the last stride is not all published.
    shed: Moving,
    /// Where a handle of this shadow is, if it is one.
    own: Option<Arc<Own>>,
}

/// A number that moves while there is no room: who reads what is beside it does not wait for it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Moving(AtomicU64);

/// The sequences that a handle stamps itself. While it has no candidate its bound is wherever the
/// next one is, so that a publish need not move both; and until the bound has caught up with it, so
/// that nobody who looks meanwhile is misled.
#[derive(Debug)]
pub(crate) struct Own {
    next: AtomicU64,
    /// The comparison that doubles what is stamped now.
    watched_by: AtomicU64,
    /// Whether the bound is wherever the next one is.
    unbound: AtomicBool,
    bound: OnceLock<Arc<Bound>>,
}

/// The bound of the publisher that was seen last, so that it is not looked up each time.
#[derive(Debug, Default)]
pub(crate) struct LastBound(Mutex<Option<(Life, Arc<Bound>)>>);

/// Where an event may have been published that was not doubled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whence {
    /// Nowhere: it was doubled, or not published.
    Nowhere,
    /// Before the candidate was attached.
    Before,
    /// While there was no room for it.
    Shed,
}

/// Why nothing is said against an arrival that no expectation is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// The primary delivered what may have been published before the candidate was attached.
    Earlier,
    /// It cannot be told from what this side may deliver.
    Unplaced,
}

/// Who knows whether an arrival has an excuse.
#[derive(Debug)]
pub(crate) struct Strays {
    unwatched: Arc<Unwatched>,
    /// Whether there was a comparison before this one.
    repeated: bool,
}

impl Bound {
    /// Notes that `sequence` is not doubled by the candidate that there is, or will be.
    pub(crate) fn pass(&self, sequence: u64) {
        raise(&self.before, sequence);
    }

    fn shed(&self, sequence: u64) {
        // In strides, so that it seldom moves.
        if self.shed_below() <= sequence {
            raise(&self.shed.0, sequence | (STRIDE - 1));
        }
    }

    /// Sequences below this may have found no room.
    pub(crate) fn shed_below(&self) -> u64 {
        self.shed.0.load(Ordering::Acquire)
    }

    /// Sequences below this may be of before the candidate was attached.
    pub(crate) fn before(&self) -> u64 {
        self.before.load(Ordering::Acquire)
    }

    fn whence(&self, sequence: u64) -> Whence {
        // First: a bound that has caught up is looked at afterwards.
        let of_now = self.own.as_ref().filter(|own| own.is_unbound());
        if sequence < self.before()
            || of_now.is_some_and(|own| sequence < own.next.load(Ordering::Acquire))
        {
            Whence::Before
        } else if sequence < self.shed_below() {
            Whence::Shed
        } else {
            Whence::Nowhere
        }
    }
}

fn raise(bound: &AtomicU64, sequence: u64) {
    bound.fetch_max(sequence.saturating_add(1), Ordering::AcqRel);
}

impl Default for Own {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            watched_by: AtomicU64::new(NOBODY),
            unbound: AtomicBool::new(true),
            bound: OnceLock::new(),
        }
    }
}

impl Own {
    pub(crate) fn is_watched(&self) -> bool {
        self.watched_by.load(Ordering::SeqCst) != NOBODY
    }

    /// Whether what is stamped now is doubled by this comparison.
    pub(crate) fn is_watched_by(&self, comparison: u64) -> bool {
        self.watched_by.load(Ordering::SeqCst) == comparison
    }

    /// The next sequence, for an event that is doubled.
    pub(crate) fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// The next sequence, for an event of the handle `id` that is not doubled: because nobody
    /// watches, or because the comparison `shed_by` has no room for it.
    pub(crate) fn take_unwatched(
        self: &Arc<Self>,
        all: &Unwatched,
        id: PublisherId,
        shed_by: Option<u64>,
    ) -> u64 {
        let bound = self.bound(all, id);
        let sequence = self.take();
        if shed_by.is_some() {
            bound.shed(sequence);
        }
        // Whoever begins to watch says so before it looks how far this has come: either it sees
        // this sequence, or this sees that it is watched.
        if !self.is_watched_by(shed_by.unwrap_or(NOBODY)) {
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

    /// What the handle `id` stamps from now on is doubled by `comparison`.
    pub(crate) fn watch(self: &Arc<Self>, comparison: u64, all: &Unwatched, id: PublisherId) {
        self.watched_by.store(comparison, Ordering::SeqCst);
        if let Some(last) = self.next.load(Ordering::SeqCst).checked_sub(1) {
            self.bound(all, id).pass(last);
        }
        self.unbound.store(false, Ordering::Release);
    }

    fn is_unbound(self: &Arc<Self>) -> bool {
        self.unbound.load(Ordering::Acquire)
    }

    /// What is stamped from now on is doubled by nobody.
    pub(crate) fn unwatch(&self) {
        self.unbound.store(true, Ordering::Release);
        self.watched_by.store(NOBODY, Ordering::SeqCst);
    }

    fn bound(self: &Arc<Self>, all: &Unwatched, id: PublisherId) -> &Arc<Bound> {
        self.bound.get_or_init(|| all.own_bound(id, self))
    }
}

impl Unwatched {
    /// A candidate is attached: whatever the one before had no room for is of an earlier time.
    pub(crate) fn begin(&self) {
        for bound in self.by_life.read().values() {
            let next = |own: &Arc<Own>| own.next.load(Ordering::SeqCst);
            let shed = bound.shed_below();
            let shed = bound.own.as_ref().map_or(shed, |own| shed.min(next(own)));
            bound.before.fetch_max(shed, Ordering::AcqRel);
        }
    }

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
        let life = (id, process_epoch());
        let mut by_life = self.by_life.write();
        let known = by_life.get(&life);
        let before = known.map_or(0, |bound| bound.before());
        let bound = Arc::new(Bound {
            before: AtomicU64::new(before),
            shed: Moving::default(),
            own: Some(Arc::clone(own)),
        });
        if known.is_some() || by_life.len() < MOST {
            by_life.insert(life, Arc::clone(&bound));
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

    /// Where the event may have been published without being doubled; `None` if too many publishers
    /// are about to say.
    fn whence(&self, origin: &Origin) -> Option<Whence> {
        let life = (origin.publisher, origin.epoch);
        match self.by_life.read().get(&life) {
            Some(bound) => Some(bound.whence(origin.sequence)),
            None if self.full.load(Ordering::Acquire) => None,
            None => Some(Whence::Nowhere),
        }
    }
}

impl LastBound {
    /// Notes that an event is published that the comparison `shed_by` has no room for, or that
    /// nobody doubles; `own` says who watches its handle.
    pub(crate) fn pass(&self, all: &Unwatched, origin: &Origin, shed_by: Option<u64>, own: &Own) {
        let life = (origin.publisher, origin.epoch);
        let mut last = self.0.lock();
        let bound = match &*last {
            Some((of, bound)) if *of == life => bound,
            _ => {
                let bound = all.bound(origin.publisher, origin.epoch);
                &last.insert((life, bound)).1
            }
        };
        if shed_by.is_some() {
            bound.shed(origin.sequence);
        }
        if shed_by.is_none_or(|shed_by| !own.is_watched_by(shed_by)) {
            bound.pass(origin.sequence);
        }
    }
}

impl Strays {
    pub(crate) fn new(unwatched: &Arc<Unwatched>, repeated: bool) -> Self {
        Self {
            unwatched: Arc::clone(unwatched),
            repeated,
        }
    }

    /// What is known of the publisher of `origin`, once that is all in the bound.
    pub(crate) fn bound(&self, origin: &Origin) -> Option<Arc<Bound>> {
        let settled = |bound: &Arc<Bound>| !bound.own.as_ref().is_some_and(Own::is_unbound);
        self.unwatched.find(origin).filter(settled)
    }

    /// What excuses the arrival of an event that no expectation is there for, if anything does.
    pub(crate) fn excuse(&self, side: Side, origin: &Origin) -> Option<Excuse> {
        match (side, self.unwatched.whence(origin)) {
            (_, Some(Whence::Nowhere)) => None,
            (Side::Primary, Some(Whence::Shed) | None) => Some(Excuse::Unplaced),
            (Side::Primary, Some(Whence::Before)) => Some(Excuse::Earlier),
            (Side::Candidate, Some(Whence::Shed)) => None,
            (Side::Candidate, _) => self.repeated.then_some(Excuse::Unplaced),
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
        let all = Arc::<Unwatched>::default();
        let (last, own) = (LastBound::default(), Own::default());
        for (publisher, sequence) in [(1, 5), (2, 9), (1, 3)] {
            last.pass(&all, &origin(publisher, sequence), None, &own);
        }
        let [first, second] = [false, true].map(|repeated| Strays::new(&all, repeated));
        let cases = [
            (1, 5, Some(Excuse::Earlier), Some(Excuse::Unplaced)),
            (1, 6, None, None),
            (2, 9, Some(Excuse::Earlier), Some(Excuse::Unplaced)),
            (2, 10, None, None),
            (3, 0, None, None),
        ];
        for (publisher, sequence, primary, candidate) in cases {
            let origin = origin(publisher, sequence);
            assert_eq!(first.excuse(Side::Primary, &origin), primary, "{origin:?}");
            assert_eq!(first.excuse(Side::Candidate, &origin), None, "{origin:?}");
            let again = second.excuse(Side::Candidate, &origin);
            assert_eq!(again, candidate, "{origin:?}");
        }
    }

    #[test]
    fn what_is_shed_is_of_an_earlier_time_for_the_next_candidate() {
        let all = Arc::<Unwatched>::default();
        let (last, own) = (LastBound::default(), Arc::<Own>::default());
        let strays = Strays::new(&all, true);
        let id = PublisherId([9; 16]);
        own.watch(1, &all, id);
        last.pass(&all, &origin(1, 5), Some(1), &own);
        let of = |side| strays.excuse(side, &origin(1, 4));
        let both = || [Side::Primary, Side::Candidate].map(of);
        assert_eq!(both(), [Some(Excuse::Unplaced), None]);
        own.unwatch();
        all.begin();
        own.watch(2, &all, id);
        assert_eq!(both(), [Some(Excuse::Earlier), Some(Excuse::Unplaced)]);
        // Shed by a comparison that is over when it is stamped.
        last.pass(&all, &origin(1, 7), Some(1), &own);
        let late = strays.excuse(Side::Primary, &origin(1, 7));
        assert_eq!(late, Some(Excuse::Earlier));
    }

    #[test]
    fn a_full_table_excuses_the_primary_alone() {
        let all = Arc::<Unwatched>::default();
        for n in 0..=MOST as u128 {
            all.bound(PublisherId(n.to_be_bytes()), 1);
        }
        let strays = Strays::new(&all, false);
        let of = |side| strays.excuse(side, &origin(7, 0));
        assert_eq!(of(Side::Primary), Some(Excuse::Unplaced));
        assert_eq!(of(Side::Candidate), None);
        assert_eq!(all.by_life.read().len(), MOST);
    }
}
