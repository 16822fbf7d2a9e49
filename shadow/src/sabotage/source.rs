//! A saboteur's subscription: the inner bus's items through an [`Engine`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use async_trait::async_trait;
use eventbus_trait::{EventSource, Item, Subscription, SubscriptionCounters, TryRecvError};
use futures_timer::Delay;
use futures_util::FutureExt;

use super::Plan;
use super::engine::Engine;

pub(crate) struct SabotageSource {
    inner: Option<Subscription>,
    name: Arc<str>,
    counters: Arc<SubscriptionCounters>,
    engine: Engine,
    ended: bool,
    /// When what is held next is due.
    timer: Option<(Instant, Delay)>,
}

impl SabotageSource {
    pub(crate) fn new(inner: Subscription, plan: Arc<Plan>, number: u64) -> Self {
        let name: Arc<str> = inner.name().into();
        Self {
            engine: Engine::new(plan, Arc::clone(&name), number),
            inner: Some(inner),
            name,
            counters: Arc::default(),
            ended: false,
            timer: None,
        }
    }

    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(crate) fn counters(&self) -> Arc<SubscriptionCounters> {
        Arc::clone(&self.counters)
    }

    /// Takes in what the inner subscription has, by `next`; whether anything changed.
    fn pull(&mut self, next: Result<Item, TryRecvError>) -> bool {
        match next {
            Ok(item) => self.engine.feed(item),
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Closed) => {
                if self.ended {
                    return false;
                }
                self.ended = true;
                self.engine.finish();
            }
        }
        true
    }

    /// Makes sure that the task is woken when what is held is due; whether it is due now.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(due) = self.engine.next_due() else {
            self.timer = None;
            return false;
        };
        let timer = match &mut self.timer {
            Some((at, timer)) if *at == due => timer,
            _ => {
                let left = due.saturating_duration_since(Instant::now());
                &mut self.timer.insert((due, Delay::new(left))).1
            }
        };
        let ready = timer.poll_unpin(cx).is_ready();
        if ready {
            self.timer = None;
        }
        ready
    }
}

#[async_trait]
impl EventSource for SabotageSource {
    fn try_next(&mut self) -> Result<Item, TryRecvError> {
        self.engine.asked(Instant::now());
        loop {
            if let Some(item) = self.engine.pop(Instant::now()) {
                return Ok(item);
            }
            let next = match &mut self.inner {
                Some(inner) if !self.ended => inner.try_recv_item(),
                _ => Err(TryRecvError::Closed),
            };
            if !self.pull(next) {
                let done = self.ended && self.engine.len() == 0;
                return Err(if done || self.inner.is_none() {
                    TryRecvError::Closed
                } else {
                    TryRecvError::Empty
                });
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.engine.asked(Instant::now());
        loop {
            if let Some(item) = self.engine.pop(Instant::now()) {
                return Poll::Ready(Some(item));
            }
            let next = match &mut self.inner {
                Some(inner) if !self.ended => match inner.poll_item(cx) {
                    Poll::Ready(item) => item.ok_or(TryRecvError::Closed),
                    Poll::Pending => Err(TryRecvError::Empty),
                },
                _ => Err(TryRecvError::Closed),
            };
            if self.pull(next) || self.poll_due(cx) {
                continue;
            }
            if self.inner.is_none() || (self.ended && self.engine.len() == 0) {
                return Poll::Ready(None);
            }
            return Poll::Pending;
        }
    }

    fn queued(&self) -> u64 {
        let Some(inner) = &self.inner else { return 0 };
        let stats = inner.stats();
        self.counters
            .matched
            .store(stats.matched, Ordering::Release);
        self.counters
            .dropped
            .store(stats.dropped, Ordering::Release);
        stats.queued + self.engine.len()
    }

    async fn close(&mut self) {
        if let Some(inner) = self.inner.take() {
            self.engine.give_up();
            inner.unsubscribe().await;
        }
    }
}
