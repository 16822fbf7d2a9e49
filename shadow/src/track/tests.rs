//! The track by hand-made sequences, and against a reference that keeps everything and decides
//! afterwards, by the definitions.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use eventbus_trait::{Event, Topic};
use proptest::prelude::*;

use super::*;
use Side::{Candidate, Primary};

const GRACE: Nanos = 100;

/// A track with its clock.
struct Bench {
    track: Track,
    dropped: Dropped,
    now: Nanos,
    findings: Vec<Finding>,
}

impl Bench {
    fn new() -> Self {
        Self::with_window(1000)
    }

    fn with_window(window: usize) -> Self {
        Self {
            track: Track::new(Rules {
                grace: GRACE,
                window,
            }),
            dropped: Dropped::default(),
            now: 1,
            findings: Vec::new(),
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Track, &mut Context<'_>) -> T) -> T {
        let mut cx = Context::new(self.now, &self.dropped);
        let result = act(&mut self.track, &mut cx);
        self.findings.append(&mut cx.findings);
        self.check();
        result
    }

    fn expect_as(&mut self, sequence: u64, change: impl FnOnce(&mut Expect)) {
        let mut expect = Expect {
            sequence,
            class: Class::Open,
            ordered: true,
            may_drop: [false; 2],
        };
        change(&mut expect);
        assert!(self.with(|track, cx| track.expect(expect, cx)));
    }

    fn expect(&mut self, sequence: u64) {
        self.expect_as(sequence, |_| {});
    }

    fn offer(&mut self, sequence: u64) {
        self.with(|track, cx| track.offered(sequence, cx.now));
    }

    /// Expects events and gives them to the candidate.
    fn publish(&mut self, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            self.expect(sequence);
            self.offer(sequence);
        }
    }

    fn arrive_with(&mut self, side: Side, sequence: u64, content: u8) {
        let event = Event::on(Topic::new("a").unwrap(), vec![content].into());
        let taken =
            self.with(|track, cx| track.arrive(side, sequence, &Delivered::new(&event), cx));
        assert!(taken);
    }

    fn arrive(&mut self, side: Side, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            self.arrive_with(side, sequence, 0);
        }
    }

    fn sweep(&mut self) {
        self.with(|track, cx| track.sweep(0, None, cx));
    }

    fn wait(&mut self, nanos: Nanos) {
        self.now += nanos;
    }

    fn mark(&mut self) {
        let now = self.now;
        if let Some(cut) = self.track.wants_mark(now) {
            self.with(|track, cx| {
                track.mark(cut, now);
                track.marked(cut, cx);
            });
        }
    }

    /// What must hold at every instant.
    fn check(&self) {
        let counts = &self.track.counts;
        assert!(counts.law_holds(), "{counts:?}");
        let slots = &self.track.slots;
        let open = slots.iter().filter(|s| s.class == Class::Open).count();
        assert_eq!(counts.open, open as u64);
        let awaited = slots.iter().filter(|s| s.is_awaited()).count();
        assert_eq!(counts.awaited, awaited as u64);
        assert!(slots.iter().is_sorted_by(|a, b| a.sequence < b.sequence));
        for cursor in &self.track.sides {
            let next = slots.partition_point(|s| Some(s.sequence) <= cursor.highest);
            assert_eq!(cursor.next, next, "{cursor:?}");
        }
    }

    fn counts(&self) -> Counts {
        *self.track.counts()
    }

    fn told(&self) -> Vec<(DivergenceClass, Side, u64)> {
        let told = |f: &Finding| (f.class, f.side, f.sequence);
        self.findings.iter().map(told).collect()
    }
}

#[test]
fn what_both_deliver_in_order_matches() {
    let mut bench = Bench::new();
    bench.publish(0..10);
    bench.arrive(Primary, 0..10);
    bench.arrive(Candidate, 0..10);
    assert_eq!(bench.counts().matched, 10);
    assert!(bench.track.is_idle());
    assert!(bench.told().is_empty());
}

#[test]
fn a_gap_is_missing_after_the_grace_time_and_late_after_that() {
    let mut bench = Bench::new();
    bench.publish(0..3);
    bench.arrive(Primary, 0..3);
    bench.arrive(Candidate, [0, 2]);
    bench.wait(GRACE - 1);
    bench.sweep();
    assert_eq!(bench.counts().open, 1);
    bench.wait(1);
    bench.sweep();
    assert_eq!(bench.counts().missing, 1);
    assert_eq!(bench.told(), [(DivergenceClass::Missing, Candidate, 1)]);
    bench.wait(7);
    bench.arrive(Candidate, [1]);
    let counts = bench.counts();
    assert_eq!((counts.missing, counts.late, counts.open), (0, 1, 0));
    let last = bench.findings.last().unwrap();
    assert_eq!(last.class, DivergenceClass::Late);
    assert!(last.was_missing);
}

#[test]
fn one_event_held_back_is_one_divergence() {
    let mut bench = Bench::new();
    bench.publish(0..100);
    bench.arrive(Primary, 0..100);
    bench.arrive(Candidate, 1..100);
    bench.arrive(Candidate, [0]);
    let counts = bench.counts();
    assert_eq!((counts.matched, counts.reordered), (99, 1));
    assert_eq!(bench.told(), [(DivergenceClass::Reordered, Candidate, 0)]);
}

#[test]
fn nothing_is_missing_while_the_application_does_not_read() {
    let mut bench = Bench::new();
    bench.publish(0..3);
    bench.arrive(Candidate, [0, 2]);
    bench.wait(10 * GRACE);
    bench.mark();
    bench.sweep();
    assert_eq!(bench.counts().open, 3);
    assert_eq!(bench.counts().awaited, 0);
    bench.arrive(Primary, 0..3);
    let counts = bench.counts();
    assert_eq!((counts.matched, counts.missing), (2, 1));
    assert_eq!(bench.told(), [(DivergenceClass::Missing, Candidate, 1)]);
}

#[test]
fn a_marker_finds_a_lost_tail_at_once() {
    let mut bench = Bench::new();
    bench.publish(0..3);
    bench.arrive(Primary, 0..3);
    bench.arrive(Candidate, 0..2);
    bench.expect(3);
    bench.arrive(Primary, [3]);
    bench.mark();
    assert_eq!(bench.counts().missing, 1, "2 is behind the marker");
    assert_eq!(
        bench.counts().open,
        1,
        "3 has not been given to the candidate"
    );
    bench.arrive(Candidate, [2]);
    assert_eq!(bench.counts().reordered, 1, "within the grace time");
}

#[test]
fn a_lost_marker_falls_back_on_the_grace_time() {
    let mut bench = Bench::new();
    bench.publish(0..2);
    bench.arrive(Primary, 0..2);
    bench.arrive(Candidate, [0]);
    bench.with(|track, cx| track.mark(1, cx.now));
    bench.wait(GRACE);
    let heard_at = bench.now - 1;
    bench.with(|track, cx| track.sweep(heard_at, None, cx));
    assert_eq!(bench.counts().open, 1, "the candidate is still delivering");
    bench.wait(GRACE);
    bench.with(|track, cx| track.sweep(heard_at, None, cx));
    assert_eq!(bench.counts().missing, 1);
}

#[test]
fn no_second_marker_is_wanted_behind_the_same_events() {
    let mut bench = Bench::new();
    assert_eq!(bench.track.wants_mark(1), None);
    bench.expect(0);
    assert_eq!(
        bench.track.wants_mark(1),
        None,
        "not given to the candidate"
    );
    bench.offer(0);
    assert_eq!(bench.track.wants_mark(1), Some(0));
    bench.mark();
    assert_eq!(bench.track.wants_mark(1), None);
    bench.publish([1]);
    assert_eq!(bench.track.wants_mark(1), Some(1));
}

#[test]
fn duplicates_are_found_before_and_after_the_slot_is_free() {
    let mut bench = Bench::with_window(4000);
    bench.publish(0..2000);
    bench.arrive(Primary, 0..1000);
    bench.arrive(Candidate, [0]);
    bench.arrive(Candidate, [0]);
    bench.arrive(Candidate, 1..1000);
    bench.arrive(Primary, [999, 3]);
    let counts = bench.counts();
    assert_eq!((counts.matched, counts.duplicates), (1000, 3));
    let duplicate = DivergenceClass::Duplicate;
    assert_eq!(
        bench.told(),
        [
            (duplicate, Candidate, 0),
            (duplicate, Primary, 999),
            (duplicate, Primary, 3)
        ]
    );
}

#[test]
fn what_was_never_published_here_is_a_phantom() {
    let mut bench = Bench::new();
    bench.publish([2, 4, 6]);
    for sequence in [0, 3, 7] {
        bench.arrive(Candidate, [sequence]);
    }
    bench.arrive(Primary, [5]);
    bench.arrive(Primary, [2, 4, 6]);
    bench.arrive(Candidate, [2, 4, 6]);
    bench.arrive(Candidate, [1, 5]);
    let counts = bench.counts();
    assert_eq!((counts.phantoms, counts.matched), (6, 3));
    assert_eq!(counts.duplicates, 0);
}

#[test]
fn the_first_of_both_classes_is_the_content() {
    let mut bench = Bench::new();
    bench.publish(0..2);
    bench.arrive(Primary, 0..2);
    bench.arrive_with(Candidate, 1, 0);
    bench.arrive_with(Candidate, 0, 7);
    let counts = bench.counts();
    assert_eq!(
        (counts.differs, counts.reordered, counts.matched),
        (1, 0, 1)
    );
    assert_eq!(bench.told(), [(DivergenceClass::Differs, Candidate, 0)]);
}

#[test]
fn the_primary_is_held_to_the_same_rules() {
    let mut bench = Bench::new();
    bench.publish(0..4);
    bench.arrive(Candidate, 0..4);
    bench.arrive(Primary, [1, 0, 3]);
    bench.wait(GRACE);
    bench.sweep();
    assert_eq!(
        bench.told(),
        [
            (DivergenceClass::Reordered, Primary, 0),
            (DivergenceClass::Missing, Primary, 2)
        ]
    );
}

#[test]
fn what_neither_delivers_is_no_divergence() {
    let mut bench = Bench::new();
    bench.publish(0..2);
    bench.arrive(Primary, [1]);
    bench.arrive(Candidate, [1]);
    bench.wait(GRACE);
    bench.sweep();
    let counts = bench.counts();
    assert_eq!(counts.by_reason(), [(Reason::Neither, 1)].into());
    assert!(bench.told().is_empty());
}

#[test]
fn what_a_side_says_it_dropped_is_not_missing() {
    for side in [Primary, Candidate] {
        let mut bench = Bench::new();
        for sequence in 0..4 {
            bench.expect_as(sequence, |e| e.may_drop = [sequence > 0; 2]);
            bench.offer(sequence);
        }
        bench.arrive(side.other(), 0..4);
        bench.dropped.add(side, 1);
        bench.arrive(side, [3]);
        bench.wait(GRACE);
        bench.sweep();
        let counts = bench.counts();
        assert_eq!(counts.by_reason(), [(Reason::Lagged, 1)].into());
        // 0 may not be dropped, and only one of 1 and 2 was.
        assert_eq!((counts.missing, counts.matched), (2, 1));
        assert!(bench.told().contains(&(DivergenceClass::Missing, side, 0)));
    }
}

#[test]
fn a_dropped_tail_of_the_primary_is_found_when_the_application_has_read_all() {
    let mut bench = Bench::new();
    for sequence in 0..2 {
        bench.expect_as(sequence, |e| e.may_drop = [true, false]);
        bench.offer(sequence);
    }
    bench.arrive(Candidate, 0..2);
    bench.arrive(Primary, [0]);
    bench.dropped.add(Primary, 1);
    let idle_since = Some(bench.now);
    bench.wait(GRACE - 1);
    bench.with(|track, cx| track.sweep(0, idle_since, cx));
    assert_eq!(bench.counts().open, 1);
    bench.wait(1);
    bench.with(|track, cx| track.sweep(0, None, cx));
    assert_eq!(bench.counts().open, 1, "the application is busy");
    bench.with(|track, cx| track.sweep(0, idle_since, cx));
    assert_eq!(bench.counts().by_reason(), [(Reason::Lagged, 1)].into());
}

#[test]
fn what_is_given_up_is_unverified_whatever_comes_then() {
    for reason in [Reason::Cancelled, Reason::QueueFull, Reason::Refused] {
        let mut bench = Bench::new();
        bench.expect(0);
        bench.with(|track, cx| track.give_up(0, reason, cx.now));
        bench.publish([1]);
        bench.arrive(Primary, 0..2);
        bench.arrive(Candidate, [1]);
        bench.wait(GRACE);
        bench.sweep();
        let counts = bench.counts();
        assert_eq!(counts.by_reason(), [(reason, 1)].into());
        assert_eq!(counts.matched, 1);
        assert!(bench.told().is_empty());
    }
}

#[test]
fn what_goes_out_of_turn_overtakes_nothing() {
    let mut bench = Bench::new();
    bench.publish([0]);
    bench.expect_as(1, |e| {
        e.class = Class::Unverified(Reason::Unordered);
        e.ordered = false;
    });
    bench.offer(1);
    bench.publish([2]);
    bench.arrive(Primary, [1, 0, 2]);
    bench.arrive(Candidate, [0, 2, 1]);
    let counts = bench.counts();
    assert_eq!(counts.matched, 2);
    assert!(bench.told().is_empty());
    assert!(bench.track.is_idle());
}

#[test]
fn a_refused_event_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.publish(0..2);
    bench.with(|track, _| track.withdraw(1));
    assert_eq!(bench.counts().expected, 1);
    // Its sequence is given to the next one.
    bench.publish([1]);
    bench.arrive(Primary, 0..2);
    bench.arrive(Candidate, 0..2);
    assert_eq!(bench.counts().matched, 2);
}

#[test]
fn a_side_that_is_gone_leaves_the_rest_unverified() {
    let mut bench = Bench::new();
    bench.publish(0..3);
    bench.arrive(Primary, 0..2);
    bench.arrive(Candidate, [0]);
    bench.with(|track, cx| track.close(Candidate, Reason::Unavailable, cx.now));
    bench.publish([3]);
    assert_eq!(
        bench.counts().by_reason(),
        [(Reason::Unavailable, 3)].into()
    );
    bench.arrive(Primary, 2..4);
    assert!(bench.told().is_empty());
    assert!(bench.track.is_idle());
}

#[test]
fn a_subscription_made_meanwhile_expects_what_is_on_its_way() {
    let mut bench = Bench::new();
    bench.publish([5]);
    bench.arrive(Primary, [5]);
    bench.expect_as(3, |e| {
        e.class = Class::Unverified(Reason::Changing);
        e.ordered = false;
    });
    bench.arrive(Candidate, [3, 5]);
    bench.arrive(Primary, [3]);
    assert_eq!(bench.counts().matched, 1);
    assert!(bench.told().is_empty());
    assert!(bench.track.is_idle());
}

#[test]
fn a_retired_track_takes_nothing() {
    let mut bench = Bench::new();
    bench.publish([0]);
    let counts = bench.track.retire();
    assert_eq!(counts.by_reason(), [(Reason::Unavailable, 1)].into());
    let event = Event::new("a", "x").unwrap();
    let taken = bench.with(|track, cx| track.arrive(Primary, 0, &Delivered::new(&event), cx));
    assert!(!taken);
}

#[test]
fn gaps_beyond_the_bound_are_found_by_a_sweep() {
    let mut bench = Bench::with_window(4);
    for n in 0..20 {
        bench.publish([2 * n, 2 * n + 1]);
        bench.arrive(Primary, [2 * n, 2 * n + 1]);
        bench.arrive(Candidate, [2 * n + 1]);
    }
    bench.wait(GRACE);
    bench.sweep();
    let counts = bench.counts();
    assert_eq!((counts.open, counts.matched), (0, 20));
    assert!(counts.missing > 0);
    assert_eq!(counts.missing + counts.by_reason()[&Reason::Window], 20);
}

#[test]
fn slots_behind_a_lasting_gap_are_let_go() {
    let mut bench = Bench::with_window(1 << 20);
    bench.publish([0]);
    bench.arrive(Primary, [0]);
    for sequence in 1..20_000 {
        bench.track.expect(
            Expect {
                sequence,
                class: Class::Open,
                ordered: true,
                may_drop: [false; 2],
            },
            &Context::new(bench.now, &bench.dropped),
        );
        let event = Event::new("a", "x").unwrap();
        for side in [Primary, Candidate] {
            let mut cx = Context::new(bench.now, &bench.dropped);
            bench
                .track
                .arrive(side, sequence, &Delivered::new(&event), &mut cx);
        }
    }
    bench.check();
    assert!(bench.track.slots.len() < 2000);
    assert_eq!(bench.counts().open, 1);
    bench.arrive(Candidate, [0]);
    assert_eq!(bench.counts().reordered, 1);
}

/// A plain reference: everything that happened, judged afterwards.
#[derive(Debug, Default)]
struct Reference {
    published: BTreeSet<u64>,
    /// First arrivals by side: time, place in line, content.
    arrivals: [BTreeMap<u64, (Nanos, usize, u8)>; 2],
    /// When a marker said that the candidate is past it.
    passed: BTreeMap<u64, Nanos>,
    duplicates: u64,
    phantoms: u64,
    line: usize,
}

impl Reference {
    fn arrive(&mut self, side: Side, sequence: u64, content: u8, now: Nanos) {
        self.line += 1;
        let line = self.line;
        let arrivals = &mut self.arrivals[side.at()];
        if !self.published.contains(&sequence) {
            self.phantoms += 1;
            return;
        }
        match arrivals.entry(sequence) {
            Entry::Occupied(_) => self.duplicates += 1,
            Entry::Vacant(first) => drop(first.insert((now, line, content))),
        }
    }

    fn arrival(&self, side: Side, sequence: u64) -> Option<(Nanos, usize, u8)> {
        self.arrivals[side.at()].get(&sequence).copied()
    }

    /// When a later event, or a marker, came while this one had not.
    fn overtaken(&self, side: Side, sequence: u64) -> Option<Nanos> {
        let own = self.arrival(side, sequence);
        let before = |line: usize| own.is_none_or(|(_, mine, _)| line < mine);
        let by_event = self.arrivals[side.at()]
            .range(sequence + 1..)
            .filter(|(_, (_, line, _))| before(*line))
            .map(|(_, (at, _, _))| *at)
            .min();
        let by_marker = self.passed.get(&sequence).filter(|_| side == Candidate);
        by_event.into_iter().chain(by_marker.copied()).min()
    }

    /// When this side is given up, unless it delivers before.
    fn absent_from(&self, side: Side, sequence: u64) -> Option<Nanos> {
        let by_time = self.overtaken(side, sequence).map(|at| at + GRACE);
        let by_marker = self.passed.get(&sequence).filter(|_| side == Candidate);
        by_time.into_iter().chain(by_marker.copied()).min()
    }

    fn class(&self, sequence: u64, now: Nanos) -> Class {
        let sides = [Primary, Candidate];
        let seen = sides.map(|side| self.arrival(side, sequence));
        let absent = sides.map(|side| self.absent_from(side, sequence));
        if let [Some(a), Some(b)] = absent {
            let both = a.max(b);
            let came = seen.iter().flatten().any(|(at, _, _)| *at < both);
            if !came && both <= now {
                return Class::Unverified(Reason::Neither);
            }
        }
        let over = |at: Option<Nanos>| at.is_some_and(|at| at <= now);
        match seen {
            [Some(a), Some(b)] if a.2 != b.2 => Class::Differs,
            [Some(a), Some(b)] => {
                let overtaken = sides.map(|side| self.overtaken(side, sequence));
                let took = |arrival: (Nanos, usize, u8), from: Option<Nanos>| {
                    from.map(|from| arrival.0 - from)
                };
                let delays = [took(a, overtaken[0]), took(b, overtaken[1])];
                match delays.into_iter().flatten().max() {
                    None => Class::Matched,
                    Some(longest) if longest >= GRACE => Class::Late,
                    Some(_) => Class::Reordered,
                }
            }
            [Some(_), None] if over(absent[1]) => Class::Missing(Candidate),
            [None, Some(_)] if over(absent[0]) => Class::Missing(Primary),
            _ => Class::Open,
        }
    }

    fn counts(&self, now: Nanos) -> Counts {
        let mut counts = Counts::default();
        counts.expected = self.published.len() as u64;
        counts.duplicates = self.duplicates;
        counts.phantoms = self.phantoms;
        for sequence in &self.published {
            *counts.of(self.class(*sequence, now)) += 1;
        }
        counts
    }
}

#[derive(Debug, Clone)]
enum Op {
    /// Publishes this far beyond the last one.
    Publish(u64),
    /// Delivers one of those that the side has not delivered, mostly the first.
    Deliver(Side, prop::sample::Index, bool, bool),
    /// Delivers one of those that the side has delivered.
    Again(Side, prop::sample::Index),
    /// Delivers any sequence.
    Invent(Side, u64),
    /// Never delivers one.
    Lose(Side, prop::sample::Index),
    Wait(Nanos),
    Mark,
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Primary), Just(Candidate)]
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        8 => (1..4u64).prop_map(Op::Publish),
        20 => (side(), index(), prop::bool::weighted(0.85), prop::bool::weighted(0.05))
            .prop_map(|(side, at, first, corrupt)| Op::Deliver(side, at, first, corrupt)),
        1 => (side(), index()).prop_map(|(side, at)| Op::Again(side, at)),
        1 => (side(), 0..60u64).prop_map(|(side, n)| Op::Invent(side, n)),
        2 => (side(), index()).prop_map(|(side, at)| Op::Lose(side, at)),
        4 => (1..GRACE).prop_map(Op::Wait),
        1 => Just(Op::Mark),
    ]
}

/// Runs operations on a track and on the reference.
#[derive(Default)]
struct Run {
    reference: Reference,
    pending: [Vec<u64>; 2],
    done: [Vec<u64>; 2],
    next: u64,
}

impl Run {
    fn step(&mut self, bench: &mut Bench, op: &Op) {
        // Two things at one instant have no order in the definitions.
        bench.wait(1);
        match op {
            Op::Publish(gap) => {
                self.next += gap;
                bench.publish([self.next]);
                self.reference.published.insert(self.next);
                self.pending.iter_mut().for_each(|p| p.push(self.next));
            }
            Op::Deliver(side, at, first, corrupt) => {
                let pending = &mut self.pending[side.at()];
                if !pending.is_empty() {
                    let at = if *first { 0 } else { at.index(pending.len()) };
                    let sequence = pending.remove(at);
                    self.done[side.at()].push(sequence);
                    self.deliver(bench, *side, sequence, u8::from(*corrupt));
                }
            }
            Op::Again(side, at) => {
                let done = &self.done[side.at()];
                if !done.is_empty() {
                    let sequence = done[at.index(done.len())];
                    self.deliver(bench, *side, sequence, 0);
                }
            }
            Op::Invent(side, sequence) => {
                if !self.pending[side.at()].contains(sequence) {
                    self.deliver(bench, *side, *sequence, 0);
                }
            }
            Op::Lose(side, at) => {
                let pending = &mut self.pending[side.at()];
                if !pending.is_empty() {
                    pending.remove(at.index(pending.len()));
                }
            }
            Op::Wait(nanos) => bench.wait(*nanos),
            Op::Mark => {
                bench.mark();
                let seen = &self.reference.arrivals[Candidate.at()];
                for sequence in &self.reference.published {
                    if !seen.contains_key(sequence) {
                        let passed = &mut self.reference.passed;
                        passed.entry(*sequence).or_insert(bench.now);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, bench: &mut Bench, side: Side, sequence: u64, content: u8) {
        bench.arrive_with(side, sequence, content);
        self.reference.arrive(side, sequence, content, bench.now);
    }

    fn compare(&self, bench: &mut Bench) -> Result<(), TestCaseError> {
        bench.sweep();
        let mut found = bench.counts();
        found.awaited = 0;
        prop_assert_eq!(found, self.reference.counts(bench.now));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// MIG-002: whatever two sides do, the classes are those of the definitions.
    #[test]
    fn agrees_with_the_reference(ops in prop::collection::vec(op(), 1..120)) {
        let (mut bench, mut run) = (Bench::new(), Run::default());
        for op in &ops {
            run.step(&mut bench, op);
            run.compare(&mut bench)?;
        }
    }

    /// Looking at it only at the end gives the same as looking all the time.
    #[test]
    fn does_not_depend_on_when_it_is_looked_at(ops in prop::collection::vec(op(), 1..120)) {
        let (mut bench, mut run) = (Bench::new(), Run::default());
        for op in &ops {
            run.step(&mut bench, op);
        }
        run.compare(&mut bench)?;
    }

    /// MIG-002: the findings are the divergences counted, each located, each told once.
    #[test]
    fn tells_what_it_counts(ops in prop::collection::vec(op(), 1..120)) {
        let (mut bench, mut run) = (Bench::new(), Run::default());
        for op in &ops {
            run.step(&mut bench, op);
        }
        bench.sweep();
        let mut told = BTreeMap::new();
        let mut extra = 0;
        for finding in &bench.findings {
            if matches!(finding.class, DivergenceClass::Duplicate | DivergenceClass::Phantom) {
                extra += 1;
                continue;
            }
            let before = told.insert(finding.sequence, finding.class);
            let replaced = finding.was_missing.then_some(DivergenceClass::Missing);
            prop_assert_eq!(before, replaced);
        }
        prop_assert_eq!(extra, run.reference.duplicates + run.reference.phantoms);
        for sequence in &run.reference.published {
            let class = match run.reference.class(*sequence, bench.now) {
                Class::Missing(_) => Some(DivergenceClass::Missing),
                Class::Late => Some(DivergenceClass::Late),
                Class::Reordered => Some(DivergenceClass::Reordered),
                Class::Differs => Some(DivergenceClass::Differs),
                _ => None,
            };
            prop_assert_eq!(told.get(sequence).copied(), class);
        }
    }

    /// A window that is too small leaves things unverified and invents nothing.
    #[test]
    fn a_small_window_invents_nothing(
        window in 1..8usize,
        ops in prop::collection::vec((0..3u8, 0..4u64), 1..200),
    ) {
        let mut bench = Bench::with_window(window);
        let (mut next, mut come) = (0, [0, 0]);
        for (op, gap) in ops {
            bench.wait(GRACE / 2);
            match op {
                0 => {
                    next += 1 + gap;
                    bench.publish([next]);
                }
                op => {
                    // The next one that was published, in order.
                    let side = if op == 1 { Primary } else { Candidate };
                    let slots = bench.track.slots.iter().map(|slot| slot.sequence);
                    if let Some(sequence) = slots.into_iter().find(|s| *s > come[side.at()]) {
                        come[side.at()] = sequence;
                        bench.arrive(side, [sequence]);
                    }
                }
            }
        }
        let counts = bench.counts();
        prop_assert!(bench.told().is_empty(), "{:?}", bench.told());
        prop_assert_eq!(counts.expected, counts.matched + counts.unverified() + counts.open);
        prop_assert!(bench.track.slots.len() <= window);
    }
}
