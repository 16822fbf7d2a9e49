//! The short way for events that there is no room for: what the first of them found out holds for all
//! others of its lane, until anything changes.
//!
//! Invariant: whatever makes it wrong is changed first, and then the word is taken back; whoever gives
//! the word looks once more afterwards. So a word that is no longer right is seen for a moment only,
//! and whoever took it looks again, too, before he counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::comparator::Comparator;
use crate::lane::Lane;
use crate::untracked::Untracked;

/// Events are not turned away, or each has to find out by itself.
const NOBODY: u64 = 0;

/// The word of all handles of a shadow.
#[derive(Debug, Default)]
pub(crate) struct Shedding(AtomicU64);

/// What a lane has been told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    word: AtomicU64,
    comparison: AtomicU64,
}

/// What holds for an event of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    word: u64,
    /// The comparison that has no room.
    pub(crate) comparison: u64,
}

impl Shedding {
    /// What is known of the next event of `lane`, if it is to be turned away.
    #[inline]
    pub(crate) fn word(&self, lane: &Lane) -> Option<Word> {
        let word = self.0.load(Ordering::SeqCst);
        if word == NOBODY || lane.told.word.load(Ordering::Acquire) != word {
            return None;
        }
        let comparison = lane.told.comparison.load(Ordering::Relaxed);
        Some(Word { word, comparison })
    }

    /// Whether it still holds.
    #[inline]
    pub(crate) fn holds(&self, word: Word) -> bool {
        self.0.load(Ordering::SeqCst) == word.word
    }

    /// An event of `lane` was turned away and counted. What is ignored has to be looked at each time.
    pub(crate) fn tell(&self, comparator: &Comparator, lane: &Lane) {
        if comparator.options.ignore.is_some() {
            return;
        }
        let word = word_of(comparator);
        if !lane.counts_for(comparator.generation()) {
            return;
        }
        let told = &lane.told;
        told.comparison.store(comparator.id, Ordering::Relaxed);
        told.word.store(word, Ordering::Release);
        self.0.store(word, Ordering::SeqCst);
        if !comparator.queue.is_full() || word_of(comparator) != word {
            let _ = self
                .0
                .compare_exchange(word, NOBODY, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Something has changed.
    pub(crate) fn clear(&self) {
        self.0.store(NOBODY, Ordering::SeqCst);
    }
}

impl Told {
    pub(crate) fn forget(&self) {
        self.word.store(NOBODY, Ordering::Release);
    }
}

impl Word {
    pub(crate) fn why(self) -> Untracked {
        if self.word & 1 == 1 {
            Untracked::Unavailable
        } else {
            Untracked::QueueFull
        }
    }
}

/// Another generation, which no other comparison has, and another end have another word.
fn word_of(comparator: &Comparator) -> u64 {
    (comparator.generation() + 1) << 1 | u64::from(comparator.queue.is_closed())
}
