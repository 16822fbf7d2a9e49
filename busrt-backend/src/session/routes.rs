//! Which links an event of a topic is for, kept per topic until a link comes or goes.
//!
//! Invariant: a route of the current generation has every link whose filters take its topic, and
//! each of them has a window.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use eventbus_trait::{Event, FamilyStats, Topic, fate};
use slab::Slab;

use super::link::{Link, Window};
use super::places::{Places, Several};
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
    pub(crate) topic: Topic,
    pub(crate) broker_topic: Arc<str>,
    /// With the place of each link's window.
    pub(crate) links: RouteLinks,
    family: Arc<Family>,
    /// The same without links, once it was needed.
    nobody: OnceLock<Arc<Route>>,
}

/// Links with the places of their windows.
pub(crate) type RouteLinks = Vec<(usize, Arc<Link>)>;

#[derive(Debug, Default)]
struct Family {
    published: AtomicU64,
    deliveries: AtomicU64,
}

impl Route {
    /// The same with fewer links.
    pub(crate) fn only(&self, links: RouteLinks) -> Self {
        Self {
            generation: self.generation,
            topic: self.topic.clone(),
            broker_topic: Arc::clone(&self.broker_topic),
            links,
            family: Arc::clone(&self.family),
            nobody: OnceLock::new(),
        }
    }

    /// The same for clients without a session alone: one for all events that no link has room for,
    /// so that they share runs.
    pub(crate) fn nobody(&self) -> Arc<Self> {
        let nobody = self.nobody.get_or_init(|| Arc::new(self.only(Vec::new())));
        Arc::clone(nobody)
    }

    /// Counts an event in its family. Called under the outbox's lock, so adding needs no
    /// read-modify-write.
    pub(crate) fn count(&self) {
        bump(&self.family.published, 1);
        bump(&self.family.deliveries, self.links.len() as u64);
    }
}

/// Adds to a counter that only the holder of a lock writes.
pub(crate) fn bump(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

/// Tells the log that links had no room for an event.
#[cold]
pub(crate) fn tell_dropped(event: &Event, links: &[(usize, Arc<Link>)]) {
    for (_, link) in links {
        fate::dropped(&link.name, event, "no room for an at-most-once event");
    }
}

/// Links that were given up and whose subscribers may come back; beyond these, they are not told
/// how much they have missed.
const MAX_GIVEN_UP: usize = 4_096;

/// Where a link stood when it was given up.
#[derive(Debug, Clone, Copy)]
struct GivenUp {
    life: u64,
    next: u64,
    dropped: u64,
}

/// A link as opened, and where it begins or goes on.
pub(crate) struct Opening {
    pub(crate) link: Arc<Link>,
    pub(crate) first: u64,
    /// The link that stood before and that its subscriber has forgotten.
    pub(crate) forgotten: Option<(Arc<Link>, u64)>,
}

/// All links of a node that publishes, and the routes made of them.
#[derive(Default)]
pub(crate) struct Routes {
    windows: Slab<Window>,
    links: Vec<(usize, Arc<Link>)>,
    generation: u64,
    known: HashMap<Topic, Arc<Route>>,
    families: HashMap<String, Arc<Family>>,
    given_up: HashMap<(Arc<str>, u64), GivenUp>,
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
            topic: topic.clone(),
            broker_topic: topics::to_broker(topic).into(),
            links,
            family,
            nobody: OnceLock::new(),
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

    /// Whether a link of a route has no more credit left than this.
    pub(crate) fn is_short(&self, route: &Route, events: u64, bytes: u64) -> bool {
        let is_short = |window: &Window| window.is_short(events, bytes);
        let mut links = route.links.iter();
        links.any(|(at, _)| self.windows.get(*at).is_some_and(is_short))
    }

    /// The next link sequence of the window at a place.
    pub(crate) fn next(&self, at: usize) -> u64 {
        self.windows.get(at).map_or(0, Window::next)
    }

    /// Takes credit on all links of a route; returns the event's sequence on each.
    pub(crate) fn take_credit(&mut self, route: &Arc<Route>, cost: u64) -> Places {
        let mut take = |at: usize| {
            let window = self.windows.get_mut(at);
            window.map_or(0, |window| window.take(cost))
        };
        match route.links.as_slice() {
            [] => Places::Nowhere,
            [(at, link)] => Places::One(Arc::clone(link), take(*at)),
            links => {
                let sequences = links.iter().map(|(at, _)| take(*at));
                Places::Several(Box::new(Several::new(route, sequences)))
            }
        }
    }

    /// Opens a link, or goes on with the one that is open from its subscriber's cursor.
    pub(crate) fn open(&mut self, peer: &Arc<str>, info: SubscriptionInfo) -> Opening {
        let mut forgotten = None;
        if let Some((at, link)) = self.place(peer, info.id).cloned() {
            if let Some(first) = link.resumes_at(self.next(at), &info) {
                if let Some(window) = self.windows.get_mut(at) {
                    window.grant(first, info.credit, info.credit_bytes);
                }
                link.acknowledge(first);
                link.rewind(first);
                return Opening {
                    link,
                    first,
                    forgotten,
                };
            }
            forgotten = self.end(|other| std::ptr::eq(other, &*link)).pop();
        }
        let before = self.given_up.remove(&(Arc::clone(peer), info.id));
        let before = before.filter(|before| before.life == info.link);
        let first = before
            .map_or(info.received, |before| before.next)
            .max(info.received);
        let at = self.windows.insert(Window::new(first, &info));
        let link = Link::new(Arc::clone(peer), first, info);
        link.continue_drops(before.map_or(0, |before| before.dropped));
        let link = Arc::new(link);
        self.links.push((at, Arc::clone(&link)));
        self.forget();
        Opening {
            link,
            first,
            forgotten,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn has(&self, peer: &str, subscription: u64) -> bool {
        self.place(peer, subscription).is_some()
    }

    /// Remembers where links stood that are given up although their subscribers may come back.
    pub(crate) fn remember(&mut self, links: &[(Arc<Link>, u64)]) {
        for (link, next) in links {
            if self.given_up.len() >= MAX_GIVEN_UP {
                self.given_up.clear();
            }
            let key = (Arc::clone(&link.peer), link.subscription);
            let dropped = link.dropped();
            self.given_up.insert(
                key,
                GivenUp {
                    life: link.life(),
                    next: *next,
                    dropped,
                },
            );
        }
    }

    /// Forgets where links of `peer` stood.
    pub(crate) fn forget_given_up(&mut self, peer: &str) {
        self.given_up.retain(|(name, _), _| **name != *peer);
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
                window.grant(ack.received, ack.credit, ack.credit_bytes);
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
