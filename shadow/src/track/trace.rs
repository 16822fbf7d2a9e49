//! What is kept of a stream's events so that a divergence can be shown with those around it.

use super::slot::Slot;
use super::{Class, Context, Finding, Nanos, Side, Track};
use crate::record::{GoneOn, Passage};
use crate::report::DivergenceClass;

/// How many events before and after the one in question are shown.
pub(crate) const AROUND: usize = 8;

/// What a divergence was concluded from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Trace {
    pub(crate) gone_on_at: u64,
    pub(crate) gone_on: GoneOn,
    pub(crate) around: Vec<Passage>,
}

/// Of the events from one on, the first that a side has delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overtaker {
    side: Side,
    from: u64,
    first: Option<u64>,
}

impl Overtaker {
    /// Whether it is the first from `sequence` on as well, so that nobody need search again: those that
    /// are lost together were overtaken by one.
    fn serves(&self, side: Side, sequence: u64) -> bool {
        let within = self.first.is_none_or(|first| sequence <= first);
        self.side == side && self.from <= sequence && within
    }
}

impl Track {
    /// Keeps a slot that is let go, if divergences are to be shown with what was around them.
    pub(super) fn keep_recent(&mut self, slot: &Slot) {
        if self.rules.context > 0 {
            while self.recent.len() >= self.rules.context {
                self.recent.pop_front();
            }
            self.recent.push_back(passage(slot));
        }
    }

    /// Adds to what was found last what it was concluded from, while that is still there and somebody
    /// takes it.
    pub(super) fn show(&self, cx: &mut Context<'_>) {
        if self.rules.context == 0 || cx.traces == 0 {
            return;
        }
        cx.traces -= 1;
        let now = cx.now;
        if let Some(finding) = cx.findings.last_mut() {
            finding.trace = Some(Box::new(self.trace(finding, now, &mut cx.overtaker)));
        }
    }

    /// The first of the slots at `from` and later that `side` has delivered in order.
    fn overtaker(&self, side: Side, from: usize, last: &mut Option<Overtaker>) -> Option<&Slot> {
        let sequence = self.slots.get(from)?.sequence;
        if !last.is_some_and(|last| last.serves(side, sequence)) {
            let overtook = |slot: &&Slot| slot.ordered && slot.end(side).seen();
            let first = self.slots.range(from..).find(overtook);
            *last = Some(Overtaker {
                side,
                from: sequence,
                first: first.map(|slot| slot.sequence),
            });
        }
        let at = self.position((*last)?.first?).ok()?;
        self.slots.get(at)
    }

    fn trace(&self, finding: &Finding, now: Nanos, last: &mut Option<Overtaker>) -> Trace {
        let before = |sequence: u64| sequence < finding.sequence;
        let at = self.slots.partition_point(|slot| before(slot.sequence));
        let from = at.saturating_sub(AROUND);
        let to = self.slots.len().min(at + 1 + AROUND);
        let mut around: Vec<_> = self.slots.range(from..to).map(passage).collect();
        // Who overtook it may be far away.
        let further = self.overtaker(finding.side, to, last);
        around.extend(further.map(passage));
        let recent = self.recent.iter().rev();
        let missing = |p: &&Passage| around.iter().all(|other| other.sequence != p.sequence);
        let recent: Vec<_> = recent.filter(missing).take(2 * AROUND).cloned().collect();
        around.extend(recent);
        around.sort_by_key(|passage| passage.sequence);
        if finding.class == DivergenceClass::Differs {
            let same = |passage: &&mut Passage| passage.sequence == finding.sequence;
            around
                .iter_mut()
                .filter(same)
                .for_each(|passage| passage.differs = true);
        }
        let mut trace = Trace {
            around,
            ..Trace::default()
        };
        if let Some(slot) = self.slots.get(at)
            && slot.sequence == finding.sequence
        {
            let end = slot.end(finding.side);
            let missing = finding.class == DivergenceClass::Missing;
            (trace.gone_on_at, trace.gone_on) = match (end.silent, end.by_marker) {
                (true, _) => (end.overtaken_at, GoneOn::Silence),
                (false, true) => (end.overtaken_at, GoneOn::Marker),
                // A later event had come before, and then a marker ended the wait.
                (false, false) if end.passed && missing => (now, GoneOn::Marker),
                (false, false) => (end.overtaken_at, GoneOn::Delivered),
            };
        }
        trace
    }
}

fn passage(slot: &Slot) -> Passage {
    Passage {
        sequence: slot.sequence,
        published: slot.published_at,
        given: slot.offered_at,
        primary: slot.end(Side::Primary).seen_at,
        candidate: slot.end(Side::Candidate).seen_at,
        differs: slot.class == Class::Differs,
        ordered: slot.ordered,
    }
}
