//! One handle of a phased bus: a publisher with an identity that outlives phases.
//!
//! It keeps the phases' own handles as long as one of its subscriptions still reads from them.
//!
//! Invariant: what a phase counted is in `past` or in `sides`, never in both.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use eventbus_trait::fate::{self, Refusal};
use eventbus_trait::{
    BatchRefused, BusState, Event, EventBus, PublishError, Receipt, Refused, ShutdownError, Stats,
    Topic, TryPublishError, count,
};
use futures_timer::Delay;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::calls::Calls;
use super::fabric::Fabric;
use super::lane::{BEHIND, BatchStopped, CUTOVER, Lane, Route, Stopped, Turn};
use super::mail::Membership;
use crate::phase::Phase;

/// Topics whose routes are kept for `publish` without a publisher.
const ROUTES: usize = 4_096;

#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) fabric: Arc<Fabric>,
    pub(crate) lane: Lane,
    pub(crate) calls: Calls,
    pub(crate) name: Option<String>,
    /// Whether it came with the phase itself, and not by `connect`.
    pub(crate) is_root: bool,
    state: Mutex<State>,
    routes: Mutex<HashMap<Topic, Arc<Route>>>,
    refused: AtomicU64,
    /// Payloads are bytes in this phase.
    encodes: AtomicBool,
    watch: watch::Sender<BusState>,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first.
    sides: Vec<Side>,
    past: Stats,
    members: Vec<Weak<Membership>>,
}

/// A phase's own handle.
#[derive(Debug, Clone)]
struct Side {
    generation: u64,
    bus: Arc<dyn EventBus>,
    /// What it had counted before it was this handle's: as a candidate, copies of events that are
    /// counted already.
    before: Stats,
}

impl Side {
    fn new(generation: u64, bus: Arc<dyn EventBus>) -> Self {
        let before = bus.stats();
        Self {
            generation,
            bus,
            before,
        }
    }

    /// Its counters since it is this handle's.
    fn stats(&self) -> Stats {
        let mut stats = self.bus.stats();
        let before = &self.before;
        stats.published -= before.published.min(stats.published);
        stats.refused -= before.refused.min(stats.refused);
        stats.dropped -= before.dropped.min(stats.dropped);
        for (name, family) in &before.families {
            if let Some(now) = stats.families.get_mut(name) {
                now.published -= family.published.min(now.published);
                now.deliveries -= family.deliveries.min(now.deliveries);
            }
        }
        stats
    }
}

impl Handle {
    pub(crate) fn new(
        fabric: &Arc<Fabric>,
        bus: Arc<dyn EventBus>,
        generation: u64,
        name: Option<&str>,
        is_root: bool,
    ) -> Arc<Self> {
        let handle = Arc::new(Self {
            fabric: Arc::clone(fabric),
            lane: Lane::new(Arc::clone(&bus), generation),
            calls: Calls::default(),
            name: name.map(ToOwned::to_owned),
            is_root,
            state: Mutex::default(),
            routes: Mutex::default(),
            refused: AtomicU64::new(0),
            encodes: AtomicBool::new(true),
            watch: watch::Sender::new(BusState::Connected),
        });
        handle.add_side(bus, generation);
        fabric.join(&handle);
        handle
    }

    /// Notes that it has a handle of a further phase.
    pub(crate) fn add_side(self: &Arc<Self>, bus: Arc<dyn EventBus>, generation: u64) {
        // Asked of the phase: what stands around its bus has another name.
        self.encodes
            .store(self.fabric.phase() != Phase::Crossbeam, Ordering::Relaxed);
        self.follow(&bus, generation);
        let side = Side::new(generation, bus);
        let unread: Vec<_> = {
            let mut state = self.state.lock();
            state.sides.push(side);
            state.forget_unread(generation)
        };
        // Outside of the lock: the last one to let go of a bus ends it.
        drop(unread);
    }

    /// Shows the state of the newest phase's connection as its own.
    fn follow(self: &Arc<Self>, bus: &Arc<dyn EventBus>, generation: u64) {
        let mut state = bus.state();
        self.watch.send_replace(state.borrow_and_update().clone());
        let handle = Arc::downgrade(self);
        self.fabric.runtime.spawn(async move {
            while state.changed().await.is_ok() {
                let Some(handle) = handle.upgrade() else {
                    return;
                };
                if handle.lane.generation() > generation {
                    return;
                }
                let now = state.borrow_and_update().clone();
                handle.watch.send_replace(now);
            }
        });
    }

    pub(crate) fn state(&self) -> watch::Receiver<BusState> {
        self.watch.subscribe()
    }

    pub(crate) fn add_member(&self, membership: &Arc<Membership>) {
        let mut state = self.state.lock();
        state.members.retain(|member| member.strong_count() > 0);
        state.members.push(Arc::downgrade(membership));
    }

    /// Its subscriptions.
    pub(crate) fn members(&self) -> Vec<Arc<Membership>> {
        self.state.lock().members()
    }

    /// The route of a topic.
    pub(crate) fn route(&self, topic: &Topic) -> Arc<Route> {
        let mut routes = self.routes.lock();
        if let Some(route) = routes.get(topic) {
            return Arc::clone(route);
        }
        if routes.len() >= ROUTES {
            // Who waits has a turn in one, and publishers keep theirs.
            routes.retain(|_, route| Arc::strong_count(route) > 1);
        }
        Arc::clone(routes.entry(topic.clone()).or_default())
    }

    /// Waits until nobody is half-way into the phase, once the lane's gate is held.
    pub(crate) async fn emptied(&self) {
        // Whoever uses a route keeps it here, and who comes later sees that the gate is held.
        let routes = self.routes.lock().values().cloned().collect();
        self.lane.emptied(routes).await;
    }

    /// Publishes; waits for a cutover and for room, together until the deadline.
    pub(crate) async fn publish(
        &self,
        mut event: Event,
        route: &Route,
    ) -> Result<Receipt, Refused> {
        self.encode(&event);
        let mut held = None;
        loop {
            let tried = match (self.lane.try_publish(event, route, false), held) {
                (Err(Stopped::Full(full)), None) => self.publish_waiting(full, route).await,
                (Err(Stopped::Full(full)), Some(since)) => {
                    self.publish_late(full, route, since).await
                }
                (Err(Stopped::Behind(event)), since) => {
                    let since = since.unwrap_or_else(Instant::now);
                    self.publish_late(behind(event), route, since).await
                }
                (tried, _) => tried,
            };
            event = match tried {
                Ok(receipt) => return Ok(receipt),
                Err(Stopped::Refused(refused)) => return Err(refused),
                Err(Stopped::Closed(event)) => {
                    let reason = self.closed(&event);
                    return Err(self.refuse(event, reason));
                }
                Err(Stopped::Held(event)) => {
                    let since = *held.get_or_insert_with(Instant::now);
                    if !self.passes_gate(since).await {
                        return Err(self.too_late(event, CUTOVER, since));
                    }
                    event
                }
                // It is looked for above, and nowhere else.
                Err(Stopped::Behind(event)) => event,
                Err(Stopped::Full(full)) => {
                    let (event, reason) = full.into_parts();
                    let since = held.unwrap_or_else(Instant::now);
                    return Err(self.too_late(event, full_one(&reason), since));
                }
            };
        }
    }

    /// Waits for room: for as long as the phase lets it, unless others wait before it.
    async fn publish_waiting(
        &self,
        full: Refused<TryPublishError>,
        route: &Route,
    ) -> Result<Receipt, Stopped> {
        let since = Instant::now();
        match route.first_turn().await {
            Some(turn) => {
                let event = full.into_event();
                self.lane.publish_inside(event, turn).await
            }
            None => self.publish_late(full, route, since).await,
        }
    }

    /// Waits for its turn and for room with what is left of the deadline; `Full` when that is over.
    ///
    /// A phase accepts an event in the step in which its publish returns, so one that is still
    /// waiting has accepted nothing, and the event can be handed back.
    async fn publish_late(
        &self,
        full: Refused<TryPublishError>,
        route: &Route,
        since: Instant,
    ) -> Result<Receipt, Stopped> {
        let event = full.event().clone();
        tokio::select! {
            biased;
            tried = async {
                let turn = route.turn().await;
                self.lane.publish_inside(event, turn).await
            } => tried,
            () = Delay::new(self.left(since)) => Err(Stopped::Full(full)),
        }
    }

    /// Publishes without waiting. `first`, it is the first step of a publish that goes on to wait.
    pub(crate) fn try_publish(
        &self,
        event: Event,
        route: &Route,
        first: bool,
    ) -> Result<Receipt, Refused<TryPublishError>> {
        self.encode(&event);
        let (event, reason, counts) = match self.lane.try_publish(event, route, !first) {
            Ok(receipt) => return Ok(receipt),
            Err(Stopped::Refused(refused)) => return Err(refused.map(Into::into)),
            Err(Stopped::Full(full)) => return Err(full),
            Err(Stopped::Closed(event)) => {
                let reason = self.closed(&event);
                (event, reason.into(), true)
            }
            Err(Stopped::Behind(event)) => {
                let (event, reason) = behind(event).into_parts();
                (event, reason, !first)
            }
            Err(Stopped::Held(event)) => {
                let subscription = CUTOVER.to_owned();
                (event, TryPublishError::Full { subscription }, !first)
            }
        };
        if counts {
            return Err(self.refuse(event, reason));
        }
        Err(Refused::new(event, reason))
    }

    pub(crate) async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        if events.is_empty() {
            return Ok(Receipt::ready(0));
        }
        events.iter().for_each(|event| self.encode(event));
        let (mut events, mut held) = (events, None);
        let routes = self.routes_of(&events);
        let (events, reason) = loop {
            let begun = Instant::now();
            let turns = tokio::select! {
                biased;
                turns = turns_of(&routes) => turns,
                () = Delay::new(self.left(held.unwrap_or(begun))) => {
                    let reason = PublishError::Backpressure {
                        subscription: BEHIND.to_owned(),
                        waited: begun.elapsed(),
                    };
                    break (events, reason);
                }
            };
            match self.lane.publish_batch(events, turns).await {
                Ok(receipt) => return Ok(receipt),
                Err(BatchStopped::Refused(refused)) => return Err(refused),
                Err(BatchStopped::Closed(rest)) => {
                    let reason = rest.first().map(|event| self.closed(event));
                    break (rest, reason.unwrap_or(PublishError::Closed));
                }
                Err(BatchStopped::Held(rest)) => {
                    let since = *held.get_or_insert_with(Instant::now);
                    if !self.passes_gate(since).await {
                        let subscription = CUTOVER.to_owned();
                        let waited = since.elapsed();
                        let reason = PublishError::Backpressure {
                            subscription,
                            waited,
                        };
                        break (rest, reason);
                    }
                    events = rest;
                }
            }
        };
        if let Some(first) = events.first() {
            self.note_refused(first, &reason);
        }
        Err(BatchRefused {
            accepted: 0,
            events,
            reason,
        })
    }

    /// The routes of the events' topics, in the order in which everybody asks for their turns.
    fn routes_of(&self, events: &[Event]) -> Vec<Arc<Route>> {
        let topics: BTreeSet<&Topic> = events.iter().map(Event::topic).collect();
        topics.into_iter().map(|topic| self.route(topic)).collect()
    }

    /// A payload is made bytes before the topic's turn is taken: others need not wait for that.
    fn encode(&self, event: &Event) {
        if self.encodes.load(Ordering::Relaxed) && event.payload().encoded().is_none() {
            // What is wrong with it the phase says.
            let _ = event.bytes();
        }
    }

    /// What an event is refused for once the handle is shut down. What is wrong with the event itself
    /// comes first, as in every phase (MIG-005).
    fn closed(&self, event: &Event) -> PublishError {
        if self.encodes.load(Ordering::Relaxed)
            && let Err(reason) = event.bytes()
        {
            return reason.into();
        }
        let limit = self.fabric.limits.max_event_size;
        match event.known_size() {
            Some(size) if size > limit => PublishError::TooLarge { size, limit },
            _ => PublishError::Closed,
        }
    }

    fn left(&self, since: Instant) -> Duration {
        let deadline = self.fabric.limits.publish_deadline;
        deadline.saturating_sub(since.elapsed())
    }

    /// Waits at the gate with what is left of the deadline; whether it opened.
    async fn passes_gate(&self, since: Instant) -> bool {
        let began = Instant::now();
        let opened = self.lane.opened(self.left(since)).await;
        self.fabric.note_delay(began.elapsed());
        opened
    }

    #[cold]
    fn too_late(&self, event: Event, subscription: &str, since: Instant) -> Refused {
        let reason = PublishError::Backpressure {
            subscription: subscription.to_owned(),
            waited: since.elapsed(),
        };
        self.refuse(event, reason)
    }

    #[cold]
    fn refuse<E: Refusal>(&self, event: Event, reason: E) -> Refused<E> {
        self.note_refused(&event, &reason);
        Refused::new(event, reason)
    }

    /// Counts and tells an event that the application has back and no phase knows of.
    pub(crate) fn note_refused(&self, event: &Event, reason: &dyn Refusal) {
        count(&self.refused, 1);
        fate::refused(Some(self.lane.publisher_id()), event, reason);
    }

    pub(crate) fn stats(&self, backend: &str) -> Stats {
        let state = self.state.lock();
        let mut sum = state.past.clone();
        let sides: HashMap<_, _> = state
            .sides
            .iter()
            .map(|side| (side.generation, side.stats()))
            .collect();
        let members = state.members();
        drop(state);
        sides.values().for_each(|stats| add(&mut sum, stats));
        backend.clone_into(&mut sum.backend);
        sum.refused += self.refused.load(Ordering::Relaxed);
        let of = |generation: u64, name: &str| {
            let side = sides.get(&generation)?;
            side.subscriptions.iter().find(|s| s.name == name).cloned()
        };
        // A service's numbers are its own, in however many phases it is.
        let mut services: Vec<_> = sides.values().flat_map(|s| s.services.clone()).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services.dedup_by(|a, b| a.name == b.name);
        sum.services = services;
        sum.subscriptions = members.iter().map(|member| member.stats(of)).collect();
        sum
    }

    /// Ends it in all phases. What was accepted is still read.
    pub(crate) async fn shutdown(&self) -> Result<(), ShutdownError> {
        drop(self.lane.end());
        self.fabric.ended.notify_waiters();
        let sides = self.state.lock().sides.clone();
        let mut result = Ok(());
        for side in sides.iter().rev() {
            result = result.and(side.bus.shutdown().await);
        }
        self.watch.send_replace(BusState::Closed);
        result
    }

    /// Lets go of all phases, without waiting for anything.
    pub(crate) fn abandon(&self) {
        drop(self.lane.end());
        self.fabric.ended.notify_waiters();
        let sides = std::mem::take(&mut self.state.lock().sides);
        drop(sides);
        self.watch.send_replace(BusState::Closed);
    }
}

impl State {
    fn members(&self) -> Vec<Arc<Membership>> {
        self.members.iter().filter_map(Weak::upgrade).collect()
    }

    /// Takes out the phases before `generation` that nobody reads from any more.
    fn forget_unread(&mut self, generation: u64) -> Vec<Side> {
        let members = self.members();
        let sides = std::mem::take(&mut self.sides);
        let read = |at: u64| members.iter().any(|member| member.reads(at));
        // The one before is still being left.
        let (kept, unread) = sides
            .into_iter()
            .partition(|side| side.generation + 1 >= generation || read(side.generation));
        self.sides = kept;
        for side in &unread {
            add(&mut self.past, &side.stats());
        }
        unread
    }
}

fn behind(event: Event) -> Refused<TryPublishError> {
    let subscription = BEHIND.to_owned();
    Refused::new(event, TryPublishError::Full { subscription })
}

async fn turns_of(routes: &[Arc<Route>]) -> Vec<Turn<'_>> {
    let mut turns = Vec::with_capacity(routes.len());
    for route in routes {
        turns.push(route.turn().await);
    }
    turns
}

fn full_one(reason: &TryPublishError) -> &str {
    match reason {
        TryPublishError::Full { subscription } => subscription,
        _ => CUTOVER,
    }
}

/// Adds up what two phases counted, but for subscriptions, which go on from one to the next.
fn add(sum: &mut Stats, stats: &Stats) {
    sum.published += stats.published;
    sum.refused += stats.refused;
    sum.dropped += stats.dropped;
    sum.malformed += stats.malformed;
    sum.reconnects += stats.reconnects;
    sum.resends += stats.resends;
    sum.given_up += stats.given_up;
    sum.calls += stats.calls;
    for (name, family) in &stats.families {
        let own = sum.families.entry(name.clone()).or_default();
        own.published += family.published;
        own.deliveries += family.deliveries;
    }
}
