//! Reserving room in every matching queue before an event enters any of them.
//!
//! A publisher that entered the queues one by one would have delivered to some subscribers when it
//! finds another one full. Reserving first makes a publish all or nothing. Publishers and the
//! receiver count on cache lines of their own: a publisher looks at the receiver's count only when
//! the room that it knows of is used up.
//!
//! Invariant: `issued - taken` is `reserved + queued`, and never over the capacity. A publisher
//! that waits raises `waiting` before it touches both counters by read-modify-write; who gives
//! room back touches one of them by read-modify-write before it looks at `waiting`. The two
//! operations on one counter have an order, so either the publisher finds the room or it is woken.

use std::task::Waker;

use super::sync::{AtomicBool, AtomicU64, Mutex, Ordering};

/// Set in `issued` once the room is closed.
const CLOSED: u64 = 1 << 63;

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// Reserved and queued events fill the capacity.
    Full,
    /// The subscription has ended.
    Closed,
}

/// The room of one queue: one receiver, any number of publishers.
#[derive(Debug)]
pub(crate) struct Room {
    issued: Issued,
    taken: Taken,
    capacity: u64,
    waiting: AtomicBool,
    waiters: Mutex<Vec<(u64, Waker)>>,
}

/// What publishers write: places given out, and how far they may go as far as they know.
#[derive(Debug)]
#[repr(align(128))]
struct Issued {
    count: AtomicU64,
    horizon: AtomicU64,
}

/// What the receiver writes: places given back.
#[derive(Debug)]
#[repr(align(128))]
struct Taken(AtomicU64);

/// Whom to wake once the caller holds no lock. Mostly nobody, which costs nothing.
#[derive(Debug, Default)]
#[must_use]
#[allow(clippy::box_collection, reason = "one word, which is mostly empty")]
pub(crate) struct Wakes(Option<Box<Vec<Waker>>>);

impl Wakes {
    /// Wakes them all.
    #[inline]
    pub(crate) fn wake(self) {
        if let Some(wakers) = self.0 {
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Adds others.
    #[cold]
    pub(crate) fn add(&mut self, other: Wakes) {
        if let Some(others) = other.0 {
            self.0.get_or_insert_default().extend(*others);
        }
    }

    /// Adds one.
    #[cold]
    pub(crate) fn push(&mut self, waker: Waker) {
        self.0.get_or_insert_default().push(waker);
    }
}

impl Room {
    /// Room for `capacity` events.
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            issued: Issued {
                count: AtomicU64::new(0),
                horizon: AtomicU64::new(capacity),
            },
            taken: Taken(AtomicU64::new(0)),
            capacity,
            waiting: AtomicBool::new(false),
            waiters: Mutex::new(Vec::new()),
        }
    }

    /// Takes one place. Who has it enters the queue or gives it back, without waiting in between.
    #[inline]
    pub(crate) fn reserve(&self) -> Result<(), NoRoom> {
        let mut issued = self.issued.count.load(Ordering::Acquire);
        loop {
            if issued & CLOSED != 0 {
                return Err(NoRoom::Closed);
            }
            if issued >= self.issued.horizon.load(Ordering::Acquire) && issued >= self.look() {
                return Err(NoRoom::Full);
            }
            match self.issued.count.compare_exchange_weak(
                issued,
                issued + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(()),
                Err(now) => issued = now,
            }
        }
    }

    /// Gives back a place that was reserved and not used.
    pub(crate) fn unreserve(&self) -> Wakes {
        self.issued.count.fetch_sub(1, Ordering::AcqRel);
        self.waiting_publishers()
    }

    /// Gives back the place of an event that has left the queue.
    #[inline]
    pub(crate) fn took(&self) -> Wakes {
        self.taken.0.fetch_add(1, Ordering::AcqRel);
        self.waiting_publishers()
    }

    /// Gives out no place any more.
    pub(crate) fn close(&self) -> Wakes {
        self.issued.count.fetch_or(CLOSED, Ordering::AcqRel);
        self.waiting_publishers()
    }

    /// Says that the publisher `token` is about to wait. It must try to reserve once more
    /// afterwards.
    pub(crate) fn register(&self, token: u64, waker: &Waker) {
        let mut waiters = self.waiters.lock();
        match waiters.iter_mut().find(|(other, _)| *other == token) {
            Some((_, old)) if old.will_wake(waker) => {}
            Some((_, old)) => *old = waker.clone(),
            None => waiters.push((token, waker.clone())),
        }
        self.waiting.store(true, Ordering::Relaxed);
        drop(waiters);
        self.taken.0.fetch_add(0, Ordering::AcqRel);
        self.issued.count.fetch_add(0, Ordering::AcqRel);
    }

    /// Says that the publisher `token` waits no longer.
    pub(crate) fn forget(&self, token: u64) {
        let mut waiters = self.waiters.lock();
        waiters.retain(|(other, _)| *other != token);
        if waiters.is_empty() {
            self.waiting.store(false, Ordering::Relaxed);
        }
    }

    /// Publishers that wait for any reason; they look again when they are woken.
    #[inline]
    pub(crate) fn waiting_publishers(&self) -> Wakes {
        if self.waiting.load(Ordering::Relaxed) {
            self.all_waiting()
        } else {
            Wakes::default()
        }
    }

    #[cold]
    fn all_waiting(&self) -> Wakes {
        let mut waiters = self.waiters.lock();
        self.waiting.store(false, Ordering::Relaxed);
        let wakers = waiters.drain(..).map(|(_, waker)| waker).collect();
        Wakes(Some(Box::new(wakers)))
    }

    #[cold]
    fn look(&self) -> u64 {
        let horizon = self.taken.0.load(Ordering::Acquire) + self.capacity;
        // A concurrent look may put an older value back, which is only more careful.
        self.issued.horizon.store(horizon, Ordering::Release);
        horizon
    }
}

/// Takes a place in every room, or in none. The error says which room had none, and whom to wake
/// because of the places that were given back.
pub(crate) fn reserve_all<'a, I>(rooms: I) -> Result<(), (usize, NoRoom, Wakes)>
where
    I: Iterator<Item = &'a Room> + Clone,
{
    for (at, room) in rooms.clone().enumerate() {
        if let Err(reason) = room.reserve() {
            let mut wakes = Wakes::default();
            for room in rooms.take(at) {
                wakes.add(room.unreserve());
            }
            return Err((at, reason, wakes));
        }
    }
    Ok(())
}
