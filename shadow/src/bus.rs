//! The bus itself: the trait's operations on the primary, each with its echo for the candidate.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::rpc::{Call, CallError, Reply, ServeError, Served, Service, Serving};
use eventbus_trait::{
    BatchRefused, BusState, ConnectError, Delivery, Event, EventBus, FlushError, PublishError,
    PublishTopic, Publisher, PublisherId, Receipt, Refused, ShutdownError, Stats, Subscribe,
    SubscribeError, Subscription, Topic, TryPublishError,
};
use futures_timer::Delay;
use futures_util::future::select;
use parking_lot::Mutex;
use tokio::sync::watch;

#[cfg(doc)]
use crate::Reason;
use crate::attached::Attached;
use crate::candidate;
use crate::family::{AttachError, Family};
use crate::glance::Glance;
use crate::lane::{Lane, watch};
use crate::mirror::{Hosted, Made};
use crate::options::ShadowOptions;
use crate::report::Report;
use crate::seat::{Seat, View};
use crate::sender::{Sender, room, waits_for_candidate};
use crate::settle::{Until, settle};
use crate::source::Source;

const BACKEND: &str = "shadow";
/// How long `subscribe` waits for the candidate's subscription under `WhenFull::Wait`.
const STANDING: Duration = Duration::from_secs(5);

/// A bus that doubles live traffic to a second one and compares what both deliver.
///
/// The application sees the primary alone: its events, errors, order, receipts and statistics.
/// Everything that touches the candidate happens on a thread of its own, behind a bounded queue,
/// where it may fail, panic, hang or be slow. See the [crate documentation](crate).
#[derive(Debug)]
pub struct ShadowBus {
    // Before the share: what the primary ends when it is dropped is known then.
    primary: Arc<dyn EventBus>,
    share: Share,
}

impl ShadowBus {
    /// Puts `candidate` in the shadow of `primary`, and starts the candidate's thread.
    /// [`connect`](EventBus::connect) makes further handles, which share the comparison.
    #[must_use]
    pub fn new(
        primary: Arc<dyn EventBus>,
        candidate: Arc<dyn EventBus>,
        options: ShadowOptions,
    ) -> Arc<Self> {
        let bus = Self::alone(primary, options);
        if let Err(reason) = bus.attach(candidate) {
            unreachable!("nobody else has this bus yet: {reason}");
        }
        bus
    }

    /// A bus without a candidate, which [`attach`](Self::attach) brings. Until then there is no
    /// thread, nothing is remembered, and publishing costs a stamp.
    #[must_use]
    pub fn alone(primary: Arc<dyn EventBus>, options: ShadowOptions) -> Arc<Self> {
        let family = Family::new(&*primary, options);
        let share = Share(Sender::new(&family, None, None));
        Arc::new(Self { primary, share })
    }

    /// Puts `candidate` in the shadow of a bus that is in use, for all its handles and
    /// subscriptions. It waits for nobody, and no publisher or subscriber waits for it.
    ///
    /// What is published from now on is doubled and compared; what was published before is neither,
    /// also if it is read only later. The comparison begins with a report of zeros.
    ///
    /// # Errors
    /// [`AttachError::Attached`] if there is a candidate, [`AttachError::Closed`] after shutdown.
    pub fn attach(&self, candidate: Arc<dyn EventBus>) -> Result<(), AttachError> {
        self.attach_with(candidate, self.family().options.clone())
    }

    /// As [`attach`](Self::attach), with options of its own for this candidate.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn attach_with(
        &self,
        candidate: Arc<dyn EventBus>,
        options: ShadowOptions,
    ) -> Result<(), AttachError> {
        let attached = self.family().attach(self.sender(), candidate, options);
        attached.map(drop)
    }

    /// Takes the candidate away again: nothing more is doubled, what was doubled gets up to
    /// `deadline` to be decided, as in [`settle`](Self::settle), and the candidate's subscriptions
    /// and handles are dropped. Returns the final report, which [`report`](Self::report) then goes
    /// on to say; `None` if there is no candidate, or somebody else is detaching it.
    ///
    /// What the application has not read by then is unverified, as [`Reason::Detached`]. Publishers
    /// and subscribers notice nothing. Cancelled, it lets go of the candidate at once.
    pub async fn detach(&self, deadline: Duration) -> Option<Report> {
        self.family().detach(deadline, None).await
    }

    /// Whether there is a candidate.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.family().comparator().is_some()
    }

    /// Waits until every delivery so far is decided, at most for `deadline`; says whether it came
    /// to that.
    ///
    /// It sends markers to the candidate, which find lost tails, and waits for the candidate's
    /// queue, for the grace time where a gap is open, and for the application to read what the
    /// primary has delivered. Nothing is disturbed by it; cancelling it is harmless. With traffic
    /// still going on it takes until the deadline. Without a candidate nothing is undecided.
    pub async fn settle(&self, deadline: Duration) -> bool {
        let Some(comparator) = self.family().comparator() else {
            return true;
        };
        let settled = settle(&comparator, deadline, Until::AllDecided).await;
        comparator.set_settled(settled);
        settled
    }

    /// What has been found so far, in all handles, of the candidate that is attached or was last.
    /// It can be asked at any time, also after `shutdown`.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report_with(usize::MAX)
    }

    /// The same with the first `most` divergences, so that those beyond are not even copied.
    #[must_use]
    pub fn report_with(&self, most: usize) -> Report {
        self.family().report(most)
    }

    /// What the report leaves out, because it is for who looks on while the comparison goes on. It is
    /// cheap enough to be asked for once a second.
    #[must_use]
    pub fn glance(&self) -> Glance {
        self.family().glance()
    }

    pub(crate) fn sender(&self) -> &Arc<Sender> {
        &self.share.0
    }

    pub(crate) fn family(&self) -> &Arc<Family> {
        self.sender().family()
    }

    /// Publishes a batch on both sides.
    async fn publish_doubled(
        &self,
        attached: &Arc<Attached>,
        events: Vec<Event>,
    ) -> Result<Receipt, BatchRefused> {
        let sender = self.sender();
        let lanes: BTreeMap<Topic, Arc<Lane>> = events
            .iter()
            .map(|event| (event.topic().clone(), sender.lane(event.topic())))
            .collect();
        let waits = events
            .iter()
            .any(|e| e.get_delivery() == Delivery::AtLeastOnce);
        let delivery = if waits {
            Delivery::AtLeastOnce
        } else {
            Delivery::AtMostOnce
        };
        // In the order of their topics, so that two batches never wait for each other.
        let (mut topics, mut turns, mut until) = (BTreeSet::new(), Vec::new(), None);
        for (topic, lane) in &lanes {
            if let Some(turn) = sender.turn(attached, lane, delivery, &mut until).await {
                topics.insert(topic);
                turns.push(turn);
            }
        }
        let (stamped, tickets): (Vec<_>, Vec<_>) = events
            .iter()
            .map(|event| {
                let topic = event.topic();
                sender.begin(attached, &lanes[topic], event, topics.contains(topic))
            })
            .unzip();
        let result = watch(&turns, self.primary.publish_batch(stamped)).await;
        let accepted = match &result {
            Ok(_) => events.len(),
            Err(refused) => refused.accepted.min(events.len()),
        };
        let mut events = events.into_iter();
        let mut tickets = tickets.into_iter();
        for (ticket, event) in tickets.by_ref().zip(events.by_ref()).take(accepted) {
            let room = room(attached, std::slice::from_ref(&event)).await;
            ticket.accepted(event, room);
        }
        // Backwards, so that their sequences are free again.
        for ticket in tickets.rev() {
            ticket.refused();
        }
        result.map_err(|refused| BatchRefused {
            events: events.collect(),
            ..refused
        })
    }
}

#[async_trait]
impl EventBus for ShadowBus {
    fn backend(&self) -> &str {
        BACKEND
    }

    fn publisher_id(&self) -> PublisherId {
        self.sender().id
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        let lane = self.sender().lane(event.topic());
        let primary = &self.primary;
        self.sender()
            .publish(&lane, event, |event| primary.publish(event))
            .await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        let lane = self.sender().lane(event.topic());
        let primary = &self.primary;
        self.sender()
            .try_publish(&lane, event, |event| primary.try_publish(event))
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        match self.sender().attached() {
            Some(attached) => self.publish_doubled(&attached, events).await,
            None => {
                let publish = |events| self.primary.publish_batch(events);
                self.sender().batch_alone(events, publish).await
            }
        }
    }

    async fn flush(&self, deadline: Duration) -> Result<(), FlushError> {
        self.primary.flush(deadline).await
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        let backend = ShadowTopic {
            primary: self.primary.publisher(topic.clone()),
            lane: self.sender().lane(&topic),
            sender: Arc::clone(self.sender()),
        };
        Publisher::new(topic, Arc::new(backend))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        let (family, sender) = (self.family(), self.sender());
        let mut opening = Opening {
            family,
            seat: family.open(sender, subscribe.ungated()),
            done: false,
        };
        let primary = self.primary.subscribe(subscribe.ungated()).await?;
        opening.done = true;
        let seat = Arc::clone(&opening.seat);
        let name: Arc<str> = primary.name().into();
        let source = Source::new(
            primary,
            Arc::clone(family),
            Arc::clone(&seat),
            Arc::clone(&sender.counters),
        );
        let told = family.standing(sender, &seat, Arc::clone(&name));
        if let Some(View { comparator, sub }) = told
            && waits_for_candidate(&comparator)
        {
            let standing = pin!(sub.standing.notified());
            select(standing, Delay::new(STANDING)).await;
        }
        Ok(Subscription::new(
            name,
            &subscribe,
            source.counters(),
            Box::new(source),
        ))
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        let primary = self.primary.connect(name).await?;
        let share = Share(Sender::new(self.family(), name, Some(self.sender())));
        Ok(Arc::new(Self { primary, share }))
    }

    async fn serve(&self, service: Service) -> Result<Serving, ServeError> {
        let serving = self.primary.serve(service.clone()).await?;
        let hosted = self.family().host(self.sender(), &service);
        let doubled = Doubled {
            serving: Mutex::new(Some(serving)),
            hosted,
            family: Arc::clone(self.family()),
        };
        Ok(Serving::new(service.name(), doubled))
    }

    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        let Some(attached) = self.sender().attached() else {
            return self.primary.call(call).await;
        };
        let made = Made::new(&attached, &call);
        let end = self.primary.call(call).await;
        made.ended(&end);
        end
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.primary.state()
    }

    fn stats(&self) -> Stats {
        let mut stats = self.primary.stats();
        stats.refused += self.sender().refused();
        let counters = self.sender().counters.lock();
        for subscription in &mut stats.subscriptions {
            // The primary hands over what the application's filter then turns away.
            if let Some(own) = counters.get(subscription.name.as_str()) {
                subscription.delivered = own.delivered.load(Ordering::Acquire);
                subscription.filtered = own.filtered.load(Ordering::Acquire);
            }
        }
        stats
    }

    /// As the primary's. The candidate gets up to `shutdown_wait` to deliver what it owes, and the
    /// last handle waits for the candidate's thread to end, at most as long again.
    async fn shutdown(&self) -> Result<(), ShutdownError> {
        if !self.sender().close_once() {
            return self.primary.shutdown().await;
        }
        let (family, sender) = (self.family(), self.sender());
        family.ending(sender.id);
        // After that: whoever attaches a candidate sees that this handle is closed, or was first.
        let attached = sender.attached();
        let closing = attached.as_deref().map(Closing);
        let result = self.primary.shutdown().await;
        family.ended(sender.id);
        if let Some(attached) = &attached {
            let comparator = &attached.comparator;
            let wait = comparator.options.shutdown_wait;
            settle(comparator, wait, Until::CandidateDone).await;
            drop(closing);
            if comparator.life.handles.load(Ordering::Acquire) == 0 {
                candidate::ended(comparator, 2 * wait).await;
            }
        }
        result
    }
}

/// Dropping a handle is shutting it down, without waiting for anything.
impl Drop for ShadowBus {
    fn drop(&mut self) {
        if !self.sender().is_closed() {
            self.family().ending(self.sender().id);
        }
    }
}

/// A handle's share in the comparison.
#[derive(Debug)]
struct Share(Arc<Sender>);

impl Drop for Share {
    fn drop(&mut self) {
        if self.0.close_once() {
            self.0.family().ended(self.0.id);
            if let Some(attached) = self.0.attached() {
                attached.disconnect(false);
            }
        }
    }
}

/// Lets go of the candidate, also if the shutdown is cancelled.
struct Closing<'a>(&'a Attached);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.disconnect(true);
    }
}

/// A subscription that is being made; forgotten unless it is done.
struct Opening<'a> {
    family: &'a Family,
    seat: Arc<Seat>,
    done: bool,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.family.cancel(&self.seat);
        }
    }
}

/// A service that is served on the primary, and copied on whatever candidate there is.
struct Doubled {
    serving: Mutex<Option<Serving>>,
    hosted: Option<Arc<Hosted>>,
    family: Arc<Family>,
}

impl Doubled {
    fn unhost(&self) {
        if let Some(hosted) = &self.hosted {
            self.family.unhost(hosted);
        }
    }
}

#[async_trait]
impl Served for Doubled {
    async fn stop(&self, deadline: Duration) -> bool {
        self.unhost();
        let serving = self.serving.lock().take();
        match serving {
            Some(serving) => serving.stop(deadline).await,
            None => true,
        }
    }
}

impl Drop for Doubled {
    fn drop(&mut self) {
        self.unhost();
    }
}

/// A publisher for one topic.
struct ShadowTopic {
    sender: Arc<Sender>,
    lane: Arc<Lane>,
    primary: Publisher,
}

#[async_trait]
impl PublishTopic for ShadowTopic {
    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        self.sender
            .publish(&self.lane, event, |event| self.primary.publish(event))
            .await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        self.sender
            .try_publish(&self.lane, event, |event| self.primary.try_publish(event))
    }

    fn refused(&self, event: &Event, reason: &PublishError) {
        self.sender.note_refused(event, reason);
    }

    fn first_try(&self, slot: &mut Option<Event>) -> Result<Receipt, TryPublishError> {
        self.sender
            .first_try(&self.lane, slot, |slot| self.primary.first_try(slot))
    }
}
