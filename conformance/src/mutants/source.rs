//! The mutant's subscriptions: what goes wrong on the way to the application.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use eventbus_trait::{
    Event, EventBus, EventSource, Item, Origin, Payload, PublisherId, Subscribe, Subscription,
    SubscriptionCounters, SubscriptionStats, TopicFilter, TryRecvError,
};

use super::Defect;
use super::bus::Core;
use crate::history::{Mark, mark_of, payload};

pub(super) struct MutantSource {
    core: Arc<Core>,
    inner: Option<Subscription>,
    last: SubscriptionStats,
    filters: Vec<TopicFilter>,
    counters: Arc<SubscriptionCounters>,
    ready: VecDeque<Item>,
    /// Waits for the event that it changes places with, or for one that is none of the clause's.
    held: Option<Event>,
    taken: u64,
    /// A handle that the subscription stands on beside the bus's own.
    _beside: Option<Arc<dyn EventBus>>,
}

impl MutantSource {
    pub(super) fn new(
        core: Arc<Core>,
        inner: Subscription,
        subscribe: &Subscribe,
        counters: Arc<SubscriptionCounters>,
        beside: Option<Arc<dyn EventBus>>,
    ) -> Self {
        Self {
            core,
            last: inner.stats(),
            inner: Some(inner),
            filters: subscribe.filters().to_vec(),
            counters,
            ready: VecDeque::new(),
            held: None,
            taken: 0,
            _beside: beside,
        }
    }

    /// Puts what is to come of `item` into `ready`.
    fn pass(&mut self, item: Item) {
        match item {
            Item::Event(event) if mark_of(&event).is_some() => self.tamper(event),
            Item::Event(event) => {
                self.release();
                self.ready.push_back(Item::Event(event));
            }
            Item::Lagged(_) if self.core.shared.defect == Defect::HidesLosses => {}
            Item::Lagged(n) => self.ready.push_back(Item::Lagged(n)),
        }
    }

    fn tamper(&mut self, event: Event) {
        self.taken += 1;
        let shared = Arc::clone(&self.core.shared);
        match shared.defect {
            Defect::ReordersTopic | Defect::ReordersTopics | Defect::ReordersAuthors => {
                return self.reorder(event);
            }
            Defect::MissesBarrier if self.taken == 1 => return shared.injected(),
            Defect::NeedsASegment if self.filters.iter().all(|f| stem_only(f, &event)) => {
                return shared.injected();
            }
            Defect::ForgetsDeepTopics if event.topic().segments().count() > 8 => {
                return shared.injected();
            }
            Defect::IgnoresPlus if self.filters.iter().all(|f| by_plus(f, &event)) => {
                return shared.injected();
            }
            Defect::CopiesPerFilter => {
                let taking = self
                    .filters
                    .iter()
                    .filter(|f| f.matches(event.topic()))
                    .count();
                let copies = (0..taking).map(|_| Item::Event(event.clone()));
                return self.ready.extend(copies);
            }
            Defect::Drops | Defect::Duplicates | Defect::Corrupts | Defect::Invents
                if shared.strikes() =>
            {
                shared.injected();
            }
            _ => return self.ready.push_back(Item::Event(event)),
        }
        match shared.defect {
            Defect::Duplicates => self.both(event.clone(), event),
            Defect::Corrupts => self.ready.push_back(Item::Event(longer(&event))),
            Defect::Invents => {
                let invented = invented(&event, self.taken);
                self.both(event, invented);
            }
            _ => {}
        }
    }

    fn both(&mut self, first: Event, second: Event) {
        self.ready.extend([Item::Event(first), Item::Event(second)]);
    }

    fn reorder(&mut self, event: Event) {
        let across = self.core.shared.defect == Defect::ReordersTopics;
        let authors = self.core.shared.defect == Defect::ReordersAuthors;
        match self.held.take() {
            Some(held) if authors && author_of(&held) == author_of(&event) => {
                self.both(held, event);
            }
            Some(held) if authors => {
                self.core.shared.injected();
                self.both(event, held);
            }
            Some(held) => {
                let same_author = author_of(&held) == author_of(&event);
                let same_topic = held.topic() == event.topic();
                if same_author && same_topic != across {
                    self.core.shared.injected();
                    self.both(event, held);
                } else if same_author && across {
                    self.both(held, event);
                } else {
                    self.ready.push_back(Item::Event(event));
                    self.held = Some(held);
                }
            }
            // Where nobody else's event can come there is nothing to wait for.
            None if authors && !self.filters.iter().any(TopicFilter::has_tail) => {
                self.ready.push_back(Item::Event(event));
            }
            None if self.core.shared.strikes() => self.held = Some(event),
            None => self.ready.push_back(Item::Event(event)),
        }
    }

    fn release(&mut self) {
        self.ready.extend(self.held.take().map(Item::Event));
    }

    fn forgets(&self) -> bool {
        self.core.closed.load(Ordering::SeqCst)
    }

    fn bury(&mut self) {
        if let Some(inner) = self.inner.take()
            && self.core.shared.defect == Defect::OutlivesUnsubscribe
        {
            self.core.undead.lock().push(inner);
        }
    }
}

#[async_trait]
impl EventSource for MutantSource {
    fn try_next(&mut self) -> Result<Item, TryRecvError> {
        loop {
            if self.forgets() {
                return Err(TryRecvError::Closed);
            }
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            let inner = self.inner.as_mut().ok_or(TryRecvError::Closed)?;
            match inner.try_recv_item() {
                Ok(item) => self.pass(item),
                Err(TryRecvError::Closed) if self.held.is_some() => self.release(),
                Err(error) => return Err(error),
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            if self.forgets() {
                return Poll::Ready(None);
            }
            if let Some(item) = self.ready.pop_front() {
                return Poll::Ready(Some(item));
            }
            let Some(inner) = self.inner.as_mut() else {
                return Poll::Ready(None);
            };
            let deadlocks = self.core.shared.defect == Defect::Deadlocks;
            let receiving = deadlocks.then(|| self.core.receiving.lock());
            let polled = inner.poll_item(cx);
            drop(receiving);
            if polled.is_pending()
                && self.core.shared.defect == Defect::LosesWakeUps
                && self.core.shared.strikes()
            {
                // Whoever looks at this waker wakes nobody.
                let mut deaf = Context::from_waker(Waker::noop());
                let _ = inner
                    .poll_item(&mut deaf)
                    .map(|item| self.ready.extend(item));
                return Poll::Pending;
            }
            match polled {
                Poll::Ready(Some(item)) => self.pass(item),
                Poll::Ready(None) if self.held.is_some() => self.release(),
                other => return other,
            }
        }
    }

    fn queued(&self) -> u64 {
        let inner = self
            .inner
            .as_ref()
            .map_or_else(|| self.last.clone(), Subscription::stats);
        let miscount = u64::from(self.core.shared.defect == Defect::Miscounts);
        self.counters
            .matched
            .store(inner.matched + miscount, Ordering::Release);
        self.counters
            .filtered
            .store(inner.filtered, Ordering::Release);
        self.counters
            .dropped
            .store(inner.dropped, Ordering::Release);
        inner.queued + self.ready.len() as u64 + u64::from(self.held.is_some())
    }

    async fn close(&mut self) {
        if self.core.shared.defect == Defect::OutlivesUnsubscribe {
            return self.bury();
        }
        if let Some(inner) = self.inner.take() {
            self.last = inner.unsubscribe().await;
        }
    }
}

impl Drop for MutantSource {
    fn drop(&mut self) {
        self.bury();
    }
}

fn author_of(event: &Event) -> Option<u32> {
    mark_of(event).map(|mark| mark.author)
}

/// Whether `filter` takes the event only because of a `+`.
fn by_plus(filter: &TopicFilter, event: &Event) -> bool {
    !filter.matches(event.topic()) || filter.as_str().split('.').any(|segment| segment == "+")
}

/// Whether `filter` takes the event only because its `#` matches no segment at all.
fn stem_only(filter: &TopicFilter, event: &Event) -> bool {
    let segments = event.topic().segments().count();
    !filter.matches(event.topic()) || (filter.has_tail() && filter.parts().len() == segments)
}

fn longer(event: &Event) -> Event {
    let mut bytes = event.bytes().unwrap_or_default().to_vec();
    bytes.push(0xee);
    like(
        event,
        Payload::new(bytes, event.payload().content_type().clone()),
    )
}

fn invented(event: &Event, sequence: u64) -> Event {
    let mark = Mark {
        author: u32::MAX,
        sequence,
    };
    let event = like(event, Payload::from(payload(mark, 5)));
    event.given_origin(Origin {
        publisher: PublisherId::random(),
        epoch: 1,
        sequence,
    })
}

/// An event with another payload.
fn like(event: &Event, payload: Payload) -> Event {
    let mut copy = Event::on(event.topic().clone(), payload).delivery(event.get_delivery());
    if let Some(headers) = event.get_headers() {
        copy = copy.headers(headers.clone());
    }
    if let Some(correlation) = event.get_correlation() {
        copy = copy.correlation(correlation.clone());
    }
    match event.origin() {
        Some(origin) => copy.given_origin(*origin),
        None => copy,
    }
}
