//! The track against a reference that keeps everything and decides afterwards, by the definitions.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use Side::{Candidate, Primary};

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
        (found.awaited, found.unmarked) = (0, 0);
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
        let (mut published, mut come) = (vec![0], [0, 0]);
        bench.publish([0]);
        for (op, gap) in ops {
            bench.wait(GRACE / 2);
            match op {
                0 => {
                    let next = published[published.len() - 1] + 1 + gap;
                    published.push(next);
                    bench.publish([next]);
                }
                op => {
                    // The next one that was published, whether it is still remembered or not.
                    let side = if op == 1 { Primary } else { Candidate };
                    let come = &mut come[side.at()];
                    if let Some(sequence) = published.get(*come) {
                        *come += 1;
                        bench.arrive(side, [*sequence]);
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
