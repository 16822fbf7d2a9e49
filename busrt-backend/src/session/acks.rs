//! Which links have something to acknowledge, and when it is due.
//!
//! Acknowledgements are cumulative, so a link is either in the book or not, however much has
//! happened on it: the book is bounded by the number of links.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::wire::AckEntry;

/// The subscriber's side of a link.
#[derive(Debug)]
pub(crate) struct InLink {
    /// The publisher's client name.
    pub(crate) peer: Arc<str>,
    pub(crate) subscription: u64,
    /// Credit follows what the application has taken (`Wait`), or what has arrived.
    follows_application: bool,
    window: u64,
    window_bytes: u64,
    /// The next link sequence expected: everything below is in the queue.
    received: AtomicU64,
    received_bytes: AtomicU64,
    taken: AtomicU64,
    taken_bytes: AtomicU64,
    /// `received + taken` as last acknowledged.
    told: AtomicU64,
    dropped: AtomicU64,
    in_book: AtomicBool,
}

impl InLink {
    pub(crate) fn new(
        peer: Arc<str>,
        subscription: u64,
        follows_application: bool,
        window: u64,
        window_bytes: u64,
    ) -> Self {
        Self {
            peer,
            subscription,
            follows_application,
            window,
            window_bytes,
            received: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            taken_bytes: AtomicU64::new(0),
            told: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            in_book: AtomicBool::new(false),
        }
    }

    /// Events of credit that the link began with.
    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Counts events as queued: the drain's alone.
    pub(crate) fn receive(&self, events: u64, bytes: u64) {
        self.received.fetch_add(events, Ordering::Release);
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts an event as taken by the application.
    pub(crate) fn take(&self, bytes: u64) {
        self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Release);
    }

    /// New drops, if the publisher's total is `dropped`.
    pub(crate) fn newly_dropped(&self, dropped: u64) -> u64 {
        dropped.saturating_sub(self.dropped.fetch_max(dropped, Ordering::Relaxed))
    }

    fn moved(&self) -> u64 {
        self.received.load(Ordering::Relaxed) + self.taken.load(Ordering::Relaxed)
    }

    fn entry(&self) -> AckEntry {
        let received = self.received.load(Ordering::Acquire);
        let (base, base_bytes) = if self.follows_application {
            (
                self.taken.load(Ordering::Acquire),
                self.taken_bytes.load(Ordering::Relaxed),
            )
        } else {
            (received, self.received_bytes.load(Ordering::Relaxed))
        };
        AckEntry {
            subscription: self.subscription,
            received,
            credit: base + self.window,
            credit_bytes: base_bytes + self.window_bytes,
        }
    }
}

/// The links that have something to acknowledge.
#[derive(Debug, Default)]
pub(crate) struct AckBook {
    links: Mutex<Vec<Arc<InLink>>>,
    urgent: AtomicBool,
}

impl AckBook {
    /// Notes that something moved on `link`. A quarter of a window is urgent: the publisher may
    /// soon wait for it.
    pub(crate) fn note(&self, link: &Arc<InLink>, writer: &Notify) {
        let entered = !link.in_book.swap(true, Ordering::AcqRel);
        if entered {
            self.links.lock().push(Arc::clone(link));
        }
        let moved = link.moved().wrapping_sub(link.told.load(Ordering::Relaxed));
        let urgent = moved >= (link.window / 4).max(1) && !self.urgent.swap(true, Ordering::AcqRel);
        if entered || urgent {
            writer.notify_one();
        }
    }

    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent.load(Ordering::Acquire)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.links.lock().is_empty()
    }

    /// Everything to acknowledge, by publisher.
    pub(crate) fn take(&self) -> Vec<(Arc<str>, AckEntry)> {
        self.urgent.store(false, Ordering::Release);
        let links = std::mem::take(&mut *self.links.lock());
        links
            .into_iter()
            .map(|link| {
                // Cleared before the counters are read: what moves after this enters it anew.
                link.in_book.swap(false, Ordering::AcqRel);
                link.told.store(link.moved(), Ordering::Relaxed);
                (Arc::clone(&link.peer), link.entry())
            })
            .collect()
    }
}
