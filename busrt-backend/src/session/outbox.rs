//! The outbox: what this node has accepted and not yet sent.
//!
//! Accepting an event is one short critical section: find the links that match, see that each has
//! credit, take it, stamp the event, queue it. So a publish enters all links or none, the origin's
//! sequence is dense and in queue order, and per-publisher order holds from here on.
//!
//! Invariant: for each link, events in the queue follow `written` without a gap: the n-th event
//! that was accepted for the link is the n-th that the writer puts into a frame for it. No drop on
//! a link falls within a run that the link takes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eventbus_trait::{Delivery, Event, FamilyStats, Origin, PublisherId, fate};
use tracing::error;

use super::cost::event_cost;
use super::gathering::Doing;
use super::link::Link;
use super::places::Places;
use super::routes::{Opening, Route, RouteLinks, Routes, bump, tell_dropped};
use super::run::{Item, Run, Taken};
use super::standing::missing;
use super::sync::{Mutex, MutexGuard, Notify};
use crate::wire::{AckEntry, Control, StatusEntry, SubscriptionInfo, WrittenEvents};

/// Events that may wait for the writer.
const MAX_QUEUED: usize = 16_384;
/// Payloads from this length on are written without the lock, and not together with others.
const LARGE: usize = 16 * 1024;
/// Room for what stands before a payload, in bytes; metadata may take more.
const MOST_HEAD: usize = 64;
/// Least room set aside for a run, in bytes.
const LEAST_RUN: usize = 256;
/// Bytes that may wait for the writer.
const MAX_QUEUED_BYTES: u64 = 32 << 20;
/// Most links of a node that publishes.
const MAX_LINKS: usize = 131_072;
/// Control messages behind which no answer is queued: only peers that flood us get there.
const MAX_URGENT: usize = 65_536;

/// What became of an offer.
pub(crate) enum Accepted {
    /// Queued; the link sequences are those that a receipt waits for.
    Queued(Places),
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
    pub(super) state: Mutex<State>,
    /// Wakes the writer.
    pub(crate) wake: Notify,
    /// Told when the queue has been taken.
    pub(crate) room: Notify,
    published: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) routes: Routes,
    queue: VecDeque<Item>,
    /// Events in `queue`.
    pub(super) queued: usize,
    pub(super) queued_bytes: u64,
    /// A drop came after the last run, which takes nothing more: drops are told before a frame.
    sealed: bool,
    pub(super) urgent: VecDeque<(Arc<str>, Control)>,
    /// Messages in `queue`.
    pub(super) messages: usize,
    /// Links whose subscribers have to be sent something again.
    pub(super) again: Vec<Arc<Link>>,
    next_sequence: u64,
    pub(super) writer: Doing,
    /// A link had no credit for an event since the writer took what there was.
    pub(super) starved: bool,
    /// There is a large event in `queue`.
    pub(super) has_large: bool,
    /// There is no connection: messages to peers would be out of date when there is one.
    offline: bool,
    pub(super) closed: bool,
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

    /// As [`accept_and_wake`](Self::accept_and_wake).
    pub(crate) fn accept(
        &self,
        offer: &mut Option<Event>,
        cached: &mut Option<Arc<Route>>,
    ) -> Accepted {
        self.accept_and_wake(offer, cached, || ())
    }

    /// Accepts the event or leaves it in `offer`. Its payload is encoded. `cached` saves the
    /// route's look-up. `before_waking` is called if the writer has to be woken.
    pub(crate) fn accept_and_wake(
        &self,
        offer: &mut Option<Event>,
        cached: &mut Option<Arc<Route>>,
        before_waking: impl FnOnce(),
    ) -> Accepted {
        let Some(event) = offer.as_mut() else {
            return Accepted::Closed;
        };
        let cost = event_cost(event);
        let at_most_once = event.get_delivery() == Delivery::AtMostOnce;
        let large = self.write_if_large(event);
        let mut state = self.state.lock();
        if state.closed {
            return Accepted::Closed;
        }
        let route = state.routes.find(event.topic(), cached);
        if state.queued >= MAX_QUEUED || state.queued_bytes >= MAX_QUEUED_BYTES {
            if !at_most_once {
                return Accepted::QueueFull;
            }
            return self.drop_everywhere(state, offer, route);
        }
        let (reduced, dropping);
        let mut lost = None;
        let route = if let Some((_, full)) = route
            .links
            .iter()
            .find(|(at, link)| state.is_full(*at, link))
        {
            state.starved = true;
            if !at_most_once {
                let full = Arc::clone(full);
                if state.writer == Doing::Pausing {
                    self.wake_writer(state);
                }
                return Accepted::NoCredit(full);
            }
            (reduced, dropping) = self.without_full(&state, route);
            lost = fate::is_told().then_some(dropping);
            &reduced
        } else {
            route
        };
        let places = state.routes.take_credit(route, cost);
        self.count(route);
        self.stamp(&mut state, event);
        self.queue(&mut state, event, large, route, cost);
        if state.is_due(route) {
            self.wake_writer_after(state, before_waking);
        } else {
            drop(state);
        }
        if let Some(links) = lost {
            // Out of the slot before anything else has a say: it is published.
            let event = offer.take();
            event.iter().for_each(|event| tell_dropped(event, &links));
        }
        // Let go of where it is, and without the lock: an event is large.
        *offer = None;
        Accepted::Queued(places)
    }

    /// A large event is written without the lock, all but its sequence.
    fn write_if_large(&self, event: &Event) -> Option<WrittenEvents> {
        // It was encoded before it was offered.
        let payload = event.payload().encoded().unwrap_or_default();
        if payload.len() < LARGE {
            return None;
        }
        let mut written = WrittenEvents::with_capacity(payload.len() + MOST_HEAD);
        // It has a run of its own, which carries its stamp.
        written.push(event, payload, None, 0);
        Some(written)
    }

    /// Queues an event with its stamp. One that is written already, `large`, has a run of its own.
    fn queue(
        &self,
        state: &mut State,
        event: &Event,
        large: Option<WrittenEvents>,
        route: &Arc<Route>,
        cost: u64,
    ) {
        state.queued += 1;
        state.queued_bytes += cost;
        let origin = event.origin();
        let sequence = origin.map_or(0, |origin| origin.sequence);
        let sealed = std::mem::replace(&mut state.sealed, large.is_some());
        let written = if let Some(mut written) = large {
            state.has_large = true;
            written.set_first_sequence(sequence);
            written
        } else {
            let payload = event.payload().encoded().unwrap_or_default();
            let mut usual = LEAST_RUN;
            if let Some(Item::Run(run)) = state.queue.back_mut() {
                if !sealed && run.takes(route, cost) {
                    let foreign = origin.filter(|origin| !run.stamps(origin));
                    run.written.push(event, payload, foreign, sequence);
                    run.cost += cost;
                    return;
                }
                usual = run.written.bytes().clamp(LEAST_RUN, LARGE);
            }
            let mut written = WrittenEvents::with_capacity(usual.max(payload.len() + MOST_HEAD));
            written.push(event, payload, None, sequence);
            written
        };
        let own = (self.publisher, self.epoch);
        let (publisher, epoch) = origin.map_or(own, |origin| (origin.publisher, origin.epoch));
        state.queue.push_back(Item::Run(Run {
            route: Arc::clone(route),
            written,
            cost,
            publisher,
            epoch,
        }));
    }

    /// An `AtMostOnce` event that finds the queue full is dropped for everybody.
    fn drop_everywhere(
        &self,
        mut state: MutexGuard<'_, State>,
        offer: &mut Option<Event>,
        route: &Route,
    ) -> Accepted {
        let dropped = offer.take().map(|mut event| {
            self.stamp(&mut state, &mut event);
            event
        });
        self.count(route);
        state.sealed = true;
        for (at, link) in &route.links {
            link.drop_at(state.routes.next(*at));
        }
        self.dropped
            .fetch_add(route.links.len() as u64, Ordering::Relaxed);
        drop(state);
        if let Some(event) = dropped {
            tell_dropped(&event, &route.links);
        }
        Accepted::Queued(Places::Nowhere)
    }

    fn stamp(&self, state: &mut State, event: &mut Event) {
        event.accept(|| {
            let sequence = state.next_sequence;
            state.next_sequence += 1;
            Origin {
                publisher: self.publisher,
                epoch: self.epoch,
                sequence,
            }
        });
    }

    /// The route less the links that have no credit, on which the event is dropped; and those.
    fn without_full(&self, state: &State, route: &Route) -> (Arc<Route>, RouteLinks) {
        let (open, full): (Vec<_>, Vec<_>) = route
            .links
            .iter()
            .cloned()
            .partition(|(at, link)| !state.is_full(*at, link));
        for (at, link) in &full {
            link.drop_at(state.routes.next(*at));
        }
        self.dropped.fetch_add(full.len() as u64, Ordering::Relaxed);
        let reduced = if open.is_empty() {
            route.nobody()
        } else {
            Arc::new(route.only(open))
        };
        (reduced, full)
    }

    /// Under the lock, so adding needs no read-modify-write.
    fn count(&self, route: &Route) {
        bump(&self.published, 1);
        route.count();
    }

    fn wake_writer(&self, state: MutexGuard<'_, State>) {
        self.wake_writer_after(state, || ());
    }

    fn wake_writer_after(&self, mut state: MutexGuard<'_, State>, before: impl FnOnce()) {
        if std::mem::take(&mut state.writer) != Doing::Sending {
            drop(state);
            before();
            self.wake.notify_one();
        }
    }

    /// Sends a message of our own ahead of all events. There are as many as subscriptions and
    /// peers make necessary.
    pub(crate) fn send_urgent(&self, to: &Arc<str>, message: Control) {
        let mut state = self.state.lock();
        if state.offline {
            return;
        }
        state.urgent.push_back((Arc::clone(to), message));
        self.wake_writer(state);
    }

    /// Answers a peer, unless it asks faster than it can be answered.
    pub(crate) fn answer(&self, to: &Arc<str>, message: Control) {
        let waiting = self.state.lock().urgent.len();
        if waiting >= MAX_URGENT {
            error!(%to, ?message, "too many answers wait; this one is dropped");
            return;
        }
        self.send_urgent(to, message);
    }

    /// Opens a link: every event accepted from now on that it matches is on it; or goes on with it
    /// from the subscriber's cursor. If `answer`, the subscriber is told so in the order of events.
    /// Returns the link that it has forgotten, if so, with the copies that are lost; the caller ends
    /// it.
    pub(crate) fn open_link(
        &self,
        peer: &Arc<str>,
        info: SubscriptionInfo,
        answer: bool,
    ) -> Option<(Arc<Link>, u64)> {
        let subscription = info.id;
        let mut state = self.state.lock();
        let is_new = !state.routes.has(peer, subscription);
        if (is_new && state.routes.len() >= MAX_LINKS) || state.messages >= MAX_URGENT {
            error!(%peer, name = %info.name, "too many links or answers; this one is not opened");
            return None;
        }
        let Opening {
            link,
            first,
            forgotten,
        } = state.routes.open(peer, info);
        if link.note_again() {
            state.again.push(Arc::clone(&link));
        }
        if answer {
            let opened = Control::Opened {
                subscription,
                first,
            };
            state.tell(peer, opened);
        }
        self.wake_writer(state);
        // The cursor acknowledges and gives credit.
        link.progress.notify_waiters();
        forgotten.map(missing)
    }

    /// Whether a link to the subscription is open.
    pub(crate) fn has_link(&self, peer: &str, subscription: u64) -> bool {
        self.state.lock().routes.has(peer, subscription)
    }

    /// The subscribers of these links cannot be reached for now.
    pub(crate) fn detach_links(&self, which: impl Fn(&Link) -> bool) {
        let state = self.state.lock();
        let links = state.routes.links().filter(|(link, _)| which(link));
        links.for_each(|(link, _)| link.detach());
    }

    /// Removes links that are given up although their subscribers may come back; returns them with
    /// the copies that are lost. The caller ends them.
    pub(crate) fn give_up_links(&self, which: impl Fn(&Link) -> bool) -> Vec<(Arc<Link>, u64)> {
        let mut state = self.state.lock();
        let ended = state.routes.end(which);
        state.routes.remember(&ended);
        ended.into_iter().map(missing).collect()
    }

    /// Removes links whose subscribers will not come back; the caller ends them.
    pub(crate) fn take_links(&self, which: impl Fn(&Link) -> bool) -> Vec<(Arc<Link>, u64)> {
        let ended = self.state.lock().routes.end(which);
        ended.into_iter().map(missing).collect()
    }

    /// A peer will not come back.
    pub(crate) fn forget_peer(&self, peer: &str) {
        self.state.lock().routes.forget_given_up(peer);
    }

    /// There is no connection. Messages are forgotten, since nodes that come together again tell
    /// each other everything; events stay.
    pub(crate) fn go_offline(&self) {
        let mut state = self.state.lock();
        state.offline = true;
        state.urgent.clear();
        for link in state.again.drain(..) {
            link.follow_note();
        }
        state.queue.retain(|item| matches!(item, Item::Run(_)));
        state.messages = 0;
        state.routes.links().for_each(|(link, _)| link.detach());
    }

    /// There is a connection.
    pub(crate) fn go_online(&self) {
        self.state.lock().offline = false;
    }

    /// Ends the links that `which` picks, whose subscriptions have ended of their own accord.
    /// Publishers that wait for their credit go on without them. Each is told so in the order of
    /// events.
    pub(crate) fn close_links(&self, which: impl Fn(&Link) -> bool) -> usize {
        let mut state = self.state.lock();
        let ended = state.routes.end(which);
        for (link, next) in &ended {
            let status = StatusEntry {
                subscription: link.subscription,
                next: *next,
                dropped: link.dropped(),
            };
            state.tell(&link.peer, Control::Closed(status));
        }
        self.wake_writer(state);
        for (link, _) in &ended {
            link.close();
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
    /// thing that comes. Events that were taken before and could not be sent come first.
    pub(crate) fn take(&self, taken: &mut Taken) -> bool {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.urgent, &mut taken.urgent);
        std::mem::swap(&mut state.again, &mut taken.again);
        let mut was_full = false;
        if taken.items.is_empty() {
            std::mem::swap(&mut state.queue, &mut taken.items);
            was_full = state.queued >= MAX_QUEUED || state.queued_bytes >= MAX_QUEUED_BYTES;
            state.queued = 0;
            state.queued_bytes = 0;
            state.messages = 0;
            state.has_large = false;
        }
        let any = !(taken.urgent.is_empty() && taken.again.is_empty() && taken.items.is_empty());
        state.writer = if any { Doing::Sending } else { Doing::Sleeping };
        state.starved = false;
        drop(state);
        if was_full {
            self.room.notify_waiters();
        }
        any
    }

    /// Takes nothing any more; whoever waits for room is told so.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let links: Vec<_> = state.routes.links().map(|(l, _)| Arc::clone(l)).collect();
        self.wake_writer(state);
        self.room.notify_waiters();
        for link in links {
            link.progress.notify_waiters();
        }
    }

    /// Tells the log of what waits to be sent and never will be.
    pub(crate) fn give_up_unsent(&self) {
        let mut given_up = Taken::default();
        std::mem::swap(&mut self.state.lock().queue, &mut given_up.items);
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

impl State {
    fn is_full(&self, at: usize, link: &Link) -> bool {
        !self.routes.has_room(at) || link.is_heavy()
    }

    /// Sends a message in the order of events.
    fn tell(&mut self, to: &Arc<str>, message: Control) {
        self.messages += 1;
        self.queue.push_back(Item::Control(Arc::clone(to), message));
    }
}
