//! One subscription as the comparison sees it: what is expected of both sides, stream by stream.
//!
//! Invariant: whatever a call to a track finds is entered into the account before the next call to
//! that track.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use eventbus_trait::{Event, Origin, Overflow, PublisherId, Subscribe, Topic};
use parking_lot::RwLock;
use tokio::sync::Notify;
use tracing::warn;

use crate::class::{Class, Counts, Reason, Side};
use crate::comparator::Comparator;
use crate::interleaving::Interleaving;
use crate::latest::Latest;
use crate::link::Link;
use crate::record::Recorder;
use crate::report::{Divergence, DivergenceClass};
use crate::streams::{Key, Stream, Streams};
use crate::track::{Context, Delivered, Dropped, Expect, Finding, Nanos, Track};
use crate::untracked::Tally;
use crate::unwatched::{Excuse, Unwatched};

/// Where a subscription is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Being made: events published now may come or not.
    Opening,
    Live,
    /// Its handle is being shut down: events published now may come or not.
    Ending,
    /// Nothing published now is for it.
    Ended,
    /// The application has dropped it.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Sub {
    pub(crate) id: u64,
    pub(crate) owner: PublisherId,
    /// What was asked for, without predicate and correlation filter.
    pub(crate) subscribe: Subscribe,
    name: OnceLock<Arc<str>>,
    phase: AtomicU8,
    streams: RwLock<Streams>,
    pub(crate) dropped: Dropped,
    /// When the candidate last delivered anything.
    heard_at: AtomicU64,
    /// Since when the application has waited with nothing queued on the primary; 0: it does not.
    idle_since: AtomicU64,
    untracked: Tally,
    /// What each side delivered that cannot be told from what is due and not tracked.
    unplaced: [AtomicU64; 2],
    /// The same of the primary, where its one reader, `Source`, could tell that by itself: nobody else
    /// writes here.
    unplaced_by_reader: AtomicU64,
    interleaving: Interleaving,
    /// Tells the drain that no more is wanted than what is due.
    pub(crate) closing: Notify,
    /// Tells that the candidate's subscription stands, or never will.
    pub(crate) standing: Notify,
}

impl Sub {
    pub(crate) fn new(id: u64, owner: PublisherId, subscribe: Subscribe) -> Arc<Self> {
        Arc::new(Self {
            id,
            owner,
            subscribe,
            name: OnceLock::new(),
            phase: AtomicU8::new(Phase::Opening as u8),
            streams: RwLock::default(),
            dropped: Dropped::default(),
            heard_at: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            untracked: Tally::default(),
            unplaced: Default::default(),
            unplaced_by_reader: AtomicU64::new(0),
            interleaving: Interleaving::default(),
            closing: Notify::new(),
            standing: Notify::new(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        self.name.get().map_or("", |name| name)
    }

    pub(crate) fn set_name(&self, name: Arc<str>) {
        let _ = self.name.set(name);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Opening,
            1 => Phase::Live,
            2 => Phase::Ending,
            3 => Phase::Ended,
            _ => Phase::Gone,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        // Never back: a subscription that ends while it is made stays ended.
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Whether it takes what the handle `sender` publishes on `topic`.
    pub(crate) fn takes(&self, sender: PublisherId, topic: &Topic) -> bool {
        self.subscribe.takes(topic) && !(self.subscribe.excludes_own() && self.owner == sender)
    }

    /// Whether its primary side may lose events by policy.
    pub(crate) fn may_drop(&self) -> bool {
        self.subscribe.get_overflow() != Overflow::Wait
    }

    pub(crate) fn context(&self, now: Nanos) -> Context<'_> {
        Context {
            ended: self.phase() >= Phase::Ending,
            ..Context::new(now, &self.dropped)
        }
    }

    /// Says of all its streams that a later comparison does not know them.
    pub(crate) fn pass_on(&self, unwatched: &Unwatched) {
        for stream in self.all() {
            let last = stream.track.lock().last();
            if let Some(last) = last {
                let Key {
                    publisher, epoch, ..
                } = stream.key;
                unwatched.bound(publisher, epoch).pass(last);
            }
        }
    }

    /// The stream of `key`, made if there is none; `None` if there are too many.
    pub(crate) fn stream(
        &self,
        comparator: &Comparator,
        key: &Key,
        link: &Arc<Link>,
    ) -> Option<Arc<Stream>> {
        if let Some(stream) = self.streams.read().get(key) {
            return Some(Arc::clone(stream));
        }
        let mut streams = self.streams.write();
        if streams.is_of_another(key) {
            self.interleaving.begin();
        }
        streams.get_or_make(
            key,
            link,
            comparator.rules(),
            comparator.options.max_streams,
            comparator.now(),
        )
    }

    /// Counts `n` deliveries that no stream has room for, or takes them back.
    pub(crate) fn expect_untracked(&self, n: i64) {
        self.streams.write().expect_untracked(n);
    }

    /// Counts deliveries that are not tracked.
    pub(crate) fn untracked(&self) -> &Tally {
        &self.untracked
    }

    /// Adds what is counted beside the streams.
    fn add_rest(&self, counts: &mut Counts) {
        counts.inversions = self.interleaving.counts();
        let without_room = *counts.of(Class::Unverified(Reason::Streams));
        let untracked = self.untracked.add_to(counts);
        let due = [untracked + without_room, without_room];
        let by_reader = [self.unplaced_by_reader.load(Ordering::Relaxed), 0];
        for ((came, by_reader), due) in self.unplaced.iter().zip(by_reader).zip(due) {
            let came = came.load(Ordering::Relaxed) + by_reader;
            let beyond = came.saturating_sub(due);
            counts.expected += beyond;
            *counts.of(Class::Unverified(Reason::Unplaced)) += beyond;
        }
    }

    /// Counts what came and is not told as a divergence.
    fn excused(&self, comparator: &Comparator, side: Side, excuse: Excuse) {
        match excuse {
            Excuse::Earlier => comparator.earlier(),
            Excuse::Unplaced => {
                self.unplaced[side.at()].fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Expects a delivery that may come or not, of an event that is already on its way.
    pub(crate) fn expect_uncertain(
        &self,
        comparator: &Comparator,
        origin: &Origin,
        topic: &Topic,
        link: &Arc<Link>,
    ) {
        let expect = Expect {
            sequence: origin.sequence,
            class: Class::Unverified(Reason::Changing),
            ordered: false,
            sampled: true,
            may_drop: [false; 2],
        };
        let key = Key::of(origin, topic);
        let cx = self.context(comparator.now());
        let taken = self
            .stream(comparator, &key, link)
            .is_some_and(|stream| stream.expect(expect, &cx));
        if !taken {
            self.expect_untracked(1);
        }
    }

    /// Takes an expectation back that is not in the route of its event.
    pub(crate) fn withdraw(&self, origin: &Origin, topic: &Topic) {
        if let Some(stream) = self.find(&Key::of(origin, topic)) {
            stream.track.lock().withdraw(origin.sequence);
        }
    }

    /// Says that a delivery which is under way will not be compared.
    pub(crate) fn give_up(
        &self,
        comparator: &Comparator,
        origin: &Origin,
        topic: &Topic,
        reason: Reason,
    ) {
        let stream = self.find(&Key::of(origin, topic));
        if let Some(stream) = stream {
            let now = comparator.now();
            stream.track.lock().give_up(origin.sequence, reason, now);
        }
    }

    /// Takes in an event that a side delivered.
    pub(crate) fn arrived<'a>(
        &'a self,
        comparator: &'a Comparator,
        side: Side,
        event: &'a Event,
        latest: &mut Latest,
    ) {
        if side == Side::Primary
            && let Some(excuse) = latest.excuse(comparator, event)
        {
            self.not_idle();
            return match excuse {
                Excuse::Earlier => comparator.earlier(),
                Excuse::Unplaced => {
                    let before = self.unplaced_by_reader.load(Ordering::Relaxed);
                    self.unplaced_by_reader.store(before + 1, Ordering::Relaxed);
                }
            };
        }
        let now = comparator.now();
        let delivered = Delivered::new(event);
        if side == Side::Candidate {
            self.heard_at.store(now, Ordering::Relaxed);
            // Before the lock is taken, which the application's threads take as well.
            if comparator.options.sample.is_none() {
                let _ = delivered.digest();
            }
        } else {
            self.not_idle();
        }
        let Some(origin) = event.origin() else {
            return self.stray(comparator, side, event);
        };
        let last = &mut latest.stream;
        if !last
            .as_ref()
            .is_some_and(|s| s.key.is(origin, event.topic()))
        {
            *last = self.find(&Key::of(origin, event.topic()));
        }
        let arrive = |stream: &Stream| {
            self.on_track(comparator, stream, now, |track, cx| {
                cx.strays = Some(&comparator.strays);
                cx.origin = Some(origin);
                cx.interleaving = Some(&self.interleaving);
                track.arrive(side, origin.sequence, &delivered, cx)
            })
        };
        if last.as_deref().is_some_and(arrive) {
            return;
        }
        // The stream may have been forgotten and made anew.
        *last = self.find(&Key::of(origin, event.topic()));
        if !last.as_deref().is_some_and(arrive) {
            self.stray(comparator, side, event);
        }
    }

    fn not_idle(&self) {
        if self.idle_since.load(Ordering::Relaxed) != 0 {
            self.idle_since.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that the application waits with nothing queued on the primary.
    pub(crate) fn idle(&self, comparator: &Comparator) {
        if self.idle_since.load(Ordering::Relaxed) == 0 {
            self.idle_since.store(comparator.now(), Ordering::Relaxed);
        }
    }

    /// A marker has come through the candidate.
    pub(crate) fn marked(&self, comparator: &Comparator, origin: &Origin, topic: &Topic) {
        if let Some(stream) = self.find(&Key::of(origin, topic)) {
            let now = comparator.now();
            self.on_track(comparator, &stream, now, |track, cx| {
                track.marked(origin.sequence, cx)
            });
        }
    }

    /// Decides what time alone decides.
    pub(crate) fn sweep(&self, comparator: &Comparator) {
        let idle_since = Some(self.idle_since.load(Ordering::Relaxed)).filter(|at| *at != 0);
        for stream in self.all() {
            let now = comparator.now();
            self.on_track(comparator, &stream, now, |track, cx| {
                track.sweep(idle_since, cx);
            });
        }
    }

    /// Gives up the markers that were lost. For the candidate's thread, which knows that the drain
    /// has taken everything there is: a thread that does not run must not be taken for a silent
    /// candidate.
    pub(crate) fn give_up_marks(&self, comparator: &Comparator) {
        for stream in self.all() {
            let now = comparator.now();
            let heard_at = self.heard_at.load(Ordering::Relaxed);
            self.on_track(comparator, &stream, now, |track, cx| {
                track.give_up_mark(heard_at, cx);
            });
        }
    }

    /// Says that nothing comes from `side` any more.
    pub(crate) fn close(&self, comparator: &Comparator, side: Side, reason: Reason) {
        let now = comparator.now();
        self.streams.write().close(side, reason, now);
    }

    /// Streams for which a marker should be sent, with the sequence that it goes behind.
    pub(crate) fn wanted_marks(&self, now: Nanos) -> Vec<(Arc<Stream>, u64)> {
        self.all()
            .into_iter()
            .filter_map(|stream| {
                let cut = stream.track.lock().wants_mark(now)?;
                Some((stream, cut))
            })
            .collect()
    }

    /// Notes that a marker is being sent on the stream of `key`.
    pub(crate) fn mark(&self, key: &Key, cut: u64, now: Nanos) {
        if let Some(stream) = self.find(key) {
            stream.track.lock().mark(cut, now);
        }
    }

    /// How many streams are remembered.
    pub(crate) fn streams_kept(&self) -> u64 {
        self.streams.read().all().len() as u64
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.streams.read().counts();
        self.add_rest(&mut counts);
        counts
    }

    /// Forgets all streams; returns the counts of everything that ever was.
    pub(crate) fn retire(&self, comparator: &Comparator) -> Counts {
        self.close(comparator, Side::Primary, Reason::Unsubscribed);
        self.close(comparator, Side::Candidate, Reason::Unavailable);
        let mut counts = self.streams.write().retire();
        self.add_rest(&mut counts);
        counts
    }

    /// Does something to a track, and puts into the account what comes of it.
    fn on_track<'a, T>(
        &'a self,
        comparator: &'a Comparator,
        stream: &Stream,
        now: Nanos,
        act: impl FnOnce(&mut Track, &mut Context<'a>) -> T,
    ) -> T {
        let mut cx = self.context(now);
        cx.hooks = comparator.options.hooks();
        cx.traces = comparator.recorder.as_ref().map_or(0, Recorder::room);
        let mut track = stream.track.lock();
        let result = act(&mut track, &mut cx);
        for finding in &mut cx.findings {
            comparator.record(self, &stream.key, finding, now);
        }
        // Under the lock, so that what is told later of a delivery is entered later.
        let told = comparator.tell(self, &stream.key, &mut cx);
        drop(track);
        for hook in &cx.hooks_failed {
            comparator.hook_failed(hook);
        }
        if let Some((excuse, side)) = cx.excuse {
            self.excused(comparator, side, excuse);
        }
        comparator.measure(self, &cx);
        log(&told);
        result
    }

    fn find(&self, key: &Key) -> Option<Arc<Stream>> {
        self.streams.read().get(key).cloned()
    }

    fn all(&self) -> Vec<Arc<Stream>> {
        self.streams.read().all().cloned().collect()
    }

    /// An event that no stream of this subscription is for.
    #[cold]
    fn stray(&self, comparator: &Comparator, side: Side, event: &Event) {
        let (origin, topic) = (event.origin(), event.topic());
        let excuse = origin.and_then(|origin| comparator.strays.excuse(side, origin));
        if excuse == Some(Excuse::Earlier) {
            return self.excused(comparator, side, Excuse::Earlier);
        }
        let known = origin.is_some_and(|origin| comparator.knows(origin.publisher));
        if side == Side::Primary && !known {
            return comparator.foreign();
        }
        if known && self.phase() >= Phase::Ending {
            return;
        }
        if excuse.is_some() || (known && self.streams.read().is_forgetful()) {
            return self.excused(comparator, side, Excuse::Unplaced);
        }
        self.streams.write().phantom();
        let detail = if known {
            "the publisher did not publish this to this subscription"
        } else {
            "nobody published this"
        };
        let nobody = Origin {
            publisher: PublisherId([0; 16]),
            epoch: 0,
            sequence: 0,
        };
        let mut cx = self.context(comparator.now());
        cx.findings.push(Finding {
            class: DivergenceClass::Phantom,
            side,
            sequence: origin.map_or(0, |origin| origin.sequence),
            detail: detail.to_owned(),
            trace: Some(Box::default()),
            shown: None,
            displaced: None,
            was_missing: false,
        });
        cx.hooks = comparator.options.hooks();
        cx.show(side, event);
        let key = Key::of(origin.unwrap_or(&nobody), topic);
        let now = cx.now;
        for finding in &mut cx.findings {
            comparator.record(self, &key, finding, now);
        }
        for hook in &cx.hooks_failed {
            comparator.hook_failed(hook);
        }
        log(&comparator.tell(self, &key, &mut cx));
    }
}

fn log(told: &[Divergence]) {
    for divergence in told {
        let Divergence {
            class,
            side,
            subscription,
            publisher,
            epoch,
            topic,
            sequence,
            displaced: _,
            detail,
            shown,
        } = divergence;
        let shown = shown.as_ref();
        let primary = shown.and_then(|shown| shown.primary.as_deref());
        let candidate = shown.and_then(|shown| shown.candidate.as_deref());
        warn!(%class, %side, subscription, publisher, epoch, topic, sequence, detail, primary,
              candidate, "divergence");
    }
}
