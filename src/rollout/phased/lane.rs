//! The way of a handle's events into the phase that holds now, with the gate that a cutover closes.
//!
//! An event gets its stamp and enters the phase in its topic's turn, so a topic's order in the queues
//! is that of its stamps. Nobody blocks meanwhile: who is woken by an event, and what is let go of for
//! it, is the application's code, which may do anything, publish here too. Who has to wait for
//! room keeps the turn until it is in: nobody of the same handle comes between.
//!
//! Invariant: while the gate is held and nobody is inside, everything that the handle ever stamped
//! was accepted by the old phase or handed back. While somebody is inside, the phase does not change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use eventbus_trait::{
    BatchRefused, Delivery, Event, EventBus, Origin, Publisher, PublisherId, Receipt, Refused,
    Topic, TryPublishError, process_epoch, slot,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// What is named when a cutover itself holds an event up.
pub(crate) const CUTOVER: &str = "(cutover)";

/// The gate is closed for a cutover.
const HELD: u64 = 1 << 63;
/// The handle was shut down.
const ENDED: u64 = 1 << 62;
/// The rest of the word: how many are inside.
const INSIDE: u64 = ENDED - 1;

/// How often a turn that is about to be given back is asked for before it counts as taken.
const TRIES: usize = 64;

/// The way in.
#[derive(Debug)]
pub(crate) struct Lane {
    publisher: PublisherId,
    /// [`HELD`], [`ENDED`], and how many are inside but for those who enter without waiting.
    gate: AtomicU64,
    /// The next stamp's sequence.
    next: AtomicU64,
    /// How often the phase has changed.
    generation: AtomicU64,
    /// None once the handle is shut down.
    bus: Mutex<Option<Arc<dyn EventBus>>>,
    /// The gate was opened, or closed for good.
    opened: Notify,
    /// The last one inside has left.
    left: Notify,
}

/// What is named when others of the same topic wait for room.
pub(crate) const BEHIND: &str = "(others that wait for room)";

/// A handle's way to one topic.
#[derive(Debug, Default)]
pub(crate) struct Route {
    /// A publisher of one generation. Whoever has it enters without waiting; nobody waits for it, but
    /// where it is held for no longer than it takes to copy the publisher.
    cached: Mutex<Option<(u64, Publisher)>>,
    /// How many wait for room, or for those who do. Nobody else enters meanwhile.
    waits: AtomicUsize,
    /// Their order.
    queue: tokio::sync::Mutex<()>,
}

/// The right to wait for room on a topic.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    waits: Waits<'a>,
    _queue: tokio::sync::MutexGuard<'a, ()>,
}

/// One of those who wait.
#[derive(Debug)]
struct Waits<'a>(&'a Route);

/// Why an event did not get in at once.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Waiting does not help.
    Refused(Refused),
    /// There is no room, or it is not its turn yet.
    Full(Refused<TryPublishError>),
    /// Others wait for room on the topic.
    Behind(Event),
    /// The gate is held.
    Held(Event),
    /// The handle was shut down.
    Closed(Event),
}

/// Why a batch did not get in, or not all of it.
#[derive(Debug)]
pub(crate) enum BatchStopped {
    /// Some of it was refused.
    Refused(BatchRefused),
    /// The gate is held; nothing was tried.
    Held(Vec<Event>),
    /// The handle was shut down.
    Closed(Vec<Event>),
}

/// Why nobody gets in.
#[derive(Debug, Clone, Copy)]
enum Shut {
    Held,
    Closed,
}

/// An event as it came, so that it can be handed back like that.
#[derive(Debug, Clone, Copy)]
struct Before {
    given: bool,
    origin: Option<Origin>,
}

impl Before {
    fn of(event: &Event) -> Self {
        Self {
            given: event.has_given_origin(),
            origin: event.origin().copied(),
        }
    }

    fn restore(self, event: Event) -> Event {
        if self.given {
            event
        } else {
            event.taken_back(self.origin)
        }
    }
}

impl Route {
    /// Waits until nobody of the topic waits for room who has come before, and nobody is entering.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        let waits = Waits::begin(self);
        let queue = self.queue.lock().await;
        waits.settled(queue).await
    }

    /// The same, if nobody has come before.
    pub(crate) async fn first_turn(&self) -> Option<Turn<'_>> {
        let waits = Waits::begin(self);
        let queue = self.queue.try_lock().ok()?;
        Some(waits.settled(queue).await)
    }

    /// Waits until whoever is entering is in.
    async fn settled(&self) {
        while self.cached.try_lock().is_none() {
            tokio::task::yield_now().await;
        }
    }

    /// The right to enter now, if nobody waits or is entering.
    fn now(&self) -> Option<MutexGuard<'_, Option<(u64, Publisher)>>> {
        for attempt in 0..TRIES {
            if self.waits.load(Ordering::SeqCst) > 0 {
                return None;
            }
            if let Some(cached) = self.cached.try_lock() {
                // Whoever has begun to wait by now goes first.
                let nobody = self.waits.load(Ordering::SeqCst) == 0;
                return nobody.then_some(cached);
            }
            if attempt < TRIES / 2 {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        None
    }
}

impl<'a> Waits<'a> {
    fn begin(route: &'a Route) -> Self {
        route.waits.fetch_add(1, Ordering::SeqCst);
        Self(route)
    }

    /// The turn, once whoever has not seen that somebody waits is in.
    async fn settled(self, _queue: tokio::sync::MutexGuard<'a, ()>) -> Turn<'a> {
        self.0.settled().await;
        Turn {
            waits: self,
            _queue,
        }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waits.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Turn<'_> {
    /// A publisher of the topic on the bus that holds; none once the handle is shut down.
    fn publisher(&self, lane: &Lane, topic: &Topic) -> Option<Publisher> {
        let mut cached = self.waits.0.cached.lock();
        lane.publisher(&mut cached, topic).cloned()
    }
}

impl Lane {
    pub(crate) fn new(bus: Arc<dyn EventBus>, generation: u64) -> Self {
        Self {
            publisher: PublisherId::random(),
            gate: AtomicU64::new(0),
            next: AtomicU64::new(0),
            generation: AtomicU64::new(generation),
            bus: Mutex::new(Some(bus)),
            opened: Notify::new(),
            left: Notify::new(),
        }
    }

    pub(crate) fn publisher_id(&self) -> PublisherId {
        self.publisher
    }

    /// The bus that events go to now, and its generation; none once the handle is shut down.
    pub(crate) fn current(&self) -> Option<(Arc<dyn EventBus>, u64)> {
        let bus = self.bus.lock();
        Some((bus.clone()?, self.generation()))
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.gate.load(Ordering::SeqCst) & ENDED != 0
    }

    /// Takes nothing any more; who waits at the gate is told so. Returns the bus, the first time.
    pub(crate) fn end(&self) -> Option<Arc<dyn EventBus>> {
        self.gate.fetch_or(ENDED, Ordering::SeqCst);
        let bus = self.bus.lock().take();
        self.opened.notify_waiters();
        bus
    }

    /// Closes the gate. Who is inside finishes.
    pub(crate) fn hold(&self) {
        self.gate.fetch_or(HELD, Ordering::SeqCst);
    }

    /// Waits until nobody is inside; `routes` are all that are in use.
    pub(crate) async fn emptied(&self, routes: Vec<Arc<Route>>) {
        // Whoever enters without waiting is not counted. It has its route, and looks at the gate then:
        // once the route was free, it has seen that it is closed.
        for route in routes {
            route.settled().await;
        }
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.gate.load(Ordering::SeqCst) & INSIDE == 0 {
                return;
            }
            left.await;
        }
    }

    /// Opens the gate to the phase as it is.
    pub(crate) fn release(&self) {
        self.gate.fetch_and(!HELD, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    /// Opens the gate to another phase; returns the old one, or nothing if the handle was shut down.
    pub(crate) fn switch(
        &self,
        new: Arc<dyn EventBus>,
        generation: u64,
    ) -> Option<Arc<dyn EventBus>> {
        let mut bus = self.bus.lock();
        let old = bus.take();
        if old.is_some() {
            *bus = Some(new);
        }
        self.generation.store(generation, Ordering::Release);
        drop(bus);
        self.release();
        old
    }

    /// Publishes if that needs no waiting. `count` has a refusal for want of room counted.
    pub(crate) fn try_publish(
        &self,
        event: Event,
        route: &Route,
        count: bool,
    ) -> Result<Receipt, Stopped> {
        if let Some(mut cached) = route.now() {
            match self.shut() {
                None => {}
                Some(Shut::Held) => return Err(Stopped::Held(event)),
                Some(Shut::Closed) => return Err(Stopped::Closed(event)),
            }
            return match self.publisher(&mut cached, event.topic()) {
                Some(publisher) => self.tried(publisher, event, count),
                None => Err(Stopped::Closed(event)),
            };
        }
        let _inside = match self.enter() {
            Ok(inside) => inside,
            Err(Shut::Held) => return Err(Stopped::Held(event)),
            Err(Shut::Closed) => return Err(Stopped::Closed(event)),
        };
        // What may be dropped waits for nobody.
        if event.get_delivery() == Delivery::AtLeastOnce {
            return Err(Stopped::Behind(event));
        }
        let bus = self.bus.lock().clone();
        match bus {
            Some(bus) => self.tried(&bus.publisher(event.topic().clone()), event, count),
            None => Err(Stopped::Closed(event)),
        }
    }

    fn tried(
        &self,
        publisher: &Publisher,
        mut event: Event,
        count: bool,
    ) -> Result<Receipt, Stopped> {
        let before = Before::of(&event);
        let stamp = self.stamp(&mut event);
        let tried = if count {
            publisher.try_publish(event)
        } else {
            slot::by_slot(event, |slot| publisher.first_try(slot))
        };
        tried.map_err(|refused| {
            self.give_back(stamp);
            let (event, reason) = refused.into_parts();
            let event = before.restore(event);
            match reason {
                TryPublishError::Publish(reason) => Stopped::Refused(Refused::new(event, reason)),
                reason => Stopped::Full(Refused::new(event, reason)),
            }
        })
    }

    /// Publishes and waits for room, as the phase does. A publish that is cancelled may have been
    /// accepted, so its stamp counts as used.
    pub(crate) async fn publish_inside(
        &self,
        mut event: Event,
        turn: Turn<'_>,
    ) -> Result<Receipt, Stopped> {
        let _inside = match self.enter() {
            Ok(inside) => inside,
            Err(Shut::Held) => return Err(Stopped::Held(event)),
            Err(Shut::Closed) => return Err(Stopped::Closed(event)),
        };
        let Some(publisher) = turn.publisher(self, event.topic()) else {
            return Err(Stopped::Closed(event));
        };
        let before = Before::of(&event);
        let stamp = self.stamp(&mut event);
        publisher.publish(event).await.map_err(|refused| {
            self.give_back(stamp);
            let (event, reason) = refused.into_parts();
            Stopped::Refused(Refused::new(before.restore(event), reason))
        })
    }

    /// Publishes several events, waiting for room as the phase does.
    pub(crate) async fn publish_batch(
        &self,
        events: Vec<Event>,
        _turns: Vec<Turn<'_>>,
    ) -> Result<Receipt, BatchStopped> {
        let _inside = match self.enter() {
            Ok(inside) => inside,
            Err(Shut::Held) => return Err(BatchStopped::Held(events)),
            Err(Shut::Closed) => return Err(BatchStopped::Closed(events)),
        };
        let Some(bus) = self.bus.lock().clone() else {
            return Err(BatchStopped::Closed(events));
        };
        let before: Vec<_> = events.iter().map(Before::of).collect();
        // Those of another layer, which counts for itself, keep theirs.
        let own = |before: &[Before]| before.iter().filter(|b| !b.given).count() as u64;
        let stamps = own(&before);
        let mut next = self.next.fetch_add(stamps, Ordering::SeqCst);
        let end = next + stamps;
        let stamped = |event: Event| {
            if event.has_given_origin() {
                return event;
            }
            next += 1;
            event.given_origin(self.origin(next - 1))
        };
        let events: Vec<_> = events.into_iter().map(stamped).collect();
        bus.publish_batch(events).await.map_err(|mut refused| {
            let rest = &before[before.len() - refused.events.len().min(before.len())..];
            self.give_back(Some((end, own(rest))));
            let events = std::mem::take(&mut refused.events).into_iter();
            refused.events = events.zip(rest).map(|(e, b)| b.restore(e)).collect();
            BatchStopped::Refused(refused)
        })
    }

    /// Waits until the gate is open, or the handle is shut down, at most for `patience`. Whether it
    /// came to that.
    pub(crate) async fn opened(&self, patience: Duration) -> bool {
        let opened = async {
            loop {
                let opened = self.opened.notified();
                tokio::pin!(opened);
                opened.as_mut().enable();
                if self.is_open() {
                    return;
                }
                opened.await;
            }
        };
        tokio::select! {
            biased;
            () = opened => true,
            () = futures_timer::Delay::new(patience) => false,
        }
    }

    /// Whether an event need not wait at the gate; where it is shut down it is told so.
    fn is_open(&self) -> bool {
        let gate = self.gate.load(Ordering::SeqCst);
        gate & HELD == 0 || gate & ENDED != 0
    }

    /// The publisher that is cached, made anew if it is of another phase; none once the handle is shut
    /// down.
    fn publisher<'a>(
        &self,
        cached: &'a mut Option<(u64, Publisher)>,
        topic: &Topic,
    ) -> Option<&'a Publisher> {
        let generation = self.generation();
        if cached.as_ref().is_none_or(|cached| cached.0 != generation) {
            let bus = self.bus.lock().clone()?;
            *cached = Some((generation, bus.publisher(topic.clone())));
        }
        cached.as_ref().map(|(_, publisher)| publisher)
    }

    /// Why nobody gets in now, if so.
    fn shut(&self) -> Option<Shut> {
        match self.gate.load(Ordering::SeqCst) {
            gate if gate & ENDED != 0 => Some(Shut::Closed),
            gate if gate & HELD != 0 => Some(Shut::Held),
            _ => None,
        }
    }

    /// Goes in, unless the gate is closed.
    fn enter(&self) -> Result<Inside<'_>, Shut> {
        let gate = self.gate.fetch_add(1, Ordering::SeqCst);
        let inside = Inside(self);
        if gate & (HELD | ENDED) == 0 {
            return Ok(inside);
        }
        drop(inside);
        Err(if gate & ENDED == 0 {
            Shut::Held
        } else {
            Shut::Closed
        })
    }

    /// Stamps the event, where it is; returns where the stamps end then, and how many are new.
    #[inline]
    fn stamp(&self, event: &mut Event) -> Option<(u64, u64)> {
        if event.has_given_origin() {
            return None;
        }
        let sequence = self.next.fetch_add(1, Ordering::SeqCst);
        event.give_origin(self.origin(sequence));
        Some((sequence + 1, 1))
    }

    fn origin(&self, sequence: u64) -> Origin {
        Origin {
            publisher: self.publisher,
            epoch: process_epoch(),
            sequence,
        }
    }

    /// Stamps that went to nobody are given out again, unless somebody has gone on from there.
    fn give_back(&self, stamps: Option<(u64, u64)>) {
        if let Some((end, unused)) = stamps {
            let (after, ordering) = (end - unused, Ordering::SeqCst);
            let _ = self
                .next
                .compare_exchange(end, after, ordering, Ordering::Relaxed);
        }
    }
}

/// Somebody inside, who leaves also if the future is dropped.
struct Inside<'a>(&'a Lane);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let gate = self.0.gate.fetch_sub(1, Ordering::SeqCst);
        if gate & HELD != 0 && gate & INSIDE == 1 {
            self.0.left.notify_waiters();
        }
    }
}
