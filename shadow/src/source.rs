//! The application's side of a shadow subscription: the primary's items, shown to the comparison
//! as they are taken.
//!
//! Invariant: it yields what the primary's subscription yields and nothing else, and waits for
//! nothing but that.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use async_trait::async_trait;
use eventbus_trait::{
    EventSource, Item, Subscription, SubscriptionCounters, SubscriptionStats, TryRecvError,
};
use parking_lot::Mutex;

use crate::class::{Reason, Side};
use crate::family::Family;
use crate::latest::Latest;
use crate::seat::{Seat, View};

/// Counters of a handle's subscriptions, by name.
pub(crate) type CountersByName = Arc<Mutex<HashMap<Arc<str>, Arc<SubscriptionCounters>>>>;

pub(crate) struct Source {
    /// The primary's subscription; `None` once it is closed.
    primary: Option<Subscription>,
    name: Arc<str>,
    family: Arc<Family>,
    seat: Arc<Seat>,
    /// What the seat showed when its version was `version`.
    view: Option<View>,
    version: Option<u64>,
    counters: Arc<SubscriptionCounters>,
    by_name: CountersByName,
    latest: Latest,
    final_stats: Option<SubscriptionStats>,
}

impl Source {
    pub(crate) fn new(
        primary: Subscription,
        family: Arc<Family>,
        seat: Arc<Seat>,
        by_name: CountersByName,
    ) -> Self {
        let name: Arc<str> = primary.name().into();
        let counters = Arc::<SubscriptionCounters>::default();
        by_name
            .lock()
            .insert(Arc::clone(&name), Arc::clone(&counters));
        Self {
            primary: Some(primary),
            name,
            family,
            seat,
            view: None,
            version: None,
            counters,
            by_name,
            latest: Latest::default(),
            final_stats: None,
        }
    }

    /// The counters that the application's subscription shows.
    pub(crate) fn counters(&self) -> Arc<SubscriptionCounters> {
        Arc::clone(&self.counters)
    }

    /// Looks which comparison there is, after an item was taken.
    fn look(&mut self) {
        let version = Some(self.seat.version());
        if version != self.version {
            self.view = self.seat.view();
            self.version = version;
            self.latest = Latest::default();
        }
    }

    fn show(&mut self, item: Option<&Item>) {
        self.look();
        let Some(View { comparator, sub }) = &self.view else {
            return;
        };
        match item {
            Some(Item::Event(event)) => {
                sub.arrived(comparator, Side::Primary, event, &mut self.latest);
            }
            Some(Item::Lagged(n)) => sub.dropped.add(Side::Primary, *n),
            None => sub.close(comparator, Side::Primary, Reason::Shutdown),
        }
    }

    /// The application waits with nothing queued on the primary.
    fn idle(&mut self) {
        self.look();
        if let Some(View { comparator, sub }) = &self.view {
            sub.idle(comparator);
        }
    }

    /// Copies what the primary alone knows into the counters that the application reads.
    fn refresh(&self, stats: &SubscriptionStats) {
        self.counters
            .matched
            .store(stats.matched, Ordering::Release);
        self.counters
            .dropped
            .store(stats.dropped, Ordering::Release);
    }

    fn end(&mut self) {
        let mut by_name = self.by_name.lock();
        let own = by_name
            .get(&self.name)
            .is_some_and(|counters| Arc::ptr_eq(counters, &self.counters));
        if own {
            by_name.remove(&self.name);
        }
        drop(by_name);
        self.family.unsubscribed(&self.seat);
    }
}

#[async_trait]
impl EventSource for Source {
    fn try_next(&mut self) -> Result<Item, TryRecvError> {
        let Some(primary) = &mut self.primary else {
            return Err(TryRecvError::Closed);
        };
        let next = primary.try_recv_item();
        match &next {
            Ok(item) => self.show(Some(item)),
            Err(TryRecvError::Closed) => self.show(None),
            Err(TryRecvError::Empty) => self.idle(),
        }
        next
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let Some(primary) = &mut self.primary else {
            return Poll::Ready(None);
        };
        let next = primary.poll_item(cx);
        match &next {
            Poll::Ready(item) => self.show(item.as_ref()),
            Poll::Pending => self.idle(),
        }
        next
    }

    fn queued(&self) -> u64 {
        let stats = match (&self.primary, &self.final_stats) {
            (Some(primary), _) => primary.stats(),
            (None, Some(stats)) => stats.clone(),
            (None, None) => return 0,
        };
        self.refresh(&stats);
        stats.queued
    }

    async fn close(&mut self) {
        if let Some(primary) = self.primary.take() {
            self.end();
            self.final_stats = Some(primary.unsubscribe().await);
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(primary) = self.primary.take() {
            drop(primary);
            self.end();
        }
    }
}
