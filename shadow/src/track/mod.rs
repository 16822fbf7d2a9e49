//! Comparing one stream: the events of one publisher and topic, for one subscription.
//!
//! The comparison goes by sequence, not by position. Each publish makes a slot; each side's
//! delivery fills its end of it; the second one compares the contents and decides the class. A
//! side's order is followed by the highest sequence that it has delivered: what it skipped is
//! overtaken, and missing once the grace time is over or a marker has come through; what comes
//! after having been overtaken is reordered, or late. So one event held back is one divergence,
//! however many passed it.
//!
//! Everything here is plain data under the caller's lock: no clock, no queue, no thread. An event
//! costs O(1) unless it is out of order, when its slot is found by bisection.
//!
//! Invariant: `slots` is sorted by sequence; `counts` obeys its law after each call; `open` is the
//! number of slots whose class is `Open`.

mod arrival;
mod history;
mod slot;
#[cfg(test)]
mod tests;
mod trace;
mod verdict;
mod window;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use eventbus_trait::{Event, Origin};

use crate::class::{Class, Counts, Reason, Side};
use crate::hooks::{Failed, Hooks};
use crate::interleaving::Interleaving;
use crate::record::Passage;
use crate::report::{DivergenceClass, Shown};
use crate::unwatched::{Excuse, Strays};
use history::History;
pub(crate) use slot::Delivered;
use slot::{Compared, Content, End, Slot};
use trace::Overtaker;
pub(crate) use trace::{AROUND, Trace};

/// Time since the comparison began, in nanoseconds; never 0.
pub(crate) type Nanos = u64;

/// What a track goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// How long an overtaken event may take, in nanoseconds.
    pub(crate) grace: Nanos,
    /// How long the candidate may be silent while it owes something, in nanoseconds.
    pub(crate) silence: Nanos,
    /// Most slots.
    pub(crate) window: usize,
    /// How many events that are done with are kept to be shown.
    pub(crate) context: usize,
}

/// Events that each side of a subscription said it has dropped, and that no gap has used up yet.
#[derive(Debug, Default)]
pub(crate) struct Dropped([AtomicU64; 2]);

/// A divergence, located within its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) class: DivergenceClass,
    pub(crate) side: Side,
    pub(crate) sequence: u64,
    pub(crate) detail: String,
    /// What it was concluded from, if that is to be shown.
    pub(crate) trace: Option<Box<Trace>>,
    /// What may be shown of it.
    pub(crate) shown: Option<Shown>,
    /// By how many later events it was overtaken, if it was and came after all.
    pub(crate) displaced: Option<u64>,
    /// Whether the same delivery was told as missing before.
    pub(crate) was_missing: bool,
}

/// What a call works with, and what comes of it.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now: Nanos,
    pub(crate) dropped: &'a Dropped,
    /// Whether the subscription takes no more events, while the candidate's still stands.
    pub(crate) ended: bool,
    /// Who knows whether what arrives has an excuse if nothing expects it.
    pub(crate) strays: Option<&'a Strays>,
    /// What arrives.
    pub(crate) origin: Option<&'a Origin>,
    /// The orders in which the sides deliver.
    pub(crate) interleaving: Option<&'a Interleaving>,
    /// The excuse of what arrived and was not expected.
    pub(crate) excuse: Option<(Excuse, Side)>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) hooks: Hooks<'a>,
    pub(crate) hooks_failed: Failed,
    /// How many findings may still be shown with what they were concluded from.
    pub(crate) traces: usize,
    /// Who overtook the event that was shown last.
    pub(crate) overtaker: Option<Overtaker>,
    /// How long the primary and the candidate took, if both have delivered.
    pub(crate) latencies: Option<[Nanos; 2]>,
}

/// A delivery to expect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expect {
    pub(crate) sequence: u64,
    /// A class that is known from the start.
    pub(crate) class: Class,
    pub(crate) ordered: bool,
    /// Whether the contents are compared.
    pub(crate) sampled: bool,
    pub(crate) may_drop: [bool; 2],
}

/// The comparison of one stream.
#[derive(Debug)]
pub(crate) struct Track {
    rules: Rules,
    slots: VecDeque<Slot>,
    /// How many slots the last compaction kept.
    kept: usize,
    sides: [Cursor; 2],
    gaps: VecDeque<Gap>,
    /// Whether there were too many gaps to note them all.
    gaps_lost: bool,
    history: History,
    /// What was let go last, if divergences are to be shown with what was around them.
    recent: VecDeque<Passage>,
    counts: Counts,
    first: Option<u64>,
    last: Option<u64>,
    /// The highest ordered sequence that the candidate was given.
    offered: Option<u64>,
    /// Where the next slot to be offered most likely is.
    offer_next: usize,
    mark: Option<Mark>,
    /// Up to where markers have come through.
    marked: Option<u64>,
    gone: [Option<Reason>; 2],
    retired: bool,
    /// Whether there may have been another track of the same stream before.
    succeeds: bool,
}

/// How far a side has come.
#[derive(Debug, Default)]
struct Cursor {
    highest: Option<u64>,
    /// Index of the first slot above `highest`.
    next: usize,
    /// How many ordered events it has delivered.
    delivered: u32,
}

#[derive(Debug)]
struct Gap {
    at: Nanos,
    sequence: u64,
    side: Side,
}

/// A marker on its way through the candidate.
#[derive(Debug, Clone, Copy)]
struct Mark {
    cut: u64,
    /// When the first one was sent that is not answered.
    asked_at: Nanos,
    sent_at: Nanos,
}

impl Dropped {
    /// Notes that `side` dropped `n` events.
    pub(crate) fn add(&self, side: Side, n: u64) {
        self.0[side.at()].fetch_add(n, Ordering::Relaxed);
    }

    /// Whether `side` dropped events that no gap accounts for.
    pub(crate) fn any(&self, side: Side) -> bool {
        self.0[side.at()].load(Ordering::Relaxed) > 0
    }

    fn take(&self, side: Side) -> bool {
        self.0[side.at()]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok()
    }
}

impl<'a> Context<'a> {
    pub(crate) fn new(now: Nanos, dropped: &'a Dropped) -> Self {
        Self {
            now,
            dropped,
            ended: false,
            strays: None,
            origin: None,
            interleaving: None,
            excuse: None,
            findings: Vec::new(),
            hooks: Hooks::default(),
            hooks_failed: Failed::new(),
            traces: 0,
            overtaker: None,
            latencies: None,
        }
    }
}

impl Track {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            slots: VecDeque::new(),
            kept: 0,
            sides: Default::default(),
            gaps: VecDeque::new(),
            gaps_lost: false,
            history: History::default(),
            recent: VecDeque::new(),
            counts: Counts::default(),
            first: None,
            last: None,
            offered: None,
            offer_next: 0,
            mark: None,
            marked: None,
            gone: [None; 2],
            retired: false,
            succeeds: false,
        }
    }

    /// The same, of a stream that may have been forgotten before.
    pub(crate) fn succeeding(rules: Rules) -> Self {
        Self {
            succeeds: true,
            ..Self::new(rules)
        }
    }

    /// Takes no more expectations; returns what was counted.
    pub(crate) fn retire(&mut self) -> Counts {
        self.retired = true;
        self.slots = VecDeque::new();
        self.gaps = VecDeque::new();
        self.recent = VecDeque::new();
        self.mark = None;
        let mut counts = std::mem::take(&mut self.counts);
        // Nothing of it can be decided any more; who retires a track has closed it before.
        *counts.of(Class::Unverified(Reason::Unavailable)) += std::mem::take(&mut counts.open);
        counts.awaited = 0;
        counts
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.counts;
        counts.unmarked = u64::from(self.unmarked().is_some());
        counts
    }

    /// The highest sequence that was ever expected.
    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }

    /// Whether nothing would be lost by forgetting the track: no slot is left.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.is_empty()
    }

    /// Expects a delivery; false if the track is retired.
    pub(crate) fn expect(&mut self, expect: Expect, cx: &Context<'_>) -> bool {
        if self.retired {
            return false;
        }
        self.make_room(cx.now);
        self.counts.expected += 1;
        // Of those that publish at once, who was stamped first may come second, and each side may be
        // given either first.
        let out_of_sequence = self.is_behind(expect.sequence);
        let mut class = match expect.class {
            Class::Open if out_of_sequence => Class::Unverified(Reason::Unordered),
            class => class,
        };
        let mut ends = expect.may_drop.map(|may_drop| End {
            may_drop,
            ..End::default()
        });
        for (end, gone) in ends.iter_mut().zip(self.gone) {
            end.closed = gone.is_some();
            if let (Class::Open, Some(reason)) = (class, gone) {
                class = Class::Unverified(reason);
            }
        }
        let at = match self.last {
            Some(last) if expect.sequence <= last => {
                match self.position(expect.sequence) {
                    Err(at) => at,
                    Ok(_) => {
                        // Stamped twice by a layer above: the two cannot be told apart.
                        *self.counts.of(Class::Unverified(Reason::Unordered)) += 1;
                        return true;
                    }
                }
            }
            _ => self.slots.len(),
        };
        for (end, cursor) in ends.iter_mut().zip(&mut self.sides) {
            if cursor.highest > Some(expect.sequence) {
                end.overtaken_at = cx.now;
                end.overtaken_by = cursor.delivered;
                cursor.next += 1;
            }
        }
        self.first = Some(
            self.first
                .map_or(expect.sequence, |f| f.min(expect.sequence)),
        );
        self.last = self.last.max(Some(expect.sequence));
        *self.counts.of(class) += 1;
        let slot = Slot {
            sequence: expect.sequence,
            class,
            ordered: expect.ordered && !out_of_sequence,
            published_at: cx.now,
            offered_at: 0,
            ends,
            content: if expect.sampled {
                Content::None
            } else {
                Content::Unsampled
            },
        };
        self.counts.awaited += u64::from(slot.is_awaited());
        self.slots.insert(at, slot);
        true
    }

    /// Whether a later event is expected, or was delivered. One that was taken back does not count: its
    /// sequence is given out again.
    fn is_behind(&self, sequence: u64) -> bool {
        let highest = self.sides.iter().map(|cursor| cursor.highest).max();
        let expected = self.slots.back().map(|slot| slot.sequence);
        expected.max(highest.flatten()) > Some(sequence)
    }

    /// Takes an expectation back: the primary refused the event, nobody has it.
    pub(crate) fn withdraw(&mut self, sequence: u64) {
        let Ok(at) = self.position(sequence) else {
            return;
        };
        let slot = &self.slots[at];
        if slot.ends.iter().any(End::seen) {
            return;
        }
        self.counts.awaited -= u64::from(slot.is_awaited());
        *self.counts.of(slot.class) -= 1;
        self.counts.expected -= 1;
        self.slots.remove(at);
        for cursor in &mut self.sides {
            if at < cursor.next {
                cursor.next -= 1;
            }
        }
    }

    /// Notes that the candidate is being given the event.
    pub(crate) fn offered(&mut self, sequence: u64, now: Nanos) {
        if let Some(at) = self.find(self.offer_next, sequence) {
            self.offer_next = at + 1;
            let slot = &mut self.slots[at];
            slot.offered_at = now;
            if slot.ordered {
                self.offered = self.offered.max(Some(sequence));
            }
        }
    }

    /// Says that a delivery will not be compared.
    pub(crate) fn give_up(&mut self, sequence: u64, reason: Reason, now: Nanos) {
        let Ok(at) = self.position(sequence) else {
            return;
        };
        let slot = &mut self.slots[at];
        self.counts.awaited -= u64::from(slot.is_awaited());
        match reason {
            // The candidate was never given it.
            Reason::Cancelled | Reason::QueueFull | Reason::Unavailable | Reason::Shutdown => {
                slot.end_mut(Side::Candidate).closed = true;
            }
            _ => {}
        }
        self.counts.awaited += u64::from(slot.is_awaited());
        if slot.class == Class::Open {
            self.set_class(at, Class::Unverified(reason));
        }
        self.trim(now);
    }

    /// Says that nothing comes from `side` any more.
    pub(crate) fn close(&mut self, side: Side, reason: Reason, now: Nanos) {
        if self.gone[side.at()].is_some() {
            return;
        }
        self.gone[side.at()] = Some(reason);
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            if !slot.end(side).seen() {
                self.counts.awaited -= u64::from(slot.is_awaited());
                slot.end_mut(side).closed = true;
                self.counts.awaited += u64::from(slot.is_awaited());
                if slot.class == Class::Open {
                    self.set_class(at, Class::Unverified(reason));
                }
            }
        }
        self.trim(now);
    }

    /// Changes the class of a slot, and the counts with it.
    fn set_class(&mut self, at: usize, class: Class) {
        let slot = &mut self.slots[at];
        self.counts.awaited -= u64::from(slot.is_awaited());
        let old = std::mem::replace(&mut slot.class, class);
        *self.counts.of(old) -= 1;
        *self.counts.of(class) += 1;
        self.counts.awaited += u64::from(slot.is_awaited());
        if matches!(class, Class::Missing(_)) {
            // It may wait long for the other side: what is kept until then is small.
            slot.content.shrink();
        } else {
            slot.content = Content::None;
        }
    }
}

impl Context<'_> {
    /// Whether there is an excuse for what `side` delivers and nothing expects.
    fn is_excused(&mut self, side: Side) -> bool {
        let excuse = self.strays.zip(self.origin);
        let excuse = excuse.and_then(|(strays, origin)| strays.excuse(side, origin));
        self.excuse = excuse.map(|excuse| (excuse, side));
        excuse.is_some()
    }

    fn find(&mut self, class: DivergenceClass, side: Side, sequence: u64, detail: String) {
        self.findings.push(Finding {
            class,
            side,
            sequence,
            detail,
            trace: None,
            shown: None,
            displaced: None,
            was_missing: false,
        });
    }

    /// Adds to what was found last what may be shown of what `side` delivered.
    pub(crate) fn show(&mut self, side: Side, event: &Event) {
        if let Some(finding) = self.findings.last_mut()
            && let Some(text) = self.hooks.shown(event, &mut self.hooks_failed)
        {
            let shown = finding.shown.get_or_insert_default();
            match side {
                Side::Primary => shown.primary = Some(text),
                Side::Candidate => shown.candidate = Some(text),
            }
        }
    }
}
