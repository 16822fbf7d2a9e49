//! A history sorted by subscription, as the checkers want it.

use std::collections::{HashMap, HashSet};

use super::Findings;
use crate::history::{Arrival, History, Interest, Mark, Op, Publication};

/// The history by subscription.
pub(super) struct View<'a> {
    pub(super) publications: HashMap<Mark, (&'a Publication, usize)>,
    /// Accepted events in the order in which they were invoked, and when they were accepted.
    pub(super) accepted: Vec<(&'a Publication, usize, usize)>,
    /// Events whose publish was cancelled.
    unknown: Vec<&'a Publication>,
    pub(super) streams: Vec<Stream<'a>>,
}

/// One life of one subscription.
pub(super) struct Stream<'a> {
    pub(super) interest: &'a Interest,
    pub(super) since: usize,
    pub(super) drained: Option<usize>,
    pub(super) ended: bool,
    pub(super) arrivals: Vec<&'a Arrival>,
    pub(super) items: Vec<Yielded<'a>>,
}

pub(super) enum Yielded<'a> {
    Event(&'a Arrival),
    Lagged(u64),
}

impl Yielded<'_> {
    /// How many published events the item stands for.
    pub(super) fn events(&self) -> u64 {
        match self {
            Self::Event(_) => 1,
            Self::Lagged(n) => *n,
        }
    }
}

impl Stream<'_> {
    pub(super) fn name(&self) -> &str {
        &self.interest.subscription
    }

    pub(super) fn marks(&self) -> HashSet<Mark> {
        self.arrivals.iter().filter_map(|a| a.mark).collect()
    }
}

impl<'a> View<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut view = Self {
            publications: HashMap::new(),
            accepted: Vec::new(),
            unknown: Vec::new(),
            streams: Vec::<Stream<'a>>::new(),
        };
        let mut current: HashMap<&str, usize> = HashMap::new();
        for (at, entry) in history.entries.iter().enumerate() {
            match &entry.op {
                Op::Invoke(p) => {
                    view.publications.insert(p.mark, (p, at));
                }
                Op::Accepted(mark) => {
                    if let Some((p, invoked)) = view.publications.get(mark) {
                        view.accepted.push((p, *invoked, at));
                    }
                }
                Op::Unknown(mark) => {
                    let published = view.publications.get(mark);
                    view.unknown.extend(published.map(|(p, _)| *p));
                }
                Op::Refused(_) => {}
                Op::Subscribed(interest) => {
                    current.insert(&interest.subscription, view.streams.len());
                    view.streams.push(Stream {
                        interest,
                        since: at,
                        drained: None,
                        ended: false,
                        arrivals: Vec::new(),
                        items: Vec::new(),
                    });
                }
                Op::Ended(name) | Op::Drained(name) | Op::Lagged(name, _) => {
                    if let Some(stream) = current.get(&**name).map(|i| &mut view.streams[*i]) {
                        match &entry.op {
                            Op::Ended(_) => stream.ended = true,
                            Op::Drained(_) => stream.drained = Some(at),
                            Op::Lagged(_, n) => stream.items.push(Yielded::Lagged(*n)),
                            _ => {}
                        }
                    }
                }
                Op::Delivered(arrival) => {
                    if let Some(i) = current.get(&*arrival.subscription) {
                        view.streams[*i].arrivals.push(arrival);
                        view.streams[*i].items.push(Yielded::Event(arrival));
                    }
                }
            }
        }
        view.accepted.sort_by_key(|(_, invoked, _)| *invoked);
        view
    }

    /// What was published while the subscription stood, and accepted sooner or later.
    pub(super) fn published_for(
        &self,
        stream: &Stream<'_>,
    ) -> impl Iterator<Item = &'a Publication> {
        self.accepted
            .iter()
            .filter(|(p, invoked, _)| *invoked > stream.since && stream.interest.takes(p))
            .map(|(p, ..)| *p)
    }

    /// What was cancelled and may have come.
    pub(super) fn unknown_to(&self, stream: &Stream<'_>) -> impl Iterator<Item = &'a Publication> {
        let unknown = self.unknown.iter().copied();
        unknown.filter(|p| stream.interest.takes(p))
    }

    /// What was accepted while the subscription stood, before it was drained for the last time.
    pub(super) fn owed(
        &self,
        stream: &Stream<'_>,
        findings: &mut Findings,
    ) -> Vec<&'a Publication> {
        let Some(drained) = stream.drained else {
            findings.unjudgeable = Some(format!("`{}` was not read to its end", stream.name()));
            return Vec::new();
        };
        self.accepted
            .iter()
            .filter(|(p, invoked, accepted)| {
                *invoked > stream.since && *accepted < drained && stream.interest.takes(p)
            })
            .map(|(p, ..)| *p)
            .collect()
    }
}
