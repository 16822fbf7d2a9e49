//! A bus that misbehaves on purpose, to see whether the comparison finds it.
//!
//! It wraps any bus and interferes with what subscriptions deliver. One injection is one
//! divergence: what is counted is what a comparison with this bus as its candidate must find, no
//! more and no less. An interference that would be none (an event held back that nothing
//! overtook) is not counted, and markers of a comparison come through untouched.

mod engine;
mod source;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::rpc::{Call, CallError, Reply, ServeError, Service, Serving};
use eventbus_trait::{
    BatchRefused, ConnectError, Event, EventBus, FlushError, Publisher, PublisherId, Receipt,
    Refused, ShutdownError, Stats, Subscribe, SubscribeError, Subscription, Topic, TryPublishError,
};
use parking_lot::Mutex;

use crate::options::ShadowOptions;
use crate::report::DivergenceClass;
use source::SabotageSource;

/// Most injections that are listed; all are counted.
const LISTED: usize = 10_000;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sabotage {
    /// An event is not delivered.
    Drop,
    /// An event is delivered twice.
    Duplicate,
    /// An event is delivered after the next one of its publisher and topic.
    Reorder,
    /// One byte of a payload is changed, or added if there is none.
    Corrupt,
    /// An event is delivered that nobody published.
    Phantom,
    /// An event is delivered longer after the next one than the comparison's grace time.
    Delay,
}

impl Sabotage {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Drop,
        Self::Duplicate,
        Self::Reorder,
        Self::Corrupt,
        Self::Phantom,
        Self::Delay,
    ];

    /// The class that a comparison must tell it as.
    #[must_use]
    pub fn divergence(self) -> DivergenceClass {
        match self {
            Self::Drop => DivergenceClass::Missing,
            Self::Duplicate => DivergenceClass::Duplicate,
            Self::Reorder => DivergenceClass::Reordered,
            Self::Corrupt => DivergenceClass::Differs,
            Self::Phantom => DivergenceClass::Phantom,
            Self::Delay => DivergenceClass::Late,
        }
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drop => "drop",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Corrupt => "corrupt",
            Self::Phantom => "phantom",
            Self::Delay => "delay",
        })
    }
}

/// A text that names no sabotage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is none of drop, duplicate, reorder, corrupt, phantom, delay")]
pub struct UnknownSabotage {
    /// The text.
    pub name: String,
}

impl FromStr for Sabotage {
    type Err = UnknownSabotage;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.to_string() == name)
            .ok_or_else(|| UnknownSabotage {
                name: name.to_owned(),
            })
    }
}

/// One injection, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Injection {
    /// The subscription.
    pub subscription: String,
    /// The event's topic.
    pub topic: String,
    /// The event's publisher.
    pub publisher: PublisherId,
    /// The event's sequence.
    pub sequence: u64,
}

/// A bus that misbehaves on purpose: a wrapper around another one.
///
/// ```
/// use shadow::sabotage::{Sabotage, SabotageBus};
/// # fn wrap(bus: std::sync::Arc<dyn eventbus_trait::EventBus>) {
/// let candidate = SabotageBus::new(bus, Sabotage::Drop, 0.001, 7);
/// // … put it in the shadow of another bus, publish …
/// println!("{} events dropped", candidate.injected());
/// # }
/// ```
#[derive(Debug)]
pub struct SabotageBus {
    inner: Arc<dyn EventBus>,
    plan: Arc<Plan>,
}

/// What all handles of a saboteur share.
#[derive(Debug)]
pub(crate) struct Plan {
    kind: Sabotage,
    rate: f64,
    seed: u64,
    hold: Duration,
    subscriptions: AtomicU64,
    injected: AtomicU64,
    listed: Mutex<Vec<Injection>>,
}

impl SabotageBus {
    /// Wraps `inner`. Of the events delivered, each is chosen with the probability `rate`, by a
    /// generator that begins with `seed`. A delayed event is held for longer than the default
    /// grace time of a comparison.
    #[must_use]
    pub fn new(inner: Arc<dyn EventBus>, kind: Sabotage, rate: f64, seed: u64) -> Arc<Self> {
        Self::with_grace(inner, kind, rate, seed, ShadowOptions::default().grace)
    }

    /// As `new`, for a comparison with another grace time.
    #[must_use]
    pub fn with_grace(
        inner: Arc<dyn EventBus>,
        kind: Sabotage,
        rate: f64,
        seed: u64,
        grace: Duration,
    ) -> Arc<Self> {
        let plan = Arc::new(Plan {
            kind,
            rate: rate.clamp(0.0, 1.0),
            seed,
            hold: grace + Duration::from_millis(1),
            subscriptions: AtomicU64::new(0),
            injected: AtomicU64::new(0),
            listed: Mutex::default(),
        });
        Arc::new(Self { inner, plan })
    }

    /// What goes wrong.
    #[must_use]
    pub fn kind(&self) -> Sabotage {
        self.plan.kind
    }

    /// How many divergences have been injected, over all handles and subscriptions.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.plan.injected.load(Ordering::Acquire)
    }

    /// Where they were injected: the first 10,000.
    #[must_use]
    pub fn injections(&self) -> Vec<Injection> {
        self.plan.listed.lock().clone()
    }
}

impl Plan {
    fn count(&self, subscription: &str, event: &Event) {
        self.injected.fetch_add(1, Ordering::AcqRel);
        let mut listed = self.listed.lock();
        if let Some(origin) = event.origin()
            && listed.len() < LISTED
        {
            listed.push(Injection {
                subscription: subscription.to_owned(),
                topic: event.topic().to_string(),
                publisher: origin.publisher,
                sequence: origin.sequence,
            });
        }
    }
}

#[async_trait]
impl EventBus for SabotageBus {
    fn backend(&self) -> &str {
        self.inner.backend()
    }

    fn publisher_id(&self) -> PublisherId {
        self.inner.publisher_id()
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        self.inner.publish(event).await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        self.inner.try_publish(event)
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        self.inner.publish_batch(events).await
    }

    async fn flush(&self, deadline: Duration) -> Result<(), FlushError> {
        self.inner.flush(deadline).await
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        self.inner.publisher(topic)
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        let inner = self.inner.subscribe(subscribe.ungated()).await?;
        let number = self.plan.subscriptions.fetch_add(1, Ordering::Relaxed);
        let source = SabotageSource::new(inner, Arc::clone(&self.plan), number);
        Ok(Subscription::new(
            source.name(),
            &subscribe,
            source.counters(),
            Box::new(source),
        ))
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        let inner = self.inner.connect(name).await?;
        let plan = Arc::clone(&self.plan);
        Ok(Arc::new(Self { inner, plan }))
    }

    async fn serve(&self, service: Service) -> Result<Serving, ServeError> {
        self.inner.serve(service).await
    }

    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        self.inner.call(call).await
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.inner.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name() {
        for kind in Sabotage::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!(
            "sleep".parse::<Sabotage>().unwrap_err().to_string(),
            "`sleep` is none of drop, duplicate, reorder, corrupt, phantom, delay"
        );
    }
}
