//! Deciding the class of a delivery, and what time and markers add to it.

use std::time::Duration;

use super::{Class, Compared, Context, Mark, Nanos, Reason, Side, Track};
use crate::report::DivergenceClass;

impl Track {
    /// Decides a slot if everything that it takes is known. `compared` is given when the second
    /// side has just delivered.
    pub(super) fn decide(&mut self, at: usize, compared: Option<Compared>, cx: &mut Context<'_>) {
        let slot = &self.slots[at];
        let class = match (slot.class, compared) {
            (Class::Open, _) if slot.ends.iter().any(|end| end.dropped) => {
                Class::Unverified(Reason::Lagged)
            }
            (Class::Open | Class::Missing(_), Some(compared)) => {
                return self.decide_compared(at, compared, cx);
            }
            (Class::Open, None) => match self.undelivered(at, cx.now) {
                Some(class) => class,
                None => return,
            },
            _ => return,
        };
        if let Class::Missing(side) = class {
            let detail = if slot.end(side).silent {
                let for_long = Duration::from_nanos(self.rules.silence);
                format!("the {side} owes it and has been silent for {for_long:.1?}")
            } else {
                format!(
                    "delivered by the {}, not by the {side}, which went on to later events",
                    side.other()
                )
            };
            cx.find(DivergenceClass::Missing, side, slot.sequence, detail);
            if let Some(event) = slot.content.event() {
                cx.show(side.other(), event);
            }
            self.show(cx);
        }
        self.set_class(at, class);
    }

    /// What a slot is that not both sides have delivered, once it is given up.
    fn undelivered(&self, at: usize, now: Nanos) -> Option<Class> {
        let slot = &self.slots[at];
        let [primary, candidate] = &slot.ends;
        let grace = self.rules.grace;
        let (no_primary, no_candidate) = (primary.absent(now, grace), candidate.absent(now, grace));
        match (primary.seen(), candidate.seen()) {
            (true, false) if no_candidate => Some(Class::Missing(Side::Candidate)),
            (false, true) if no_primary => Some(Class::Missing(Side::Primary)),
            (false, false) if no_primary && no_candidate => {
                Some(Class::Unverified(Reason::Neither))
            }
            _ => None,
        }
    }

    fn decide_compared(&mut self, at: usize, compared: Compared, cx: &mut Context<'_>) {
        let slot = &self.slots[at];
        let out_of_order = |side: &Side| slot.end(*side).overtaken();
        let culprit = [Side::Candidate, Side::Primary]
            .into_iter()
            .find(|side| slot.end(*side).late)
            .or_else(|| {
                [Side::Candidate, Side::Primary]
                    .into_iter()
                    .find(out_of_order)
            });
        let mut displaced = None;
        let (class, told) = match (compared, culprit) {
            (Compared::Unsaid, None) => (Class::Unverified(Reason::HookFailed), None),
            (Compared::Unreadable, _) => (Class::Unverified(Reason::Unreadable), None),
            (Compared::Differs(detail), _) => {
                let told = (DivergenceClass::Differs, Side::Candidate, detail);
                (Class::Differs, Some(told))
            }
            (Compared::Same, None) => (Class::Matched, None),
            (Compared::Same | Compared::Unsaid, Some(side)) => {
                let end = slot.end(side);
                let by = Duration::from_nanos(end.seen_at - end.overtaken_at);
                let others = u64::from(end.overtaken_by);
                displaced = Some(others).filter(|n| *n > 0);
                let detail = if end.silent {
                    format!("the {side} delivered it {by:.1?} after it was given up")
                } else {
                    format!("the {side} delivered it {by:.1?} after a later event, {others} late")
                };
                if end.late {
                    (Class::Late, Some((DivergenceClass::Late, side, detail)))
                } else {
                    let told = (DivergenceClass::Reordered, side, detail);
                    (Class::Reordered, Some(told))
                }
            }
        };
        let was_missing = matches!(slot.class, Class::Missing(_));
        if let Some((class, side, detail)) = told {
            cx.find(class, side, slot.sequence, detail);
            if let Some(finding) = cx.findings.last_mut() {
                finding.was_missing = was_missing;
                finding.displaced = displaced;
            }
            self.show(cx);
        }
        self.set_class(at, class);
    }

    /// Decides what has become missing since.
    pub(super) fn expire(&mut self, cx: &mut Context<'_>) {
        while let Some(gap) = self.gaps.front()
            && cx.now.saturating_sub(gap.at) >= self.rules.grace
        {
            let (sequence, side) = (gap.sequence, gap.side);
            self.gaps.pop_front();
            if let Ok(at) = self.position(sequence) {
                self.resolve(at, side, cx);
            }
        }
    }

    /// Says of a slot what can be said now that `side` is past it.
    fn resolve(&mut self, at: usize, side: Side, cx: &mut Context<'_>) {
        let grace = self.rules.grace;
        let end = self.slots[at].end_mut(side);
        if !end.absent(cx.now, grace) {
            return;
        }
        if end.may_drop && !end.dropped && cx.dropped.take(side) {
            end.dropped = true;
        }
        self.decide(at, None, cx);
    }

    /// Decides whatever time alone decides. `idle_since` is since when the application waits with
    /// nothing queued on the primary.
    pub(crate) fn sweep(&mut self, idle_since: Option<Nanos>, cx: &mut Context<'_>) {
        self.expire(cx);
        if let Some(since) = idle_since {
            self.admit_drops(since, cx);
        }
        if std::mem::take(&mut self.gaps_lost) {
            for at in 0..self.slots.len() {
                for side in [Side::Primary, Side::Candidate] {
                    self.resolve(at, side, cx);
                }
            }
            self.gaps_lost = self.counts.open > 0;
        }
        self.trim(cx.now);
    }

    /// The application has read everything since `idle_since`, was told that some events were
    /// dropped, and these may be: they are the ones.
    fn admit_drops(&mut self, idle_since: Nanos, cx: &mut Context<'_>) {
        if self.counts.open == 0 || !cx.dropped.any(Side::Primary) {
            return;
        }
        let grace = self.rules.grace;
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            let since = idle_since.max(slot.published_at);
            let open = slot.class == Class::Open && cx.now.saturating_sub(since) >= grace;
            let end = slot.end_mut(Side::Primary);
            if open && !end.seen() && end.may_drop && cx.dropped.take(Side::Primary) {
                end.dropped = true;
                self.decide(at, None, cx);
            }
        }
    }

    /// The sequence up to which a marker should ask, if the candidate was given anything since the
    /// last one and none is on its way. Also what is decided is asked for: what the candidate
    /// delivers beyond that shows before the marker.
    pub(crate) fn wants_mark(&self, now: Nanos) -> Option<u64> {
        let cut = self.unmarked()?;
        let under_way = |mark: Mark| mark.cut >= cut && !self.is_lost(mark, now);
        (!self.mark.is_some_and(under_way)).then_some(cut)
    }

    /// The highest sequence that the candidate was given and no marker has come through for.
    pub(super) fn unmarked(&self) -> Option<u64> {
        let open = self.gone[Side::Candidate.at()].is_none();
        self.offered.filter(|cut| open && self.marked < Some(*cut))
    }

    /// Gives up what the candidate owes and does not deliver. Silence alone says little: a
    /// connection that is made anew is silent too, and then goes on where it was. So a marker that
    /// is slow to come is only sent again, and what it asks for is given up once the candidate has
    /// been silent for long. `heard_at` is when it last delivered anything to the subscription; the
    /// caller has just made sure that nothing is waiting to be taken.
    pub(crate) fn give_up_mark(&mut self, heard_at: Nanos, cx: &mut Context<'_>) {
        if let Some(mark) = self.mark
            && cx.now.saturating_sub(mark.asked_at.max(heard_at)) >= self.rules.silence
        {
            self.pass_up_to(mark.cut, true, cx);
        }
    }

    fn is_lost(&self, mark: Mark, now: Nanos) -> bool {
        now.saturating_sub(mark.sent_at) >= self.rules.grace
    }

    /// Notes that a marker is being sent after everything up to `cut`.
    pub(crate) fn mark(&mut self, cut: u64, now: Nanos) {
        // The candidate has owed an answer since the first of the markers that it has not answered.
        let asked_at = self.mark.map_or(now, |mark| mark.asked_at);
        self.mark = Some(Mark {
            cut,
            asked_at,
            sent_at: now,
        });
    }

    /// A marker has come through the candidate: everything up to `cut` that the candidate was given
    /// and has not delivered will not come in its place.
    pub(crate) fn marked(&mut self, cut: u64, cx: &mut Context<'_>) {
        self.pass_up_to(cut, false, cx);
    }

    fn pass_up_to(&mut self, cut: u64, silent: bool, cx: &mut Context<'_>) {
        if self.mark.is_some_and(|mark| mark.cut <= cut) {
            self.mark = None;
        }
        self.marked = self.marked.max(Some(cut));
        let to = self.slots.partition_point(|slot| slot.sequence <= cut);
        let delivered = self.sides[Side::Candidate.at()].delivered;
        for at in 0..to {
            let slot = &mut self.slots[at];
            if slot.offered_at == 0 {
                continue;
            }
            self.counts.awaited -= u64::from(slot.is_awaited());
            let end = slot.end_mut(Side::Candidate);
            if end.seen() || end.closed {
                continue;
            }
            if !end.overtaken() {
                end.overtaken_at = cx.now;
                end.overtaken_by = delivered;
                end.silent = silent;
                end.by_marker = !silent;
            }
            end.passed = true;
            self.resolve(at, Side::Candidate, cx);
        }
        let cursor = &mut self.sides[Side::Candidate.at()];
        if cursor.highest < Some(cut) {
            cursor.highest = Some(cut);
            cursor.next = to;
        }
        self.trim(cx.now);
    }
}
