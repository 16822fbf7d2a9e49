//! The smallest history that shows an anomaly: what a reader wants to see of ten thousand entries.
//!
//! Delta debugging: leave groups of entries out, more and more, as long as the same checker still
//! finds the same anomaly. A group is everything of one event or of one subscription, because half
//! of it would be another anomaly, of the reduction's own making.
//!
//! Invariant: the result is a part of the history, in its order, in which the checker finds the
//! anomaly that was the first of the whole. The work has an end: what is not small by then is shown
//! as it is.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Anomaly, Findings, Kind};
use crate::history::{Entry, History, Mark, Op};

/// How often the checker may be asked.
const MOST_CHECKS: u32 = 2_000;
/// How long reducing may take; a second over all is nothing beside what a failing test costs.
const MOST_TIME: Duration = Duration::from_secs(1);

/// What `check` finds in `history`, with the smallest history if it is anything.
pub(super) fn with(history: &History, check: impl Fn(&History) -> Findings) -> Findings {
    let mut findings = check(history);
    if let Some(first) = findings.anomalies.first() {
        findings.smallest = Some(reduced(history, first, &check));
    }
    findings
}

fn reduced(history: &History, first: &Anomaly, check: &dyn Fn(&History) -> Findings) -> History {
    let mut reduction = Reduction {
        entries: history.entries.clone(),
        first,
        check,
        checks: MOST_CHECKS,
        until: Instant::now() + MOST_TIME,
    };
    reduction.leave_out_subscriptions();
    reduction.leave_out_events();
    reduction.leave_out_ends();
    History {
        entries: reduction.entries,
    }
}

struct Reduction<'a> {
    entries: Vec<Entry>,
    first: &'a Anomaly,
    check: &'a dyn Fn(&History) -> Findings,
    checks: u32,
    until: Instant,
}

impl Reduction<'_> {
    fn leave_out_subscriptions(&mut self) {
        let own = Arc::clone(&self.first.subscription);
        let mut numbers: HashMap<Arc<str>, usize> = HashMap::new();
        for name in self.entries.iter().filter_map(|e| subscription_of(&e.op)) {
            let number = numbers.len();
            numbers.entry(Arc::clone(name)).or_insert(number);
        }
        let others = numbers.iter().filter(|(name, _)| **name != own);
        let mut others: Vec<usize> = others.map(|(_, number)| *number).collect();
        others.sort_unstable();
        self.leave_out(others, |op| numbers.get(subscription_of(op)?).copied());
    }

    fn leave_out_events(&mut self) {
        let marks = self.entries.iter().filter_map(|entry| mark_of(&entry.op));
        let mut marks = distinct(marks.filter(|mark| Some(*mark) != self.first.mark));
        if self.first.kind == Kind::Uncounted {
            // Leaving out what was dropped would leave a count of it behind.
            let plain = self.delivered_once();
            marks.retain(|mark| plain.contains(mark));
        }
        self.leave_out(marks, mark_of);
    }

    /// How a publish ended, where that does not matter.
    fn leave_out_ends(&mut self) {
        let end = |op: &Op| match op {
            Op::Accepted(mark) | Op::Refused(mark) | Op::Unknown(mark) => Some(*mark),
            _ => None,
        };
        if self.first.kind != Kind::Uncounted {
            let ends = distinct(self.entries.iter().filter_map(|entry| end(&entry.op)));
            self.leave_out(ends, end);
        }
    }

    /// Accepted events that the subscription got exactly once.
    fn delivered_once(&self) -> HashSet<Mark> {
        let (mut accepted, mut once, mut again) = (HashSet::new(), HashSet::new(), HashSet::new());
        for entry in &self.entries {
            match &entry.op {
                Op::Accepted(mark) => {
                    accepted.insert(*mark);
                }
                Op::Delivered(arrival) if arrival.subscription == self.first.subscription => {
                    if let Some(mark) = arrival.mark.filter(|mark| !once.insert(*mark)) {
                        again.insert(mark);
                    }
                }
                _ => {}
            }
        }
        once.retain(|mark| accepted.contains(mark) && !again.contains(mark));
        once
    }

    /// Leaves out as many of the groups as it can: all, halves, and so on down to single ones.
    fn leave_out<G: Copy + Eq + Hash>(
        &mut self,
        groups: Vec<G>,
        group_of: impl Fn(&Op) -> Option<G>,
    ) {
        let mut left = groups;
        let mut part = left.len();
        while part > 0 && self.may_go_on() {
            let mut needed = Vec::new();
            for groups in left.chunks(part) {
                let leaving: HashSet<G> = groups.iter().copied().collect();
                let stays = |entry: &&Entry| {
                    !group_of(&entry.op).is_some_and(|group| leaving.contains(&group))
                };
                let entries = self.entries.iter().filter(stays).cloned().collect();
                if !self.takes(entries) {
                    needed.extend_from_slice(groups);
                }
            }
            let settled = part == 1 && needed.len() == left.len();
            left = needed;
            part = if settled {
                0
            } else {
                (part / 2).max(1).min(left.len())
            };
        }
    }

    /// Goes on with `entries` if they still show the anomaly. Not its shape: what was lost from the
    /// middle of thousands is lost from the prefix of two.
    fn takes(&mut self, entries: Vec<Entry>) -> bool {
        if !self.may_go_on() {
            return false;
        }
        self.checks -= 1;
        let history = History { entries };
        let found = (self.check)(&history).anomalies;
        let shows = found.iter().any(|anomaly| {
            anomaly.kind == self.first.kind
                && anomaly.subscription == self.first.subscription
                && anomaly.mark == self.first.mark
        });
        if shows {
            self.entries = history.entries;
        }
        shows
    }

    fn may_go_on(&self) -> bool {
        self.checks > 0 && Instant::now() < self.until
    }
}

fn distinct<G: Copy + Eq + Hash>(groups: impl Iterator<Item = G>) -> Vec<G> {
    let mut seen = HashSet::new();
    groups.filter(|group| seen.insert(*group)).collect()
}

fn mark_of(op: &Op) -> Option<Mark> {
    match op {
        Op::Invoke(publication) => Some(publication.mark),
        Op::Accepted(mark) | Op::Refused(mark) | Op::Unknown(mark) => Some(*mark),
        Op::Delivered(arrival) => arrival.mark,
        _ => None,
    }
}

fn subscription_of(op: &Op) -> Option<&Arc<str>> {
    match op {
        Op::Subscribed(interest) => Some(&interest.subscription),
        Op::Delivered(arrival) => Some(&arrival.subscription),
        Op::Ended(name) | Op::Lagged(name, _) | Op::Drained(name) => Some(name),
        _ => None,
    }
}
