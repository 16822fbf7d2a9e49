//! The streams of one subscription, by publisher and topic, and what is counted beside them.
//!
//! Invariant: a stream that is not in the map is retired, so that no expectation is put where no
//! arrival looks; a side that is gone is gone for every stream, also for those made later.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eventbus_trait::{Origin, PublisherId, Topic};
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::class::{Class, Counts, Reason, Side};
use crate::link::Link;
use crate::track::{Context, Expect, Nanos, Rules, Track};

/// How long a search for streams to forget is not repeated after one that found few.
const SEARCH_AGAIN: Nanos = 100_000_000;

/// What tells one stream of a subscription from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) publisher: PublisherId,
    pub(crate) epoch: u64,
    pub(crate) topic: Topic,
}

/// One stream, and the candidate handle that its events are published with.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) key: Key,
    pub(crate) link: Arc<Link>,
    pub(crate) track: Mutex<Track>,
    /// From here on nothing was ever expected; nothing is certain once the stream is retired.
    expected_below: AtomicU64,
}

impl Stream {
    /// Expects a delivery, before its event is published; false if the stream is retired.
    pub(crate) fn expect(&self, expect: Expect, cx: &Context<'_>) -> bool {
        let mut track = self.track.lock();
        let below = expect.sequence.saturating_add(1);
        self.expected_below.fetch_max(below, Ordering::Release);
        track.expect(expect, cx)
    }

    /// Whether what the primary delivers with this sequence was certainly never expected.
    pub(crate) fn never_expected(&self, sequence: u64) -> bool {
        sequence >= self.expected_below.load(Ordering::Acquire)
    }

    /// Takes no more expectations; returns what was counted.
    fn retire(&self) -> Counts {
        self.retire_locked(&mut self.track.lock())
    }

    /// As [`retire`](Self::retire), if nothing is left to decide.
    fn retire_if_idle(&self) -> Option<Counts> {
        let mut track = self.track.lock();
        track.is_idle().then(|| self.retire_locked(&mut track))
    }

    fn retire_locked(&self, track: &mut Track) -> Counts {
        self.expected_below.store(u64::MAX, Ordering::Release);
        track.retire()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Streams {
    by_key: HashMap<Key, Arc<Stream>, RandomState>,
    /// Whose the first stream was.
    first: Option<(PublisherId, u64)>,
    gone: [Option<Reason>; 2],
    /// Counts of streams that were forgotten, and of what belongs to no stream.
    rest: Counts,
    /// Whether any stream was forgotten, or never made.
    forgetful: bool,
    /// Before this there is no use in looking for streams to forget.
    search_again_at: Nanos,
}

impl Key {
    pub(crate) fn of(origin: &Origin, topic: &Topic) -> Self {
        Self {
            publisher: origin.publisher,
            epoch: origin.epoch,
            topic: topic.clone(),
        }
    }

    pub(crate) fn is(&self, origin: &Origin, topic: &Topic) -> bool {
        self.publisher == origin.publisher && self.epoch == origin.epoch && self.topic == *topic
    }
}

impl Streams {
    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Stream>> {
        self.by_key.get(key)
    }

    pub(crate) fn all(&self) -> impl ExactSizeIterator<Item = &Arc<Stream>> {
        self.by_key.values()
    }

    /// Whether there may be deliveries that no stream remembers.
    pub(crate) fn is_forgetful(&self) -> bool {
        self.forgetful
    }

    /// Whether `key` is of another publisher, or another life of it, than the first stream that there
    /// was.
    pub(crate) fn is_of_another(&mut self, key: &Key) -> bool {
        let life = (key.publisher, key.epoch);
        *self.first.get_or_insert(life) != life
    }

    /// The stream of `key`, made if there is none; `None` if there are `most` that are in use.
    pub(crate) fn get_or_make(
        &mut self,
        key: &Key,
        link: &Arc<Link>,
        rules: Rules,
        most: usize,
        now: Nanos,
    ) -> Option<Arc<Stream>> {
        if let Some(stream) = self.by_key.get(key) {
            return Some(Arc::clone(stream));
        }
        if self.by_key.len() >= most {
            self.forget_idle(now);
            if self.by_key.len() >= most {
                self.forgetful = true;
                return None;
            }
        }
        let mut track = if self.forgetful {
            Track::succeeding(rules)
        } else {
            Track::new(rules)
        };
        for side in [Side::Primary, Side::Candidate] {
            if let Some(reason) = self.gone[side.at()] {
                track.close(side, reason, now);
            }
        }
        let stream = Arc::new(Stream {
            key: key.clone(),
            link: Arc::clone(link),
            track: Mutex::new(track),
            expected_below: AtomicU64::new(0),
        });
        self.by_key.insert(key.clone(), Arc::clone(&stream));
        Some(stream)
    }

    /// Counts `n` deliveries that no stream has room for, or takes them back.
    pub(crate) fn expect_untracked(&mut self, n: i64) {
        let rest = &mut self.rest;
        rest.expected = rest.expected.wrapping_add_signed(n);
        let count = rest.of(Class::Unverified(Reason::Streams));
        *count = count.wrapping_add_signed(n);
    }

    /// Counts a phantom that is in no stream.
    pub(crate) fn phantom(&mut self) {
        self.rest.phantoms += 1;
    }

    /// Says that nothing comes from `side` any more.
    pub(crate) fn close(&mut self, side: Side, reason: Reason, now: Nanos) {
        self.gone[side.at()].get_or_insert(reason);
        for stream in self.by_key.values() {
            stream.track.lock().close(side, reason, now);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut sum = self.rest;
        for stream in self.by_key.values() {
            sum.add(&stream.track.lock().counts());
        }
        sum
    }

    /// Forgets all streams; returns the counts of everything that ever was.
    pub(crate) fn retire(&mut self) -> Counts {
        self.forgetful = true;
        let Self { by_key, rest, .. } = self;
        for (_, stream) in by_key.drain() {
            rest.add(&stream.retire());
        }
        std::mem::take(rest)
    }

    /// Forgets the streams in which nothing is left to decide.
    fn forget_idle(&mut self, now: Nanos) {
        if now < self.search_again_at {
            return;
        }
        let Self { by_key, rest, .. } = self;
        let before = by_key.len();
        by_key.retain(|_, stream| {
            let counts = stream.retire_if_idle();
            rest.add(&counts.unwrap_or_default());
            counts.is_none()
        });
        let forgotten = before - self.by_key.len();
        self.forgetful |= forgotten > 0;
        if forgotten < before / 16 {
            self.search_again_at = now + SEARCH_AGAIN;
        }
    }
}
