//! The mutant's own operations: what goes wrong in the handle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use eventbus_trait::{
    BatchRefused, ConnectError, Delivery, Event, EventBus, PublishError, PublishTopic, Publisher,
    PublisherId, Receipt, Refused, ShutdownError, Stats, Subscribe, SubscribeError, Subscription,
    SubscriptionCounters, Topic, TryPublishError,
};
use parking_lot::Mutex;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::{NoSubscriber, with_default};

use super::source::MutantSource;
use super::{Defect, Shared};
use crate::history::mark_of;

/// A bus with a defect.
#[derive(Debug)]
pub struct MutantBus {
    core: Arc<Core>,
}

#[derive(Debug)]
pub(super) struct Core {
    inner: Arc<dyn EventBus>,
    pub(super) shared: Arc<Shared>,
    pub(super) closed: AtomicBool,
    /// Held by the publish that is under way, for [`Defect::HoldsUpEverybody`].
    one_by_one: tokio::sync::Mutex<()>,
    /// Shared by the publishes that are under way, for [`Defect::QueuesControl`].
    under_way: tokio::sync::RwLock<()>,
    /// Held while receiving, for [`Defect::Deadlocks`].
    pub(super) receiving: Mutex<()>,
    /// What was offered, for [`Defect::Hoards`].
    hoard: Mutex<Vec<Event>>,
    /// Subscriptions that should have ended.
    pub(super) undead: Mutex<Vec<Subscription>>,
}

impl MutantBus {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn EventBus>, defect: Defect) -> Arc<Self> {
        let shared = Shared {
            defect,
            seen: AtomicU64::new(0),
            injected: AtomicU64::new(0),
        };
        Self::with(inner, Arc::new(shared))
    }

    /// How many deliveries were tampered with, by all handles.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.core.shared.injected.load(Ordering::SeqCst)
    }

    fn with(inner: Arc<dyn EventBus>, shared: Arc<Shared>) -> Arc<Self> {
        if shared.defect == Defect::LeaksTask {
            tokio::spawn(std::future::pending::<()>());
        }
        let closed = AtomicBool::new(false);
        let core = Core {
            inner,
            shared,
            closed,
            one_by_one: tokio::sync::Mutex::default(),
            under_way: tokio::sync::RwLock::default(),
            receiving: Mutex::default(),
            hoard: Mutex::default(),
            undead: Mutex::default(),
        };
        Arc::new(Self {
            core: Arc::new(core),
        })
    }

    async fn subscribe_inside(
        &self,
        subscribe: &Subscribe,
    ) -> Result<(Subscription, Option<Arc<dyn EventBus>>), SubscribeError> {
        let inner = &self.core.inner;
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
    fn defect(&self) -> Defect {
        self.shared.defect
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        self.hoard(&event);
        match self.defect() {
            Defect::RefusesAll => return Err(Refused::new(event, PublishError::Closed)),
            Defect::Hangs => std::future::pending().await,
            // Unwinds without the message that a panic would print.
            Defect::Panics => std::panic::resume_unwind(Box::new("a mutant's own panic")),
            _ => {}
        }
        let again = (self.defect() == Defect::RepeatsCancelled).then(|| event.clone());
        let _turn = match self.defect() {
            Defect::HoldsUpEverybody => Some(self.one_by_one.lock().await),
            _ => None,
        };
        let _under_way = match self.defect() {
            Defect::QueuesControl => Some(self.under_way.read().await),
            _ => None,
        };
        let repeat = Repeat {
            bus: &self.inner,
            event: again,
        };
        let event = self.wait_always(event);
        let publishing = self.inner.publish(event);
        let result = match self.defect() {
            Defect::KeepsSilent => publishing.with_subscriber(NoSubscriber::default()).await,
            _ => publishing.await,
        };
        repeat.forget();
        match result {
            Ok(receipt) => Ok(self.overstate(receipt)),
            Err(refused) if self.swallows(refused.reason()) => Ok(Receipt::ready(0)),
            Err(refused) => Err(refused),
        }
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        self.hoard(&event);
        match self.defect() {
            Defect::RefusesAll => return Err(Refused::new(event, PublishError::Closed.into())),
            Defect::Hangs => {
                let subscription = String::new();
                return Err(Refused::new(event, TryPublishError::Full { subscription }));
            }
            Defect::Panics => std::panic::resume_unwind(Box::new("a mutant's own panic")),
            _ => {}
        }
        if self.defect() == Defect::Deadlocks {
            drop(self.receiving.lock());
        }
        let event = self.wait_always(event);
        let tried = match self.defect() {
            Defect::KeepsSilent => {
                with_default(NoSubscriber::default(), || self.inner.try_publish(event))
            }
            _ => self.inner.try_publish(event),
        };
        match tried {
            Ok(receipt) => Ok(self.overstate(receipt)),
            Err(refused) => match refused.reason() {
                TryPublishError::Publish(reason) if self.swallows(reason) => Ok(Receipt::ready(0)),
                TryPublishError::Full { .. } if self.defect() == Defect::DeliversRefused => {
                    let (inner, event) = (Arc::clone(&self.inner), refused.event().clone());
                    tokio::spawn(async move {
                        let mut event = event;
                        while let Err(back) = inner.publish(event).await {
                            if *back.reason() == PublishError::Closed {
                                break;
                            }
                            event = back.into_event();
                        }
                    });
                    Err(refused)
                }
                _ => Err(refused),
            },
        }
    }

    fn hoard(&self, event: &Event) {
        if self.defect() == Defect::Hoards {
            self.hoard.lock().push(event.clone());
        }
    }

    /// Waits for the publishes that are under way, with [`Defect::QueuesControl`].
    async fn after_publishes(&self) {
        if self.defect() == Defect::QueuesControl {
            drop(self.under_way.write().await);
        }
    }

    fn swallows(&self, reason: &PublishError) -> bool {
        matches!(
            (self.defect(), reason),
            (Defect::SwallowsLarge, PublishError::TooLarge { .. })
                | (
                    Defect::SwallowsBackpressure,
                    PublishError::Backpressure { .. }
                )
                | (Defect::NeverCloses, PublishError::Closed)
        )
    }

    fn overstate(&self, receipt: Receipt) -> Receipt {
        match (self.defect(), receipt.now()) {
            (Defect::Overstates, Some(now)) => Receipt::ready(now.deliveries + 1),
            _ => receipt,
        }
    }

    fn wait_always(&self, event: Event) -> Event {
        if self.defect() == Defect::WaitsAlways && mark_of(&event).is_some() {
            return event.delivery(Delivery::AtLeastOnce);
        }
        event
    }
}

/// Publishes an event twice when it is dropped before it was told to forget it.
struct Repeat<'a> {
    bus: &'a Arc<dyn EventBus>,
    event: Option<Event>,
}

impl Repeat<'_> {
    fn forget(mut self) {
        self.event = None;
    }
}

impl Drop for Repeat<'_> {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            let bus = Arc::clone(self.bus);
            tokio::spawn(async move {
                let _ = bus.publish(event.clone()).await;
                bus.publish(event).await
            });
        }
    }
}

#[async_trait]
impl EventBus for MutantBus {
    fn backend(&self) -> &str {
        self.core.inner.backend()
    }

    fn publisher_id(&self) -> PublisherId {
        self.core.inner.publisher_id()
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        self.core.publish(event).await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        self.core.try_publish(event)
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
            _ => self.core.inner.publish_batch(events).await,
        }
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        Publisher::new(topic, Arc::new(MutantPublisher(Arc::clone(&self.core))))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        self.core.after_publishes().await;
        let wanted = match self.core.defect() {
            Defect::IgnoresGates => subscribe.ungated(),
            _ => subscribe.clone(),
        };
        let (inner, beside) = self.subscribe_inside(&wanted).await?;
        let name = match (self.core.defect(), subscribe.name()) {
            (Defect::SharesNames, Some(asked)) => asked.into(),
            _ => inner.name().into(),
        };
        let counters = Arc::new(SubscriptionCounters::default());
        let core = Arc::clone(&self.core);
        let source = MutantSource::new(core, inner, &subscribe, Arc::clone(&counters), beside);
        Ok(Subscription::new(
            name,
            &subscribe.ungated(),
            counters,
            Box::new(source),
        ))
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        self.core.after_publishes().await;
        let inner = match (self.core.inner.connect(name).await, self.core.defect()) {
            (Err(ConnectError::NameInUse { .. }), Defect::SharesNames) => {
                self.core.inner.connect(None).await?
            }
            (Err(ConnectError::BadName { .. }), Defect::TakesAnyName) => {
                self.core.inner.connect(None).await?
            }
            (connected, _) => connected?,
        };
        Ok(Self::with(inner, Arc::clone(&self.core.shared)))
    }

    fn stats(&self) -> Stats {
        let mut stats = self.core.inner.stats();
        if self.core.defect() == Defect::Overcounts && stats.published > 0 {
            stats.published += 1;
        }
        stats
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.core.after_publishes().await;
        if self.core.defect() == Defect::ForgetsAtShutdown {
            self.core.closed.store(true, Ordering::SeqCst);
        }
        self.core.inner.shutdown().await
    }
}

struct MutantPublisher(Arc<Core>);

#[async_trait]
impl PublishTopic for MutantPublisher {
    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        self.0.publish(event).await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        self.0.try_publish(event)
    }
}
