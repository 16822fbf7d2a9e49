//! One handle of a bus: a publisher with an identity of its own.
//!
//! Reserving room, stamping the sequence and entering the queues is one step under one short lock.
//! So every queue has a handle's events in the order of their sequence, and the sequence has no
//! holes. No application code runs under the lock: wakers are called, and lost events logged and
//! dropped, after it.
//!
//! Invariant: between reserving and entering nothing waits, so a reservation is never held for
//! long, and never by a publisher that waits for room elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use eventbus_trait::fate::{self, Refusal};
use eventbus_trait::{
    Delivery, Event, Held, Origin, PublishError, PublisherId, Stats, Throttle, count, process_epoch,
};

use super::hub::Hub;
use super::queue::Queue;
use super::room::{NoRoom, Wakes, reserve_all};
use super::route::{Path, Route, Routes};
use super::sync::{AtomicBool, Mutex, Ordering};

/// One handle of a bus.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) hub: Arc<Hub>,
    pub(crate) id: u64,
    pub(crate) publisher: PublisherId,
    epoch: u64,
    pub(crate) name: Option<String>,
    lane: Mutex<Lane>,
    /// Live subscriptions, those included that have ended and are still being read.
    pub(crate) subscriptions: Mutex<BTreeMap<u64, Arc<Queue>>>,
    closed: AtomicBool,
    refused: AtomicU64,
    /// The rate limit, if there is one.
    pub(crate) throttle: Option<Throttle>,
}

/// What one event after another passes through.
#[derive(Debug, Default)]
struct Lane {
    closed: bool,
    sequence: u64,
    dropped: u64,
    routes: Routes,
}

/// What came of an attempt to publish.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// This many queues have the event, which is gone.
    Queued(u64),
    /// This queue is full; the event is still there.
    Full(Arc<Queue>),
    /// Waiting does not help; the event is still there.
    Refused(PublishError),
}

/// What is left to do for a publish once the lock is released. Mostly nothing, which costs nothing.
#[derive(Debug, Default)]
struct Aftermath {
    wakes: Wakes,
    losses: Option<Box<Losses>>,
}

#[derive(Debug, Default)]
struct Losses {
    lost: Vec<(Arc<Queue>, Event)>,
    /// Copies for queues that had ended.
    nobodys: Vec<Event>,
}

impl Handle {
    /// A handle of `hub`. `name` is one that the hub has given out.
    pub(crate) fn new(hub: &Arc<Hub>, name: Option<&str>) -> Arc<Self> {
        let handle = Arc::new(Self {
            hub: Arc::clone(hub),
            id: hub.next_id(),
            publisher: PublisherId::random(),
            epoch: process_epoch(),
            name: name.map(ToOwned::to_owned),
            lane: Mutex::default(),
            subscriptions: Mutex::default(),
            closed: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            throttle: hub.limits.rate.map(Throttle::new),
        });
        hub.join(&handle);
        handle
    }

    /// Publishes the event if all its subscriptions have room. It is taken out of its place and
    /// into the last queue in one move: an event is large, and each move costs as much as a lock.
    pub(crate) fn attempt(&self, event: &mut Option<Event>, path: Path) -> Attempt {
        if let Some(refusal) = event.as_ref().and_then(|event| self.too_large(event)) {
            return Attempt::Refused(refusal);
        }
        let mut after = Aftermath::default();
        let outcome = self.lane.lock().publish(self, event, path, &mut after);
        after.settle();
        if let Attempt::Queued(_) = outcome {
            // What nobody subscribes to is still there.
            *event = None;
        }
        outcome
    }

    /// The right to publish the event now, where there is a rate limit. An event that no waiting
    /// helps needs none: it is refused for what is wrong with it.
    #[inline]
    pub(crate) fn admit(&self, event: &Event) -> Result<Option<Held<'_>>, Duration> {
        match &self.throttle {
            None => Ok(None),
            Some(_) if self.is_hopeless(event) => Ok(None),
            Some(throttle) => throttle.admit().map(|admission| Some(admission.held())),
        }
    }

    /// Whether the event would be refused however much room there is.
    pub(crate) fn is_hopeless(&self, event: &Event) -> bool {
        self.is_closed() || self.too_large(event).is_some()
    }

    /// Counts and logs an event that goes back to the application.
    #[cold]
    pub(crate) fn refuse(&self, event: &Event, reason: &dyn Refusal) {
        count(&self.refused, 1);
        fate::refused(Some(self.publisher), event, reason);
    }

    /// A place for the route of a publisher.
    pub(crate) fn add_publisher(&self) -> usize {
        self.lane.lock().routes.add_publisher()
    }

    /// Gives the place back.
    pub(crate) fn remove_publisher(&self, at: usize) {
        self.lane.lock().routes.remove_publisher(at);
    }

    /// Waits for the event in progress, if there is one, and gives up all routes.
    pub(crate) fn forget_routes(&self) {
        let routes = self.lane.lock().routes.forget();
        drop(routes);
    }

    /// Whether the handle was shut down.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Refuses everything from now on and ends the handle's subscriptions. Idempotent.
    pub(crate) fn close(&self) {
        self.lane.lock().closed = true;
        let own: Vec<_> = {
            let own = self.subscriptions.lock();
            if self.closed.swap(true, Ordering::AcqRel) {
                return;
            }
            own.values().cloned().collect()
        };
        if let Some(throttle) = &self.throttle {
            throttle.close();
        }
        for queue in own {
            self.hub.detach(&queue);
        }
        if let Some(name) = &self.name {
            self.hub.unclaim(name);
        }
        self.hub.wake_publishers();
    }

    /// Counters as of now.
    pub(crate) fn stats(&self, backend: &str) -> Stats {
        let (dropped, (published, families)) = {
            let lane = self.lane.lock();
            (lane.dropped, lane.routes.families.snapshot())
        };
        let mut own: Vec<_> = self.subscriptions.lock().values().cloned().collect();
        own.sort_by_key(|queue| queue.id);
        Stats {
            backend: backend.to_owned(),
            published,
            refused: self.refused.load(Ordering::Relaxed),
            dropped,
            families,
            subscriptions: own
                .iter()
                .map(|queue| queue.counters.snapshot(&queue.name, queue.measure()))
                .collect(),
            ..Stats::default()
        }
    }

    fn too_large(&self, event: &Event) -> Option<PublishError> {
        let limit = self.hub.limits.max_event_size;
        event
            .known_size()
            .filter(|size| *size > limit)
            .map(|size| PublishError::TooLarge { size, limit })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(name) = self.name.as_ref().filter(|_| !self.is_closed()) {
            self.hub.unclaim(name);
        }
        self.hub.leave(self.id);
    }
}

impl Lane {
    fn publish(
        &mut self,
        handle: &Handle,
        slot: &mut Option<Event>,
        path: Path,
        after: &mut Aftermath,
    ) -> Attempt {
        if self.closed {
            return Attempt::Refused(PublishError::Closed);
        }
        let Some(event) = slot else {
            return Attempt::Queued(0);
        };
        let reserve = event.get_delivery() == Delivery::AtLeastOnce;
        loop {
            let (route, families) =
                self.routes
                    .current(&handle.hub, handle.id, event.topic(), path);
            if reserve {
                match reserve_route(route, after) {
                    Ok(()) => {}
                    Err((queue, NoRoom::Full)) => return Attempt::Full(Arc::clone(queue)),
                    // The generation moved before the room was closed: look the route up again.
                    Err((_, NoRoom::Closed)) => continue,
                }
            }
            let sequence = &mut self.sequence;
            event.accept(|| {
                let origin = Origin {
                    publisher: handle.publisher,
                    epoch: handle.epoch,
                    sequence: *sequence,
                };
                *sequence += 1;
                origin
            });
            families.count(route.family(), route.len());
            let (queued, lost) = match (route.waiting(), route.lossy()) {
                ([queue], []) if reserve => enter_one(queue, slot, after),
                _ => enter_all(route, slot, reserve, after),
            };
            if !reserve {
                self.dropped += lost;
            }
            return Attempt::Queued(queued);
        }
    }
}

/// Takes a place in every queue that publishers wait for, or in none.
fn reserve_route<'a>(
    route: &'a Route,
    after: &mut Aftermath,
) -> Result<(), (&'a Arc<Queue>, NoRoom)> {
    match route.waiting() {
        [] => Ok(()),
        [queue] => queue.room.reserve().map_err(|reason| (queue, reason)),
        queues => {
            reserve_all(queues.iter().map(|queue| &queue.room)).map_err(|(at, reason, wakes)| {
                after.wakes.add(wakes);
                (&queues[at], reason)
            })
        }
    }
}

/// Enters the only queue, as `enter_all` does, without the detours.
#[inline]
fn enter_one(queue: &Arc<Queue>, slot: &mut Option<Event>, after: &mut Aftermath) -> (u64, u64) {
    let lost = slot.take().and_then(|event| queue.enter(event));
    after.ring(queue);
    match lost {
        None => (1, 0),
        Some(event) => {
            after.lose(queue, event);
            (0, 1)
        }
    }
}

/// Enters all queues; returns how many have the event and how many lost it.
fn enter_all(
    route: &Route,
    slot: &mut Option<Event>,
    reserved: bool,
    after: &mut Aftermath,
) -> (u64, u64) {
    let mut tally = (0, 0);
    let mut left = route.len();
    for queue in route.waiting() {
        left -= 1;
        if let Some(event) = next_copy(slot, left) {
            tally_up(&mut tally, enter(queue, event, reserved, after));
        }
    }
    for queue in route.lossy() {
        left -= 1;
        if let Some(event) = next_copy(slot, left) {
            tally_up(&mut tally, Some(offer(queue, event, after)));
        }
    }
    tally
}

/// The event for one more queue: the last one gets the event itself.
fn next_copy(slot: &mut Option<Event>, left: u64) -> Option<Event> {
    if left == 0 { slot.take() } else { slot.clone() }
}

fn tally_up((queued, lost): &mut (u64, u64), entered: Option<bool>) {
    *queued += u64::from(entered == Some(true));
    *lost += u64::from(entered == Some(false));
}

/// Enters a queue that publishers wait for: whether it has the event, `None` if it has ended.
fn enter(queue: &Arc<Queue>, event: Event, reserved: bool, after: &mut Aftermath) -> Option<bool> {
    let place = if reserved {
        Ok(())
    } else {
        queue.room.reserve()
    };
    let lost = match place {
        Ok(()) => queue.enter(event),
        Err(NoRoom::Full) => {
            queue.lose();
            Some(event)
        }
        Err(NoRoom::Closed) => {
            after.let_go(event);
            return None;
        }
    };
    let queued = lost.is_none();
    if let Some(event) = lost {
        after.lose(queue, event);
    }
    after.ring(queue);
    Some(queued)
}

/// Enters a queue that loses events instead of making publishers wait: whether it has the event.
fn offer(queue: &Arc<Queue>, event: Event, after: &mut Aftermath) -> bool {
    let (queued, lost) = queue.offer(event);
    for event in lost {
        after.lose(queue, event);
    }
    after.ring(queue);
    queued
}

impl Aftermath {
    /// Notes the receiver of a queue that has been filled, if it sleeps.
    #[inline]
    fn ring(&mut self, queue: &Queue) {
        if let Some(waker) = queue.signal().take() {
            self.wakes.push(waker);
        }
    }

    /// Notes an event that a queue has lost.
    #[cold]
    fn lose(&mut self, queue: &Arc<Queue>, event: Event) {
        let losses = self.losses.get_or_insert_default();
        losses.lost.push((Arc::clone(queue), event));
    }

    /// Keeps an event that no queue has, so that it is dropped without the lock.
    #[cold]
    fn let_go(&mut self, event: Event) {
        self.losses.get_or_insert_default().nobodys.push(event);
    }

    #[inline]
    fn settle(self) {
        self.wakes.wake();
        if let Some(losses) = self.losses {
            tell(*losses);
        }
    }
}

#[cold]
fn tell(losses: Losses) {
    for (queue, event) in losses.lost {
        fate::dropped(&queue.name, &event, queue.why_lost());
    }
    drop(losses.nobodys);
}
