//! The mutant's subscriptions: what goes wrong on the way to the application.
//!
//! Invariant: what a subscription does wrong depends on what it has had alone, so that it does the
//! same in every run, whichever of the subscriptions is read first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};

use async_trait::async_trait;
use eventbus_trait::{
    Event, EventBus, EventSource, Item, PublisherId, Subscribe, Subscription, SubscriptionCounters,
    SubscriptionStats, TopicFilter, TryRecvError,
};
use futures_util::task::noop_waker_ref;

use super::bus::Core;
use super::event::{
    author_of, bare, invented, longer, publisher_of, recounted, renamed, reread, until_nul,
};
use super::{Defect, EVERY, FIRST};
use crate::history::mark_of;
use crate::stage::is_fence;

/// How many times a receiver sleeps before it is not woken once.
const SLEEPS: u64 = 300;

/// How many events may come before one that is held: who counts events would wait for the last.
const LONGEST: u64 = 16;

pub(super) struct MutantSource {
    core: Arc<Core>,
    inner: Option<Subscription>,
    last: SubscriptionStats,
    name: String,
    number: u64,
    filters: Vec<TopicFilter>,
    capacity: usize,
    counters: Arc<SubscriptionCounters>,
    ready: VecDeque<Item>,
    /// Waits for the event that it changes places with, or for one that is none of the clause's.
    held: Option<Event>,
    /// How many have gone before the event that is held.
    passed: u64,
    /// Lost events that have not been told.
    untold: u64,
    /// Marked events that have come.
    taken: u64,
    /// Whether events were flowing already when it was made.
    in_a_flow: bool,
    heard: HashSet<PublisherId>,
    authors: HashMap<PublisherId, HashSet<u32>>,
    smuggled: usize,
    arms: u64,
    sleeps: u64,
    /// Whether the last `recv` was polled once and given up.
    given_up: bool,
    /// Whether something has come that was not shown at once.
    late: bool,
    /// A handle that the subscription stands on beside the bus's own.
    beside: Option<Arc<dyn EventBus>>,
}

impl MutantSource {
    pub(super) fn new(
        core: Arc<Core>,
        inner: Subscription,
        subscribe: &Subscribe,
        counters: Arc<SubscriptionCounters>,
    ) -> Self {
        Self {
            last: inner.stats(),
            inner: Some(inner),
            name: String::new(),
            number: core.shared.next_subscription(),
            filters: subscribe.filters().to_vec(),
            capacity: subscribe.get_capacity(),
            counters,
            ready: VecDeque::new(),
            held: None,
            passed: 0,
            untold: 0,
            taken: 0,
            in_a_flow: false,
            heard: HashSet::new(),
            authors: HashMap::new(),
            smuggled: core.shared.count_smuggled(),
            arms: core.shared.arms(),
            sleeps: 0,
            given_up: false,
            late: false,
            beside: None,
            core,
        }
    }

    pub(super) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    pub(super) fn in_a_flow(mut self, flowing: bool) -> Self {
        self.in_a_flow = flowing;
        self
    }

    pub(super) fn beside(mut self, handle: Option<Arc<dyn EventBus>>) -> Self {
        self.beside = handle;
        self
    }

    fn defect(&self) -> Defect {
        self.core.shared.defect
    }

    /// Puts what is to come of `item` into `ready`.
    fn pass(&mut self, item: Item) {
        self.take_smuggled();
        match item {
            Item::Event(event) if mark_of(&event).is_some() => {
                self.taken += 1;
                self.tamper(event);
                self.tell();
            }
            Item::Event(event) => {
                self.release();
                let event = match self.defect() {
                    Defect::StripsHeaders if !is_fence(&event) => bare(&event),
                    Defect::StopsAtNul if !is_fence(&event) => until_nul(&event),
                    Defect::RereadsProtobuf if !is_fence(&event) => reread(&event),
                    _ => event,
                };
                self.ready.push_back(Item::Event(event));
                self.tell();
            }
            Item::Lagged(_)
                if matches!(self.defect(), Defect::HidesLosses | Defect::LosesInSilence) => {}
            Item::Lagged(n) if self.defect() == Defect::MisplacesLosses => self.untold += n,
            Item::Lagged(n) => self.ready.push_back(Item::Lagged(n)),
        }
    }

    /// Tells of losses that should have been told before.
    fn tell(&mut self) {
        if self.untold > 0 {
            let untold = std::mem::take(&mut self.untold);
            self.ready.push_back(Item::Lagged(untold));
        }
    }

    fn take_smuggled(&mut self) {
        if self.core.shared.count_smuggled() == self.smuggled {
            return;
        }
        let more = self.core.shared.smuggled(self.smuggled);
        self.smuggled += more.len();
        for one in more {
            let taken = self.filters.iter().any(|f| f.matches(one.event.topic()));
            if taken && one.reaches(&self.name) {
                self.ready.push_back(Item::Event(one.event));
            }
        }
    }

    /// Whether the defect touches this event: it is counted from the subscription's beginning.
    fn strikes(&self) -> bool {
        self.taken % EVERY == FIRST
    }

    /// Whether the defect was set off since it last struck here, and strikes now.
    fn is_armed(&mut self) -> bool {
        let armed = self.core.shared.arms() > self.arms;
        self.arms += u64::from(armed);
        armed
    }

    fn tamper(&mut self, event: Event) {
        use Defect as D;
        let hurt = self.core.shared.is_hurt(publisher_of(&event));
        match self.defect() {
            D::ReordersTopic | D::ReordersTopics | D::MixesTasks | D::ReordersAuthors => {
                return self.reorder(event);
            }
            D::ReordersInPartition if self.held.is_some() || (hurt && self.is_armed()) => {
                return self.swap(event);
            }
            D::Drops | D::Duplicates | D::Corrupts | D::Invents if self.strikes() => {
                return self.strike(event);
            }
            D::RepeatsAfterReset
            | D::CorruptsTorn
            | D::LosesAtRestart
            | D::LosesByTheClock
            | D::WearsOut
                if hurt && self.is_armed() =>
            {
                return self.strike(event);
            }
            D::ForgetsSubscriptions if self.core.is_hurt() && self.is_armed() => {
                return self.core.shared.injected();
            }
            D::HarmsNeighbours | D::SpillsGarbage | D::LosesInCutover if self.is_armed() => {
                return self.core.shared.injected();
            }
            D::RepeatsInCutover if self.is_armed() => return self.strike(event),
            D::ReordersInCutover if self.held.is_some() || self.is_armed() => {
                return self.swap(event);
            }
            D::EndsInCutover if self.is_armed() => return self.bury(),
            D::RenamesInCutover if self.core.shared.arms() > 0 => {
                return self.ready.push_back(Item::Event(renamed(&event)));
            }
            D::RecountsInCutover if self.core.shared.arms() > 0 => {
                return self.ready.push_back(Item::Event(recounted(&event)));
            }
            D::CopiesPerFilter => {
                let taking = self.filters.iter().filter(|f| f.matches(event.topic()));
                let copies = taking.map(|_| Item::Event(event.clone()));
                return self.ready.extend(copies);
            }
            _ if self.loses(&event) => return self.core.shared.injected(),
            _ => {}
        }
        self.ready.push_back(Item::Event(event));
    }

    /// Whether the defect is that events like this one never come.
    fn loses(&mut self, event: &Event) -> bool {
        use Defect as D;
        match self.defect() {
            D::MissesBarrier => self.in_a_flow && self.taken == 1,
            D::OverlooksNewcomers => publisher_of(event).is_some_and(|publisher| {
                self.heard.insert(publisher) && self.core.shared.is_older(self.number, publisher)
            }),
            D::NeedsASegment => self.all_taking(event, stem_only),
            D::IgnoresPlus => self.all_taking(event, has_plus),
            D::ForgetsSecondStar => self.all_taking(event, has_two_stars),
            D::ForgetsDeepTopics => event.topic().segments().count() > 8,
            D::LosesCancelled => std::mem::take(&mut self.given_up),
            _ => false,
        }
    }

    /// Whether all filters that take the event are such.
    fn all_taking(&self, event: &Event, such: fn(&TopicFilter, &Event) -> bool) -> bool {
        let mut filters = self.filters.iter();
        filters.all(|f| !f.matches(event.topic()) || such(f, event))
    }

    fn strike(&mut self, event: Event) {
        self.core.shared.injected();
        match self.defect() {
            Defect::Duplicates | Defect::RepeatsAfterReset | Defect::RepeatsInCutover => {
                self.both(event.clone(), event)
            }
            Defect::Corrupts | Defect::CorruptsTorn => {
                self.ready.push_back(Item::Event(longer(&event)));
            }
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
        let mixed = self.is_mixed(&event);
        let due = self.strikes()
            && match self.defect() {
                Defect::MixesTasks => mixed,
                // Where nobody else's event can come there is nothing to wait for.
                Defect::ReordersAuthors => self.filters.iter().any(TopicFilter::has_tail),
                _ => true,
            };
        if self.held.is_some() || due {
            self.swap(event);
        } else {
            self.ready.push_back(Item::Event(event));
        }
    }

    /// Whether several authors publish through the handle that the event is from.
    fn is_mixed(&mut self, event: &Event) -> bool {
        let (Some(publisher), Some(author)) = (publisher_of(event), author_of(event)) else {
            return false;
        };
        let authors = self.authors.entry(publisher).or_default();
        authors.insert(author);
        authors.len() > 1
    }

    /// Lets the event that is held go behind this one if they are to change places, holds `event`
    /// if none is held.
    fn swap(&mut self, event: Event) {
        let Some(held) = self.held.take() else {
            (self.held, self.passed) = (Some(event), 0);
            return;
        };
        self.passed += 1;
        let same_author = author_of(&held) == author_of(&event);
        let same_topic = held.topic() == event.topic();
        let (fits, in_vain) = match self.defect() {
            Defect::ReordersTopics => (same_author && !same_topic, same_author && same_topic),
            Defect::ReordersAuthors => (!same_author, same_author),
            _ => (same_author && same_topic, false),
        };
        if fits {
            self.core.shared.injected();
            self.both(event, held);
        } else if in_vain || self.passed == LONGEST {
            self.both(held, event);
        } else {
            self.ready.push_back(Item::Event(event));
            self.held = Some(held);
        }
    }

    fn release(&mut self) {
        self.ready.extend(self.held.take().map(Item::Event));
    }

    fn forgets(&self) -> bool {
        self.defect() == Defect::ForgetsAtShutdown && self.core.closed.load(Ordering::SeqCst)
    }

    fn bury(&mut self) {
        if let Some(inner) = self.inner.take()
            && self.defect() == Defect::OutlivesUnsubscribe
        {
            self.core.undead.lock().push(inner);
        }
        self.beside = None;
    }

    /// Whether something has just come that is to be there only when it is asked for again.
    fn comes_late(&mut self) -> bool {
        let too_soon = match self.defect() {
            Defect::ConfirmsTooSoon => true,
            Defect::FlushesTooSoon => self.is_armed(),
            _ => false,
        };
        if !too_soon || self.late || !self.ready.is_empty() {
            self.late = false;
            return false;
        }
        let next = self.inner.as_mut().map(Subscription::try_recv_item);
        if let Some(Ok(item)) = next {
            self.pass(item);
            self.late = true;
        }
        self.late
    }

    /// Whether the waker that was left with the bus is lost.
    fn loses_wake_up(&mut self) -> bool {
        if self.defect() != Defect::LosesWakeUps || self.capacity != 1 {
            return false;
        }
        self.sleeps += 1;
        self.sleeps.is_multiple_of(SLEEPS)
    }
}

#[async_trait]
impl EventSource for MutantSource {
    fn try_next(&mut self) -> Result<Item, TryRecvError> {
        if self.comes_late() {
            return Err(TryRecvError::Empty);
        }
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
            let deadlocks = self.defect() == Defect::Deadlocks;
            let Some(inner) = self.inner.as_mut() else {
                return Poll::Ready(None);
            };
            let receiving = deadlocks.then(|| self.core.receiving.lock());
            let polled = match self.core.shared.defect {
                Defect::SleepsThroughShutdown => {
                    let waker =
                        Waker::from(Arc::new(Sound(Arc::clone(&self.core), cx.waker().clone())));
                    inner.poll_item(&mut Context::from_waker(&waker))
                }
                _ => inner.poll_item(cx),
            };
            drop(receiving);
            match polled {
                Poll::Ready(Some(item)) => self.pass(item),
                Poll::Ready(None) if self.held.is_some() => self.release(),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    self.given_up |= noop_waker_ref().will_wake(cx.waker());
                    if self.loses_wake_up() {
                        // Whoever looks at this waker wakes nobody.
                        let mut deaf = Context::from_waker(Waker::noop());
                        let missed = self.inner.as_mut().map(|inner| inner.poll_item(&mut deaf));
                        if let Some(Poll::Ready(Some(item))) = missed {
                            self.pass(item);
                        }
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn queued(&self) -> u64 {
        let inner = self
            .inner
            .as_ref()
            .map_or_else(|| self.last.clone(), Subscription::stats);
        let miscount = u64::from(self.defect() == Defect::Miscounts && self.taken > 0);
        let dropped = match self.defect() {
            Defect::CountsNoLosses | Defect::LosesInSilence => 0,
            _ => inner.dropped,
        };
        let counters = &self.counters;
        counters.matched.store(inner.matched, Ordering::Release);
        let filtered = inner.filtered + miscount;
        counters.filtered.store(filtered, Ordering::Release);
        counters.dropped.store(dropped, Ordering::Release);
        inner.queued + self.ready.len() as u64 + u64::from(self.held.is_some())
    }

    async fn close(&mut self) {
        if self.defect() == Defect::OutlivesUnsubscribe {
            return self.bury();
        }
        if let Some(inner) = self.inner.take() {
            let unread = inner.stats().queued;
            self.last = inner.unsubscribe().await;
            if self.defect() == Defect::ForgetsUnread {
                self.last.dropped = self.last.dropped.saturating_sub(unread);
            }
        }
    }
}

impl Drop for MutantSource {
    fn drop(&mut self) {
        self.bury();
    }
}

/// Wakes a receiver until its handle shuts down.
struct Sound(Arc<Core>, Waker);

impl Wake for Sound {
    fn wake(self: Arc<Self>) {
        if !self.0.closed.load(Ordering::SeqCst) {
            self.1.wake_by_ref();
        }
    }
}

/// Whether the filter has a `+`.
fn has_plus(filter: &TopicFilter, _: &Event) -> bool {
    filter.as_str().split('.').any(|segment| segment == "+")
}

/// Whether the filter has two `*`.
fn has_two_stars(filter: &TopicFilter, _: &Event) -> bool {
    filter.as_str().split('.').filter(|s| *s == "*").count() > 1
}

/// Whether the filter takes the event only because its `#` matches no segment at all.
fn stem_only(filter: &TopicFilter, event: &Event) -> bool {
    filter.has_tail() && filter.parts().len() == event.topic().segments().count()
}
