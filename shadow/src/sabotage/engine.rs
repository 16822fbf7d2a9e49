//! What a saboteur does with a stream of items: one item in, none, one or two out.
//!
//! Invariant: in each stream (publisher, epoch, topic) at most what was chosen is out of place;
//! everything else comes out in the order in which it went in, and a marker comes out behind
//! everything of its stream that went in before it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use eventbus_trait::{Event, Item, Origin, Payload, PublisherId};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Plan, Sabotage};
use crate::marker;
use crate::streams::Key;

#[derive(Debug)]
pub(crate) struct Engine {
    plan: Arc<Plan>,
    subscription: Arc<str>,
    rng: SmallRng,
    ready: VecDeque<Item>,
    streams: HashMap<Key, Held>,
    /// Overtaken by the item that was handed out last: their time begins when it has been dealt
    /// with, which is when the next one is asked for.
    overtaken: Vec<(Key, Event)>,
    /// Held until the instant, in order.
    timed: VecDeque<(Instant, Key, Event)>,
}

/// What is held back of one stream.
#[derive(Debug, Default)]
struct Held {
    /// Not overtaken yet.
    fresh: Vec<Event>,
    /// How many are overtaken and still held.
    overtaken: usize,
    /// Markers behind those.
    markers: Vec<Item>,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.overtaken == 0
    }
}

impl Engine {
    /// The saboteur of the subscription with this name and number.
    pub(crate) fn new(plan: Arc<Plan>, subscription: Arc<str>, number: u64) -> Self {
        let seed = plan.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            plan,
            subscription,
            rng: SmallRng::seed_from_u64(seed),
            ready: VecDeque::new(),
            streams: HashMap::new(),
            overtaken: Vec::new(),
            timed: VecDeque::new(),
        }
    }

    /// The next item is asked for, so the one before has been dealt with.
    pub(crate) fn asked(&mut self, now: Instant) {
        let due = now + self.plan.hold;
        let overtaken = self.overtaken.drain(..);
        self.timed
            .extend(overtaken.map(|(key, event)| (due, key, event)));
    }

    /// An item to hand out.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Item> {
        while self.timed.front().is_some_and(|(due, ..)| *due <= now) {
            if let Some((_, key, event)) = self.timed.pop_front() {
                self.release(&key, event);
            }
        }
        self.ready.pop_front()
    }

    /// When something will be ready that is not now.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timed.front().map(|(due, ..)| *due)
    }

    /// How many items it holds.
    pub(crate) fn len(&self) -> u64 {
        let fresh: usize = self.streams.values().map(|held| held.fresh.len()).sum();
        (self.ready.len() + fresh + self.overtaken.len() + self.timed.len()) as u64
    }

    /// Takes an item in.
    pub(crate) fn feed(&mut self, item: Item) {
        let (Item::Event(event), Some(origin)) = (&item, origin_of(&item)) else {
            self.ready.push_back(item);
            return;
        };
        let key = Key::of(&origin, event.topic());
        if marker::is_marker(event) {
            return self.marker(&key, item);
        }
        let event = event.clone();
        if self.pass(&key, item) || !self.rng.random_bool(self.plan.rate) {
            return;
        }
        self.ready.pop_back();
        self.interfere(key, event);
    }

    /// Nothing more comes in: what nothing can overtake any more comes out.
    pub(crate) fn finish(&mut self) {
        for held in self.streams.values_mut() {
            self.ready.extend(held.fresh.drain(..).map(Item::Event));
        }
        self.streams.retain(|_, held| held.overtaken > 0);
    }

    /// The receiver has had enough: what was overtaken and is still held was lost on it.
    pub(crate) fn give_up(&mut self) {
        let overtaken = self.overtaken.drain(..).map(|(_, event)| event);
        let timed = self.timed.drain(..).map(|(_, _, event)| event);
        for event in overtaken.chain(timed) {
            self.plan.count(&self.subscription, &event);
        }
    }

    /// Hands an event out; what it overtakes is known then. Says whether it overtook anything, in
    /// which case it is left alone.
    fn pass(&mut self, key: &Key, item: Item) -> bool {
        self.ready.push_back(item);
        let Some(held) = self.streams.get_mut(key) else {
            return false;
        };
        let overtook = !held.fresh.is_empty();
        for event in std::mem::take(&mut held.fresh) {
            if self.plan.kind == Sabotage::Reorder {
                self.plan.count(&self.subscription, &event);
                self.ready.push_back(Item::Event(event));
            } else {
                held.overtaken += 1;
                self.overtaken.push((key.clone(), event));
            }
        }
        if held.is_empty() {
            self.streams.remove(key);
        }
        overtook
    }

    fn interfere(&mut self, key: Key, event: Event) {
        let twice = match self.plan.kind {
            Sabotage::Drop => {
                self.plan.count(&self.subscription, &event);
                return;
            }
            Sabotage::Reorder | Sabotage::Delay => {
                self.streams.entry(key).or_default().fresh.push(event);
                return;
            }
            Sabotage::Duplicate => event.clone(),
            Sabotage::Phantom => self.invent(&event),
            Sabotage::Corrupt => {
                let event = self.corrupt(event);
                self.ready.push_back(Item::Event(event));
                return;
            }
        };
        self.plan.count(&self.subscription, &twice);
        self.ready.extend([Item::Event(event), Item::Event(twice)]);
    }

    fn invent(&mut self, like: &Event) -> Event {
        let origin = Origin {
            publisher: PublisherId(self.rng.random()),
            epoch: self.rng.random(),
            sequence: self.rng.random(),
        };
        Event::on(like.topic().clone(), Payload::raw("phantom")).given_origin(origin)
    }

    fn corrupt(&mut self, event: Event) -> Event {
        let (Ok(bytes), Some(origin)) = (event.bytes(), event.origin().copied()) else {
            return event;
        };
        let mut changed = BytesMut::from(&bytes[..]);
        if changed.is_empty() {
            changed.extend_from_slice(b"x");
        } else {
            let at = self.rng.random_range(0..changed.len());
            changed[at] ^= 1 << self.rng.random_range(0..8);
        }
        let content_type = event.payload().content_type().clone();
        let mut corrupt = Event::on(
            event.topic().clone(),
            Payload::new(changed.freeze(), content_type),
        )
        .delivery(event.get_delivery())
        .given_origin(origin);
        if let Some(headers) = event.get_headers() {
            corrupt = corrupt.headers(headers.clone());
        }
        if let Some(correlation) = event.get_correlation() {
            corrupt = corrupt.correlation(correlation.clone());
        }
        self.plan.count(&self.subscription, &corrupt);
        corrupt
    }

    /// A marker comes out behind what is held of its stream. What nothing has overtaken comes out
    /// with it.
    fn marker(&mut self, key: &Key, item: Item) {
        let Some(held) = self.streams.get_mut(key) else {
            self.ready.push_back(item);
            return;
        };
        self.ready.extend(held.fresh.drain(..).map(Item::Event));
        if held.is_empty() {
            self.streams.remove(key);
            self.ready.push_back(item);
        } else {
            held.markers.push(item);
        }
    }

    /// Hands out an event whose time has come.
    fn release(&mut self, key: &Key, event: Event) {
        self.plan.count(&self.subscription, &event);
        self.ready.push_back(Item::Event(event));
        if let Some(held) = self.streams.get_mut(key) {
            held.overtaken -= 1;
            if held.overtaken == 0 {
                self.ready
                    .append(&mut std::mem::take(&mut held.markers).into());
            }
            if held.is_empty() {
                self.streams.remove(key);
            }
        }
    }
}

fn origin_of(item: &Item) -> Option<Origin> {
    match item {
        Item::Event(event) => event.origin().copied(),
        Item::Lagged(_) => None,
    }
}
