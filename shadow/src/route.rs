//! The subscriptions that take a topic from a handle, and what is expected of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eventbus_trait::{Delivery, Event, Origin, PublisherId};

use crate::class::{Class, Reason};
use crate::comparator::Comparator;
use crate::link::Link;
use crate::streams::{Key, Stream};
use crate::sub::{Phase, Sub};
use crate::track::Expect;
use crate::untracked::Biased;

/// The expectations of one topic and publisher, as of one generation.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) key: Key,
    pub(crate) generation: u64,
    pub(crate) link: Arc<Link>,
    targets: Vec<Target>,
    /// Of all events of the comparison.
    published: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Target {
    sub: Arc<Sub>,
    /// `None` if the subscription has too many streams.
    stream: Option<Arc<Stream>>,
    certain: bool,
}

impl Route {
    /// Looks up which subscriptions take the topic of `key` from the handle `sender`.
    pub(crate) fn new(
        comparator: &Comparator,
        sender: PublisherId,
        key: Key,
        link: &Arc<Link>,
    ) -> Arc<Self> {
        comparator.know(key.publisher);
        // Read first: what changes meanwhile makes the route outdated, never wrong.
        let generation = comparator.generation();
        let targets = comparator
            .subs()
            .into_iter()
            .filter(|sub| sub.phase() < Phase::Ended && sub.takes(sender, &key.topic))
            .map(|sub| Target {
                certain: sub.phase() == Phase::Live,
                stream: sub.stream(comparator, &key, link),
                sub,
            })
            .collect();
        Arc::new(Self {
            key,
            generation,
            link: Arc::clone(link),
            targets,
            published: Arc::clone(&comparator.published),
        })
    }

    /// Whether it is still right, and for the stream of `origin`.
    pub(crate) fn is_current(&self, comparator: &Comparator, origin: &Origin) -> bool {
        self.generation == comparator.generation()
            && self.key.publisher == origin.publisher
            && self.key.epoch == origin.epoch
    }

    /// Whether events on this route are expected of `sub`.
    pub(crate) fn includes(&self, sub: &Sub) -> bool {
        self.targets.iter().any(|target| target.sub.id == sub.id)
    }

    /// Expects an event everywhere. False if a stream was forgotten meanwhile: then nothing is
    /// expected and the route is to be looked up again.
    pub(crate) fn expect(
        &self,
        comparator: &Comparator,
        sequence: u64,
        event: &Event,
        class: Class,
        sampled: bool,
    ) -> bool {
        let now = comparator.now();
        let realtime = event.get_delivery() == Delivery::AtMostOnce;
        for (at, target) in self.targets.iter().enumerate() {
            let Some(stream) = &target.stream else {
                target.sub.expect_untracked(1);
                continue;
            };
            let class = if target.certain || class != Class::Open {
                class
            } else {
                Class::Unverified(Reason::Changing)
            };
            let expect = Expect {
                sequence,
                class,
                ordered: class == Class::Open,
                sampled,
                may_drop: [realtime || target.sub.may_drop(), realtime],
            };
            let cx = target.sub.context(now);
            if !stream.expect(expect, &cx) {
                self.withdraw_from(&self.targets[..at], sequence);
                return false;
            }
        }
        true
    }

    /// Counts events that the primary has.
    pub(crate) fn published(&self, events: u64) {
        self.published.fetch_add(events, Ordering::Relaxed);
    }

    /// Counts events that are not tracked.
    pub(crate) fn untracked(&self, events: &Biased) {
        let events = events.take();
        self.published(events.iter().sum());
        for target in &self.targets {
            target.sub.untracked().add_all(events);
        }
    }

    /// Takes an expectation back: nobody has the event.
    pub(crate) fn withdraw(&self, sequence: u64) {
        self.withdraw_from(&self.targets, sequence);
    }

    /// Notes that the candidate is being given the event.
    pub(crate) fn offered(&self, comparator: &Comparator, sequence: u64) {
        let now = comparator.now();
        for stream in self.streams() {
            stream.track.lock().offered(sequence, now);
        }
    }

    /// Says that the event will not be compared.
    pub(crate) fn give_up(&self, comparator: &Comparator, sequence: u64, reason: Reason) {
        let now = comparator.now();
        for stream in self.streams() {
            stream.track.lock().give_up(sequence, reason, now);
        }
    }

    fn withdraw_from(&self, targets: &[Target], sequence: u64) {
        for target in targets {
            match &target.stream {
                Some(stream) => stream.track.lock().withdraw(sequence),
                None => target.sub.expect_untracked(-1),
            }
        }
    }

    fn streams(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.targets.iter().filter_map(|t| t.stream.as_ref())
    }
}

/// An event on its way through the primary.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    pub(crate) origin: Origin,
    pub(crate) route: Arc<Route>,
}
