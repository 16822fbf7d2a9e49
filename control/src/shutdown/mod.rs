//! Taking members down together: kinds before kinds, each by its deadline, and a report of how each ended.
//!
//! ```
//! use std::time::Duration;
//! use control::{registry::Registry, shutdown::Coordinator};
//! # async fn example(bus: std::sync::Arc<dyn eventbus_trait::EventBus>, registry: Registry) -> Result<(), Box<dyn std::error::Error>> {
//! let report = Coordinator::new(bus)
//!     .deadline(Duration::from_secs(10))
//!     .before("process", "storage")
//!     .before("network", "storage")
//!     .shut_down(&registry.members())
//!     .await?;
//! for member in &report.members {
//!     println!("{} {}", member.name, member.end);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Kinds that do not depend on each other go at the same time. Who gives no answer is waited for until its
//! deadline, reported, and holds up nobody after that.

mod order;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::EventBus;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, join_all};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::client::CollectorClient;
use crate::collector::wire::Ending;
use crate::registry::Member;
use order::Order;
pub use order::OrderError;
pub use report::{End, MemberEnd, Report};

/// How long members may take that have no deadline of their own.
const DEADLINE: Duration = Duration::from_secs(10);
/// Members that are asked at the same time, far below what a handle may call at once.
const AT_ONCE: usize = 64;

/// Takes members down.
#[derive(Debug, Clone)]
pub struct Coordinator {
    bus: Arc<dyn EventBus>,
    order: Order,
    deadline: Duration,
    deadlines: BTreeMap<String, Duration>,
}

type KindEnds = Shared<BoxFuture<'static, Vec<MemberEnd>>>;

impl Coordinator {
    /// One that asks over `bus`, all kinds at once, each member within 10 s.
    pub fn new(bus: Arc<dyn EventBus>) -> Self {
        Self {
            bus,
            order: Order::default(),
            deadline: DEADLINE,
            deadlines: BTreeMap::new(),
        }
    }

    /// Sets how long each member may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how long each member of one kind may take.
    #[must_use]
    pub fn deadline_of(mut self, kind: impl Into<String>, deadline: Duration) -> Self {
        self.deadlines.insert(kind.into(), deadline);
        self
    }

    /// Members of the kind `first` have ended before those of the kind `then` are asked.
    #[must_use]
    pub fn before(mut self, first: impl Into<String>, then: impl Into<String>) -> Self {
        self.order.add(first.into(), then.into());
        self
    }

    /// Takes the members down, and says how each has ended. It asks the lives that `members` names,
    /// and no others that have their names meanwhile. Whoever drops this asks nobody further.
    ///
    /// # Errors
    /// [`OrderError`] if kinds wait for each other; nobody was asked then.
    pub async fn shut_down(&self, members: &[Member]) -> Result<Report, OrderError> {
        let start = Instant::now();
        let mut by_kind: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
        for member in members {
            let kind = by_kind.entry(&member.identity.kind).or_default();
            kind.push(member);
        }
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut ends: BTreeMap<String, KindEnds> = BTreeMap::new();
        for kind in self.order.sorted(by_kind.keys().copied())? {
            let before = self.order.before(&kind);
            let before: Vec<_> = before
                .filter_map(|first| ends.get(first).cloned())
                .collect();
            let members = by_kind.remove(kind.as_str()).unwrap_or_default();
            let asked: Vec<_> = members
                .into_iter()
                .map(|member| self.ask(member, Arc::clone(&turns)))
                .collect();
            let end = async move {
                join_all(before).await;
                join_all(asked).await
            };
            ends.insert(kind, end.boxed().shared());
        }
        let members = join_all(ends.into_values()).await.concat();
        let took = start.elapsed();
        Ok(Report { members, took })
    }

    /// Asks one member, when this is polled.
    fn ask(
        &self,
        member: &Member,
        turns: Arc<Semaphore>,
    ) -> impl Future<Output = MemberEnd> + Send + 'static {
        let identity = Arc::clone(&member.identity);
        let client = CollectorClient::new(Arc::clone(&self.bus), &identity.name);
        let deadline = self.deadlines.get(&identity.kind);
        let deadline = deadline.copied().unwrap_or(self.deadline);
        async move {
            // It is never closed.
            let _turn = turns.acquire().await;
            let start = Instant::now();
            let reply = client.shutdown(deadline, Some(&identity.instance)).await;
            let end = match reply {
                Ok(reply) if reply.ended == Ending::Graceful => End::Graceful,
                Ok(reply) => End::Forced {
                    reason: reply.reason.unwrap_or_default(),
                    unfinished: reply.unfinished,
                },
                Err(error) => End::Silent { error },
            };
            let took = start.elapsed();
            tracing::info!(name = identity.name, %end, ?took, "member shut down");
            MemberEnd {
                name: identity.name.clone(),
                kind: identity.kind.clone(),
                instance: identity.instance.clone(),
                end,
                took,
            }
        }
    }
}
