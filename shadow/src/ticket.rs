//! An event between being stamped and being on both sides, or on none.
//!
//! Invariant: each ticket ends once: the event is accepted, or refused, or nobody knows. The last
//! is what dropping it means, so a publish future that is dropped anywhere leaves its event
//! `Cancelled`, never missing.

use std::sync::Arc;

use eventbus_trait::Event;
use tokio::sync::SemaphorePermit;
use tracing::debug;

use crate::attached::Attached;
use crate::class::Reason;
use crate::route::InFlight;
use crate::sender::Sender;

#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    sender: &'a Sender,
    attached: Arc<Attached>,
    flight: Option<InFlight>,
}

impl<'a> Ticket<'a> {
    pub(crate) fn new(sender: &'a Sender, attached: &Arc<Attached>, flight: InFlight) -> Self {
        Self {
            sender,
            attached: Arc::clone(attached),
            flight: Some(flight),
        }
    }

    /// The primary has the event: the candidate gets it too, unless there is no room.
    pub(crate) fn accepted(mut self, event: Event, room: Option<SemaphorePermit<'_>>) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let comparator = &self.attached.comparator;
        flight.route.published(1);
        let queue = &comparator.queue;
        let sequence = flight.origin.sequence;
        let room = room.or_else(|| queue.room_if_keeping_up(&event));
        let reason = match room {
            None if queue.is_closed() => Some(Reason::Unavailable),
            None => Some(Reason::QueueFull),
            Some(room) => {
                let event = event.given_origin(flight.origin);
                let queued = queue.publish(room, Arc::clone(&flight.route), sequence, event);
                (!queued).then_some(Reason::Unavailable)
            }
        };
        if let Some(reason) = reason {
            flight.route.give_up(comparator, sequence, reason);
        }
        self.attached.landed(&flight.origin);
    }

    /// The primary refused the event: nobody has it, and its sequence is free again unless a
    /// later one was given out.
    pub(crate) fn refused(mut self) {
        if let Some(flight) = self.flight.take() {
            self.sender.take_back(&self.attached, &flight);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let sequence = flight.origin.sequence;
        debug!(topic = %flight.route.key.topic, sequence, "publish cancelled");
        let comparator = &self.attached.comparator;
        flight
            .route
            .give_up(comparator, sequence, Reason::Cancelled);
        self.attached.landed(&flight.origin);
    }
}
