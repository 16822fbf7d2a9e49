//! The mutant's own operations: what goes wrong in the handle.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eventbus_trait::rpc::{Call, CallError, Reply, ServeError, Service, Serving};
use eventbus_trait::{
    BatchRefused, BusState, ConnectError, Delivery, Event, EventBus, FlushError, PublishError,
    Publisher, PublisherId, Receipt, Refused, ShutdownError, Stats, Subscribe, SubscribeError,
    Subscription, SubscriptionCounters, Topic, TryPublishError,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::{NoSubscriber, with_default};

use super::Defect;
use super::calls::Called;
use super::publisher::{MutantPublisher, once};
use super::request::altered;
use super::shared::{Leaks, Shared, To};
use super::source::MutantSource;
use crate::history::mark_of;

/// How long a mutant waits that should not have waited.
const TOO_LONG: Duration = Duration::from_millis(50);

/// Bytes that are kept of an event by [`Defect::HoardsCrumbs`].
const CRUMB: usize = 64;

/// What comes of publishing without waiting.
pub(super) type Tried = Result<Receipt, Refused<TryPublishError>>;

/// A bus with a defect.
#[derive(Debug)]
pub struct MutantBus {
    pub(super) inner: Arc<dyn EventBus>,
    pub(super) core: Arc<Core>,
}

#[derive(Debug)]
pub(super) struct Core {
    /// The bus inside lives as long as its handle does.
    inner: Weak<dyn EventBus>,
    id: PublisherId,
    pub(super) shared: Arc<Shared>,
    pub(super) closed: AtomicBool,
    /// Held by the publish that is under way, for [`Defect::HoldsUpEverybody`].
    one_by_one: tokio::sync::Mutex<()>,
    /// Shared by the publishes that are under way, for [`Defect::QueuesControl`].
    under_way: tokio::sync::RwLock<()>,
    /// Held while receiving, for [`Defect::Deadlocks`].
    pub(super) receiving: Mutex<()>,
    /// What was offered, for [`Defect::Hoards`], or crumbs of it.
    hoard: Mutex<Vec<Box<dyn Any + Send>>>,
    /// Subscriptions that should have ended.
    pub(super) undead: Mutex<Vec<Subscription>>,
    /// How many publishes by a publisher had to wait, for [`Defect::CountsWaits`].
    pub(super) waits: AtomicU64,
    pub(super) called: Called,
}

impl MutantBus {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn EventBus>, defect: Defect) -> Arc<Self> {
        Self::with(inner, &Shared::new(defect, Arc::<Leaks>::default()))
    }

    /// How many deliveries were tampered with, by all handles.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.core.shared.count_injected()
    }

    pub(super) fn with(inner: Arc<dyn EventBus>, shared: &Arc<Shared>) -> Arc<Self> {
        shared.leak();
        shared.born(&inner);
        let core = Core {
            inner: Arc::downgrade(&inner),
            id: inner.publisher_id(),
            shared: Arc::clone(shared),
            closed: AtomicBool::new(false),
            one_by_one: tokio::sync::Mutex::default(),
            under_way: tokio::sync::RwLock::default(),
            receiving: Mutex::default(),
            hoard: Mutex::default(),
            undead: Mutex::default(),
            waits: AtomicU64::new(0),
            called: Called::default(),
        };
        Arc::new(Self {
            inner,
            core: Arc::new(core),
        })
    }

    async fn subscribe_inside(
        &self,
        subscribe: &Subscribe,
    ) -> Result<(Subscription, Option<Arc<dyn EventBus>>), SubscribeError> {
        let inner = &self.inner;
        match (
            inner.subscribe(subscribe.clone()).await,
            self.core.shared.defect,
        ) {
            (Err(SubscribeError::AlreadySubscribed { .. }), Defect::SharesNames) => {
                let name = PublisherId::random().to_string();
                Ok((inner.subscribe(subscribe.clone().named(name)).await?, None))
            }
            (Err(SubscribeError::TooManySubscriptions { .. }), Defect::HasNoLimit) => {
                let other = inner
                    .connect(None)
                    .await
                    .map_err(|_| SubscribeError::Closed)?;
                Ok((other.subscribe(subscribe.clone()).await?, Some(other)))
            }
            (result, _) => result.map(|subscription| (subscription, None)),
        }
    }
}

impl Core {
    pub(super) fn defect(&self) -> Defect {
        self.shared.defect
    }

    /// Whether this is the handle that is hurt by faults.
    pub(super) fn is_hurt(&self) -> bool {
        self.shared.is_hurt(Some(self.id))
    }

    pub(super) async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        self.hoard(&event);
        match self.defect() {
            Defect::RefusesAll => return Err(Refused::new(event, PublishError::Closed)),
            Defect::Hangs => std::future::pending().await,
            // Unwinds without the message that a panic would print.
            Defect::Panics => std::panic::resume_unwind(Box::new("a mutant's own panic")),
            Defect::RefusesInCutover if self.shared.strikes_a_publish() => {
                let (subscription, waited) = ("(cutover)".to_owned(), Duration::ZERO);
                let reason = PublishError::Backpressure {
                    subscription,
                    waited,
                };
                return Err(Refused::new(event, reason));
            }
            _ => {}
        }
        let _turn = match self.defect() {
            Defect::HoldsUpEverybody => Some(self.one_by_one.lock().await),
            _ => None,
        };
        let _under_way = match self.defect() {
            Defect::QueuesControl => Some(self.under_way.read().await),
            _ => None,
        };
        let repeat = self.shared.repeat(&event);
        let result = self.publish_to_its_end(event).await;
        repeat.forget();
        match result {
            Ok(receipt) => Ok(self.overstate(receipt)),
            Err(refused) if self.swallows(refused.reason()) => Ok(Receipt::ready(0)),
            Err(refused) => {
                self.smuggle(&refused);
                Err(refused)
            }
        }
    }

    /// Publishes; who has to wait does what the defect says.
    async fn publish_to_its_end(&self, event: Event) -> Result<Receipt, Refused> {
        let was_open = !self.closed.load(Ordering::SeqCst);
        let mut publishing = Box::pin(self.publish_inside(event));
        let result = match (self.defect(), once(publishing.as_mut()).await) {
            (_, Poll::Ready(result)) => result,
            (Defect::WakesInTurn, Poll::Pending) => {
                let _turn = self.one_by_one.lock().await;
                publishing.await
            }
            (_, Poll::Pending) => publishing.await,
        };
        let overslept = self.defect() == Defect::SleepsWithoutRoom && was_open;
        match &result {
            Err(refused) if overslept && *refused.reason() == PublishError::Closed => {
                std::future::pending().await
            }
            _ => result,
        }
    }

    async fn publish_inside(&self, event: Event) -> Result<Receipt, Refused> {
        let Some(inner) = self.inner.upgrade() else {
            return Err(Refused::new(event, PublishError::Closed));
        };
        if mark_of(&event).is_some() {
            self.shared.published();
        }
        if self.defect() == Defect::OverstatesWaits && mark_of(&event).is_some() {
            return self.give_up_early(&inner, event).await;
        }
        use Defect::{WaitsAlways, WaitsThenDrops};
        let waits = matches!(self.defect(), WaitsAlways | WaitsThenDrops);
        let waits = waits && mark_of(&event).is_some();
        if !waits || event.get_delivery() != Delivery::AtMostOnce {
            let publishing = self.publish_in_its_turn(&inner, event);
            return match self.defect() {
                Defect::KeepsSilent => publishing.with_subscriber(NoSubscriber::default()).await,
                _ => publishing.await,
            };
        }
        let (began, fleeting) = (Instant::now(), event.clone());
        let waiting = inner.publish(event.delivery(Delivery::AtLeastOnce));
        if self.defect() == WaitsThenDrops {
            return match waiting.await.map_err(Refused::into_parts) {
                Ok(receipt) => Ok(receipt),
                // Dropped and counted as it should be, but late.
                Err((_, PublishError::Backpressure { .. })) => inner.publish(fleeting).await,
                Err((_, reason)) => Err(Refused::new(fleeting, reason)),
            };
        }
        let waited = tokio::time::timeout(TOO_LONG, waiting).await;
        waited.unwrap_or_else(|_| {
            let (subscription, waited) = (String::new(), began.elapsed());
            let reason = PublishError::Backpressure {
                subscription,
                waited,
            };
            Err(Refused::new(fleeting, reason))
        })
    }

    /// Publishes; whose turn comes after the deadline waits for it with
    /// [`Defect::OverstaysDeadlines`].
    async fn publish_in_its_turn(
        &self,
        inner: &Arc<dyn EventBus>,
        event: Event,
    ) -> Result<Receipt, Refused> {
        let mut result = inner.publish(event).await;
        while self.defect() == Defect::OverstaysDeadlines {
            let (event, reason) = match result.map_err(Refused::into_parts) {
                Ok(receipt) => return Ok(receipt),
                Err(refused) => refused,
            };
            let PublishError::RateLimited { retry_after } = reason else {
                return Err(Refused::new(event, reason));
            };
            let _ = tokio::time::timeout(retry_after, std::future::pending::<()>()).await;
            result = inner.publish(event).await;
        }
        result
    }

    /// Publishes `event` with half the time that it has, and says that it had all of it.
    async fn give_up_early(
        &self,
        inner: &Arc<dyn EventBus>,
        event: Event,
    ) -> Result<Receipt, Refused> {
        let (whole, back) = (self.shared.publish_deadline(), event.clone());
        let publishing = tokio::time::timeout(whole / 2, inner.publish(event));
        if let Ok(published) = publishing.await {
            return published;
        }
        let (event, reason) = match inner.try_publish(back).map_err(Refused::into_parts) {
            Ok(receipt) => return Ok(receipt),
            Err(refused) => refused,
        };
        let reason = match reason {
            TryPublishError::Full { subscription } => PublishError::Backpressure {
                subscription,
                waited: whole,
            },
            TryPublishError::Publish(reason) => reason,
            other => PublishError::Disconnected {
                reason: other.to_string(),
            },
        };
        Err(Refused::new(event, reason))
    }

    pub(super) fn try_publish(&self, event: Event, by: fn(&dyn EventBus, Event) -> Tried) -> Tried {
        self.hoard(&event);
        match self.defect() {
            Defect::RefusesAll => return Err(Refused::new(event, PublishError::Closed.into())),
            Defect::Hangs => {
                let subscription = String::new();
                return Err(Refused::new(event, TryPublishError::Full { subscription }));
            }
            Defect::Panics => std::panic::resume_unwind(Box::new("a mutant's own panic")),
            Defect::NeedsARuntime if tokio::runtime::Handle::try_current().is_err() => {
                let reason = "this thread has no runtime".to_owned();
                let reason = PublishError::Disconnected { reason };
                return Err(Refused::new(event, reason.into()));
            }
            Defect::Deadlocks => drop(self.receiving.lock()),
            _ => {}
        }
        let Some(inner) = self.inner.upgrade() else {
            return Err(Refused::new(event, PublishError::Closed.into()));
        };
        if mark_of(&event).is_some() {
            self.shared.published();
        }
        let tried = match self.defect() {
            Defect::KeepsSilent => with_default(NoSubscriber::default(), || by(&*inner, event)),
            _ => by(&*inner, event),
        };
        match tried {
            Ok(receipt) => Ok(self.overstate(receipt)),
            Err(refused) => match refused.reason() {
                TryPublishError::Publish(reason) if self.swallows(reason) => Ok(Receipt::ready(0)),
                _ => Err(refused),
            },
        }
    }

    fn hoard(&self, event: &Event) {
        match self.defect() {
            Defect::Hoards => self.hoard.lock().push(Box::new(event.clone())),
            Defect::HoardsCrumbs => self.hoard.lock().push(Box::new([1_u8; CRUMB])),
            _ => {}
        }
    }

    /// Waits for the publishes that are under way, with [`Defect::QueuesControl`].
    async fn after_publishes(&self) {
        if self.defect() == Defect::QueuesControl {
            drop(self.under_way.write().await);
        }
    }

    fn swallows(&self, reason: &PublishError) -> bool {
        use PublishError::{Backpressure, Closed, Denied, TooLarge};
        matches!(
            (self.defect(), reason),
            (Defect::SwallowsLarge, TooLarge { .. })
                | (Defect::SwallowsBackpressure, Backpressure { .. })
                | (Defect::NeverCloses, Closed)
                | (Defect::DeniesSilently, Denied { .. })
        )
    }

    /// Has an event that found no room delivered all the same.
    fn smuggle(&self, refused: &Refused) {
        let PublishError::Backpressure { subscription, .. } = refused.reason() else {
            return;
        };
        let to = match self.defect() {
            Defect::DeliversRefused => To::Only(subscription.clone()),
            Defect::EntersSome => To::AllBut(subscription.clone()),
            _ => return,
        };
        if mark_of(refused.event()).is_some() {
            self.shared.smuggle(refused.event().clone(), to);
        }
    }

    fn overstate(&self, receipt: Receipt) -> Receipt {
        match (self.defect(), receipt.now()) {
            (Defect::Overstates, Some(now)) => Receipt::ready(now.deliveries + 1),
            _ => receipt,
        }
    }
}

#[async_trait]
impl EventBus for MutantBus {
    fn backend(&self) -> &str {
        self.inner.backend()
    }

    fn publisher_id(&self) -> PublisherId {
        self.inner.publisher_id()
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        self.core.publish(event).await
    }

    fn try_publish(&self, event: Event) -> Tried {
        self.core
            .try_publish(event, |bus, event| bus.try_publish(event))
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        match self.core.defect() {
            Defect::RefusesAll | Defect::Hangs | Defect::Panics => {
                for event in events.clone() {
                    if let Err(refused) = self.core.publish(event).await {
                        let reason = refused.reason().clone();
                        return Err(BatchRefused {
                            accepted: 0,
                            events,
                            reason,
                        });
                    }
                }
                Ok(Receipt::ready(0))
            }
            _ => {
                for event in &events {
                    self.core.hoard(event);
                    if mark_of(event).is_some() {
                        self.core.shared.published();
                    }
                }
                self.inner.publish_batch(events).await
            }
        }
    }

    async fn flush(&self, deadline: Duration) -> Result<(), FlushError> {
        let closed = self.core.closed.load(Ordering::SeqCst);
        if self.core.defect() == Defect::FlushesTooSoon && !closed {
            self.core.shared.arm();
            return Ok(());
        }
        self.inner.flush(deadline).await
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        Publisher::new(topic, Arc::new(MutantPublisher(Arc::clone(&self.core))))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        self.core.after_publishes().await;
        let shared = &self.core.shared;
        let flowing = shared.count_published() > 0;
        let wanted = altered(&subscribe, shared.defect);
        let (inner, beside) = self.subscribe_inside(&wanted).await?;
        let name: Arc<str> = match (shared.defect, subscribe.name()) {
            (Defect::SharesNames, Some(asked)) => asked.into(),
            _ => inner.name().into(),
        };
        let counters = Arc::new(SubscriptionCounters::default());
        let core = Arc::clone(&self.core);
        let source = MutantSource::new(core, inner, &subscribe, Arc::clone(&counters))
            .named(&name)
            .in_a_flow(flowing)
            .beside(beside);
        Ok(Subscription::new(
            name,
            &subscribe.ungated(),
            counters,
            Box::new(source),
        ))
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        self.core.after_publishes().await;
        let inner = match (self.inner.connect(name).await, self.core.defect()) {
            (Err(ConnectError::NameInUse { .. }), Defect::SharesClientNames) => {
                self.inner.connect(None).await?
            }
            (Err(ConnectError::BadName { .. }), Defect::TakesAnyName) => {
                self.inner.connect(None).await?
            }
            (connected, _) => connected?,
        };
        Ok(Self::with(inner, &self.core.shared))
    }

    async fn serve(&self, service: Service) -> Result<Serving, ServeError> {
        self.serve_inside(service).await
    }

    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        self.call_inside(call).await
    }

    fn stats(&self) -> Stats {
        let mut stats = self.inner.stats();
        match self.core.defect() {
            Defect::Overcounts if stats.published > 0 => stats.published += 1,
            Defect::CountsWaits => stats.refused += self.core.waits.load(Ordering::SeqCst),
            Defect::CountsNoRefusals => stats.refused = 0,
            Defect::LosesInSilence => stats.dropped = 0,
            Defect::CountsResendsTwice => stats.resends *= 2,
            Defect::CountsNoReconnects => stats.reconnects = 0,
            Defect::ForgetsFamilies => stats.families.clear(),
            _ => {}
        }
        stats
    }

    fn state(&self) -> watch::Receiver<BusState> {
        match self.core.defect() {
            Defect::NeverNotices => watch::channel(BusState::Connected).1,
            _ => self.inner.state(),
        }
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.core.after_publishes().await;
        self.core.closed.store(true, Ordering::SeqCst);
        if self.core.defect() == Defect::NeverShutsDown {
            std::future::pending::<()>().await;
        }
        if self.core.defect() == Defect::ClosesOthers {
            let others = std::mem::take(&mut *self.core.shared.handles.lock());
            for other in others.iter().filter_map(Weak::upgrade) {
                other.shutdown().await?;
            }
        }
        self.inner.shutdown().await
    }
}

impl Drop for MutantBus {
    fn drop(&mut self) {
        let closed = self.core.closed.load(Ordering::SeqCst);
        if self.core.defect() == Defect::OutlivesItsHandle && !closed {
            self.core.shared.keep(Arc::clone(&self.inner));
        }
    }
}
