//! The outbox: what this node has accepted and not yet sent.
//!
//! Accepting an event is one short critical section: find the links that match, see that each has
//! credit, take it, stamp the event, queue it. So a publish enters all links or none, the origin's
//! sequence is dense and in queue order, and per-publisher order holds from here on.
//!
//! Invariant: for each link, events in the queue follow `written` without a gap: the n-th event
//! that was accepted for the link is the n-th that the writer puts into a frame for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use eventbus_trait::{Delivery, Event, FamilyStats, Origin, PublisherId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::error;

use super::EVENT_OVERHEAD;
use super::link::{Link, LinkState};
use super::routes::{Route, Routes};
use crate::wire::{AckEntry, Control, StatusEntry, SubscriptionInfo};

/// Events that may wait for the writer.
const MAX_QUEUED: usize = 16_384;
/// Bytes that may wait for the writer.
const MAX_QUEUED_BYTES: u64 = 32 << 20;
/// Control messages that may wait for the writer: more than all subscriptions of a full broker
/// need, so only a peer that floods us gets there.
const MAX_URGENT: usize = 65_536;

/// What the writer sends next, in order.
#[derive(Debug)]
pub(crate) enum Item {
    Event(Queued),
    /// A message that has its place in the order of events.
    Control(Arc<str>, Control),
}

/// An accepted event.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) event: Event,
    pub(crate) payload: Bytes,
    pub(crate) route: Arc<Route>,
}

/// What became of an offer.
pub(crate) enum Accepted {
    /// Queued; the link sequences are those that a receipt waits for.
    Queued(Vec<(Arc<Link>, u64)>),
    /// No credit on this link.
    NoCredit(Arc<Link>),
    /// The connection does not keep up.
    QueueFull,
    /// The node takes nothing any more.
    Closed,
}

pub(crate) struct Outbox {
    publisher: PublisherId,
    epoch: u64,
    state: Mutex<State>,
    /// Wakes the writer.
    pub(crate) wake: Notify,
    /// Told when the queue has been taken.
    pub(crate) room: Notify,
    published: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    routes: Routes,
    queue: VecDeque<Item>,
    queued_bytes: u64,
    urgent: VecDeque<(Arc<str>, Control)>,
    next_sequence: u64,
    writer_sleeps: bool,
    closed: bool,
}

/// An event that asks to be accepted, with its encoded payload.
pub(crate) struct Offer {
    pub(crate) event: Event,
    pub(crate) payload: Bytes,
}

impl Outbox {
    pub(crate) fn new(publisher: PublisherId, epoch: u64) -> Self {
        Self {
            publisher,
            epoch,
            state: Mutex::default(),
            wake: Notify::new(),
            room: Notify::new(),
            published: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Accepts the event or leaves it in `offer`. `cached` saves the route's look-up.
    pub(crate) fn accept(
        &self,
        offer: &mut Option<Offer>,
        cached: &mut Option<Arc<Route>>,
    ) -> Accepted {
        let Some(Offer { event, .. }) = offer.as_ref() else {
            return Accepted::Closed;
        };
        let cost = event_cost(event);
        let at_most_once = event.get_delivery() == Delivery::AtMostOnce;
        let mut state = self.state.lock();
        if state.closed {
            return Accepted::Closed;
        }
        let route = state.routes.find(event.topic(), cached);
        if state.queue.len() >= MAX_QUEUED || state.queued_bytes >= MAX_QUEUED_BYTES {
            if !at_most_once {
                return Accepted::QueueFull;
            }
            return self.drop_everywhere(state, offer, &route);
        }
        let route = if route.links.iter().all(|(at, _)| state.routes.has_room(*at)) {
            route
        } else if at_most_once {
            self.without_full(&state, &route)
        } else {
            let full = route
                .links
                .iter()
                .find(|(at, _)| !state.routes.has_room(*at));
            return full.map_or(Accepted::Closed, |(_, l)| Accepted::NoCredit(Arc::clone(l)));
        };
        let Some(Offer { mut event, payload }) = offer.take() else {
            return Accepted::Closed;
        };
        let sequences = state.routes.take_credit(&route, cost);
        let State { next_sequence, .. } = &mut *state;
        event.accept(|| {
            let sequence = *next_sequence;
            *next_sequence += 1;
            Origin {
                publisher: self.publisher,
                epoch: self.epoch,
                sequence,
            }
        });
        self.count(&route);
        state.queued_bytes += cost;
        state.queue.push_back(Item::Event(Queued {
            event,
            payload,
            route,
        }));
        self.wake_writer(state);
        Accepted::Queued(sequences)
    }

    /// An `AtMostOnce` event that finds the queue full is dropped for everybody.
    fn drop_everywhere(
        &self,
        state: parking_lot::MutexGuard<'_, State>,
        offer: &mut Option<Offer>,
        route: &Route,
    ) -> Accepted {
        offer.take();
        for (at, link) in &route.links {
            link.drop_at(state.routes.next(*at));
        }
        self.dropped
            .fetch_add(route.links.len().max(1) as u64, Ordering::Relaxed);
        drop(state);
        self.published.fetch_add(1, Ordering::Relaxed);
        Accepted::Queued(Vec::new())
    }

    /// The route less the links that have no credit, on which the event is dropped.
    fn without_full(&self, state: &State, route: &Route) -> Arc<Route> {
        let (open, full): (Vec<_>, Vec<_>) = route
            .links
            .iter()
            .cloned()
            .partition(|(at, _)| state.routes.has_room(*at));
        for (at, link) in &full {
            link.drop_at(state.routes.next(*at));
        }
        self.dropped.fetch_add(full.len() as u64, Ordering::Relaxed);
        Arc::new(route.only(open))
    }

    fn count(&self, route: &Route) {
        self.published.fetch_add(1, Ordering::Relaxed);
        route.count();
    }

    fn wake_writer(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        if std::mem::take(&mut state.writer_sleeps) {
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Sends a message ahead of all events.
    pub(crate) fn send_urgent(&self, to: &Arc<str>, message: Control) {
        let mut state = self.state.lock();
        if state.urgent.len() >= MAX_URGENT {
            drop(state);
            error!(%to, ?message, "too many messages wait; this one is dropped");
            return;
        }
        state.urgent.push_back((Arc::clone(to), message));
        self.wake_writer(state);
    }

    /// Opens a link: every event accepted from now on that it matches is on it. `answer`, told
    /// that the first sequence is 0, is sent in its place in the order of events.
    pub(crate) fn open_link(
        &self,
        peer: &Arc<str>,
        info: SubscriptionInfo,
        answer: Option<Control>,
    ) {
        let mut state = self.state.lock();
        state.routes.open(peer, info);
        if let Some(answer) = answer {
            state
                .queue
                .push_back(Item::Control(Arc::clone(peer), answer));
            self.wake_writer(state);
        }
    }

    /// Ends the links that `which` picks. Publishers that wait for their credit go on without
    /// them. A link that closed of its own accord is told so in the order of events.
    pub(crate) fn end_links(&self, end: LinkState, which: impl Fn(&Link) -> bool) -> usize {
        let mut state = self.state.lock();
        let ended = state.routes.end(which);
        for (link, next) in &ended {
            if end == LinkState::Closed {
                let status = StatusEntry {
                    subscription: link.subscription,
                    next: *next,
                    dropped: link.dropped(),
                };
                state.queue.push_back(Item::Control(
                    Arc::clone(&link.peer),
                    Control::Closed(status),
                ));
            }
        }
        self.wake_writer(state);
        for (link, _) in &ended {
            link.end(end);
        }
        ended.len()
    }

    /// Takes in what a subscriber says of its links.
    pub(crate) fn acknowledge(&self, peer: &str, acks: &[AckEntry]) {
        let progressed = self.state.lock().routes.acknowledge(peer, acks);
        for link in progressed {
            link.progress.notify_waiters();
        }
    }

    /// Takes everything that is to be sent; if there is nothing, the writer is woken by the next
    /// thing that comes.
    pub(crate) fn take(
        &self,
        urgent: &mut VecDeque<(Arc<str>, Control)>,
        items: &mut VecDeque<Item>,
    ) -> bool {
        let mut state = self.state.lock();
        if state.urgent.is_empty() && state.queue.is_empty() {
            state.writer_sleeps = true;
            return false;
        }
        std::mem::swap(&mut state.urgent, urgent);
        std::mem::swap(&mut state.queue, items);
        let was_full = items.len() >= MAX_QUEUED || state.queued_bytes >= MAX_QUEUED_BYTES;
        state.queued_bytes = 0;
        drop(state);
        if was_full {
            self.room.notify_waiters();
        }
        true
    }

    /// Links with drops that their subscribers do not know of, with their next sequence.
    pub(crate) fn untold_drops(&self) -> Vec<(Arc<str>, StatusEntry)> {
        let state = self.state.lock();
        let untold = state.routes.links().filter(|(link, _)| link.has_untold());
        untold
            .map(|(link, next)| {
                let entry = StatusEntry {
                    subscription: link.subscription,
                    next,
                    dropped: link.tell_dropped(),
                };
                (Arc::clone(&link.peer), entry)
            })
            .collect()
    }

    /// Links that have not acknowledged everything, with how much is missing.
    pub(crate) fn unconfirmed(&self) -> Vec<(Arc<Link>, u64)> {
        let state = self.state.lock();
        let links = state.routes.links();
        links
            .map(|(link, next)| (Arc::clone(link), next - link.received()))
            .filter(|(_, missing)| *missing > 0)
            .collect()
    }

    /// Takes nothing any more.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.wake_writer(state);
        self.room.notify_waiters();
    }

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn families(&self) -> BTreeMap<String, FamilyStats> {
        self.state.lock().routes.families()
    }
}

/// What an event costs in bytes of credit; both ends of a link count alike.
///
/// The payload's bytes exist on both: it was encoded before it was offered, or came off a wire.
pub(crate) fn event_cost(event: &Event) -> u64 {
    event.known_size().unwrap_or_default() as u64 + EVENT_OVERHEAD
}

#[cfg(test)]
mod tests;
