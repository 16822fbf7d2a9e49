//! A publisher's side of a link: credit, what the other end has, and what it may need again.
//!
//! Credit is absolute, as a flow-control limit in QUIC is (RFC 9000, section 4.1): a repeated or
//! reordered grant does no harm.
//!
//! Invariant: `received <= next <= credit`; sent bytes exceed their credit by one event at most,
//! so that an event larger than the window still passes.

use std::collections::VecDeque;
use std::sync::Arc;

use eventbus_trait::{TopicFilter, fate};

use super::kept::{Again, Kept};
use super::run::Run;
use super::sync::{AtomicBool, AtomicU8, AtomicU64, Mutex, Notify, Ordering};
use crate::wire::{LinkEntry, StatusEntry, SubscriptionInfo};

/// Most events on their way on a link, whatever credit its subscriber gives: as many as ours do.
pub(crate) const MAX_WINDOW: u64 = 4_096;
/// Most bytes kept for a subscriber: twice what ours give credit for, because runs are kept whole.
const MAX_KEPT_BYTES: u64 = 2 * MAX_WINDOW_BYTES;
/// Most bytes of credit for one link.
pub(crate) const MAX_WINDOW_BYTES: u64 = 8 << 20;

/// The part of a link that changes with every event, kept under the outbox's lock.
#[derive(Debug)]
pub(crate) struct Window {
    next: u64,
    credit: u64,
    sent_bytes: u64,
    credit_bytes: u64,
}

impl Window {
    /// The window of a link that begins at `first`.
    pub(crate) fn new(first: u64, info: &SubscriptionInfo) -> Self {
        Self {
            next: first,
            credit: within_reason(info.credit, first),
            sent_bytes: info.received_bytes,
            credit_bytes: info.credit_bytes,
        }
    }

    /// Whether one more event may be sent.
    pub(crate) fn has_room(&self) -> bool {
        !self.is_short(0, 0)
    }

    /// Whether no more credit is left than this.
    pub(crate) fn is_short(&self, events: u64, bytes: u64) -> bool {
        self.credit.saturating_sub(self.next) <= events
            || self.credit_bytes.saturating_sub(self.sent_bytes) <= bytes
    }

    /// Takes credit for an event; returns its link sequence.
    pub(crate) fn take(&mut self, bytes: u64) -> u64 {
        let sequence = self.next;
        self.next += 1;
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        sequence
    }

    /// The next link sequence.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Widens the window; returns whether there is room now.
    /// However much is offered to us, no more than a window beyond `received` is taken: what is sent
    /// is kept until it is acknowledged.
    pub(crate) fn grant(&mut self, received: u64, credit: u64, credit_bytes: u64) -> bool {
        let credit = within_reason(credit, received.min(self.next));
        self.credit = self.credit.max(credit);
        self.credit_bytes = self.credit_bytes.max(credit_bytes);
        self.has_room()
    }
}

fn within_reason(credit: u64, received: u64) -> u64 {
    credit.min(received.saturating_add(MAX_WINDOW))
}

/// How a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    Open,
    /// The subscription ended of its own accord: nobody waits for it any more.
    Closed,
    /// The subscriber is given up: what it has not acknowledged is lost.
    Lost,
}

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const LOST: u8 = 2;

/// What becomes of a run on one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// The frame is for this link too.
    InFrame(LinkEntry),
    /// Its subscriber has to be sent something else first.
    Later,
    /// Its subscriber is given up.
    Never,
}

/// The part of a link that receipts and the writer share.
#[derive(Debug)]
pub(crate) struct Link {
    /// The subscriber's client name.
    pub(crate) peer: Arc<str>,
    /// The subscription.
    pub(crate) subscription: u64,
    /// The subscription's name.
    pub(crate) name: String,
    pub(crate) filters: Vec<TopicFilter>,
    /// The link at its other end.
    life: u64,
    /// Everything below this is in the subscription's queue.
    received: AtomicU64,
    kept: Mutex<Kept>,
    heavy: Heavy,
    /// It waits to be sent something again.
    noted: AtomicBool,
    /// What had been received at the last heartbeat.
    beat: AtomicU64,
    drops: Mutex<Drops>,
    /// Whether `drops` has something to tell, so that a frame need not lock it.
    untold: AtomicBool,
    state: AtomicU8,
    /// Told on each acknowledgement and on the end of the link.
    pub(crate) progress: Notify,
}

/// More is kept than any window holds. Publishers read it for each event, and the rest of a link is
/// written all the time, so it has a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Heavy(AtomicBool);

impl Link {
    /// A link that begins at `first`, to a subscriber that is there.
    pub(crate) fn new(peer: Arc<str>, first: u64, info: SubscriptionInfo) -> Self {
        Self {
            peer,
            subscription: info.id,
            name: info.name,
            filters: info.filters,
            life: info.link,
            received: AtomicU64::new(first),
            kept: Mutex::new(Kept::new(first, true)),
            heavy: Heavy(AtomicBool::new(false)),
            noted: AtomicBool::new(false),
            beat: AtomicU64::new(u64::MAX),
            drops: Mutex::default(),
            untold: AtomicBool::new(false),
            state: AtomicU8::new(OPEN),
            progress: Notify::new(),
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    pub(crate) fn acknowledge(&self, received: u64) {
        if self.received.fetch_max(received, Ordering::AcqRel) < received {
            let mut kept = self.kept.lock();
            kept.release(received);
            self.weigh(&kept);
        }
    }

    /// Tells the log that the subscriber will not get a run, less its first `skip` events.
    #[cold]
    pub(crate) fn tell_lost(&self, run: &Run, skip: u32, reason: &str) {
        if fate::is_told() {
            for event in run.events(skip) {
                fate::dropped(&self.name, &event, reason);
            }
        }
    }

    pub(crate) fn state(&self) -> LinkState {
        match self.state.load(Ordering::Acquire) {
            OPEN => LinkState::Open,
            CLOSED => LinkState::Closed,
            _ => LinkState::Lost,
        }
    }

    /// The subscription has ended of its own accord.
    pub(crate) fn close(&self) {
        self.state.store(CLOSED, Ordering::Release);
        self.progress.notify_waiters();
    }

    /// The subscriber is given up. The log is told of each event that was kept for it; of what was
    /// not put into a frame yet, the writer tells when it gets there.
    pub(crate) fn lose(&self, reason: &str) {
        let lost = {
            let mut kept = self.kept.lock();
            // Under the lock, so that nothing is kept after it.
            self.state.store(LOST, Ordering::Release);
            kept.clear(self.received())
        };
        self.progress.notify_waiters();
        for (run, skip) in lost {
            self.tell_lost(&run, skip, reason);
        }
    }

    /// The link at its other end.
    pub(crate) fn life(&self) -> u64 {
        self.life
    }

    /// Where the link goes on for a subscriber that tells its cursor; `None` if the subscriber has
    /// begun anew. A cursor may be older than an acknowledgement, or than word of what was given up
    /// before the link began.
    pub(crate) fn resumes_at(&self, next: u64, cursor: &SubscriptionInfo) -> Option<u64> {
        (self.life == cursor.link && cursor.received <= next)
            .then(|| cursor.received.max(self.received()))
    }

    /// More is kept for the subscriber than any window holds.
    pub(crate) fn is_heavy(&self) -> bool {
        self.heavy.0.load(Ordering::Relaxed)
    }

    fn weigh(&self, kept: &Kept) {
        let heavy = kept.cost() >= MAX_KEPT_BYTES;
        if heavy != self.is_heavy() {
            self.heavy.0.store(heavy, Ordering::Relaxed);
        }
    }

    /// Runs that are kept.
    pub(crate) fn kept_runs(&self) -> usize {
        self.kept.lock().len()
    }

    /// Whether it has yet to be noted that the subscriber is to be sent something again.
    pub(crate) fn note_again(&self) -> bool {
        !self.noted.swap(true, Ordering::AcqRel)
    }

    /// The note is being followed.
    pub(crate) fn follow_note(&self) {
        self.noted.store(false, Ordering::Release);
    }

    /// The next event to be put into a frame.
    pub(crate) fn written(&self) -> u64 {
        self.kept.lock().written()
    }

    /// Keeps a run that is being put into a frame. A link stays in frames until its end has been
    /// told, which comes after its last event.
    pub(crate) fn keep(&self, run: &Arc<Run>) -> Put {
        let mut kept = self.kept.lock();
        if self.state() == LinkState::Lost {
            return Put::Never;
        }
        let dropped = self.tell_dropped_before(kept.written());
        let first = kept.keep(run, dropped);
        self.weigh(&kept);
        first.map_or(Put::Later, |first| {
            Put::InFrame(LinkEntry {
                subscription: self.subscription,
                first,
                dropped,
            })
        })
    }

    /// The subscriber has nothing from `cursor` on.
    pub(crate) fn rewind(&self, cursor: u64) {
        let mut kept = self.kept.lock();
        kept.rewind(cursor);
        // What it was told of drops may be lost as well. Totals do no harm when they are repeated.
        let mut drops = self.drops.lock();
        if drops.told > 0 {
            let again = (kept.written(), drops.told);
            drops.places.push_front(again);
            self.untold.store(true, Ordering::Release);
        }
    }

    /// The subscriber cannot be reached.
    pub(crate) fn detach(&self) {
        self.kept.lock().detach();
    }

    /// What the subscriber is to be sent next, apart from everybody else.
    pub(crate) fn again(&self) -> Option<Again> {
        self.kept.lock().again(self.subscription)
    }

    /// Where the link stands, if the subscriber is there but has acknowledged nothing since the
    /// last heartbeat, and not all: the tail may be lost.
    pub(crate) fn heartbeat(&self) -> Option<StatusEntry> {
        let received = self.received();
        let before = self.beat.swap(received, Ordering::Relaxed);
        let kept = self.kept.lock();
        (kept.is_live() && kept.written() > received && before == received).then(|| StatusEntry {
            subscription: self.subscription,
            next: kept.written(),
            dropped: self.drops.lock().told,
        })
    }

    /// Goes on counting drops where another link to the same subscription has left off.
    pub(crate) fn continue_drops(&self, total: u64) {
        let mut drops = self.drops.lock();
        drops.total = total;
        drops.told = total;
    }

    /// Counts an event as dropped at `next`, its place in the stream. Called under the outbox's
    /// lock, so places only grow.
    pub(crate) fn drop_at(&self, next: u64) {
        let mut drops = self.drops.lock();
        drops.total += 1;
        let total = drops.total;
        match drops.places.back_mut() {
            Some((place, until)) if *place == next => *until = total,
            _ => drops.places.push_back((next, total)),
        }
        self.untold.store(true, Ordering::Release);
    }

    /// All drops before the next event to be written; the caller tells the subscriber.
    pub(crate) fn tell_dropped(&self) -> u64 {
        let written = self.kept.lock().written();
        self.tell_dropped_before(written)
    }

    fn tell_dropped_before(&self, written: u64) -> u64 {
        let mut drops = self.drops.lock();
        while let Some((place, total)) = drops.places.front().copied()
            && place <= written
        {
            drops.told = total;
            drops.places.pop_front();
        }
        self.untold
            .store(!drops.places.is_empty(), Ordering::Release);
        drops.told
    }

    /// Whether there are drops, before the next event to be written, that the subscriber does not
    /// know of.
    pub(crate) fn has_untold(&self) -> bool {
        if !self.untold.load(Ordering::Acquire) {
            return false;
        }
        let (written, live) = {
            let kept = self.kept.lock();
            (kept.written(), kept.is_live())
        };
        let drops = self.drops.lock();
        live && drops
            .places
            .front()
            .is_some_and(|(place, _)| *place <= written)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.drops.lock().total
    }
}

/// Events dropped for want of credit, and where in the stream.
#[derive(Debug, Default)]
struct Drops {
    total: u64,
    /// What the subscriber has been told.
    told: u64,
    /// Drops not told yet: before which link sequence, and the total with them. At most one place
    /// for each event that waits to be written, and one behind them.
    places: VecDeque<(u64, u64)>,
}
