//! The publishing side of a shadow handle: stamp, expect, publish on the primary, queue for the
//! candidate.
//!
//! Both sides must get the events of a topic in one order, although several tasks may publish
//! through one handle. So a publish holds its topic's turn over the whole of it. Only events of
//! the same topic queue up behind one that waits for room, which wait for the same subscriptions
//! anyway, and they do not wait for long: after [`PATIENCE`] they go ahead, and are told as
//! unordered instead of being compared.
//!
//! Invariant: an event is in `in_flight` from before its expectations stand until it is in the
//! queue to the candidate, or is known not to be published; expectations, the stamp and that entry
//! are made under one lock. A publish future that is dropped leaves its event `Cancelled`.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use eventbus_trait::fate::{self, Refusal};
use eventbus_trait::{
    Delivery, Event, Origin, PublisherId, Receipt, Refused, SubscriptionCounters, Topic,
    TryPublishError, count, process_epoch,
};
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::SemaphorePermit;

use crate::class::{Class, Reason};
use crate::comparator::Comparator;
use crate::lane::{Lane, Turn};
use crate::link::Link;
use crate::options::WhenFull;
use crate::queue::Command;
use crate::route::{InFlight, Route};
use crate::streams::Key;
use crate::sub::Sub;
use crate::ticket::Ticket;

/// How long a publish waits for its turn while another one of its topic waits for room.
const PATIENCE: Duration = Duration::from_millis(100);
/// What `Full` names when there is no room in the queue to the candidate.
const CANDIDATE_QUEUE: &str = "shadow candidate";

/// The publishing side of a shadow handle.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) id: PublisherId,
    pub(crate) comparator: Arc<Comparator>,
    pub(crate) link: Arc<Link>,
    /// Counters of the subscriptions made by this handle, by name.
    pub(crate) counters: Arc<Mutex<HashMap<Arc<str>, Arc<SubscriptionCounters>>>>,
    lanes: Mutex<HashMap<Topic, Arc<Lane>, RandomState>>,
    state: Mutex<State>,
    closed: AtomicBool,
    /// Events that came back by themselves, not by the primary, which counts its own.
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    in_flight: Vec<InFlight>,
}

impl Sender {
    pub(crate) fn new(comparator: &Arc<Comparator>, link: Arc<Link>) -> Arc<Self> {
        let sender = Arc::new(Self {
            id: PublisherId::random(),
            comparator: Arc::clone(comparator),
            link,
            counters: Arc::default(),
            lanes: Mutex::default(),
            state: Mutex::default(),
            closed: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        });
        comparator.join(&sender);
        sender
    }

    /// The lane of a topic.
    pub(crate) fn lane(&self, topic: &Topic) -> Arc<Lane> {
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get(topic) {
            return Arc::clone(lane);
        }
        if lanes.len() >= self.comparator.options.max_streams {
            // Whoever uses a lane holds it, so no order is lost with the others.
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        let lane = Arc::new(Lane::new(topic));
        lanes.insert(topic.clone(), Arc::clone(&lane));
        lane
    }

    /// Publishes by `publish`, which is the primary's.
    pub(crate) async fn publish<F>(
        &self,
        lane: &Lane,
        event: Event,
        publish: impl FnOnce(Event) -> F,
    ) -> Result<Receipt, Refused>
    where
        F: Future<Output = Result<Receipt, Refused>>,
    {
        // In this order, as for a batch: who has room and waits for a turn would keep it from the
        // batch whose turn it is.
        let turn = self.turn(lane, event.get_delivery()).await;
        let room = self.room(std::slice::from_ref(&event)).await;
        let (stamped, ticket) = self.begin(lane, &event, turn.is_some());
        let result = match &turn {
            Some(turn) => turn.watch(publish(stamped)).await,
            None => publish(stamped).await,
        };
        conclude(ticket, event, room, result)
    }

    /// Publishes by `publish`, which is the primary's and does not wait.
    pub(crate) fn try_publish(
        &self,
        lane: &Lane,
        event: Event,
        publish: impl FnOnce(Event) -> Result<Receipt, Refused<TryPublishError>>,
    ) -> Result<Receipt, Refused<TryPublishError>> {
        let (room, turn) = (self.room_now(&event), lane.turn_now());
        if self.waits_for_candidate() && (room.is_none() || turn.is_none()) {
            let refused = full(event);
            self.note_refused(refused.event(), refused.reason());
            return Err(refused);
        }
        self.publish_now(lane, event, turn, room, publish)
    }

    /// As `try_publish`, but gives the event back, untried, if it is not its turn: the caller goes
    /// on to wait.
    pub(crate) fn first_try(
        &self,
        lane: &Lane,
        event: Event,
        publish: impl FnOnce(Event) -> Result<Receipt, Refused<TryPublishError>>,
    ) -> Result<Receipt, Refused<TryPublishError>> {
        let (room, turn) = (self.room_now(&event), lane.turn_now());
        if turn.is_none() || (self.waits_for_candidate() && room.is_none()) {
            return Err(full(event));
        }
        self.publish_now(lane, event, turn, room, publish)
    }

    fn publish_now(
        &self,
        lane: &Lane,
        event: Event,
        turn: Option<Turn<'_>>,
        room: Option<SemaphorePermit<'_>>,
        publish: impl FnOnce(Event) -> Result<Receipt, Refused<TryPublishError>>,
    ) -> Result<Receipt, Refused<TryPublishError>> {
        let (stamped, ticket) = self.begin(lane, &event, turn.is_some());
        conclude(ticket, event, room, publish(stamped))
    }

    /// Room in the queue to the candidate, for those who wait for it.
    pub(crate) async fn room(&self, events: &[Event]) -> Option<SemaphorePermit<'_>> {
        if self.waits_for_candidate() {
            self.comparator.queue.room(events).await
        } else {
            None
        }
    }

    fn room_now(&self, event: &Event) -> Option<SemaphorePermit<'_>> {
        if self.waits_for_candidate() {
            self.comparator.queue.try_room(event)
        } else {
            None
        }
    }

    pub(crate) fn waits_for_candidate(&self) -> bool {
        self.comparator.options.when_full == WhenFull::Wait && !self.comparator.queue.is_closed()
    }

    /// The turn on a lane, or none if having it would take too long.
    pub(crate) async fn turn<'a>(&self, lane: &'a Lane, delivery: Delivery) -> Option<Turn<'a>> {
        if let Some(turn) = lane.turn_now() {
            return Some(turn);
        }
        if self.waits_for_candidate() {
            return Some(lane.turn().await);
        }
        match delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce => lane.turn_within(PATIENCE).await,
        }
    }

    /// Stamps an event and expects it everywhere it is due. Returns it as it is to be published.
    pub(crate) fn begin(&self, lane: &Lane, event: &Event, in_turn: bool) -> (Event, Ticket<'_>) {
        let ignore = self.comparator.options.ignore.as_ref();
        let class = if ignore.is_some_and(|ignore| ignore.takes(event)) {
            Class::Ignored
        } else if !in_turn {
            Class::Unverified(Reason::Unordered)
        } else {
            Class::Open
        };
        let mut state = self.state.lock();
        let given = event.has_given_origin();
        let origin = match event.origin() {
            Some(origin) if given => *origin,
            _ => Origin {
                publisher: self.id,
                epoch: process_epoch(),
                sequence: state.next,
            },
        };
        let route = self.expect(lane, &origin, event, class);
        if !given {
            state.next += 1;
        }
        let flight = InFlight { origin, route };
        state.in_flight.push(flight.clone());
        let ticket = Ticket::new(self, flight);
        (event.clone().given_origin(origin), ticket)
    }

    fn expect(&self, lane: &Lane, origin: &Origin, event: &Event, class: Class) -> Arc<Route> {
        let comparator = &*self.comparator;
        let mut cached = lane.route.lock();
        loop {
            let route = match &*cached {
                Some(route) if route.is_current(comparator, origin) => route,
                _ => {
                    let key = Key::of(origin, &lane.topic);
                    cached.insert(Route::new(comparator, self.id, key, &self.link))
                }
            };
            if route.expect(comparator, origin.sequence, event, class) {
                return Arc::clone(route);
            }
            *cached = None;
        }
    }

    pub(crate) fn for_each_in_flight(&self, each: impl FnMut(&InFlight)) {
        self.state.lock().in_flight.iter().for_each(each);
    }

    /// The event is where it belongs.
    pub(crate) fn landed(&self, origin: &Origin) {
        self.state.lock().land(origin);
    }

    /// Nobody has the event: expects it nowhere, and gives its sequence out again if it was the
    /// last.
    pub(crate) fn take_back(&self, flight: &InFlight) {
        let (origin, route) = (&flight.origin, &flight.route);
        let mut state = self.state.lock();
        route.withdraw(origin.sequence);
        if !route.is_current(&self.comparator, origin) {
            // Subscriptions that were made meanwhile expect it too.
            for sub in self.comparator.subs() {
                sub.withdraw(origin, &route.key.topic);
            }
        }
        if origin.publisher == self.id && state.next == origin.sequence + 1 {
            state.next = origin.sequence;
        }
        state.land(origin);
    }

    /// Counts and tells an event that the application has back, and that the primary does not know of.
    pub(crate) fn note_refused(&self, event: &Event, reason: &dyn Refusal) {
        count(&self.refused, 1);
        fate::refused(Some(self.id), event, reason);
    }

    /// What [`note_refused`](Self::note_refused) has counted.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether this is the first call.
    pub(crate) fn close_once(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Lets go of the candidate. The last handle ends the candidate's thread.
    pub(crate) fn disconnect(&self, shutdown: bool) {
        let comparator = &self.comparator;
        let link = Arc::clone(&self.link);
        comparator
            .queue
            .control(Command::Disconnect { link, shutdown });
        if comparator.life.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            comparator.queue.control(Command::Finish);
            comparator.life.finishing.notify_one();
        }
    }

    /// The subscriptions of this handle.
    pub(crate) fn own_subs(&self) -> Vec<Arc<Sub>> {
        let mut subs = self.comparator.subs();
        subs.retain(|sub| sub.owner == self.id);
        subs
    }
}

impl State {
    fn land(&mut self, origin: &Origin) {
        if let Some(at) = self.in_flight.iter().position(|f| f.origin == *origin) {
            self.in_flight.swap_remove(at);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.comparator.leave(self.id);
    }
}

/// Settles what became of an event on the primary; one that was refused comes back as it was given.
fn conclude<E>(
    ticket: Ticket<'_>,
    event: Event,
    room: Option<SemaphorePermit<'_>>,
    result: Result<Receipt, Refused<E>>,
) -> Result<Receipt, Refused<E>> {
    match result {
        Ok(receipt) => {
            ticket.accepted(event, room);
            Ok(receipt)
        }
        Err(refused) => {
            ticket.refused();
            Err(Refused::new(event, refused.into_parts().1))
        }
    }
}

fn full(event: Event) -> Refused<TryPublishError> {
    let subscription = CANDIDATE_QUEUE.to_owned();
    Refused::new(event, TryPublishError::Full { subscription })
}
