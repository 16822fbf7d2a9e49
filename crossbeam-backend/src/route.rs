//! The routes that a handle keeps: for each topic its subscriptions and its family's counters.
//!
//! Everything here is under the handle's lock, so a look-up takes no lock of its own and the
//! counters are plain numbers.
//!
//! Invariant: a route whose generation is the hub's names every subscription that takes its topic;
//! any other route is looked up again before it is used.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use eventbus_trait::{FamilyStats, Topic};

use super::hub::{Found, Hub};
use super::queue::Queue;

/// Most topics that a handle keeps routes for, besides those with a publisher of their own.
const MAX_ROUTES: usize = 65_536;
/// Most families that are counted by name; the others are counted together.
const MAX_FAMILIES: usize = 65_536;
/// What the others are counted as, which no topic can be.
const OTHER_FAMILIES: &str = "*";

/// Which route an event takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Path {
    /// The one of its topic.
    Topic,
    /// The one of a publisher.
    Publisher(usize),
}

/// The subscriptions of one topic.
#[derive(Debug, Default)]
pub(crate) struct Route {
    found: Found,
    family: usize,
}

/// All routes of a handle.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    by_topic: HashMap<Topic, Route>,
    by_publisher: Vec<Option<Route>>,
    free: Vec<usize>,
    pub(crate) families: Families,
}

/// Counters by topic family.
#[derive(Debug, Default)]
pub(crate) struct Families {
    index: HashMap<Box<str>, usize>,
    counts: Vec<FamilyStats>,
}

impl Route {
    /// Those that publishers wait for.
    pub(crate) fn waiting(&self) -> &[Arc<Queue>] {
        &self.found.waiting
    }

    /// Those that lose events instead.
    pub(crate) fn lossy(&self) -> &[Arc<Queue>] {
        &self.found.lossy
    }

    /// How many subscriptions the topic has.
    pub(crate) fn len(&self) -> u64 {
        (self.found.waiting.len() + self.found.lossy.len()) as u64
    }

    /// Which family the topic belongs to.
    pub(crate) fn family(&self) -> usize {
        self.family
    }
}

impl Routes {
    /// The route of `topic`, looked up if it is not known or the subscriptions have changed.
    pub(crate) fn current(
        &mut self,
        hub: &Hub,
        publisher: u64,
        topic: &Topic,
        path: Path,
    ) -> (&Route, &mut Families) {
        let Self {
            by_topic,
            by_publisher,
            families,
            ..
        } = self;
        let route = match path {
            Path::Publisher(at) => by_publisher[at].get_or_insert_default(),
            Path::Topic => {
                if by_topic.len() >= MAX_ROUTES && !by_topic.contains_key(topic) {
                    by_topic.clear();
                }
                by_topic.entry(topic.clone()).or_default()
            }
        };
        if route.found.generation != hub.generation() {
            route.found = hub.find(topic, publisher);
            route.family = families.of(topic);
        }
        (route, families)
    }

    /// A place for a publisher's route.
    pub(crate) fn add_publisher(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.by_publisher.push(None);
            self.by_publisher.len() - 1
        })
    }

    /// Gives a publisher's place back.
    pub(crate) fn remove_publisher(&mut self, at: usize) {
        self.by_publisher[at] = None;
        self.free.push(at);
    }

    /// Gives up all routes, so that they keep no queue alive. The caller drops them, without the
    /// handle's lock.
    pub(crate) fn forget(&mut self) -> (HashMap<Topic, Route>, Vec<Option<Route>>) {
        let fresh = self.by_publisher.iter().map(|_| None).collect();
        (
            std::mem::take(&mut self.by_topic),
            std::mem::replace(&mut self.by_publisher, fresh),
        )
    }
}

impl Families {
    /// Counts an event of a family.
    pub(crate) fn count(&mut self, family: usize, deliveries: u64) {
        let counts = &mut self.counts[family];
        counts.published += 1;
        counts.deliveries += deliveries;
    }

    /// All counters by family, and how many events they make.
    pub(crate) fn snapshot(&self) -> (u64, BTreeMap<String, FamilyStats>) {
        let published = self.counts.iter().map(|family| family.published).sum();
        let by_name = self
            .index
            .iter()
            .map(|(name, at)| (name.to_string(), self.counts[*at].clone()))
            .filter(|(_, family)| family.published > 0)
            .collect();
        (published, by_name)
    }

    fn of(&mut self, topic: &Topic) -> usize {
        let name = topic.family();
        if let Some(at) = self.index.get(name) {
            return *at;
        }
        let name = if self.index.len() < MAX_FAMILIES {
            name
        } else {
            OTHER_FAMILIES
        };
        let counts = &mut self.counts;
        *self.index.entry(name.into()).or_insert_with(|| {
            counts.push(FamilyStats::default());
            counts.len() - 1
        })
    }
}
