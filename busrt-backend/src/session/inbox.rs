//! The inbox: a subscription's queue between the drain task and the application.
//!
//! The drain hands over whole chunks and never waits: for a `Wait` subscription credit has set the
//! room aside, for the others something is dropped. The receiver takes chunks too, so that a lock
//! is taken once per frame, not once per event; where events may be dropped it takes them one by
//! one, because what it has taken can no longer make room.
//!
//! Invariant: `pushed` less `taken` is the number of events in chunks, here or in the receiver's hand.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::acks::InLink;
use super::cost::event_cost;
use super::node::Node;
use super::sync::{AtomicBool, AtomicU64, Mutex, Ordering, Signal};
use crate::wire::Events;
use async_trait::async_trait;
use eventbus_trait::{
    Event, EventSource, Item, Overflow, SubscriptionCounters, TryRecvError, count, fate,
};

/// Events that arrived together on one link.
pub(super) struct Chunk {
    /// `None` for events of foreign clients, which have no link.
    link: Option<Arc<InLink>>,
    pub(super) events: Events,
    /// Events dropped at this place, before the chunk's first.
    pub(super) lagged: u64,
}

/// Events that were dropped, as far as the log wants them.
#[derive(Default)]
struct Lost {
    wanted: bool,
    events: Vec<Event>,
}

impl Lost {
    fn extend(&mut self, events: impl IntoIterator<Item = Event>) {
        if self.wanted {
            self.events.extend(events);
        }
    }
}

/// Events handed to the application. The receiver writes it for each event, so it has a cache line
/// of its own.
#[derive(Default)]
#[repr(align(128))]
struct Taken(AtomicU64);

#[derive(Default)]
struct State {
    chunks: VecDeque<Chunk>,
    len: u64,
    /// Events dropped after everything queued.
    lagged: u64,
    ended: bool,
}

pub(crate) struct Inbox {
    name: Arc<str>,
    state: Mutex<State>,
    signal: Signal,
    /// Events that were queued and not dropped since. Changed under the lock.
    pushed: AtomicU64,
    taken: Taken,
    capacity: u64,
    overflow: Overflow,
    /// Links whose windows are narrower than they should be, for want of room.
    narrow: Mutex<Vec<Arc<InLink>>>,
    has_narrow: AtomicBool,
    pub(crate) counters: Arc<SubscriptionCounters>,
}

impl Inbox {
    pub(crate) fn new(name: Arc<str>, capacity: usize, overflow: Overflow) -> Self {
        Self {
            name,
            state: Mutex::default(),
            signal: Signal::new(),
            pushed: AtomicU64::new(0),
            taken: Taken::default(),
            capacity: capacity as u64,
            overflow,
            narrow: Mutex::default(),
            has_narrow: AtomicBool::new(false),
            counters: Arc::default(),
        }
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.overflow
    }

    pub(crate) fn queued(&self) -> u64 {
        // In this order, so that nothing is taken that was not pushed.
        let taken = self.taken.0.load(Ordering::Acquire);
        self.pushed.load(Ordering::Acquire).saturating_sub(taken)
    }

    /// Counts an event as handed to the application: the receiver's alone.
    pub(super) fn hand_over(&self) {
        let taken = self.taken.0.load(Ordering::Relaxed) + 1;
        self.taken.0.store(taken, Ordering::Release);
    }

    /// Events that still have a place.
    pub(crate) fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.queued())
    }

    /// Widens the link's window as room comes.
    pub(crate) fn widen_later(&self, link: &Arc<InLink>) {
        self.narrow.lock().push(Arc::clone(link));
        self.has_narrow.store(true, Ordering::Release);
    }

    #[cold]
    fn widen(&self, node: &Node) {
        let room = self.room();
        let mut narrow = self.narrow.lock();
        narrow.retain(|link| {
            let full = link.widen(room);
            node.acks.note(link, &node.outbox.wake);
            !full
        });
        self.has_narrow.store(!narrow.is_empty(), Ordering::Release);
    }

    /// Queues what arrived on `link`, after `lagged` events that its publisher dropped. Whether it was
    /// taken; nothing is once the subscription has ended.
    pub(crate) fn push(&self, link: Option<&Arc<InLink>>, events: Events, lagged: u64) -> bool {
        let arrived = events.len() as u64;
        let mut lost = Lost::default();
        {
            let mut state = self.state.lock();
            if state.ended {
                return false;
            }
            count(&self.counters.matched, arrived.wrapping_add(lagged));
            count(&self.counters.dropped, lagged);
            state.lagged = state.lagged.saturating_add(lagged);
            let bounded = link.is_none() || self.overflow != Overflow::Wait;
            if bounded {
                lost.wanted = fate::is_told();
                self.push_bounded(&mut state, link, events.collect(), &mut lost);
            } else {
                self.push_chunk(&mut state, link, events);
            }
        }
        self.signal.notify();
        self.tell(&lost);
        true
    }

    fn push_chunk(&self, state: &mut State, link: Option<&Arc<InLink>>, events: Events) {
        if events.len() == 0 {
            return;
        }
        let len = events.len() as u64;
        let lagged = std::mem::take(&mut state.lagged);
        state.chunks.push_back(Chunk {
            link: link.cloned(),
            events,
            lagged,
        });
        state.len += len;
        self.pushed.fetch_add(len, Ordering::AcqRel);
    }

    fn push_bounded(
        &self,
        state: &mut State,
        link: Option<&Arc<InLink>>,
        mut events: Vec<Event>,
        lost: &mut Lost,
    ) {
        let arrived = events.len() as u64;
        let room = self.capacity.saturating_sub(state.len);
        if self.overflow == Overflow::DropOldest {
            let keep = arrived.min(self.capacity);
            let make = (keep.saturating_sub(room)).min(state.len);
            for _ in 0..make {
                lost.extend(self.drop_oldest(state));
            }
            // Of a chunk larger than the whole queue, the oldest have no place either.
            let skip = arrived - keep;
            self.note_dropped(state, skip);
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            let kept = events.split_off(skip);
            lost.extend(events);
            self.push_chunk(state, link, kept.into());
        } else {
            let keep = usize::try_from(room.min(arrived)).unwrap_or(usize::MAX);
            let dropped = arrived - keep as u64;
            lost.extend(events.drain(keep..));
            self.push_chunk(state, link, events.into());
            self.note_dropped(state, dropped);
        }
    }

    fn note_dropped(&self, state: &mut State, dropped: u64) {
        count(&self.counters.dropped, dropped);
        state.lagged = state.lagged.saturating_add(dropped);
    }

    fn drop_oldest(&self, state: &mut State) -> Option<Event> {
        while let Some(mut chunk) = state.chunks.pop_front() {
            let dropped = chunk.events.next();
            let lagged = chunk.lagged.saturating_add(u64::from(dropped.is_some()));
            if chunk.events.len() > 0 {
                chunk.lagged = lagged;
                state.chunks.push_front(chunk);
            } else if let Some(next) = state.chunks.front_mut() {
                next.lagged = next.lagged.saturating_add(lagged);
            } else {
                state.lagged = state.lagged.saturating_add(lagged);
            }
            if dropped.is_some() {
                state.len -= 1;
                self.pushed.fetch_sub(1, Ordering::AcqRel);
                count(&self.counters.dropped, 1);
                return dropped;
            }
        }
        None
    }

    /// Tells the log what was dropped, without the lock.
    fn tell(&self, lost: &Lost) {
        let reason = match self.overflow {
            Overflow::DropOldest => "no room: the oldest is dropped",
            // An event of a client without a session has no credit.
            Overflow::DropNewest | Overflow::Wait => "no room: the newest is dropped",
        };
        for event in &lost.events {
            fate::dropped(&self.name, event, reason);
        }
    }

    /// Nothing comes any more; what is queued can still be read.
    pub(crate) fn end(&self) {
        self.state.lock().ended = true;
        self.signal.notify();
    }

    /// Nothing comes any more and nothing is read any more.
    pub(crate) fn close(&self) {
        let unread = {
            let mut state = self.state.lock();
            state.ended = true;
            state.lagged = 0;
            std::mem::take(&mut state.chunks)
        };
        self.signal.notify();
        for chunk in &unread {
            self.tell_unread(chunk);
        }
    }

    fn tell_unread(&self, chunk: &Chunk) {
        if fate::is_told() {
            for event in chunk.events.clone() {
                fate::dropped(&self.name, &event, "unread when its subscription ended");
            }
        }
    }

    /// Takes the next chunk, or one event of it where events may be dropped.
    pub(super) fn take(&self) -> Result<Chunk, TryRecvError> {
        let mut state = self.state.lock();
        let one_by_one = self.overflow != Overflow::Wait;
        let Some(mut chunk) = state.chunks.pop_front() else {
            let lagged = std::mem::take(&mut state.lagged);
            if lagged > 0 {
                return Ok(Chunk {
                    link: None,
                    events: Events::none(),
                    lagged,
                });
            }
            return Err(if state.ended {
                TryRecvError::Closed
            } else {
                TryRecvError::Empty
            });
        };
        if one_by_one && chunk.events.len() > 1 {
            let first: Vec<Event> = chunk.events.next().into_iter().collect();
            let link = chunk.link.clone();
            let lagged = std::mem::take(&mut chunk.lagged);
            state.chunks.push_front(chunk);
            state.len -= 1;
            return Ok(Chunk {
                link,
                events: first.into(),
                lagged,
            });
        }
        state.len -= chunk.events.len() as u64;
        Ok(chunk)
    }
}

/// The receiving end of an inbox.
pub(crate) struct InboxSource {
    node: Arc<Node>,
    id: u64,
    inbox: Arc<Inbox>,
    hand: Option<Chunk>,
    closed: bool,
}

impl InboxSource {
    pub(crate) fn new(node: Arc<Node>, id: u64, inbox: Arc<Inbox>) -> Self {
        Self {
            node,
            id,
            inbox,
            hand: None,
            closed: false,
        }
    }

    fn let_go(&mut self) {
        if let Some(chunk) = self.hand.take() {
            self.inbox.tell_unread(&chunk);
        }
    }

    fn next_in_hand(&mut self) -> Option<Item> {
        let chunk = self.hand.as_mut()?;
        if chunk.lagged > 0 {
            return Some(Item::Lagged(std::mem::take(&mut chunk.lagged)));
        }
        let Some(event) = chunk.events.next() else {
            self.hand = None;
            return None;
        };
        let last = chunk.events.len() == 0;
        self.inbox.hand_over();
        if let Some(link) = &chunk.link {
            let waited_for = link.take(event_cost(&event));
            if waited_for || last {
                self.node.acks.note(link, &self.node.outbox.wake);
            }
        }
        if last {
            self.hand = None;
        }
        if self.inbox.has_narrow.load(Ordering::Acquire) {
            self.inbox.widen(&self.node);
        }
        Some(Item::Event(event))
    }
}

#[async_trait]
impl EventSource for InboxSource {
    fn try_next(&mut self) -> Result<Item, TryRecvError> {
        loop {
            if self.closed {
                return Err(TryRecvError::Closed);
            }
            if let Some(item) = self.next_in_hand() {
                return Ok(item);
            }
            self.hand = Some(self.inbox.take()?);
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        match self.try_next() {
            Ok(item) => return Poll::Ready(Some(item)),
            Err(TryRecvError::Closed) => return Poll::Ready(None),
            Err(TryRecvError::Empty) => self.inbox.signal.register(cx.waker()),
        }
        match self.try_next() {
            Ok(item) => Poll::Ready(Some(item)),
            Err(TryRecvError::Closed) => Poll::Ready(None),
            Err(TryRecvError::Empty) => Poll::Pending,
        }
    }

    fn queued(&self) -> u64 {
        self.inbox.queued()
    }

    async fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.let_go();
            let deadline = self.node.limits.publish_deadline;
            self.node
                .end_subscription_everywhere(self.id, deadline)
                .await;
        }
    }
}

impl Drop for InboxSource {
    fn drop(&mut self) {
        if !self.closed {
            self.let_go();
            self.node.end_subscription(self.id);
        }
    }
}
