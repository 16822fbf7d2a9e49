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
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventbus_trait::{
    Delivery, Event, EventBus, Origin, PublisherId, Receipt, Refused, SubscriptionCounters, Topic,
    TryPublishError, process_epoch,
};
use foldhash::fast::RandomState;
use futures_timer::Delay;
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, SemaphorePermit};
use tracing::debug;

use crate::class::{Class, Reason};
use crate::comparator::Comparator;
use crate::link::Link;
use crate::options::WhenFull;
use crate::queue::Command;
use crate::route::{InFlight, Route};
use crate::sub::{Key, Sub};

/// How long a publish waits for its turn while another one of its topic waits for room.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often a turn that is about to be given back is asked for before it counts as taken.
const TRIES: usize = 64;
/// What `Full` names when there is no room in the queue to the candidate.
const CANDIDATE_QUEUE: &str = "shadow candidate";

/// The publishing side of a shadow handle.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) id: PublisherId,
    pub(crate) comparator: Arc<Comparator>,
    pub(crate) primary: Arc<dyn EventBus>,
    pub(crate) link: Arc<Link>,
    /// Counters of the subscriptions made by this handle, by name.
    pub(crate) counters: Arc<Mutex<HashMap<Arc<str>, Arc<SubscriptionCounters>>>>,
    lanes: Mutex<HashMap<Topic, Arc<Lane>, RandomState>>,
    state: Mutex<State>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    in_flight: Vec<InFlight>,
}

/// The order of one topic.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) topic: Topic,
    turn: tokio::sync::Mutex<()>,
    /// Whether whoever has the turn waits for room.
    waits: AtomicBool,
    route: Mutex<Option<Arc<Route>>>,
}

/// The right to publish next on a topic.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    lane: &'a Lane,
    _guard: MutexGuard<'a, ()>,
}

/// An event that is being published. Dropping it says that nobody knows what became of it.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    sender: &'a Sender,
    flight: Option<InFlight>,
}

impl Sender {
    pub(crate) fn new(
        comparator: &Arc<Comparator>,
        primary: Arc<dyn EventBus>,
        link: Arc<Link>,
    ) -> Arc<Self> {
        let sender = Arc::new(Self {
            id: PublisherId::random(),
            comparator: Arc::clone(comparator),
            primary,
            link,
            counters: Arc::default(),
            lanes: Mutex::default(),
            state: Mutex::default(),
            closed: AtomicBool::new(false),
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
        let lane = Arc::new(Lane {
            topic: topic.clone(),
            turn: tokio::sync::Mutex::new(()),
            waits: AtomicBool::new(false),
            route: Mutex::new(None),
        });
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
        let room = self.room(std::slice::from_ref(&event)).await;
        let turn = self.turn(lane, event.get_delivery()).await;
        let (stamped, ticket) = self.begin(lane, &event, turn.is_some());
        let result = match &turn {
            Some(turn) => turn.watch(publish(stamped)).await,
            None => publish(stamped).await,
        };
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

    /// Publishes by `publish`, which is the primary's and does not wait.
    pub(crate) fn try_publish(
        &self,
        lane: &Lane,
        event: Event,
        publish: impl FnOnce(Event) -> Result<Receipt, Refused<TryPublishError>>,
    ) -> Result<Receipt, Refused<TryPublishError>> {
        let (room, turn) = (self.room_now(&event), lane.turn_now());
        if self.waits_for_candidate() && (room.is_none() || turn.is_none()) {
            return Err(full(event));
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
        match publish(stamped) {
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
        let guard = if self.waits_for_candidate() {
            lane.turn.lock().await
        } else if delivery == Delivery::AtMostOnce {
            return None;
        } else {
            match select(pin!(lane.turn.lock()), Delay::new(PATIENCE)).await {
                Either::Left((guard, _)) => guard,
                Either::Right(_) => return None,
            }
        };
        Some(Turn {
            lane,
            _guard: guard,
        })
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
        let ticket = Ticket {
            sender: self,
            flight: Some(flight),
        };
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

    fn landed(&self, flight: &InFlight) {
        self.state.lock().land(&flight.origin);
    }

    /// Whether this is the first call.
    pub(crate) fn close_once(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
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
        if self.close_once() {
            self.disconnect(false);
        }
    }
}

impl Lane {
    /// The turn, if it is free or about to be.
    pub(crate) fn turn_now(&self) -> Option<Turn<'_>> {
        for attempt in 0..TRIES {
            if let Ok(guard) = self.turn.try_lock() {
                return Some(Turn {
                    lane: self,
                    _guard: guard,
                });
            }
            if self.waits.load(Ordering::Relaxed) {
                return None;
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

impl Turn<'_> {
    /// Polls a publish, and says when it has to wait.
    async fn watch<F: Future>(&self, publish: F) -> F::Output {
        let mut publish = pin!(publish);
        poll_fn(|cx| {
            let polled = publish.as_mut().poll(cx);
            if polled.is_pending() {
                self.lane.waits.store(true, Ordering::Relaxed);
            }
            polled
        })
        .await
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.lane.waits.store(false, Ordering::Relaxed);
    }
}

impl Ticket<'_> {
    /// The primary has the event: the candidate gets it too, unless there is no room.
    pub(crate) fn accepted(mut self, event: Event, room: Option<SemaphorePermit<'_>>) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let comparator = &self.sender.comparator;
        comparator.published(1);
        let queue = &comparator.queue;
        let sequence = flight.origin.sequence;
        let room = room.or_else(|| queue.try_room(&event));
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
        self.sender.landed(&flight);
    }

    /// The primary refused the event: nobody has it, and its sequence is free again unless a
    /// later one was given out.
    pub(crate) fn refused(mut self) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let (origin, route) = (flight.origin, &flight.route);
        let comparator = &self.sender.comparator;
        let mut state = self.sender.state.lock();
        route.withdraw(origin.sequence);
        if !route.is_current(comparator, &origin) {
            // Subscriptions that were made meanwhile expect it too.
            for sub in comparator.subs() {
                sub.withdraw(&origin, &route.key.topic);
            }
        }
        if origin.publisher == self.sender.id && state.next == origin.sequence + 1 {
            state.next = origin.sequence;
        }
        state.land(&origin);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            let sequence = flight.origin.sequence;
            debug!(topic = %flight.route.key.topic, sequence, "publish cancelled");
            let comparator = &self.sender.comparator;
            flight
                .route
                .give_up(comparator, sequence, Reason::Cancelled);
            self.sender.landed(&flight);
        }
    }
}

fn full(event: Event) -> Refused<TryPublishError> {
    let subscription = CANDIDATE_QUEUE.to_owned();
    Refused::new(event, TryPublishError::Full { subscription })
}
