//! Which links an event of a topic is for, kept per topic until a link comes or goes.
//!
//! Invariant: a route of the current generation has every link whose filters take its topic, and
//! each of them has a window.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eventbus_trait::{FamilyStats, Topic};
use slab::Slab;
use smallvec::SmallVec;

use super::link::{Link, Window};
use crate::topics;
use crate::wire::{AckEntry, SubscriptionInfo};

/// Topics whose routes are kept.
const MAX_ROUTES: usize = 65_536;
/// Topic families that are counted apart; the rest share one counter.
const MAX_FAMILIES: usize = 1_024;

/// Where events of one topic go.
#[derive(Debug)]
pub(crate) struct Route {
    generation: u64,
    pub(crate) broker_topic: Arc<str>,
    /// With the place of each link's window.
    pub(crate) links: Vec<(usize, Arc<Link>)>,
    family: Arc<Family>,
}

#[derive(Debug, Default)]
struct Family {
    published: AtomicU64,
    deliveries: AtomicU64,
}

impl Route {
    /// The same with fewer links.
    pub(crate) fn only(&self, links: Vec<(usize, Arc<Link>)>) -> Self {
        Self {
            generation: self.generation,
            broker_topic: Arc::clone(&self.broker_topic),
            links,
            family: Arc::clone(&self.family),
        }
    }

    /// Counts an event in its family.
    pub(crate) fn count(&self) {
        let deliveries = self.links.len() as u64;
        self.family.published.fetch_add(1, Ordering::Relaxed);
        self.family
            .deliveries
            .fetch_add(deliveries, Ordering::Relaxed);
    }
}

/// An event's sequence on each of its links.
pub(crate) type Sequences = SmallVec<[(Arc<Link>, u64); 1]>;

/// All links of a node that publishes, and the routes made of them.
#[derive(Default)]
pub(crate) struct Routes {
    windows: Slab<Window>,
    links: Vec<(usize, Arc<Link>)>,
    generation: u64,
    known: HashMap<Topic, Arc<Route>>,
    families: HashMap<String, Arc<Family>>,
}

impl Routes {
    /// The route of `topic`; `cached` saves the look-up and is renewed.
    pub(crate) fn find<'a>(
        &mut self,
        topic: &Topic,
        cached: &'a mut Option<Arc<Route>>,
    ) -> &'a Arc<Route> {
        let generation = self.generation;
        cached.take_if(|route| route.generation != generation);
        cached.get_or_insert_with(|| match self.known.get(topic) {
            Some(route) => Arc::clone(route),
            None => self.make(topic),
        })
    }

    fn make(&mut self, topic: &Topic) -> Arc<Route> {
        let takes = |link: &Link| link.filters.iter().any(|filter| filter.matches(topic));
        let links = self
            .links
            .iter()
            .filter(|(_, link)| takes(link))
            .cloned()
            .collect();
        let family = self.family(topic.family());
        let route = Arc::new(Route {
            generation: self.generation,
            broker_topic: topics::to_broker(topic).into(),
            links,
            family,
        });
        if self.known.len() >= MAX_ROUTES {
            self.known.clear();
        }
        self.known.insert(topic.clone(), Arc::clone(&route));
        route
    }

    fn family(&mut self, name: &str) -> Arc<Family> {
        if let Some(family) = self.families.get(name) {
            return Arc::clone(family);
        }
        let name = if self.families.len() < MAX_FAMILIES {
            name
        } else {
            "(others)"
        };
        Arc::clone(self.families.entry(name.to_owned()).or_default())
    }

    /// Whether the window at a place has room. A link that has ended holds nobody up.
    pub(crate) fn has_room(&self, at: usize) -> bool {
        self.windows.get(at).is_none_or(Window::has_room)
    }

    /// The next link sequence of the window at a place.
    pub(crate) fn next(&self, at: usize) -> u64 {
        self.windows.get(at).map_or(0, Window::next)
    }

    /// Takes credit on all links of a route; returns the event's sequence on each.
    pub(crate) fn take_credit(&mut self, route: &Route, cost: u64) -> Sequences {
        let mut sequences = Sequences::new();
        for (at, link) in &route.links {
            if let Some(window) = self.windows.get_mut(*at) {
                sequences.push((Arc::clone(link), window.take(cost)));
            }
        }
        sequences
    }

    /// Opens a link, unless it is open.
    pub(crate) fn open(&mut self, peer: &Arc<str>, info: SubscriptionInfo) {
        if self.place(peer, info.id).is_some() {
            return;
        }
        let at = self
            .windows
            .insert(Window::new(info.credit, info.credit_bytes));
        self.links
            .push((at, Arc::new(Link::new(Arc::clone(peer), info))));
        self.forget();
    }

    /// Removes the links that `which` picks; returns them with their next sequence.
    pub(crate) fn end(&mut self, which: impl Fn(&Link) -> bool) -> Vec<(Arc<Link>, u64)> {
        let (ended, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.links)
            .into_iter()
            .partition(|(_, link)| which(link));
        self.links = kept;
        self.forget();
        ended
            .into_iter()
            .map(|(at, link)| (link, self.windows.remove(at).next()))
            .collect()
    }

    fn forget(&mut self) {
        self.generation += 1;
        self.known.clear();
    }

    /// Takes in what a subscriber says of its links; returns those that it speaks of.
    pub(crate) fn acknowledge(&mut self, peer: &str, acks: &[AckEntry]) -> Vec<Arc<Link>> {
        let mut progressed = Vec::with_capacity(acks.len());
        for ack in acks {
            if let Some((at, link)) = self.place(peer, ack.subscription).cloned()
                && let Some(window) = self.windows.get_mut(at)
            {
                window.grant(ack);
                link.acknowledge(ack.received.min(window.next()));
                progressed.push(link);
            }
        }
        progressed
    }

    fn place(&self, peer: &str, subscription: u64) -> Option<&(usize, Arc<Link>)> {
        self.links
            .iter()
            .find(|(_, l)| l.subscription == subscription && *l.peer == *peer)
    }

    /// All links with their next sequence.
    pub(crate) fn links(&self) -> impl Iterator<Item = (&Arc<Link>, u64)> {
        let windows = &self.windows;
        self.links
            .iter()
            .filter_map(|(at, link)| Some((link, windows.get(*at)?.next())))
    }

    pub(crate) fn families(&self) -> BTreeMap<String, FamilyStats> {
        let families = self.families.iter().map(|(name, family)| {
            let published = family.published.load(Ordering::Relaxed);
            let deliveries = family.deliveries.load(Ordering::Relaxed);
            (
                name.clone(),
                FamilyStats {
                    published,
                    deliveries,
                },
            )
        });
        families.collect()
    }
}
