//! A publisher's side of a link: credit, and what the other end has.
//!
//! Credit is absolute, as a flow-control limit in QUIC is (RFC 9000, section 4.1): a repeated or
//! reordered grant does no harm.
//!
//! Invariant: `received <= next <= credit`; sent bytes exceed their credit by one event at most,
//! so that an event larger than the window still passes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use eventbus_trait::TopicFilter;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::wire::{AckEntry, SubscriptionInfo};

/// The part of a link that changes with every event, kept under the outbox's lock.
#[derive(Debug)]
pub(crate) struct Window {
    next: u64,
    credit: u64,
    sent_bytes: u64,
    credit_bytes: u64,
}

impl Window {
    pub(crate) fn new(credit: u64, credit_bytes: u64) -> Self {
        Self {
            next: 0,
            credit,
            sent_bytes: 0,
            credit_bytes,
        }
    }

    /// Whether one more event may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.next < self.credit && self.sent_bytes < self.credit_bytes
    }

    /// Takes credit for an event; returns its link sequence.
    pub(crate) fn take(&mut self, bytes: u64) -> u64 {
        let sequence = self.next;
        self.next += 1;
        self.sent_bytes += bytes;
        sequence
    }

    /// The next link sequence.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Widens the window; returns whether there is room now.
    pub(crate) fn grant(&mut self, ack: &AckEntry) -> bool {
        self.credit = self.credit.max(ack.credit);
        self.credit_bytes = self.credit_bytes.max(ack.credit_bytes);
        self.has_room()
    }
}

/// How a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    Open,
    /// The subscription ended of its own accord: nobody waits for it any more.
    Closed,
    /// The subscriber went away without a word.
    Lost,
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
    /// Everything below this is in the subscription's queue.
    received: AtomicU64,
    /// Events that have been put into frames; the writer's alone.
    written: AtomicU64,
    drops: Mutex<Drops>,
    /// Whether `drops` has something to tell, so that a frame need not lock it.
    untold: AtomicBool,
    state: AtomicU8,
    /// Told on each acknowledgement and on the end of the link.
    pub(crate) progress: Notify,
}

impl Link {
    pub(crate) fn new(peer: Arc<str>, info: SubscriptionInfo) -> Self {
        Self {
            peer,
            subscription: info.id,
            name: info.name,
            filters: info.filters,
            received: AtomicU64::new(0),
            written: AtomicU64::new(0),
            drops: Mutex::default(),
            untold: AtomicBool::new(false),
            state: AtomicU8::new(0),
            progress: Notify::new(),
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    pub(crate) fn acknowledge(&self, received: u64) {
        self.received.fetch_max(received, Ordering::AcqRel);
    }

    pub(crate) fn state(&self) -> LinkState {
        match self.state.load(Ordering::Acquire) {
            0 => LinkState::Open,
            1 => LinkState::Closed,
            _ => LinkState::Lost,
        }
    }

    pub(crate) fn end(&self, state: LinkState) {
        let code = match state {
            LinkState::Open => return,
            LinkState::Closed => 1,
            LinkState::Lost => 2,
        };
        self.state.store(code, Ordering::Release);
        self.progress.notify_waiters();
    }

    /// Counts `events` as put into a frame; returns the link sequence of the first.
    pub(crate) fn write(&self, events: u64) -> u64 {
        self.written.fetch_add(events, Ordering::Relaxed)
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
        let mut drops = self.drops.lock();
        let written = self.written.load(Ordering::Relaxed);
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
        let written = self.written.load(Ordering::Relaxed);
        self.untold.load(Ordering::Acquire)
            && self
                .drops
                .lock()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(credit: u64, credit_bytes: u64) -> AckEntry {
        AckEntry {
            subscription: 1,
            received: 0,
            credit,
            credit_bytes,
        }
    }

    #[test]
    fn credit_bounds_events_and_bytes() {
        let mut window = Window::new(2, 100);
        assert_eq!(window.take(10), 0);
        assert!(window.has_room());
        assert_eq!(window.take(10), 1);
        assert!(!window.has_room(), "two events of credit are used");
        assert!(window.grant(&ack(3, 100)));
        assert_eq!(window.take(1_000), 2);
        assert!(!window.grant(&ack(4, 100)), "bytes are used up");
        assert!(window.grant(&ack(4, 1_021)));
    }

    #[test]
    fn drops_are_told_at_their_place() {
        let info = SubscriptionInfo {
            id: 1,
            name: "s".to_owned(),
            filters: Vec::new(),
            received: 0,
            received_bytes: 0,
            credit: 10,
            credit_bytes: 10,
        };
        let link = Link::new("p".into(), info);
        for place in [2, 2, 5] {
            link.drop_at(place);
        }
        assert_eq!((link.tell_dropped(), link.has_untold()), (0, false));
        link.write(2);
        assert!(link.has_untold());
        assert_eq!((link.tell_dropped(), link.has_untold()), (2, false));
        link.write(3);
        assert_eq!((link.tell_dropped(), link.dropped()), (3, 3));
    }

    #[test]
    fn a_late_grant_does_not_narrow_the_window() {
        let mut window = Window::new(2, 100);
        assert!(window.grant(&ack(10, 1_000)));
        assert!(window.grant(&ack(1, 1)));
        for _ in 0..10 {
            assert!(window.has_room());
            window.take(0);
        }
        assert!(!window.has_room());
    }
}
