//! The bus itself: the trait's operations on the primary, each with its echo for the candidate.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eventbus_trait::{
    BatchRefused, ConnectError, Delivery, Event, EventBus, FlushError, PublishError, PublishTopic,
    Publisher, PublisherId, Receipt, Refused, ShutdownError, Stats, Subscribe, SubscribeError,
    Subscription, Topic, TryPublishError,
};
use futures_timer::Delay;
use futures_util::future::select;
use tracing::warn;

use crate::candidate;
use crate::class::{Reason, Side};
use crate::comparator::Comparator;
use crate::glance::Glance;
use crate::lane::Lane;
use crate::link::Link;
use crate::options::ShadowOptions;
use crate::queue::Command;
use crate::report::Report;
use crate::sender::Sender;
use crate::settle::{Until, settle};
use crate::source::Source;
use crate::sub::Sub;

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
        let candidate_name = catch_unwind(AssertUnwindSafe(|| candidate.backend().to_owned()));
        let names = [
            primary.backend().to_owned(),
            candidate_name.unwrap_or_else(|_| "unknown".to_owned()),
        ];
        let comparator = Comparator::new(options, names);
        let link = Link::connected(candidate);
        let share = Share(Sender::new(&comparator, Arc::clone(&link)));
        candidate::spawn(&comparator, &link);
        Arc::new(Self { primary, share })
    }

    /// Waits until every delivery so far is decided, at most for `deadline`; says whether it came
    /// to that.
    ///
    /// It sends markers to the candidate, which find lost tails, and waits for the candidate's
    /// queue, for the grace time where a gap is open, and for the application to read what the
    /// primary has delivered. Nothing is disturbed by it; cancelling it is harmless. With traffic
    /// still going on it takes until the deadline.
    pub async fn settle(&self, deadline: Duration) -> bool {
        let settled = settle(self.comparator(), deadline, Until::AllDecided).await;
        self.comparator().set_settled(settled);
        settled
    }

    /// What has been found so far, in all handles. It can be asked at any time, also after
    /// `shutdown`.
    #[must_use]
    pub fn report(&self) -> Report {
        self.comparator().report()
    }

    /// What the report leaves out, because it is for who looks on while the comparison goes on. It is
    /// cheap enough to be asked for once a second.
    #[must_use]
    pub fn glance(&self) -> Glance {
        self.comparator().glance()
    }

    fn sender(&self) -> &Arc<Sender> {
        &self.share.0
    }

    fn comparator(&self) -> &Arc<Comparator> {
        &self.sender().comparator
    }

    /// Puts the candidate's subscription into the queue, behind what was published before.
    async fn subscribe_candidate(&self, sub: &Arc<Sub>) {
        let comparator = self.comparator();
        let command = Command::Subscribe(Arc::clone(sub), Arc::clone(&self.sender().link));
        let queued = comparator.queue.control(command);
        if !queued {
            sub.close(comparator, Side::Candidate, Reason::Unavailable);
        }
        // What is published from now on comes behind it.
        comparator.live(sub);
        if queued && self.sender().waits_for_candidate() {
            let standing = pin!(sub.standing.notified());
            select(standing, Delay::new(STANDING)).await;
        }
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
        let mut turns = BTreeMap::new();
        for (topic, lane) in &lanes {
            if let Some(turn) = sender.turn(lane, delivery).await {
                turns.insert(topic, turn);
            }
        }
        let (stamped, tickets): (Vec<_>, Vec<_>) = events
            .iter()
            .map(|event| {
                let topic = event.topic();
                sender.begin(&lanes[topic], event, turns.contains_key(topic))
            })
            .unzip();
        let result = self.primary.publish_batch(stamped).await;
        let accepted = match &result {
            Ok(_) => events.len(),
            Err(refused) => refused.accepted.min(events.len()),
        };
        let mut events = events.into_iter();
        let mut tickets = tickets.into_iter();
        for (ticket, event) in tickets.by_ref().zip(events.by_ref()).take(accepted) {
            let room = sender.room(std::slice::from_ref(&event)).await;
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
        let comparator = self.comparator();
        let sub = comparator.open(self.sender().id, subscribe.ungated());
        let mut opening = Opening {
            comparator,
            sub: Arc::clone(&sub),
            done: false,
        };
        let primary = self.primary.subscribe(subscribe.ungated()).await?;
        opening.done = true;
        sub.set_name(primary.name().into());
        let source = Source::new(
            primary,
            Arc::clone(&sub),
            Arc::clone(comparator),
            Arc::clone(&self.sender().counters),
        );
        self.subscribe_candidate(&sub).await;
        Ok(Subscription::new(
            sub.name().into(),
            &subscribe,
            source.counters(),
            Box::new(source),
        ))
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        let primary = self.primary.connect(name).await?;
        let link = Arc::<Link>::default();
        let share = Share(Sender::new(self.comparator(), Arc::clone(&link)));
        // Without room in the queue the link stays empty, and its events are unverified.
        self.comparator().queue.control(Command::Connect {
            from: Arc::clone(&self.sender().link),
            to: link,
            name: name.map(ToOwned::to_owned),
        });
        Ok(Arc::new(Self { primary, share }))
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
        let comparator = self.comparator();
        let closing = Closing(self.sender());
        let own = self.sender().own_subs();
        for sub in &own {
            comparator.ending(sub);
        }
        let result = self.primary.shutdown().await;
        for sub in &own {
            comparator.ended(sub);
        }
        let wait = comparator.options.shutdown_wait;
        settle(comparator, wait, Until::CandidateDone).await;
        drop(closing);
        if comparator.life.handles.load(Ordering::Acquire) == 0 {
            thread_ended(comparator, 2 * wait).await;
        }
        result
    }
}

/// Waits for the candidate's thread to end.
async fn thread_ended(comparator: &Comparator, wait: Duration) {
    let Some(thread) = comparator.life.thread.lock().take() else {
        return;
    };
    let begun = Instant::now();
    while !thread.is_finished() {
        if begun.elapsed() >= wait {
            warn!("the candidate blocks its thread, which is left behind");
            return;
        }
        Delay::new(Duration::from_millis(1)).await;
    }
    // It has ended, so this does not wait; a panic in it was told by the panic hook.
    let _ = thread.join();
}

/// Dropping a handle is shutting it down, without waiting for anything.
impl Drop for ShadowBus {
    fn drop(&mut self) {
        if !self.sender().is_closed() {
            for sub in self.sender().own_subs() {
                self.comparator().ending(&sub);
            }
        }
    }
}

/// A handle's share in the comparison.
#[derive(Debug)]
struct Share(Arc<Sender>);

impl Drop for Share {
    fn drop(&mut self) {
        if self.0.close_once() {
            for sub in self.0.own_subs() {
                self.0.comparator.ended(&sub);
            }
            self.0.disconnect(false);
        }
    }
}

/// Lets go of the candidate, also if the shutdown is cancelled.
struct Closing<'a>(&'a Sender);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.disconnect(true);
    }
}

/// A subscription that is being made; forgotten unless it is done.
struct Opening<'a> {
    comparator: &'a Comparator,
    sub: Arc<Sub>,
    done: bool,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.comparator.cancel(&self.sub);
        }
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

    fn first_try(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        self.sender
            .first_try(&self.lane, event, |event| self.primary.first_try(event))
    }
}
