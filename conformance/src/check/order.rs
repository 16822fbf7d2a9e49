//! The order in which events came: nonmonotonic, skip, and what the stamps say of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use eventbus_trait::{Delivery, Origin, PublisherId, Topic};

use super::view::{Stream, View};
use super::{Findings, Kind};
use crate::history::{Arrival, History, Mark};

/// Within what an author's order must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// One topic (ORD-001).
    Topic,
    /// All topics (ORD-002, ORD-003).
    Author,
}

impl Within {
    fn topic(self, topic: &Topic) -> Option<&Topic> {
        (self == Self::Topic).then_some(topic)
    }
}

/// The arrivals of a stream that have a mark, without second copies.
fn first_copies<'a>(stream: &Stream<'a>) -> impl Iterator<Item = (Mark, &'a Arrival)> {
    let mut seen = HashSet::new();
    stream
        .arrivals
        .iter()
        .filter_map(|arrival| Some((arrival.mark?, *arrival)))
        .filter(move |(mark, _)| seen.insert(*mark))
        .collect::<Vec<_>>()
        .into_iter()
}

pub(super) fn nonmonotonic(history: &History, within: Within) -> Findings {
    let mut findings = Findings::default();
    for stream in &View::of(history).streams {
        let mut last: HashMap<(u32, Option<&Topic>), Mark> = HashMap::new();
        for (mark, arrival) in first_copies(stream) {
            let scope = (mark.author, within.topic(&arrival.topic));
            let Some(last) = last.get_mut(&scope) else {
                last.insert(scope, mark);
                continue;
            };
            findings.examined += 1;
            if mark.sequence < last.sequence {
                let detail = format!("on `{}` came after {last}", arrival.topic);
                findings.add(Kind::Nonmonotonic, stream, Some(mark), detail);
            } else {
                *last = mark;
            }
        }
    }
    findings
}

pub(super) fn skips(history: &History, within: Within) -> Findings {
    let view = View::of(history);
    let mut findings = Findings::default();
    for stream in view.streams.iter().filter(|s| !s.interest.lossy) {
        // What has to come and has not, by author and, if it matters, topic.
        let mut due: BTreeMap<(u32, Option<&Topic>), BTreeMap<u64, &Topic>> = BTreeMap::new();
        for p in view.published_for(stream) {
            if p.delivery == Delivery::AtLeastOnce {
                let scope = (p.mark.author, within.topic(&p.topic));
                let due = due.entry(scope).or_default();
                due.insert(p.mark.sequence, &p.topic);
            }
        }
        for (mark, arrival) in first_copies(stream) {
            let scope = (mark.author, within.topic(&arrival.topic));
            let Some(due) = due.get_mut(&scope) else {
                continue;
            };
            findings.examined += 1;
            let later = due.split_off(&mark.sequence);
            let jumped = std::mem::replace(due, later);
            due.remove(&mark.sequence);
            if let Some((sequence, topic)) = jumped.first_key_value() {
                let skipped = Mark {
                    author: mark.author,
                    sequence: *sequence,
                };
                let more = match jumped.len() - 1 {
                    0 => String::new(),
                    more => format!(" and {more} after it"),
                };
                let detail = format!("on `{topic}`{more} had not come when {mark} did");
                findings.add(Kind::Skip, stream, Some(skipped), detail);
            }
        }
    }
    findings
}

pub(super) fn stamps(history: &History, within: Within) -> Findings {
    let view = View::of(history);
    let mut findings = Findings::default();
    let mut elsewhere: HashMap<Mark, Origin> = HashMap::new();
    for stream in &view.streams {
        let mut last: HashMap<(PublisherId, u64, Option<&Topic>), u64> = HashMap::new();
        for (mark, arrival) in first_copies(stream) {
            let Some((published, _)) = view.publications.get(&mark) else {
                continue;
            };
            findings.examined += 1;
            let Some(origin) = arrival.origin else {
                let detail = format!("on `{}` came without a stamp", arrival.topic);
                findings.add(Kind::Corrupted, stream, Some(mark), detail);
                continue;
            };
            let other = *elsewhere.entry(mark).or_insert(origin);
            if origin.publisher != published.handle {
                let (stamp, handle) = (origin.publisher, published.handle);
                let detail = format!("by {handle} is stamped as by {stamp}");
                findings.add(Kind::Corrupted, stream, Some(mark), detail);
            } else if origin != other {
                let (have, had) = (origin.sequence, other.sequence);
                let detail = format!("is stamped {have}, and {had} in another subscription");
                findings.add(Kind::Corrupted, stream, Some(mark), detail);
            }
            let scope = (origin.publisher, origin.epoch, within.topic(&arrival.topic));
            if let Some(last) = last.insert(scope, origin.sequence)
                && last >= origin.sequence
            {
                let detail = format!("is stamped {}, after {last}", origin.sequence);
                findings.add(Kind::Nonmonotonic, stream, Some(mark), detail);
            }
        }
    }
    findings
}
