//! A subscription that lives through cutovers: one stream made of the old phase's and the new one's.
//!
//! An item of the new phase is taken first, and only then what the old one still has. A publisher
//! goes to the new phase when all that it sent before is in the old phase's queues; so if something
//! of it can be taken from the new phase, what came before can be taken from the old one. That needs
//! no marks in the stream, and holds for each publisher by itself, in whatever process it is.
//!
//! Invariant: an item of a later side is given out only after everything that was in the earlier
//! sides when it was taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use async_trait::async_trait;
use eventbus_trait::{EventSource, Item, Subscription, SubscriptionCounters, TryRecvError};

use super::mail::{Letter, Membership};

/// One phase's subscription.
#[derive(Debug)]
struct Side {
    generation: u64,
    subscription: Subscription,
}

/// An item that was taken from a later side, and what has to be given out before it.
#[derive(Debug)]
struct Waiting {
    item: Item,
    generation: u64,
    /// How many events each earlier side had, by its place.
    before: Vec<u64>,
}

#[derive(Debug)]
pub(crate) struct Source {
    /// Oldest first.
    sides: VecDeque<Side>,
    waiting: Option<Waiting>,
    membership: Arc<Membership>,
    counters: Arc<SubscriptionCounters>,
}

impl Source {
    pub(crate) fn new(
        subscription: Subscription,
        generation: u64,
        membership: Arc<Membership>,
    ) -> Self {
        let first = Side {
            generation,
            subscription,
        };
        Self {
            sides: VecDeque::from([first]),
            waiting: None,
            counters: Arc::clone(&membership.counters),
            membership,
        }
    }

    /// Does what the cutover asks for.
    #[cold]
    fn read_letters(&mut self) {
        while let Some(letter) = self.membership.next_letter() {
            match letter {
                Letter::Join(generation, subscription) => self.sides.push_back(Side {
                    generation,
                    subscription: *subscription,
                }),
                Letter::Leave(generation) => {
                    let at = self.sides.iter().position(|s| s.generation == generation);
                    if let Some(side) = at.and_then(|at| self.sides.remove(at)) {
                        self.membership
                            .ended(generation, &side.subscription.stats());
                    }
                }
            }
        }
    }

    /// Lets go of a side that has ended.
    fn retire(&mut self, at: usize) {
        if let Some(side) = self.sides.remove(at) {
            let stats = side.subscription.stats();
            self.membership.ended(side.generation, &stats);
        }
        if let Some(waiting) = &mut self.waiting
            && at < waiting.before.len()
        {
            waiting.before.remove(at);
        }
    }

    /// What has to be given out before the item that waits; else that itself.
    fn give_out(&mut self) -> Option<Item> {
        // Nearly always: an item is large, and one that is not there is not to be moved about.
        self.waiting.as_ref()?;
        self.give_out_before()
    }

    #[cold]
    fn give_out_before(&mut self) -> Option<Item> {
        let mut at = 0;
        while let Some(waiting) = &mut self.waiting {
            let Some(left) = waiting.before.get_mut(at) else {
                break;
            };
            let next = match (*left, self.sides.get_mut(at)) {
                (1.., Some(side)) => side.subscription.try_recv_item(),
                _ => Err(TryRecvError::Empty),
            };
            match next {
                Ok(item) => {
                    *left -= u64::from(matches!(item, Item::Event(_)));
                    return Some(item);
                }
                Err(TryRecvError::Empty) => {
                    // Nothing that comes from here later is from before.
                    *left = 0;
                    at += 1;
                }
                Err(TryRecvError::Closed) => self.retire(at),
            }
        }
        self.take_waiting()
    }

    fn take_waiting(&mut self) -> Option<Item> {
        let waiting = self.waiting.take()?;
        self.membership.set_waiting(None);
        Some(waiting.item)
    }

    /// Takes in an item of the side at `at`.
    fn taken(&mut self, at: usize, item: Item) -> Option<Item> {
        if at == 0 {
            return Some(item);
        }
        let generation = self.sides.get(at).map_or(0, |side| side.generation);
        let earlier = self.sides.iter().take(at);
        self.waiting = Some(Waiting {
            before: earlier.map(|s| s.subscription.stats().queued).collect(),
            generation,
            item,
        });
        let is_event = |waiting: &Waiting| matches!(waiting.item, Item::Event(_));
        self.membership.set_waiting(
            self.waiting
                .as_ref()
                .filter(|w| is_event(w))
                .map(|w| w.generation),
        );
        self.give_out()
    }

    /// Latest side first, so that the earlier ones are looked at after it.
    fn poll_sides(&mut self, cx: &mut Context<'_>) -> Option<Item> {
        let mut at = self.sides.len();
        while at > 0 {
            at -= 1;
            let Some(side) = self.sides.get_mut(at) else {
                continue;
            };
            match side.subscription.poll_item(cx) {
                Poll::Ready(Some(item)) => {
                    if let Some(item) = self.taken(at, item) {
                        return Some(item);
                    }
                }
                Poll::Ready(None) => self.retire(at),
                Poll::Pending => {}
            }
        }
        None
    }

    /// Copies what the sides know into the counters that the application reads.
    fn refresh(&self) -> u64 {
        let live = self.sides.iter().map(|side| side.subscription.stats());
        let sum = self.membership.sum(live);
        self.counters.matched.store(sum.matched, Ordering::Release);
        self.counters.dropped.store(sum.dropped, Ordering::Release);
        sum.queued
    }
}

#[async_trait]
impl EventSource for Source {
    fn try_next(&mut self) -> Result<Item, TryRecvError> {
        if self.membership.has_letters() {
            self.read_letters();
        }
        if self.sides.len() == 1
            && self.waiting.is_none()
            && let Some(side) = self.sides.front_mut()
        {
            // Nearly always, and an item is large: what it says goes out as it is.
            let next = side.subscription.try_recv_item();
            if !matches!(next, Err(TryRecvError::Closed)) {
                return next;
            }
        }
        if let Some(item) = self.give_out() {
            return Ok(item);
        }
        let mut at = self.sides.len();
        while at > 0 {
            at -= 1;
            let Some(side) = self.sides.get_mut(at) else {
                continue;
            };
            match side.subscription.try_recv_item() {
                Ok(item) => {
                    if let Some(item) = self.taken(at, item) {
                        return Ok(item);
                    }
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Closed) => self.retire(at),
            }
        }
        // A phase ends only after the next one was joined, so that no phase is the end.
        if self.sides.is_empty() && !self.membership.has_letters() {
            return Err(TryRecvError::Closed);
        }
        Err(TryRecvError::Empty)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            if self.membership.has_letters() {
                self.read_letters();
            }
            if let Some(item) = self.give_out() {
                return Poll::Ready(Some(item));
            }
            if let Some(item) = self.poll_sides(cx) {
                return Poll::Ready(Some(item));
            }
            self.membership.signal.register(cx.waker());
            // Once more, now that no letter comes unheard.
            if self.membership.has_letters() {
                continue;
            }
            if self.sides.is_empty() {
                return Poll::Ready(None);
            }
            return Poll::Pending;
        }
    }

    fn queued(&self) -> u64 {
        self.refresh() + u64::from(self.membership.waits())
    }

    async fn close(&mut self) {
        self.read_letters();
        self.membership.close();
        // What waits stays counted as queued, as what the phases have.
        self.waiting = None;
        let sides = std::mem::take(&mut self.sides);
        for side in sides {
            let stats = side.subscription.unsubscribe().await;
            self.membership.ended(side.generation, &stats);
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.membership.close();
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_backend::CrossbeamBus;
    use eventbus_trait::{Event, EventBus, Limits, Subscribe};

    use super::*;

    /// A subscription of two sides, and a bus for each.
    async fn two() -> ([Arc<CrossbeamBus>; 2], Arc<Membership>, Source) {
        let buses = [(); 2].map(|()| CrossbeamBus::new(Limits::default()));
        let subscribe = || Subscribe::to("a").unwrap();
        let first = buses[0].subscribe(subscribe()).await.unwrap();
        let membership = Membership::new(first.name().into(), subscribe(), 0);
        let source = Source::new(first, 0, Arc::clone(&membership));
        membership.join(1, buses[1].subscribe(subscribe()).await.unwrap());
        (buses, membership, source)
    }

    async fn publish(bus: &CrossbeamBus, text: &'static str) {
        bus.publish(Event::new("a", text).unwrap()).await.unwrap();
    }

    fn next(source: &mut Source) -> Result<String, TryRecvError> {
        match source.try_next()? {
            Item::Event(event) => Ok(String::from_utf8(event.bytes().unwrap().to_vec()).unwrap()),
            Item::Lagged(n) => Ok(format!("lagged {n}")),
        }
    }

    #[tokio::test]
    async fn what_the_old_side_has_comes_first_and_what_it_gets_later_does_not() {
        let ([old, new], _, mut source) = two().await;
        publish(&new, "new 1").await;
        publish(&old, "old 1").await;
        publish(&old, "old 2").await;
        assert_eq!(next(&mut source).unwrap(), "old 1");
        // Somebody who has not changed over yet never keeps the new side from being read.
        publish(&old, "old 3").await;
        for text in ["old 2", "new 1", "old 3"] {
            assert_eq!(next(&mut source).unwrap(), text);
        }
        assert_eq!(next(&mut source), Err(TryRecvError::Empty));
    }

    #[tokio::test]
    async fn an_old_side_that_ends_is_read_to_its_end_and_its_counts_stay() {
        let ([old, new], membership, mut source) = two().await;
        publish(&old, "old 1").await;
        publish(&new, "new 1").await;
        old.shutdown().await.unwrap();
        assert_eq!(next(&mut source).unwrap(), "old 1");
        assert_eq!(source.queued(), 1, "the new one's, which waits");
        assert_eq!(next(&mut source).unwrap(), "new 1");
        assert_eq!(next(&mut source), Err(TryRecvError::Empty));
        assert!(!membership.reads(0) && membership.reads(1));
        assert_eq!(source.queued(), 0);
        assert_eq!(membership.counters.matched.load(Ordering::Acquire), 2);
        new.shutdown().await.unwrap();
        assert_eq!(next(&mut source), Err(TryRecvError::Closed));
    }

    #[tokio::test]
    async fn a_side_that_did_not_come_to_be_is_let_go_of() {
        let ([old, new], membership, mut source) = two().await;
        assert_eq!(next(&mut source), Err(TryRecvError::Empty));
        membership.leave(1);
        publish(&old, "old 1").await;
        assert_eq!(next(&mut source).unwrap(), "old 1");
        assert_eq!(new.stats().subscriptions, []);
    }
}
