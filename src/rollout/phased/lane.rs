//! The way of a handle's events into the phase that holds now, with the gate that a cutover closes.
//!
//! An event gets its stamp and enters the phase under one short lock, so the order of the queues is
//! the order of the stamps, and whoever closes the gate knows that nobody is half-way in. Who has
//! to wait for room does so outside of the lock and is counted in. It has its stamp by then, so it
//! has the topic to itself until it is in: nobody of the same handle comes between.
//!
//! Invariant: while the gate is held and nobody is inside, everything that the handle ever stamped
//! was accepted by the old phase or handed back.

use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::{
    BatchRefused, Delivery, Event, EventBus, Origin, Publisher, PublisherId, Receipt, Refused,
    TryPublishError, process_epoch,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What is named when a cutover itself holds an event up.
pub(crate) const CUTOVER: &str = "(cutover)";

/// The way in.
#[derive(Debug)]
pub(crate) struct Lane {
    publisher: PublisherId,
    state: Mutex<State>,
    /// The gate was opened, or closed for good.
    opened: Notify,
    /// The last one inside has left.
    left: Notify,
}

#[derive(Debug)]
struct State {
    /// None once the handle is shut down.
    bus: Option<Arc<dyn EventBus>>,
    /// How often the phase has changed.
    generation: u64,
    next: u64,
    /// Who waits for room in the phase.
    inside: usize,
    held: bool,
}

/// What is named when others of the same topic wait for room.
pub(crate) const BEHIND: &str = "(others that wait for room)";

/// A handle's way to one topic.
#[derive(Debug, Default)]
pub(crate) struct Route {
    /// A publisher of one generation.
    cached: Mutex<Option<(u64, Publisher)>>,
    /// Who waits for room has it.
    turn: tokio::sync::Mutex<()>,
}

/// The right to wait for room on a topic.
pub(crate) type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;

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
    /// Waits until nobody of the topic waits for room, or has come before.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        self.turn.lock().await
    }

    /// The turn, if nobody has it.
    pub(crate) fn try_turn(&self) -> Option<Turn<'_>> {
        self.turn.try_lock().ok()
    }

    fn publisher(&self, state: &State, event: &Event) -> Option<Publisher> {
        let bus = state.bus.as_ref()?;
        let mut cached = self.cached.lock();
        if let Some((generation, publisher)) = &*cached
            && *generation == state.generation
        {
            return Some(publisher.clone());
        }
        let publisher = bus.publisher(event.topic().clone());
        *cached = Some((state.generation, publisher.clone()));
        Some(publisher)
    }

    fn with<T>(
        &self,
        state: &State,
        event: Event,
        act: impl FnOnce(&Publisher, Event) -> T,
    ) -> Result<T, Event> {
        let Some(bus) = state.bus.as_ref() else {
            return Err(event);
        };
        let mut cached = self.cached.lock();
        let (_, publisher) = match &mut *cached {
            Some(cached) if cached.0 == state.generation => cached,
            old => old.insert((state.generation, bus.publisher(event.topic().clone()))),
        };
        Ok(act(publisher, event))
    }
}

impl State {
    fn stamped(&self, event: Event, publisher: PublisherId) -> Event {
        if event.has_given_origin() {
            return event;
        }
        event.given_origin(Origin {
            publisher,
            epoch: process_epoch(),
            sequence: self.next,
        })
    }
}

impl Lane {
    pub(crate) fn new(bus: Arc<dyn EventBus>, generation: u64) -> Self {
        Self {
            publisher: PublisherId::random(),
            state: Mutex::new(State {
                bus: Some(bus),
                generation,
                next: 0,
                inside: 0,
                held: false,
            }),
            opened: Notify::new(),
            left: Notify::new(),
        }
    }

    pub(crate) fn publisher_id(&self) -> PublisherId {
        self.publisher
    }

    /// The bus that events go to now, and its generation; none once the handle is shut down.
    pub(crate) fn current(&self) -> Option<(Arc<dyn EventBus>, u64)> {
        let state = self.state.lock();
        Some((state.bus.clone()?, state.generation))
    }

    pub(crate) fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state.lock().bus.is_none()
    }

    /// Takes nothing any more; who waits at the gate is told so. Returns the bus, the first time.
    pub(crate) fn end(&self) -> Option<Arc<dyn EventBus>> {
        let bus = self.state.lock().bus.take();
        self.opened.notify_waiters();
        bus
    }

    /// Closes the gate. Who is inside finishes.
    pub(crate) fn hold(&self) {
        self.state.lock().held = true;
    }

    /// Waits until nobody is inside.
    pub(crate) async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.state.lock().inside == 0 {
                return;
            }
            left.await;
        }
    }

    /// Opens the gate to the phase as it is.
    pub(crate) fn release(&self) {
        self.state.lock().held = false;
        self.opened.notify_waiters();
    }

    /// Opens the gate to another phase; returns the old one, or nothing if the handle was shut down.
    pub(crate) fn switch(
        &self,
        bus: Arc<dyn EventBus>,
        generation: u64,
    ) -> Option<Arc<dyn EventBus>> {
        let mut state = self.state.lock();
        let old = state.bus.take();
        if old.is_some() {
            state.bus = Some(bus);
        }
        state.generation = generation;
        state.held = false;
        drop(state);
        self.opened.notify_waiters();
        old
    }

    /// Publishes if that needs no waiting. `count` has a refusal for want of room counted.
    pub(crate) fn try_publish(
        &self,
        event: Event,
        route: &Route,
        count: bool,
    ) -> Result<Receipt, Stopped> {
        let before = Before::of(&event);
        let mut state = self.state.lock();
        if state.bus.is_none() {
            return Err(Stopped::Closed(event));
        }
        if state.held {
            return Err(Stopped::Held(event));
        }
        // What may be dropped waits for nobody.
        let waits = event.get_delivery() == Delivery::AtLeastOnce;
        if waits && route.try_turn().is_none() {
            return Err(Stopped::Behind(event));
        }
        let event = state.stamped(event, self.publisher);
        let tried = route.with(&state, event, |publisher, event| {
            if count {
                publisher.try_publish(event)
            } else {
                publisher.first_try(event)
            }
        });
        let refused = match tried {
            Ok(Ok(receipt)) => {
                state.next += u64::from(!before.given);
                return Ok(receipt);
            }
            Ok(Err(refused)) => refused,
            Err(event) => return Err(Stopped::Closed(before.restore(event))),
        };
        drop(state);
        let (event, reason) = refused.into_parts();
        let event = before.restore(event);
        Err(match reason {
            TryPublishError::Publish(reason) => Stopped::Refused(Refused::new(event, reason)),
            reason => Stopped::Full(Refused::new(event, reason)),
        })
    }

    /// Publishes and waits for room, as the phase does.
    pub(crate) async fn publish_inside(
        &self,
        event: Event,
        route: &Route,
        _turn: Turn<'_>,
    ) -> Result<Receipt, Stopped> {
        let before = Before::of(&event);
        let stamps = u64::from(!before.given);
        let (event, publisher, mut inside) = {
            let mut state = self.state.lock();
            let Some(publisher) = route.publisher(&state, &event) else {
                return Err(Stopped::Closed(event));
            };
            if state.held {
                return Err(Stopped::Held(event));
            }
            let event = state.stamped(event, self.publisher);
            (event, publisher, self.enter(&mut state, stamps))
        };
        publisher.publish(event).await.map_err(|refused| {
            inside.unused = stamps;
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
        let before: Vec<_> = events.iter().map(Before::of).collect();
        // Those of another layer, which counts for itself, keep theirs.
        let own = |before: &[Before]| before.iter().filter(|b| !b.given).count() as u64;
        let (events, bus, mut inside) = {
            let mut state = self.state.lock();
            let Some(bus) = state.bus.clone() else {
                return Err(BatchStopped::Closed(events));
            };
            if state.held {
                return Err(BatchStopped::Held(events));
            }
            let mut inside = self.enter(&mut state, 0);
            let stamped = |event: Event| {
                let given = event.has_given_origin();
                let event = state.stamped(event, self.publisher);
                state.next += u64::from(!given);
                event
            };
            let events: Vec<_> = events.into_iter().map(stamped).collect();
            inside.end = state.next;
            (events, bus, inside)
        };
        bus.publish_batch(events).await.map_err(|mut refused| {
            let rest = &before[before.len() - refused.events.len().min(before.len())..];
            inside.unused = own(rest);
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
        let state = self.state.lock();
        !state.held || state.bus.is_none()
    }

    fn enter(&self, state: &mut State, stamps: u64) -> Inside<'_> {
        let first = state.next;
        state.next += stamps;
        state.inside += 1;
        Inside {
            lane: self,
            end: first + stamps,
            unused: 0,
        }
    }
}

/// Somebody inside, who leaves also if the future is dropped.
struct Inside<'a> {
    lane: &'a Lane,
    /// Behind the last stamp.
    end: u64,
    /// How many of the last stamps went to nobody. A publish that is cancelled may have been
    /// accepted, so its stamp counts as used.
    unused: u64,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut state = self.lane.state.lock();
        state.inside -= 1;
        // Given out again, unless somebody has gone on from there.
        if state.next == self.end {
            state.next -= self.unused;
        }
        let empty = state.inside == 0;
        drop(state);
        if empty {
            self.lane.left.notify_waiters();
        }
    }
}
