//! What came and what did not: lost, unseen, duplicate, phantom, refused, corrupted.

use std::collections::{BTreeMap, HashMap, HashSet};

use eventbus_trait::{Delivery, Topic};

use super::view::{Stream, View};
use super::{Findings, Kind, Shape};
use crate::history::{History, Mark, Op, Publication};

pub(super) fn lost(history: &History) -> Findings {
    let view = View::of(history);
    let mut findings = Findings::default();
    for stream in view
        .streams
        .iter()
        // Of one that was ended, what came before it was last read to its end is still owed.
        .filter(|s| !s.interest.lossy && (!s.ended || s.drained.is_some()))
    {
        let mut flows: BTreeMap<(u32, &Topic), Vec<&Publication>> = BTreeMap::new();
        for p in view.owed(stream, &mut findings) {
            if p.delivery == Delivery::AtLeastOnce {
                flows.entry((p.mark.author, &p.topic)).or_default().push(p);
            }
        }
        let last = last_seen(stream);
        let seen = stream.marks();
        for (flow, owed) in &flows {
            findings.examined += owed.len() as u64;
            missing(stream, owed, &seen, last.get(flow).copied(), &mut findings);
        }
    }
    // As the events were published, not topic by topic.
    findings
        .anomalies
        .sort_by(|a, b| (&a.subscription, a.mark).cmp(&(&b.subscription, b.mark)));
    findings
}

/// The last event of each author on each topic that came.
fn last_seen<'a>(stream: &Stream<'a>) -> HashMap<(u32, &'a Topic), u64> {
    let mut last = HashMap::new();
    for arrival in &stream.arrivals {
        if let Some(mark) = arrival.mark {
            let last = last.entry((mark.author, &arrival.topic)).or_default();
            *last = mark.sequence.max(*last);
        }
    }
    last
}

/// Adds what is missing of what one author owes on one topic.
fn missing(
    stream: &Stream<'_>,
    owed: &[&Publication],
    seen: &HashSet<Mark>,
    last_seen: Option<u64>,
    findings: &mut Findings,
) {
    let came = |p: &&Publication| seen.contains(&p.mark);
    let first = owed.iter().position(came);
    let last = owed.iter().rposition(came);
    for (at, p) in owed.iter().enumerate().filter(|(_, p)| !came(p)) {
        let kind = if last_seen > Some(p.mark.sequence) {
            Kind::Lost
        } else {
            Kind::Unseen
        };
        let shape = match (first, last) {
            (Some(first), _) if at < first => Shape::Prefix,
            (_, Some(last)) if at > last => Shape::Suffix,
            (None, _) => Shape::Whole,
            _ => Shape::Middle,
        };
        let (topic, author, owed) = (&p.topic, p.mark.author, owed.len());
        let detail = format!("on `{topic}`, of the {shape} of {owed} that author {author} owed");
        findings.add(kind, stream, Some(p.mark), detail);
        if let Some(anomaly) = findings.anomalies.last_mut() {
            anomaly.shape = Some(shape);
        }
    }
}

pub(super) fn duplicates(history: &History) -> Findings {
    let mut findings = Findings::default();
    for stream in &View::of(history).streams {
        let mut seen = HashSet::new();
        for arrival in &stream.arrivals {
            findings.examined += 1;
            if arrival.mark.is_some_and(|mark| !seen.insert(mark)) {
                let detail = format!("on `{}` came again", arrival.topic);
                findings.add(Kind::Duplicate, stream, arrival.mark, detail);
            }
        }
    }
    findings
}

pub(super) fn phantoms(history: &History) -> Findings {
    let view = View::of(history);
    let mut findings = Findings::default();
    for stream in &view.streams {
        for arrival in &stream.arrivals {
            findings.examined += 1;
            let published = arrival.mark.and_then(|mark| view.publications.get(&mark));
            let detail = match published {
                None => format!("on `{}` was never published", arrival.topic),
                Some((p, _)) if !stream.interest.takes(p) => {
                    format!("on `{}` is not what the subscription takes", p.topic)
                }
                Some(_) => continue,
            };
            findings.add(Kind::Phantom, stream, arrival.mark, detail);
        }
    }
    findings
}

pub(super) fn refused(history: &History) -> Findings {
    let view = View::of(history);
    let refused: HashSet<Mark> = history
        .entries
        .iter()
        .filter_map(|entry| match entry.op {
            Op::Refused(mark) => Some(mark),
            _ => None,
        })
        .collect();
    let mut findings = Findings {
        examined: refused.len() as u64,
        ..Findings::default()
    };
    for stream in &view.streams {
        for arrival in &stream.arrivals {
            if arrival.mark.is_some_and(|mark| refused.contains(&mark)) {
                let detail = format!("on `{}`", arrival.topic);
                findings.add(Kind::Refused, stream, arrival.mark, detail);
            }
        }
    }
    findings
}

pub(super) fn corrupted(history: &History) -> Findings {
    let view = View::of(history);
    let mut findings = Findings::default();
    for stream in &view.streams {
        for arrival in &stream.arrivals {
            let Some(mark) = arrival.mark else { continue };
            let Some((published, _)) = view.publications.get(&mark) else {
                continue;
            };
            findings.examined += 1;
            if published.topic != arrival.topic {
                let detail = format!("of `{}` came on `{}`", published.topic, arrival.topic);
                findings.add(Kind::Corrupted, stream, Some(mark), detail);
            } else if published.digest != arrival.digest {
                let detail = format!("on `{}` is not what was published", arrival.topic);
                findings.add(Kind::Corrupted, stream, Some(mark), detail);
            }
        }
    }
    findings
}
