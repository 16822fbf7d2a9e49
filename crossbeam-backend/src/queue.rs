//! The queue of one subscription: a bounded channel, and marks where events were lost.
//!
//! A `Wait` queue is entered only with a place of its [`Room`]. The other policies need no
//! reservation, because a full queue refuses nobody; their publishers take turns on `edge`.
//!
//! Invariant: `lost_newest` changes under `edge` alone, and falls to zero only after the mark has
//! been handed over. So a publisher that lost an event either finds the count, and takes its turn,
//! or finds it gone, and the mark is in front of whatever it enters next.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use eventbus_trait::{Event, Overflow, Subscribe, SubscriptionCounters, TopicFilter, count};

use super::room::Room;
use super::sync::{AtomicBool, AtomicU64, Mutex, Ordering, Signal};

/// An event in a queue.
#[derive(Debug)]
pub(crate) enum Entry {
    /// An event.
    Event(Event),
    /// An event right after others that were lost. Boxed, so that entries are no larger than
    /// events.
    After(Box<(u64, Event)>),
}

impl Entry {
    fn new(lagged: u64, event: Event) -> Self {
        if lagged == 0 {
            Self::Event(event)
        } else {
            Self::After(Box::new((lagged, event)))
        }
    }

    pub(crate) fn into_parts(self) -> (u64, Event) {
        match self {
            Self::Event(event) => (0, event),
            Self::After(both) => *both,
        }
    }
}

/// What publishers, the receiver and the bus know of one subscription.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) room: Room,
    signal: Apart<Signal>,
    sender: Sender<Entry>,
    overflow: Overflow,
    lost_newest: AtomicU64,
    edge: Mutex<()>,
    /// For `DropOldest`: the publishers' hold on the front, and what they lost there.
    front: Mutex<Front>,
    ended: AtomicBool,
    held: AtomicU64,
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) owner: u64,
    pub(crate) exclude_own: bool,
    pub(crate) filters: Vec<TopicFilter>,
    pub(crate) counters: Arc<SubscriptionCounters>,
}

/// On cache lines of its own: publishers write it for every event, while the receiver reads what
/// would be its neighbours.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

#[derive(Debug)]
struct Front {
    lost: u64,
    receiver: Option<Receiver<Entry>>,
}

/// What is at the front of a queue.
#[derive(Debug)]
pub(crate) enum Next {
    Entry(Entry),
    Lagged(u64),
    Empty,
    Ended,
}

impl Queue {
    /// A queue, and the receiver that takes from it.
    pub(crate) fn new(
        id: u64,
        name: Arc<str>,
        owner: u64,
        subscribe: &Subscribe,
    ) -> (Arc<Self>, Receiver<Entry>) {
        let (sender, receiver) = bounded(subscribe.get_capacity());
        let overflow = subscribe.get_overflow();
        let evicts = overflow == Overflow::DropOldest;
        let queue = Self {
            room: Room::new(subscribe.get_capacity() as u64),
            signal: Apart(Signal::new()),
            sender,
            overflow,
            lost_newest: AtomicU64::new(0),
            edge: Mutex::new(()),
            front: Mutex::new(Front {
                lost: 0,
                receiver: evicts.then(|| receiver.clone()),
            }),
            ended: AtomicBool::new(false),
            held: AtomicU64::new(0),
            id,
            name,
            owner,
            exclude_own: subscribe.excludes_own(),
            filters: subscribe.filters().to_vec(),
            counters: Arc::default(),
        };
        (Arc::new(queue), receiver)
    }

    /// Wakes the receiver.
    pub(crate) fn signal(&self) -> &Signal {
        &self.signal.0
    }

    /// Whether publishers wait for room.
    pub(crate) fn waits(&self) -> bool {
        self.overflow == Overflow::Wait
    }

    /// Why it loses events while it stands, for the log.
    pub(crate) fn why_lost(&self) -> &'static str {
        match self.overflow {
            Overflow::Wait => "no room for an at-most-once event",
            Overflow::DropOldest => "no room: the oldest is dropped",
            Overflow::DropNewest => "no room: the newest is dropped",
        }
    }

    /// Queues an event for which a place is reserved. With a place there is room, and the receiver
    /// outlives the reservations; should that ever not hold, the event comes back, counted as
    /// dropped.
    #[inline]
    pub(crate) fn enter(&self, event: Event) -> Option<Event> {
        let refused = if self.lost_newest.load(Ordering::Acquire) == 0 {
            self.sender.try_send(Entry::Event(event)).err()
        } else {
            self.enter_marked(event)
        };
        let (_, event) = refused?.into_inner().into_parts();
        count(&self.counters.dropped, 1);
        Some(event)
    }

    /// Queues an event by the overflow policy; returns what was lost for it.
    pub(crate) fn offer(&self, event: Event) -> (bool, Vec<Event>) {
        let _turn = self.edge.lock();
        let mut lost = Vec::new();
        let lagged = self.lost_newest.load(Ordering::Relaxed);
        let mut entry = Entry::new(lagged, event);
        loop {
            match self.sender.try_send(entry) {
                Ok(()) => {
                    self.lost_newest.fetch_sub(lagged, Ordering::Release);
                    return (true, lost);
                }
                Err(TrySendError::Full(back)) if self.overflow == Overflow::DropOldest => {
                    entry = back;
                    lost.extend(self.evict());
                }
                Err(error) => {
                    count(&self.counters.dropped, 1);
                    self.lost_newest.fetch_add(1, Ordering::Release);
                    lost.push(error.into_inner().into_parts().1);
                    return (false, lost);
                }
            }
        }
    }

    /// Counts an event that found no room, and marks its place.
    pub(crate) fn lose(&self) {
        count(&self.counters.dropped, 1);
        let _turn = self.edge.lock();
        self.lost_newest.fetch_add(1, Ordering::Release);
    }

    /// Takes what is at the front.
    #[inline]
    pub(crate) fn next(&self, receiver: &Receiver<Entry>) -> Next {
        if self.overflow == Overflow::DropOldest {
            return self.next_or_mark(receiver);
        }
        match receiver.try_recv() {
            Ok(entry) => {
                self.taken();
                Next::Entry(entry)
            }
            Err(_) => self.at_the_end(receiver),
        }
    }

    /// Ends the queue once nobody can enter it any more.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.signal().wake();
    }

    /// Whether nothing can enter any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Notes whether the receiver holds an entry that it has not handed over.
    pub(crate) fn hold(&self, holds: bool) {
        self.held.store(u64::from(holds), Ordering::Release);
    }

    /// Brings the counters up to date and returns how many events are queued, as measured now.
    ///
    /// What matched is not counted a second time for each event: every publisher rings once for
    /// each event that matched, queued or lost, and the signal counts that.
    pub(crate) fn measure(&self) -> u64 {
        let matched = self.signal().rung();
        self.counters.matched.store(matched, Ordering::Release);
        self.sender.len() as u64 + self.held.load(Ordering::Acquire)
    }

    #[cold]
    fn enter_marked(&self, event: Event) -> Option<TrySendError<Entry>> {
        let _turn = self.edge.lock();
        let lagged = self.lost_newest.load(Ordering::Relaxed);
        let refused = self.sender.try_send(Entry::new(lagged, event)).err();
        if refused.is_none() {
            self.lost_newest.fetch_sub(lagged, Ordering::Release);
        }
        refused
    }

    #[cold]
    fn evict(&self) -> Option<Event> {
        let mut front = self.front.lock();
        let entry = front.receiver.as_ref()?.try_recv().ok()?;
        let (lagged, event) = entry.into_parts();
        front.lost += lagged + 1;
        count(&self.counters.dropped, 1);
        Some(event)
    }

    #[inline]
    fn taken(&self) {
        if self.waits() {
            self.room.took().wake();
        }
    }

    /// The front of a queue where publishers may take the oldest away.
    fn next_or_mark(&self, receiver: &Receiver<Entry>) -> Next {
        {
            let mut front = self.front.lock();
            if front.lost > 0 {
                return Next::Lagged(std::mem::take(&mut front.lost));
            }
            if let Ok(entry) = receiver.try_recv() {
                return Next::Entry(entry);
            }
        }
        self.at_the_end(receiver)
    }

    #[cold]
    fn at_the_end(&self, receiver: &Receiver<Entry>) -> Next {
        let ended = self.ended.load(Ordering::Acquire);
        if !ended && self.lost_newest.load(Ordering::Acquire) == 0 {
            return Next::Empty;
        }
        let turn = self.edge.lock();
        // Whoever lost an event had entered the ones before it: they come first.
        if !receiver.is_empty() {
            drop(turn);
            return self.next(receiver);
        }
        match self.lost_newest.swap(0, Ordering::AcqRel) {
            0 if ended => Next::Ended,
            0 => Next::Empty,
            lost => Next::Lagged(lost),
        }
    }
}
