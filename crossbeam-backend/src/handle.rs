//! One handle of a bus: a publisher with an identity of its own.
//!
//! Reserving room, stamping the sequence and entering the queues is one step under one short lock.
//! So every queue has a handle's events in the order of their sequence, and the sequence has no
//! holes. No application code runs under the lock: wakers are called, and lost events logged and
//! dropped, after it.
//!
//! Invariant: between reserving and entering nothing waits, so a reservation is never held for
//! long, and never by a publisher that waits for room elsewhere.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eventbus_trait::{
    Delivery, Event, Origin, PublishError, PublisherId, Stats, count, process_epoch,
};
use parking_lot::Mutex;
use tracing::debug;

use crate::hub::Hub;
use crate::queue::Queue;
use crate::room::{NoRoom, Wakes, reserve_all};
use crate::route::{Path, Route, Routes};

/// One handle of a bus.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) hub: Arc<Hub>,
    pub(crate) id: u64,
    pub(crate) publisher: PublisherId,
    name: Option<String>,
    lane: Mutex<Lane>,
    /// Live subscriptions, those included that have ended and are still being read.
    pub(crate) subscriptions: Mutex<HashMap<u64, Arc<Queue>>>,
    closed: std::sync::atomic::AtomicBool,
    refused: AtomicU64,
}

/// What one event after another passes through.
#[derive(Debug, Default)]
struct Lane {
    closed: bool,
    sequence: u64,
    dropped: u64,
    routes: Routes,
}

/// What came of an attempt to publish. An event that was not accepted comes back.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// This many queues have the event.
    Queued(u64),
    /// This queue is full.
    Full(Event, Arc<Queue>),
    /// Waiting does not help.
    Refused(Event, PublishError),
}

/// What is left to do for a publish once the lock is released.
#[derive(Debug, Default)]
struct Aftermath {
    wakes: Wakes,
    losses: Vec<(Arc<Queue>, Event)>,
}

impl Handle {
    /// A handle of `hub`. `name` is one that the hub has given out.
    pub(crate) fn new(hub: &Arc<Hub>, name: Option<&str>) -> Arc<Self> {
        let handle = Arc::new(Self {
            hub: Arc::clone(hub),
            id: hub.next_id(),
            publisher: PublisherId::random(),
            name: name.map(ToOwned::to_owned),
            lane: Mutex::default(),
            subscriptions: Mutex::default(),
            closed: std::sync::atomic::AtomicBool::new(false),
            refused: AtomicU64::new(0),
        });
        hub.join(&handle);
        handle
    }

    /// Publishes an event if all its subscriptions have room.
    pub(crate) fn attempt(&self, event: Event, path: Path) -> Attempt {
        if let Some(refusal) = self.too_large(&event) {
            return Attempt::Refused(event, refusal);
        }
        let mut after = Aftermath::default();
        let outcome = self.lane.lock().publish(self, event, path, &mut after);
        after.settle(self.publisher);
        outcome
    }

    /// Counts and logs an event that goes back to the application.
    pub(crate) fn refuse(&self, event: &Event, reason: &dyn std::fmt::Display) {
        count(&self.refused, 1);
        debug!(
            publisher = %self.publisher,
            topic = %event.topic(),
            correlation = event.get_correlation().map(|c| c.id.as_str()),
            %reason,
            "event refused"
        );
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
                .map(|queue| queue.counters.snapshot(&queue.name, queue.len()))
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
        mut event: Event,
        path: Path,
        after: &mut Aftermath,
    ) -> Attempt {
        if self.closed {
            return Attempt::Refused(event, PublishError::Closed);
        }
        let reserve = event.get_delivery() == Delivery::AtLeastOnce;
        loop {
            let (route, families) =
                self.routes
                    .current(&handle.hub, handle.id, event.topic(), path);
            if reserve {
                match reserve_route(route, after) {
                    Ok(()) => {}
                    Err((queue, NoRoom::Full)) => return Attempt::Full(event, queue),
                    // The generation moved before the room was closed: look the route up again.
                    Err((_, NoRoom::Closed)) => continue,
                }
            }
            let sequence = &mut self.sequence;
            event.accept(|| {
                let origin = Origin {
                    publisher: handle.publisher,
                    epoch: process_epoch(),
                    sequence: *sequence,
                };
                *sequence += 1;
                origin
            });
            let (queued, lost) = enter_route(route, event, reserve, after);
            families.count(route.family(), route.queues().len() as u64);
            if !reserve {
                self.dropped += lost;
            }
            return Attempt::Queued(queued);
        }
    }
}

/// Takes a place in every queue that publishers wait for, or in none.
fn reserve_route(route: &Route, after: &mut Aftermath) -> Result<(), (Arc<Queue>, NoRoom)> {
    match route.waiting() {
        [queue] => queue
            .room
            .reserve()
            .map_err(|reason| (Arc::clone(queue), reason)),
        queues => {
            reserve_all(queues.iter().map(|queue| &queue.room)).map_err(|(at, reason, wakes)| {
                after.wakes.add(wakes);
                (Arc::clone(&queues[at]), reason)
            })
        }
    }
}

/// Enters all queues; returns how many have the event and how many lost it.
fn enter_route(route: &Route, event: Event, reserved: bool, after: &mut Aftermath) -> (u64, u64) {
    let mut queues = route.queues();
    let (mut queued, mut lost) = (0, 0);
    let Some(first) = queues.next() else {
        return (0, 0);
    };
    for queue in queues {
        match enter(queue, event.clone(), reserved, after) {
            Some(true) => queued += 1,
            Some(false) => lost += 1,
            None => {}
        }
    }
    match enter(first, event, reserved, after) {
        Some(true) => queued += 1,
        Some(false) => lost += 1,
        None => {}
    }
    (queued, lost)
}

/// Enters one queue: whether it has the event, `None` if it has ended.
fn enter(queue: &Arc<Queue>, event: Event, reserved: bool, after: &mut Aftermath) -> Option<bool> {
    let queued = if !queue.waits() {
        let (queued, lost) = queue.offer(event);
        for event in lost {
            after.losses.push((Arc::clone(queue), event));
        }
        queued
    } else {
        let place = if reserved {
            Ok(())
        } else {
            queue.room.reserve()
        };
        match place {
            Ok(()) => match queue.enter(event) {
                None => true,
                Some(event) => {
                    after.losses.push((Arc::clone(queue), event));
                    false
                }
            },
            Err(NoRoom::Full) => {
                queue.lose();
                after.losses.push((Arc::clone(queue), event));
                false
            }
            Err(NoRoom::Closed) => return None,
        }
    };
    if let Some(waker) = queue.signal.take() {
        after.wakes.push(waker);
    }
    Some(queued)
}

impl Aftermath {
    fn settle(self, publisher: PublisherId) {
        self.wakes.wake();
        for (queue, event) in self.losses {
            debug!(
                subscription = &*queue.name,
                %publisher,
                topic = %event.topic(),
                sequence = event.origin().map(|origin| origin.sequence),
                correlation = event.get_correlation().map(|c| c.id.as_str()),
                "event dropped"
            );
        }
    }
}
