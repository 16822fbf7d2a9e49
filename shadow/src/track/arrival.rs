//! What a side delivers: finding its slot, following the side's order, handing it to the verdict.

use eventbus_trait::Event;

use super::history::Past;
use super::slot::{Content, Delivered};
use super::{Class, Context, Gap, Nanos, Side, Track};
use crate::report::DivergenceClass;
use crate::unwatched::Excuse;

impl Track {
    /// Takes in what a side delivered; false if the track is retired.
    pub(crate) fn arrive(
        &mut self,
        side: Side,
        sequence: u64,
        delivered: &Delivered<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        if self.retired {
            return false;
        }
        self.expire(cx);
        match self.find(self.sides[side.at()].next, sequence) {
            None => self.stray(side, sequence, delivered, cx),
            Some(at) if self.slots[at].end(side).seen() => {
                self.duplicate(side, sequence, delivered, cx);
            }
            Some(at) => self.deliver(at, side, delivered, cx),
        }
        true
    }

    fn deliver(&mut self, at: usize, side: Side, delivered: &Delivered<'_>, cx: &mut Context<'_>) {
        let before = self.sides[side.at()].delivered;
        if self.slots[at].ordered {
            self.pass(side, at, cx.now);
            let delivered = &mut self.sides[side.at()].delivered;
            *delivered = delivered.wrapping_add(1);
        }
        let grace = self.rules.grace;
        let slot = &mut self.slots[at];
        if side == Side::Candidate {
            self.counts.awaited -= u64::from(slot.is_awaited());
        }
        let end = slot.end_mut(side);
        end.late = end.overdue(cx.now, grace);
        end.seen_at = cx.now;
        if end.overtaken() {
            end.overtaken_by = before.wrapping_sub(end.overtaken_by);
        }
        if slot.class != Class::Ignored
            && let Some((interleaving, origin)) = cx.interleaving.zip(cx.origin)
        {
            let [primary, candidate] = slot.ends.map(|end| end.place);
            slot.end_mut(side).place = match side {
                Side::Primary => {
                    interleaving.by_primary(origin, candidate, cx.now, self.rules.silence)
                }
                Side::Candidate => interleaving.by_candidate(primary),
            };
        }
        let compared_now = slot.both_seen();
        let compared = match slot.class {
            Class::Open | Class::Missing(_) if slot.both_seen() => {
                cx.latencies = slot.latencies();
                let failed = &mut cx.hooks_failed;
                Some(slot.content.compare(side, delivered, &cx.hooks, failed))
            }
            Class::Open => {
                if !matches!(slot.content, Content::Unsampled) {
                    slot.content = Content::keep(side, delivered, &cx.hooks);
                }
                None
            }
            _ => None,
        };
        let unsampled = matches!(slot.content, Content::Unsampled);
        let found = cx.findings.len();
        let first = compared.as_ref().and_then(|_| self.to_show(at, cx));
        let compared_contents = compared.is_some();
        self.decide(at, compared, cx);
        if compared_contents && cx.findings.len() > found {
            cx.show(side, delivered.event());
            if let Some(first) = first {
                cx.show(side.other(), &first);
            }
        }
        if unsampled && compared_now && self.slots[at].class == Class::Matched {
            self.counts.unsampled += 1;
        }
        self.trim(cx.now);
    }

    /// What the first side delivered of a slot, if it may have to be shown.
    fn to_show(&self, at: usize, cx: &Context<'_>) -> Option<Event> {
        cx.hooks.redact?;
        self.slots[at].content.event().cloned()
    }

    /// The slot of `sequence`, which is most likely the one at `next`.
    pub(super) fn find(&self, next: usize, sequence: u64) -> Option<usize> {
        match self.slots.get(next) {
            Some(slot) if slot.sequence == sequence => Some(next),
            _ => self.position(sequence).ok(),
        }
    }

    pub(super) fn position(&self, sequence: u64) -> Result<usize, usize> {
        match self.slots.back() {
            Some(slot) if slot.sequence == sequence => Ok(self.slots.len() - 1),
            Some(slot) if slot.sequence < sequence => Err(self.slots.len()),
            _ => self
                .slots
                .binary_search_by_key(&sequence, |slot| slot.sequence),
        }
    }

    /// Moves the cursor of `side` beyond the slot at `to`; what it skips is overtaken.
    fn pass(&mut self, side: Side, to: usize, now: Nanos) {
        let sequence = self.slots[to].sequence;
        let cursor = &mut self.sides[side.at()];
        if cursor.highest >= Some(sequence) {
            return;
        }
        let skipped = cursor.next..to;
        let delivered = cursor.delivered;
        cursor.highest = Some(sequence);
        cursor.next = to + 1;
        for slot in self.slots.range_mut(skipped) {
            let (sequence, open) = (slot.sequence, slot.class == Class::Open);
            let end = slot.end_mut(side);
            if end.seen() || end.closed || end.overtaken() {
                continue;
            }
            end.overtaken_at = now;
            end.overtaken_by = delivered;
            if self.gaps.len() >= 2 * self.rules.window {
                self.gaps_lost = true;
            } else if open || end.may_drop {
                self.gaps.push_back(Gap {
                    at: now,
                    sequence,
                    side,
                });
            }
        }
    }

    /// An arrival that belongs to no slot.
    #[cold]
    fn stray(
        &mut self,
        side: Side,
        sequence: u64,
        delivered: &Delivered<'_>,
        cx: &mut Context<'_>,
    ) {
        match self.history.arrival(side, sequence, self.first) {
            Past::Forgotten | Past::Unknown if cx.is_excused(side) => {}
            // What it was, the track before knew.
            Past::Unknown if self.succeeds && Some(sequence) < self.first => {
                cx.excuse = Some((Excuse::Unplaced, side));
            }
            Past::Duplicate | Past::Forgotten => self.duplicate(side, sequence, delivered, cx),
            // The last one may have been taken back and been accepted after the end.
            Past::Unknown if cx.ended && Some(sequence) >= self.last => {}
            Past::Unknown => {
                self.counts.phantoms += 1;
                cx.find(
                    DivergenceClass::Phantom,
                    side,
                    sequence,
                    "the publisher did not publish this sequence to this subscription".to_owned(),
                );
                cx.show(side, delivered.event());
                self.show(cx);
            }
            Past::GivenUp => {}
        }
    }

    #[cold]
    fn duplicate(
        &mut self,
        side: Side,
        sequence: u64,
        delivered: &Delivered<'_>,
        cx: &mut Context<'_>,
    ) {
        self.counts.duplicates += 1;
        cx.find(
            DivergenceClass::Duplicate,
            side,
            sequence,
            format!("the {side} delivered it again"),
        );
        cx.show(side, delivered.event());
        self.show(cx);
    }
}
