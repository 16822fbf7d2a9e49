//! Checkers: what is wrong with a history, by name.
//!
//! Each looks for one kind of anomaly and says how much it has looked at, so that a history in
//! which nothing of its subject happened is told apart from one that is in order.
//!
//! A checker believes the marks in the payloads and nothing that the bus says about an event.

pub mod stream;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use eventbus_trait::{Delivery, Topic};

use view::{Stream, View, Yielded};

use crate::history::{History, Mark, Op, Publication};
use crate::verdict::{Checked, Unmet};

/// What can be wrong with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Accepted, and never delivered.
    Lost,
    /// Delivered more than once to one subscription.
    Duplicate,
    /// Delivered, and never published, or published on a topic that the subscription does not
    /// take.
    Phantom,
    /// Refused with an error, and delivered all the same.
    Refused,
    /// Delivered after an event that its author published later.
    Reordered,
    /// Delivered with another topic, payload, header, correlation or delivery.
    Corrupted,
    /// Not delivered, and not in the count of lost events at that place.
    Uncounted,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Duplicate => "duplicate",
            Self::Phantom => "phantom",
            Self::Refused => "refused but delivered",
            Self::Reordered => "reordered",
            Self::Corrupted => "corrupted",
            Self::Uncounted => "dropped without a count",
        })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    /// What.
    pub kind: Kind,
    /// In which subscription.
    pub subscription: Arc<str>,
    /// Which event.
    pub mark: Option<Mark>,
    /// More of it.
    pub detail: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in `{}`:", self.kind, self.subscription)?;
        if let Some(mark) = self.mark {
            write!(f, " event {mark}")?;
        }
        write!(f, " {}", self.detail)
    }
}

/// What a checker found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// What is wrong.
    pub anomalies: Vec<Anomaly>,
    /// How many deliveries, or events, were looked at.
    pub examined: u64,
    /// Why the history cannot be judged, if it cannot.
    pub unjudgeable: Option<String>,
}

impl Findings {
    /// Broken if there is an anomaly, unexercised if nothing was looked at.
    ///
    /// # Errors
    /// [`Unmet`], with the first anomalies.
    pub fn verdict(&self) -> Checked {
        const SHOWN: usize = 4;
        if !self.anomalies.is_empty() {
            let mut shown: Vec<String> = self
                .anomalies
                .iter()
                .take(SHOWN)
                .map(Anomaly::to_string)
                .collect();
            if self.anomalies.len() > SHOWN {
                shown.push(format!("and {} more", self.anomalies.len() - SHOWN));
            }
            let (count, examined) = (self.anomalies.len(), self.examined);
            let text = format!(
                "{count} anomalies in {examined} examined: {}",
                shown.join("; ")
            );
            return Err(Unmet::Broken(text));
        }
        match &self.unjudgeable {
            Some(reason) => Err(Unmet::unexercised(reason)),
            None if self.examined == 0 => Err(Unmet::unexercised("nothing was there to examine")),
            None => Ok(()),
        }
    }

    fn add(&mut self, kind: Kind, stream: &Stream<'_>, mark: Option<Mark>, detail: String) {
        let subscription = Arc::clone(&stream.interest.subscription);
        self.anomalies.push(Anomaly {
            kind,
            subscription,
            mark,
            detail,
        });
    }
}

/// Accepted `AtLeastOnce` events that a subscription never got, by subscriptions that may not lose
/// any (DEL-001).
#[must_use]
pub fn lost(history: &History) -> Findings {
    let view = View::of(history);
    let mut findings = Findings::default();
    for stream in view
        .streams
        .iter()
        .filter(|s| !s.interest.lossy && !s.ended)
    {
        let owed = view.owed(stream, &mut findings);
        let owed: Vec<_> = owed
            .into_iter()
            .filter(|p| p.delivery == Delivery::AtLeastOnce)
            .collect();
        findings.examined += owed.len() as u64;
        let seen = stream.marks();
        let missing: Vec<usize> = (0..owed.len())
            .filter(|at| !seen.contains(&owed[*at].mark))
            .collect();
        let shape = shape(&missing, owed.len());
        for at in &missing {
            let detail = format!(
                "on `{}`, of the {shape} of {} owed",
                owed[*at].topic,
                owed.len()
            );
            findings.add(Kind::Lost, stream, Some(owed[*at].mark), detail);
        }
    }
    findings
}

/// Events that one subscription got twice (DEL-003).
#[must_use]
pub fn duplicates(history: &History) -> Findings {
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

/// Deliveries of what nobody published, or what the subscription does not take (DEL-002).
#[must_use]
pub fn phantoms(history: &History) -> Findings {
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

/// Deliveries of events whose publish was refused (DEL-004). Looks at the refused events.
#[must_use]
pub fn refused(history: &History) -> Findings {
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

/// Within what an author's order must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// One topic (ORD-001).
    Topic,
    /// All topics (ORD-002, ORD-003).
    Author,
}

/// Events that came after one that their author published later. Duplicates are not counted: a
/// second copy is late by nature.
#[must_use]
pub fn reordered(history: &History, within: Within) -> Findings {
    let mut findings = Findings::default();
    for stream in &View::of(history).streams {
        let mut seen = HashSet::new();
        let mut last: HashMap<(u32, Option<&Topic>), Mark> = HashMap::new();
        for arrival in &stream.arrivals {
            let Some(mark) = arrival.mark.filter(|mark| seen.insert(*mark)) else {
                continue;
            };
            let scope = (
                mark.author,
                (within == Within::Topic).then_some(&arrival.topic),
            );
            match last.get_mut(&scope) {
                None => {
                    last.insert(scope, mark);
                }
                Some(last) => {
                    findings.examined += 1;
                    if mark.sequence < last.sequence {
                        let detail = format!("on `{}` came after {last}", arrival.topic);
                        findings.add(Kind::Reordered, stream, Some(mark), detail);
                    } else {
                        *last = mark;
                    }
                }
            }
        }
    }
    findings
}

/// Deliveries that differ from what was published (DEL-006).
#[must_use]
pub fn corrupted(history: &History) -> Findings {
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

/// Subscriptions in which what was delivered and what was told as lost are not what was published
/// (DEL-009, FLW-002). Where all of it is one author's, each gap must be told in its place too.
#[must_use]
pub fn uncounted(history: &History) -> Findings {
    let view = View::of(history);
    let mut findings = Findings::default();
    for stream in view.streams.iter().filter(|s| !s.ended) {
        let owed = view.owed(stream, &mut findings);
        findings.examined += owed.len() as u64;
        if owed.iter().all(|p| p.mark.author == owed[0].mark.author) {
            misplaced(stream, &owed, &mut findings);
        }
        let told: u64 = stream.items.iter().map(Yielded::events).sum();
        if told != owed.len() as u64 {
            let detail = format!("{told} delivered or counted as lost, {} owed", owed.len());
            findings.add(Kind::Uncounted, stream, None, detail);
        }
    }
    findings
}

/// Finds the first event that came elsewhere than the counts of lost events say.
fn misplaced(stream: &Stream<'_>, owed: &[&Publication], findings: &mut Findings) {
    let mut at = 0;
    for item in &stream.items {
        if let Yielded::Event(arrival) = item {
            let want = owed.get(at).map(|p| p.mark);
            if arrival.mark != want {
                let want = want.map_or("the end".into(), |mark| mark.to_string());
                let detail = format!("came where {want} was due");
                return findings.add(Kind::Uncounted, stream, arrival.mark, detail);
            }
        }
        at += usize::try_from(item.events()).unwrap_or(usize::MAX);
    }
}

/// Where in a stream events are missing.
fn shape(missing: &[usize], owed: usize) -> &'static str {
    match (missing.first(), missing.last()) {
        (Some(0), Some(last)) if last + 1 == owed && missing.len() == owed => "whole",
        (Some(0), Some(last)) if last + 1 == missing.len() => "beginning",
        (Some(first), Some(last)) if last + 1 == owed && owed - first == missing.len() => "end",
        _ => "middle",
    }
}
