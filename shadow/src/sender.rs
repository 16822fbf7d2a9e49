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
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use eventbus_trait::fate::{self, Refusal};
use eventbus_trait::{
    Delivery, Event, Origin, PublisherId, Receipt, Refused, SubscriptionCounters, Topic,
    TryPublishError, count, process_epoch, slot,
};
use parking_lot::Mutex;
use tokio::sync::SemaphorePermit;

use crate::attached::Attached;
use crate::class::{Class, Reason};
use crate::comparator::Comparator;
use crate::family::Family;
use crate::lane::{Lane, Turn, watch};
use crate::lanes::Lanes;
use crate::options::WhenFull;
use crate::route::{InFlight, Route};
use crate::shed::Shed;
use crate::streams::Key;
use crate::ticket::Ticket;
use crate::unwatched::{LastBound, Own};

/// How long a publish waits for its turn, or for all its turns, while another one of its topic waits
/// for room.
const PATIENCE: Duration = Duration::from_millis(100);
/// What `Full` names when there is no room in the queue to the candidate.
const CANDIDATE_QUEUE: &str = "shadow candidate";

/// The publishing side of a shadow handle.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) id: PublisherId,
    /// What the application calls the handle, if it does.
    pub(crate) name: Option<String>,
    family: Arc<Family>,
    attached: ArcSwapOption<Attached>,
    /// Counters of the subscriptions made by this handle, by name.
    pub(crate) counters: Arc<Mutex<HashMap<Arc<str>, Arc<SubscriptionCounters>>>>,
    lanes: Arc<Lanes>,
    /// The sequences that it gives out itself.
    pub(crate) own: Arc<Own>,
    pub(crate) unwatched: LastBound,
    closed: AtomicBool,
    /// Events that came back by themselves, not by the primary, which counts its own.
    refused: AtomicU64,
}

impl Sender {
    /// A new handle, made by `from`.
    pub(crate) fn new(family: &Arc<Family>, name: Option<&str>, from: Option<&Self>) -> Arc<Self> {
        let sender = Arc::new(Self {
            id: PublisherId::random(),
            name: name.map(ToOwned::to_owned),
            family: Arc::clone(family),
            attached: ArcSwapOption::empty(),
            counters: Arc::default(),
            lanes: Arc::default(),
            own: Arc::default(),
            unwatched: LastBound::default(),
            closed: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        });
        family.join(&sender, from);
        sender
    }

    pub(crate) fn family(&self) -> &Arc<Family> {
        &self.family
    }

    /// Its part in the comparison, if there is one.
    pub(crate) fn attached(&self) -> Option<Arc<Attached>> {
        if self.own.is_watched() {
            self.attached.load_full()
        } else {
            None
        }
    }

    pub(crate) fn attach(&self, attached: Arc<Attached>) {
        let comparison = attached.comparator.id;
        self.attached.store(Some(attached));
        self.own.watch(comparison, &self.family.unwatched, self.id);
    }

    pub(crate) fn detach(&self) {
        self.own.unwatch();
        self.attached.store(None);
        // They hold on to everything that was compared.
        self.lanes.forget_routes();
    }

    pub(crate) fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }

    /// The lane of a topic.
    pub(crate) fn lane(&self, topic: &Topic) -> Arc<Lane> {
        self.lanes.lane(topic, self.family.options.max_streams)
    }

    /// Publishes by `publish`, which is the primary's.
    pub(crate) async fn publish<F>(
        &self,
        lane: &Lane,
        mut event: Event,
        publish: impl FnOnce(Event) -> F,
    ) -> Result<Receipt, Refused>
    where
        F: Future<Output = Result<Receipt, Refused>>,
    {
        let Some(attached) = self.attached() else {
            let alone = self.stamp_alone(&mut event, None);
            let result = publish(event).await;
            return result.map_err(|refused| self.unstamp(refused, &alone));
        };
        let Some(now) = Now::of(&attached, &event, true) else {
            let shed = Shed::new(self, &attached, lane, &event);
            let alone = self.stamp_alone(&mut event, Some(attached.comparator.id));
            let shed = shed.stamped(&alone);
            let result = publish(event).await;
            return shed.conclude(&alone, result);
        };
        // In this order, as for a batch: who has room and waits for a turn would keep it from the
        // batch whose turn it is.
        let delivery = event.get_delivery();
        let turn = self.turn(&attached, lane, delivery, &mut None).await;
        let room = match now {
            Now::Room(room) => Some(room),
            Now::Wait => room(&attached, std::slice::from_ref(&event)).await,
        };
        let (stamped, ticket) = self.begin(&attached, lane, &event, turn.is_some());
        let result = match &turn {
            Some(turn) => watch(std::slice::from_ref(turn), publish(stamped)).await,
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
        let publish = |slot: &mut _| slot::by_value(slot, publish);
        slot::by_slot(event, |slot| self.attempt(lane, slot, false, publish))
    }

    /// As `try_publish`, but leaves the event untried if it is not its turn: the caller goes on to
    /// wait.
    #[inline]
    pub(crate) fn first_try(
        &self,
        lane: &Lane,
        slot: &mut Option<Event>,
        publish: impl FnOnce(&mut Option<Event>) -> Result<Receipt, TryPublishError>,
    ) -> Result<Receipt, TryPublishError> {
        self.attempt(lane, slot, true, publish)
    }

    /// `first` says whether somebody waits if this finds no room.
    #[inline]
    fn attempt(
        &self,
        lane: &Lane,
        slot: &mut Option<Event>,
        first: bool,
        publish: impl FnOnce(&mut Option<Event>) -> Result<Receipt, TryPublishError>,
    ) -> Result<Receipt, TryPublishError> {
        let word = self.family.shedding.word(lane);
        if word.is_some() || !self.own.is_watched() {
            return self.try_alone(lane, word, slot, publish);
        }
        self.attempt_doubled(lane, slot, first, publish)
    }

    /// The same where there is a candidate, which may have room.
    #[inline(never)]
    fn attempt_doubled(
        &self,
        lane: &Lane,
        slot: &mut Option<Event>,
        first: bool,
        publish: impl FnOnce(&mut Option<Event>) -> Result<Receipt, TryPublishError>,
    ) -> Result<Receipt, TryPublishError> {
        let Some(event) = slot else {
            return Ok(Receipt::ready(0));
        };
        // Nothing is shared by it, because this does not wait.
        let attached = self.attached.load();
        let Some(attached) = attached.as_ref() else {
            return self.try_alone(lane, None, slot, publish);
        };
        let Some(now) = Now::of(attached, event, false) else {
            return self.try_shed(attached, lane, slot, publish);
        };
        let (room, turn) = (now.room(), lane.turn_now());
        let waits = waits_for_candidate(&attached.comparator);
        // Who may wait for the candidate gives both sides one order. Otherwise a publish out of turn
        // goes ahead, as unordered, if nobody could wait for the turn: what may be dropped never does.
        let needs_turn = waits || (first && event.get_delivery() == Delivery::AtLeastOnce);
        if (needs_turn && turn.is_none()) || (waits && room.is_none()) {
            let reason = full();
            if !first {
                self.note_refused(event, &reason);
            }
            return Err(reason);
        }
        self.try_doubled(attached, lane, slot, (room, turn.is_some()), publish)
    }

    /// The turn, if there is one, is the caller's to give back.
    fn try_doubled(
        &self,
        attached: &Arc<Attached>,
        lane: &Lane,
        slot: &mut Option<Event>,
        (room, in_turn): (Option<SemaphorePermit<'_>>, bool),
        publish: impl FnOnce(&mut Option<Event>) -> Result<Receipt, TryPublishError>,
    ) -> Result<Receipt, TryPublishError> {
        slot::by_value(slot, |event| {
            let (stamped, ticket) = self.begin(attached, lane, &event, in_turn);
            conclude(ticket, event, room, slot::by_slot(stamped, publish))
        })
    }

    /// The turn on a lane, or none if having it would take too long: until `until`, which is set when
    /// there is something to wait for.
    pub(crate) async fn turn<'a>(
        &self,
        attached: &Attached,
        lane: &'a Lane,
        delivery: Delivery,
        until: &mut Option<Instant>,
    ) -> Option<Turn<'a>> {
        if let Some(turn) = lane.turn_now() {
            return Some(turn);
        }
        if waits_for_candidate(&attached.comparator) {
            return Some(lane.turn().await);
        }
        match delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce => {
                let now = Instant::now();
                let until = *until.get_or_insert(now + PATIENCE);
                lane.turn_within(until.saturating_duration_since(now)).await
            }
        }
    }

    /// Stamps an event and expects it everywhere it is due. Returns it as it is to be published.
    pub(crate) fn begin<'a>(
        &'a self,
        attached: &Arc<Attached>,
        lane: &Lane,
        event: &Event,
        in_turn: bool,
    ) -> (Event, Ticket<'a>) {
        let comparator = &attached.comparator;
        let options = &comparator.options;
        let ignored = comparator.ignores(event);
        let sampled = options
            .sample
            .as_ref()
            .is_none_or(|sample| comparator.answer("sample", sample.takes(event), true));
        let class = if ignored {
            Class::Ignored
        } else if !in_turn {
            Class::Unverified(Reason::Unordered)
        } else {
            Class::Open
        };
        let mut flights = attached.flights();
        let given = event.origin().filter(|_| event.has_given_origin());
        let origin = given.copied().unwrap_or_else(|| Origin {
            publisher: self.id,
            epoch: process_epoch(),
            sequence: self.own.take(),
        });
        let route = self.expect(attached, lane, &origin, event, (class, sampled));
        if !self.own.is_watched_by(comparator.id) {
            // The candidate was taken away since the publish began, and there may be another one,
            // which does not get this. Until now, whoever took it away knows of the event.
            let all = &self.family.unwatched;
            self.unwatched.pass(all, &origin, None, &self.own);
        }
        let flight = InFlight { origin, route };
        flights.push(flight.clone());
        drop(flights);
        let ticket = Ticket::new(self, attached, flight);
        (event.clone().given_origin(origin), ticket)
    }

    fn expect(
        &self,
        attached: &Attached,
        lane: &Lane,
        origin: &Origin,
        event: &Event,
        (class, sampled): (Class, bool),
    ) -> Arc<Route> {
        let mut cached = lane.route.lock();
        loop {
            let route = self.route(attached, lane, &mut cached, origin);
            let sequence = origin.sequence;
            if route.expect(&attached.comparator, sequence, event, class, sampled) {
                return Arc::clone(route);
            }
            *cached = None;
        }
    }

    /// The route of a lane as it is now.
    pub(crate) fn route<'a>(
        &self,
        attached: &Attached,
        lane: &Lane,
        cached: &'a mut Option<Arc<Route>>,
        origin: &Origin,
    ) -> &'a Arc<Route> {
        let comparator = &*attached.comparator;
        lane.route(
            cached,
            |route| route.is_current(comparator, origin),
            || {
                let key = Key::of(origin, &lane.topic);
                Route::new(comparator, self.id, key, &attached.link)
            },
        )
    }

    /// Nobody has the event: expects it nowhere, and gives its sequence out again if it was the
    /// last.
    pub(crate) fn take_back(&self, attached: &Attached, flight: &InFlight) {
        let (origin, route) = (&flight.origin, &flight.route);
        let comparator = &attached.comparator;
        let mut flights = attached.flights();
        route.withdraw(origin.sequence);
        if !route.is_current(comparator, origin) {
            // Subscriptions that were made meanwhile expect it too.
            for sub in comparator.subs() {
                sub.withdraw(origin, &route.key.topic);
            }
        }
        if origin.publisher == self.id {
            self.own.give_back(origin.sequence);
        }
        flights.land(origin);
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
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(attached) = self.attached() {
            attached.comparator.leave(self.id);
        }
    }
}

/// Whether publishing waits for the candidate.
pub(crate) fn waits_for_candidate(comparator: &Comparator) -> bool {
    comparator.options.when_full == WhenFull::Wait && !comparator.queue.is_closed()
}

/// Room in the queue to the candidate, for those who wait for it.
pub(crate) async fn room<'a>(
    attached: &'a Attached,
    events: &[Event],
) -> Option<SemaphorePermit<'a>> {
    if waits_for_candidate(&attached.comparator) {
        attached.comparator.queue.room(events).await
    } else {
        None
    }
}

/// Whether an event can be doubled.
enum Now<'a> {
    /// There is room for it.
    Room(SemaphorePermit<'a>),
    /// Its publisher waits until there is.
    Wait,
}

impl<'a> Now<'a> {
    /// `None`: there is no room, and nobody waits for it.
    fn of(attached: &'a Attached, event: &Event, may_wait: bool) -> Option<Self> {
        let waits = waits_for_candidate(&attached.comparator);
        if waits && may_wait {
            // Its turn comes first, and then room.
            return Some(Self::Wait);
        }
        let queue = &attached.comparator.queue;
        if waits {
            let room = queue.try_room(event);
            return Some(room.map_or(Self::Wait, Self::Room));
        }
        queue.room_if_keeping_up(event).map(Self::Room)
    }

    fn room(self) -> Option<SemaphorePermit<'a>> {
        match self {
            Self::Room(room) => Some(room),
            Self::Wait => None,
        }
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

fn full() -> TryPublishError {
    let subscription = CANDIDATE_QUEUE.to_owned();
    TryPublishError::Full { subscription }
}
