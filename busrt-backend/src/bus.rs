//! The bus handle: callers' side of a node.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eventbus_trait::fate::{self, Refusal};
use eventbus_trait::rpc::{Call, CallError, Reply, ServeError, Service, Serving};
use eventbus_trait::{
    BatchRefused, BusState, ConnectError, Event, EventBus, FlushError, Held, PublishError,
    PublishTopic, Publisher, PublisherId, Receipt, Refused, ShutdownError, Stats, Subscribe,
    SubscribeError, Subscription, Topic, TryPublishError, count, slot,
};
use futures_timer::Delay;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::warn;

use crate::executor::Help;
use crate::home::Home;
use crate::session::command::Command;
use crate::session::link::Link;
use crate::session::node::{Gone, Node};
use crate::session::outbox::Accepted;
use crate::session::places::Places;
use crate::session::receipt::Pending;
use crate::session::routes::Route;
use crate::session::waiting::{self, NotAccepted};
use crate::work::Task;

/// A handle of a bus over busrt; made by [`open`](crate::open) and
/// [`connect`](EventBus::connect).
///
/// Dropping a handle shuts it down in the background: what was accepted is still sent.
pub struct BusrtBus {
    node: Arc<Node>,
    /// Runtime and broker, shared with the handles made by `connect`; empty once shut down.
    home: Mutex<Option<Arc<Home>>>,
    task: Mutex<Option<Task<()>>>,
    backend: &'static str,
    finished: tokio::sync::Mutex<Option<Result<(), ShutdownError>>>,
}

impl BusrtBus {
    pub(crate) fn new(
        node: Arc<Node>,
        home: Arc<Home>,
        task: Task<()>,
        backend: &'static str,
    ) -> Self {
        Self {
            node,
            home: Mutex::new(Some(home)),
            task: Mutex::new(Some(task)),
            backend,
            finished: tokio::sync::Mutex::new(None),
        }
    }

    fn home(&self) -> Option<Arc<Home>> {
        self.home.lock().clone()
    }
}

/// The end of a wait, which began when the publish did.
#[derive(Debug, Clone, Copy)]
struct Patience {
    left: Duration,
    /// Noted once there is something to wait for.
    started: Option<Instant>,
}

impl Node {
    /// Encodes and measures an event; what is wrong with it no waiting mends.
    fn check_event(&self, event: &Event) -> Result<(), PublishError> {
        if event.payload().encoded().is_none() {
            event.bytes()?;
        }
        let size = event.known_size().unwrap_or_default();
        let limit = self.limits.max_event_size;
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        if self.restricted.load(Ordering::Acquire) && !self.may_publish(event.topic()) {
            let topic = event.topic().to_string();
            return Err(PublishError::Denied { topic });
        }
        Ok(())
    }

    fn may_publish(&self, topic: &Topic) -> bool {
        let state = self.state.lock();
        let allowed = state.may_publish.as_ref();
        allowed.is_none_or(|filters| filters.iter().any(|filter| filter.matches(topic)))
    }

    #[cold]
    fn refuse<E: Refusal>(&self, event: Event, reason: E) -> Refused<E> {
        self.note_refused(&event, &reason);
        Refused::new(event, reason)
    }

    #[cold]
    fn note_refused(&self, event: &Event, reason: &dyn Refusal) {
        count(&self.refused, 1);
        fate::refused(Some(self.publisher), event, reason);
    }

    /// The right to publish an event now, where there is a rate limit.
    fn admit(&self) -> Result<Option<Held<'_>>, TryPublishError> {
        let Some(throttle) = &self.throttle else {
            return Ok(None);
        };
        let rate_limited = |retry_after| TryPublishError::RateLimited { retry_after };
        let admission = throttle.admit().map_err(rate_limited)?;
        Ok(Some(admission.held()))
    }

    /// Waits for an event's turn under the rate limit, if there is one, or until the session is over.
    async fn turn(&self, patience: &mut Patience) -> Result<Option<Held<'_>>, PublishError> {
        let Some(throttle) = self.throttle.as_ref().filter(|_| self.gone().is_none()) else {
            return Ok(None);
        };
        let rate_limited = |retry_after| PublishError::RateLimited { retry_after };
        let (wait, admission) = throttle.reserve(patience.left).map_err(rate_limited)?;
        let admission = admission.held();
        if !wait.is_zero() {
            patience.started = Some(Instant::now());
            throttle.wait(Delay::new(wait)).await;
            patience.left = patience.left.saturating_sub(wait);
        }
        Ok(Some(admission))
    }

    fn closed(&self) -> PublishError {
        match self.gone() {
            Some(Gone::Lost { reason }) => PublishError::Disconnected { reason },
            _ => PublishError::Closed,
        }
    }

    /// Offers once; a refusal is not counted yet.
    /// `help` is for the caller to let go of once it holds no lock: it may wake applications.
    fn offer_event<'a>(
        &'a self,
        slot: &mut Option<Event>,
        cached: &mut Option<Arc<Route>>,
        help: &mut Option<Help<'a>>,
    ) -> Result<Receipt, TryPublishError> {
        let Some(event) = slot else {
            return Ok(Receipt::ready(0));
        };
        self.check_event(event)?;
        let admission = match self.admit() {
            Ok(admission) => admission,
            // That it is closed no waiting mends.
            Err(_) if self.gone().is_some() => None,
            Err(reason) => return Err(reason),
        };
        let before_waking = || *help = self.tasks.help();
        match self.outbox.accept_and_wake(slot, cached, before_waking) {
            Accepted::Queued(places) => {
                if let Some(admission) = admission {
                    admission.used();
                }
                Ok(places.into())
            }
            Accepted::NoCredit(link) => Err(TryPublishError::Full {
                subscription: link.name.clone(),
            }),
            Accepted::QueueFull => Err(TryPublishError::Full {
                subscription: CONNECTION.to_owned(),
            }),
            Accepted::Closed => Err(self.closed().into()),
        }
    }

    fn try_publish_on<'a>(
        &'a self,
        event: Event,
        cached: &mut Option<Arc<Route>>,
        help: &mut Option<Help<'a>>,
    ) -> Result<Receipt, Refused<TryPublishError>> {
        slot::by_slot(event, |slot| self.offer_event(slot, cached, help))
            .inspect_err(|refused| self.note_refused(refused.event(), refused.reason()))
    }

    async fn publish_on(
        &self,
        event: Event,
        cached: &mut Option<Arc<Route>>,
    ) -> Result<Receipt, Refused> {
        if let Err(reason) = self.check_event(&event) {
            return Err(self.refuse(event, reason));
        }
        let mut offer = Some(event);
        let links = self.accept_in_turn(&mut offer, cached).await;
        match (links, offer) {
            (Ok(places), _) => Ok(places.into()),
            (Err(reason), Some(event)) => Err(self.refuse(event, reason)),
            (Err(_), None) => Ok(Receipt::ready(0)),
        }
    }

    /// Waits for the event's turn, then for room, together until the deadline.
    async fn accept_in_turn(
        &self,
        offer: &mut Option<Event>,
        cached: &mut Option<Arc<Route>>,
    ) -> Result<Places, PublishError> {
        let mut patience = Patience {
            left: self.limits.publish_deadline,
            started: None,
        };
        let admission = self.turn(&mut patience).await?;
        let links = self.accept_within(offer, cached, patience).await?;
        if let Some(admission) = admission {
            admission.used();
        }
        Ok(links)
    }

    /// Offers until it is accepted or the deadline passes.
    async fn accept_within(
        &self,
        offer: &mut Option<Event>,
        cached: &mut Option<Arc<Route>>,
        Patience { left, mut started }: Patience,
    ) -> Result<Places, PublishError> {
        let mut help = None;
        let before_waking = || help = self.tasks.help();
        let first = self.outbox.accept_and_wake(offer, cached, before_waking);
        if let Accepted::Queued(places) = first {
            return Ok(places);
        }
        let timer = || {
            started.get_or_insert_with(Instant::now);
            Delay::new(left)
        };
        let accepted = waiting::accept_within(&self.outbox, offer, cached, timer).await;
        accepted.map_err(|reason| match reason {
            NotAccepted::Closed => self.closed(),
            NotAccepted::Full(link) => PublishError::Backpressure {
                subscription: link.map_or(CONNECTION.to_owned(), |link| link.name.clone()),
                waited: started.map_or(Duration::ZERO, |started| started.elapsed()),
            },
        })
    }
}

/// What is named when the connection itself does not keep up.
const CONNECTION: &str = "(connection to the broker)";

#[async_trait]
impl EventBus for BusrtBus {
    fn backend(&self) -> &str {
        self.backend
    }

    fn publisher_id(&self) -> PublisherId {
        self.node.publisher
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        self.node.publish_on(event, &mut None).await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        self.node.try_publish_on(event, &mut None, &mut None)
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        let mut pending = Pending::default();
        let mut cached: Option<Arc<Route>> = None;
        let mut topic: Option<Topic> = None;
        let mut events = events.into_iter();
        let mut accepted = 0;
        while let Some(event) = events.next() {
            if topic.as_ref() != Some(event.topic()) {
                topic = Some(event.topic().clone());
                cached = None;
            }
            if let Err(reason) = self.node.check_event(&event) {
                self.node.note_refused(&event, &reason);
                return Err(batch_refused(accepted, event, events, reason));
            }
            let mut offer = Some(event);
            let taken = self.node.accept_in_turn(&mut offer, &mut cached);
            match (taken.await, offer) {
                (Ok(places), _) => pending.add(places),
                (Err(reason), Some(event)) => {
                    self.node.note_refused(&event, &reason);
                    return Err(batch_refused(accepted, event, events, reason));
                }
                (Err(_), None) => {}
            }
            accepted += 1;
        }
        Ok(pending.into())
    }

    async fn flush(&self, deadline: Duration) -> Result<(), FlushError> {
        self.node.flush(deadline).await
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        let node = Arc::clone(&self.node);
        Publisher::new(
            topic,
            Arc::new(TopicPublisher {
                node,
                cached: Mutex::new(None),
            }),
        )
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        let Some(home) = self.home() else {
            return Err(SubscribeError::Closed);
        };
        let deadline = home.patience();
        // Whoever shuts down meanwhile is to be the last to let go of it.
        drop(home);
        self.node.subscribe(subscribe, deadline).await
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        let Some(home) = self.home() else {
            return Err(ConnectError::Closed);
        };
        let bus: Arc<dyn EventBus> = Arc::new(home.connect(name).await?);
        Ok(bus)
    }

    async fn serve(&self, service: Service) -> Result<Serving, ServeError> {
        let Some(home) = self.home() else {
            return Err(ServeError::Closed);
        };
        self.node.serve(&home, service).await
    }

    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        self.node.call(call).await
    }

    fn stats(&self) -> Stats {
        let node = &self.node;
        Stats {
            calls: node.calls.tally.stats(),
            services: node.calls.service_stats(),
            backend: self.backend.to_owned(),
            published: node.outbox.published(),
            refused: node.refused.load(Ordering::Relaxed),
            dropped: node.outbox.dropped(),
            malformed: node.malformed.load(Ordering::Relaxed),
            reconnects: node.reconnects.load(Ordering::Relaxed),
            resends: node.resends.load(Ordering::Relaxed),
            given_up: node.given_up.load(Ordering::Relaxed),
            families: node.outbox.families(),
            subscriptions: node.subscription_stats(),
        }
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.node.watch.subscribe()
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        let mut finished = self.finished.lock().await;
        if let Some(result) = &*finished {
            return result.clone();
        }
        let result = self.node.finish(self.node.limits.publish_deadline).await;
        let task = self.task.lock().take();
        end(task, self.node.limits.publish_deadline).await;
        let home = self.home.lock().take();
        if let Some(home) = home.and_then(Arc::into_inner) {
            home.stop().await;
        }
        *finished = Some(result.clone());
        result
    }
}

/// Waits until the task has ended; a write to a broker that has stopped reading is cut off.
async fn end(task: Option<Task<()>>, deadline: Duration) {
    let Some(mut task) = task else { return };
    tokio::select! {
        biased;
        _ = &mut task => {}
        () = Delay::new(deadline) => task.stop().await,
    }
}

fn batch_refused(
    accepted: usize,
    event: Event,
    rest: impl Iterator<Item = Event>,
    reason: PublishError,
) -> BatchRefused {
    BatchRefused {
        accepted,
        events: std::iter::once(event).chain(rest).collect(),
        reason,
    }
}

impl Node {
    /// Delivers what was accepted, ends the subscriptions once all that is for them is there, and
    /// leaves.
    pub(crate) async fn finish(&self, deadline: Duration) -> Result<(), ShutdownError> {
        let started = Instant::now();
        let left = || deadline.saturating_sub(started.elapsed());
        self.calls.finish(deadline).await;
        self.state.lock().closing = true;
        self.changed.notify_waiters();
        self.outbox.close();
        self.end_turns();
        let result = self.confirm_all(deadline).await;
        self.drain_subscriptions(left()).await;
        // The writer sends what is left, then leaves. Fails only if it has ended already.
        let _ = self.commands.send(Command::Stop).await;
        result
    }

    async fn confirm_all(&self, deadline: Duration) -> Result<(), ShutdownError> {
        let started = Instant::now();
        let short = |rest: &[(Arc<Link>, u64)]| {
            let subscriptions = rest.iter().map(|(link, _)| link.name.clone()).collect();
            let unconfirmed = rest.iter().map(|(_, missing)| missing).sum();
            warn!(client = %self.name, unconfirmed, ?subscriptions, "closed unconfirmed");
            Err(ShutdownError::Unconfirmed {
                unconfirmed,
                subscriptions,
                waited: started.elapsed(),
            })
        };
        match waiting::confirm_all(&self.outbox, Delay::new(deadline)).await {
            Err(rest) => short(&rest),
            Ok(()) => {
                let lost = std::mem::take(&mut self.state.lock().lost_unconfirmed);
                if lost.is_empty() {
                    Ok(())
                } else {
                    short(&lost)
                }
            }
        }
    }
}

impl Drop for BusrtBus {
    fn drop(&mut self) {
        let Some(home) = self.home.lock().take() else {
            return;
        };
        let node = Arc::clone(&self.node);
        let task = self.task.lock().take();
        home.finish_in_background(async move {
            let _ = node.finish(node.limits.publish_deadline).await;
            end(task, node.limits.publish_deadline).await;
        });
    }
}

impl fmt::Debug for BusrtBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusrtBus")
            .field("backend", &self.backend)
            .field("client", &self.node.name)
            .finish_non_exhaustive()
    }
}

/// A publisher of one topic, which keeps its route.
///
/// Invariant: nobody waits for the lock. What is done under it drops payloads and tells the log, which
/// may be the application's own and publish again here.
struct TopicPublisher {
    node: Arc<Node>,
    cached: Mutex<Option<Arc<Route>>>,
}

impl TopicPublisher {
    /// Calls `publish` with the route that is kept, or with none if somebody has it just now.
    fn with_route<T>(&self, publish: impl FnOnce(&mut Option<Arc<Route>>) -> T) -> T {
        match self.cached.try_lock() {
            Some(mut cached) => publish(&mut cached),
            None => publish(&mut None),
        }
    }
}

#[async_trait]
impl PublishTopic for TopicPublisher {
    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        let mut cached = self.with_route(|cached| cached.clone());
        self.node.publish_on(event, &mut cached).await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        let mut help = None;
        self.with_route(|cached| self.node.try_publish_on(event, cached, &mut help))
    }

    fn refused(&self, event: &Event, reason: &PublishError) {
        self.node.note_refused(event, reason);
    }

    fn first_try(&self, slot: &mut Option<Event>) -> Result<Receipt, TryPublishError> {
        let mut help = None;
        let tried = self.with_route(|cached| self.node.offer_event(slot, cached, &mut help));
        tried.inspect_err(|reason| {
            if let (TryPublishError::Publish(reason), Some(event)) = (reason, slot) {
                self.node.note_refused(event, reason);
            }
        })
    }
}
