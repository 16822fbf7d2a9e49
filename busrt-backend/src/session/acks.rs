//! Which links have something to acknowledge, and when it is due.
//!
//! Acknowledgements are cumulative, so a link is either in the book or not, however much has
//! happened on it: the book is bounded by the number of links.

use std::sync::Arc;

use super::sync::{AtomicBool, AtomicU64, Mutex, Notify, Ordering, PLENTY};
use crate::wire::AckEntry;

/// The subscriber's side of a link.
#[derive(Debug)]
pub(crate) struct InLink {
    /// The publisher's client name.
    pub(crate) peer: Arc<str>,
    pub(crate) subscription: u64,
    /// Made up, so that the publisher knows whether it speaks of the same link.
    id: u64,
    /// Credit follows what the application has taken (`Wait`), or what has arrived.
    follows_application: bool,
    /// Events of credit beyond what has been taken (or has arrived). It grows to `allotted` as the
    /// queue has room for it.
    window: AtomicU64,
    /// What is set aside for the link: it grows to `most` while much is sent and there is some left.
    allotted: AtomicU64,
    most: u64,
    window_bytes: u64,
    /// The highest credit that the publisher has been given.
    credit: AtomicU64,
    credit_bytes: AtomicU64,
    /// The publisher is gone: there is nobody to acknowledge to.
    ended: AtomicBool,
    /// The next link sequence expected: everything below is in the queue.
    received: AtomicU64,
    received_bytes: AtomicU64,
    /// Events that were lost on the way: they take no room and will not be taken.
    missed: AtomicU64,
    taken: Taken,
    /// `received + taken` as last acknowledged.
    told: AtomicU64,
    dropped: AtomicU64,
    in_book: AtomicBool,
    /// Credit is set aside for it.
    aside: AtomicBool,
    /// The publisher has been asked for what is missing.
    asked: AtomicBool,
}

/// What the application has taken. The receiver alone writes it, for each event, so it adds without
/// a read-modify-write and has a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Taken {
    events: AtomicU64,
    bytes: AtomicU64,
}

/// Where a link stands, for its publisher to go on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) link: u64,
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    pub(crate) credit: u64,
    pub(crate) credit_bytes: u64,
}

impl InLink {
    pub(crate) fn new(
        peer: Arc<str>,
        subscription: u64,
        follows_application: bool,
        window: u64,
        allotted: u64,
        most: u64,
        window_bytes: u64,
    ) -> Self {
        Self {
            peer,
            subscription,
            id: uuid::Uuid::new_v4().as_u64_pair().0,
            follows_application,
            window: AtomicU64::new(window),
            allotted: AtomicU64::new(allotted),
            most,
            window_bytes,
            credit: AtomicU64::new(window),
            credit_bytes: AtomicU64::new(window_bytes),
            ended: AtomicBool::new(false),
            received: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            taken: Taken::default(),
            told: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            in_book: AtomicBool::new(false),
            aside: AtomicBool::new(true),
            asked: AtomicBool::new(false),
        }
    }

    /// Where the link stands. What the publisher was asked for, it is asked for with this.
    pub(crate) fn cursor(&self) -> Cursor {
        self.asked.store(true, Ordering::Relaxed);
        let received_bytes = self.received_bytes.load(Ordering::Relaxed);
        let entry = self.entry();
        Cursor {
            link: self.id,
            received: entry.received,
            received_bytes,
            credit: entry.credit,
            credit_bytes: entry.credit_bytes,
        }
    }

    /// Whether the publisher has yet to be asked for what is missing.
    pub(crate) fn may_ask(&self) -> bool {
        !self.asked.load(Ordering::Relaxed)
    }

    /// What is missing next may be asked for.
    pub(crate) fn answered(&self) {
        self.asked.store(false, Ordering::Relaxed);
    }

    /// The publisher begins another life, in which it has dropped nothing yet.
    pub(crate) fn begin_again(&self) {
        self.dropped.store(0, Ordering::Relaxed);
    }

    /// Notes whether credit is set aside for the link; how much, in events and bytes, if that is new.
    pub(crate) fn set_aside(&self, aside: bool) -> Option<(u64, u64)> {
        let before = self.aside.swap(aside, Ordering::AcqRel);
        (before != aside).then_some((self.allotted(), self.window_bytes))
    }

    /// Widens the window to at most `room`; whether all is in it that is set aside.
    pub(crate) fn widen(&self, room: u64) -> bool {
        let allotted = self.allotted();
        let window = room.min(allotted);
        self.window.fetch_max(window, Ordering::Relaxed).max(window) == allotted
    }

    /// Events of credit that are set aside for the link.
    fn allotted(&self) -> u64 {
        self.allotted.load(Ordering::Relaxed)
    }

    /// How many events more could be of use: as many again, if a quarter has moved since the last
    /// acknowledgement and credit is set aside at all.
    pub(crate) fn wants_more(&self) -> u64 {
        let allotted = self.allotted();
        if self.moved_untold() < urgent(allotted) || !self.aside.load(Ordering::Acquire) {
            return 0;
        }
        allotted.min(self.most - allotted)
    }

    /// Sets aside so many events more.
    pub(crate) fn allot(&self, more: u64) {
        self.allotted.fetch_add(more, Ordering::Relaxed);
    }

    /// Whether credit follows what the application has taken.
    pub(crate) fn follows_application(&self) -> bool {
        self.follows_application
    }

    /// Whether `len` events from `first` on are within the credit given.
    pub(crate) fn covers(&self, first: u64, len: u64) -> bool {
        first
            .checked_add(len)
            .is_some_and(|end| self.may_reach(end))
    }

    /// Whether a publisher that keeps to its credit can have come as far as `next`.
    pub(crate) fn may_reach(&self, next: u64) -> bool {
        next <= self.credit.load(Ordering::Acquire)
    }

    /// The publisher is gone.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Counts events that were lost on the way: they take no room and will not be taken.
    pub(crate) fn miss(&self, events: u64) {
        self.received.fetch_add(events, Ordering::Release);
        self.missed.fetch_add(events, Ordering::Release);
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Counts events as queued: the drain's alone.
    pub(crate) fn receive(&self, events: u64, bytes: u64) {
        self.answered();
        self.received.fetch_add(events, Ordering::Release);
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts an event as taken by the application: the receiver's alone. Whether the publisher may
    /// soon wait for its place.
    ///
    /// Where it has plenty of credit it has to send before it can wait, and what arrives is noted
    /// and acknowledged, with all that was taken by then.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let Taken {
            events: taken,
            bytes: taken_bytes,
        } = &self.taken;
        let bytes = taken_bytes.load(Ordering::Relaxed) + bytes;
        taken_bytes.store(bytes, Ordering::Relaxed);
        taken.store(taken.load(Ordering::Relaxed) + 1, Ordering::Release);
        let left = self
            .credit
            .load(Ordering::Relaxed)
            .saturating_sub(self.received());
        let received_bytes = self.received_bytes.load(Ordering::Relaxed);
        let told_bytes = self.credit_bytes.load(Ordering::Relaxed);
        let left_bytes = told_bytes.saturating_sub(received_bytes);
        left < PLENTY.max(self.allotted() / 8) || left_bytes < self.window_bytes / 8
    }

    /// New drops, if the publisher's total is `dropped`.
    pub(crate) fn newly_dropped(&self, dropped: u64) -> u64 {
        dropped.saturating_sub(self.dropped.fetch_max(dropped, Ordering::Relaxed))
    }

    /// What has moved since the last acknowledgement.
    fn moved_untold(&self) -> u64 {
        self.moved().wrapping_sub(self.told.load(Ordering::Relaxed))
    }

    fn moved(&self) -> u64 {
        self.received
            .load(Ordering::Relaxed)
            .wrapping_add(self.taken())
    }

    /// Events that take no room any more.
    fn taken(&self) -> u64 {
        let missed = self.missed.load(Ordering::Acquire);
        missed.wrapping_add(self.taken.events.load(Ordering::Acquire))
    }

    fn entry(&self) -> AckEntry {
        let received = self.received.load(Ordering::Acquire);
        let (base, base_bytes) = if self.follows_application {
            (self.taken(), self.taken.bytes.load(Ordering::Relaxed))
        } else {
            (received, self.received_bytes.load(Ordering::Relaxed))
        };
        let credit = base.saturating_add(self.window.load(Ordering::Relaxed));
        let credit = self.credit.fetch_max(credit, Ordering::AcqRel).max(credit);
        let credit_bytes = base_bytes.saturating_add(self.window_bytes);
        self.credit_bytes.fetch_max(credit_bytes, Ordering::Relaxed);
        AckEntry {
            subscription: self.subscription,
            received,
            credit,
            credit_bytes,
        }
    }
}

/// Events of a window that are urgent to acknowledge: the publisher may soon wait for them.
fn urgent(window: u64) -> u64 {
    (window / 4).max(1)
}

/// The links that have something to acknowledge.
#[derive(Debug, Default)]
pub(crate) struct AckBook {
    links: Mutex<Vec<Arc<InLink>>>,
    urgent: AtomicBool,
}

impl AckBook {
    /// Notes that something moved on `link`.
    pub(crate) fn note(&self, link: &Arc<InLink>, writer: &Notify) {
        let entered = !link.in_book.swap(true, Ordering::AcqRel);
        if entered {
            self.links.lock().push(Arc::clone(link));
        }
        let urgent = link.moved_untold() >= urgent(link.allotted())
            && !self.urgent.swap(true, Ordering::AcqRel);
        if entered || urgent {
            writer.notify_one();
        }
    }

    /// Acknowledges `link` again although nothing has moved: its publisher does not know.
    pub(crate) fn repeat(&self, link: &Arc<InLink>, writer: &Notify) {
        if !link.in_book.swap(true, Ordering::AcqRel) {
            self.links.lock().push(Arc::clone(link));
        }
        self.urgent.store(true, Ordering::Release);
        writer.notify_one();
    }

    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent.load(Ordering::Acquire)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.links.lock().is_empty()
    }

    /// Everything to acknowledge, by publisher. `before` sees each link before it is read.
    pub(crate) fn take(&self, before: impl Fn(&Arc<InLink>)) -> Vec<(Arc<str>, AckEntry)> {
        self.urgent.store(false, Ordering::Release);
        let links = std::mem::take(&mut *self.links.lock());
        links
            .into_iter()
            .filter(|link| !link.ended.load(Ordering::Acquire))
            .map(|link| {
                before(&link);
                // Cleared before the counters are read: what moves after this enters it anew.
                link.in_book.swap(false, Ordering::AcqRel);
                link.told.store(link.moved(), Ordering::Relaxed);
                (Arc::clone(&link.peer), link.entry())
            })
            .collect()
    }
}
