//! How often a candidate tells the events of different publishers in another order than the primary.
//!
//! No bus promises an order across publishers, so that is no divergence; but how often it happens is
//! worth knowing, beside how often it happens between two primaries. Looking at all pairs of events
//! would cost their square. So a *pair* is two deliveries that follow each other on the primary's
//! side of a subscription and are of different publishers, and it is *inverted* if the candidate
//! delivered the second of them first.
//!
//! Invariant: the deliveries that are remembered lie within [`ROOM`] places of the oldest that is waited
//! for on the candidate. Further ones are not looked at: what is counted is a sample of whole
//! stretches then, also where the candidate has told all of one publisher's and none of another's.

use std::sync::atomic::{AtomicBool, Ordering};

use eventbus_trait::{Origin, PublisherId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::track::Nanos;

/// How many deliveries are remembered.
const ROOM: usize = 512;
/// No place in a side's order.
const NOWHERE: u32 = 0;

/// How often the candidate told two events in another order than the primary that followed each other
/// there and were of different publishers. No bus promises their order, so this is no divergence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inversions {
    /// Pairs that were looked at: all, as long as the candidate is less than 512 deliveries behind.
    pub pairs: u64,
    /// Of these, those that came the other way round.
    pub inverted: u64,
}

impl Inversions {
    /// The share of the pairs that came the other way round; 0 if there were none.
    #[must_use]
    pub fn rate(&self) -> f64 {
        if self.pairs == 0 {
            return 0.0;
        }
        self.inverted as f64 / self.pairs as f64
    }
}

/// The orders of one subscription.
#[derive(Debug, Default)]
pub(crate) struct Interleaving {
    /// Whether there are several publishers; with one there is nothing to look at.
    several: AtomicBool,
    orders: Mutex<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    /// The places given out last.
    last: [u32; 2],
    /// The place before the oldest delivery that is waited for.
    done: u32,
    /// Deliveries of the primary, by the end of their place.
    entries: Vec<Entry>,
    counts: Inversions,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    primary: u32,
    /// `NOWHERE` until it is known.
    candidate: u32,
    publisher: PublisherId,
    epoch: u64,
    at: Nanos,
}

const FREE: Entry = Entry {
    primary: NOWHERE,
    candidate: NOWHERE,
    publisher: PublisherId([0; 16]),
    epoch: 0,
    at: 0,
};

impl Interleaving {
    /// There is more than one publisher.
    pub(crate) fn begin(&self) {
        self.several.store(true, Ordering::Relaxed);
    }

    /// The primary delivers an event, which the candidate has delivered in its place `candidate`, if
    /// it has. Returns the place in the primary's order. What was not delivered by the candidate for
    /// `patience` is not waited for any more if the room is needed.
    pub(crate) fn by_primary(
        &self,
        origin: &Origin,
        candidate: u32,
        now: Nanos,
        patience: Nanos,
    ) -> u32 {
        if !self.several.load(Ordering::Relaxed) {
            return NOWHERE;
        }
        let mut orders = self.orders.lock();
        let primary = orders.next(0);
        if orders.entries.is_empty() {
            orders.entries = vec![FREE; ROOM];
        }
        if primary == NOWHERE || !orders.makes_room(primary, now, patience) {
            return NOWHERE;
        }
        orders.entries[at(primary)] = Entry {
            primary,
            candidate: NOWHERE,
            publisher: origin.publisher,
            epoch: origin.epoch,
            at: now,
        };
        orders.meet(primary, candidate);
        primary
    }

    /// The candidate delivers an event, which the primary has delivered in its place `primary`, if it
    /// has. Returns the place in the candidate's order.
    pub(crate) fn by_candidate(&self, primary: u32) -> u32 {
        if !self.several.load(Ordering::Relaxed) {
            return NOWHERE;
        }
        let mut orders = self.orders.lock();
        let candidate = orders.next(1);
        orders.meet(primary, candidate);
        candidate
    }

    pub(crate) fn counts(&self) -> Inversions {
        self.orders.lock().counts
    }
}

impl Orders {
    fn next(&mut self, side: usize) -> u32 {
        self.last[side] = self.last[side].wrapping_add(1);
        self.last[side]
    }

    /// Whether there is room for `primary`, when nothing is waited for any more that has come, or has
    /// not for `patience`.
    fn makes_room(&mut self, primary: u32, now: Nanos, patience: Nanos) -> bool {
        if primary.wrapping_sub(self.done) <= ROOM as u32 {
            return true;
        }
        // Beyond as many there is nothing.
        for _ in 0..ROOM {
            let oldest = self.done.wrapping_add(1);
            let entry = self.entries[at(oldest)];
            let waits = entry.primary == oldest && entry.candidate == NOWHERE;
            if waits && now.saturating_sub(entry.at) < patience {
                return primary.wrapping_sub(self.done) <= ROOM as u32;
            }
            self.done = oldest;
        }
        self.done = primary.wrapping_sub(1);
        true
    }

    /// An event has its place in both orders: so has a pair that it is one of, if the other one has.
    fn meet(&mut self, primary: u32, candidate: u32) {
        if primary == NOWHERE || candidate == NOWHERE || self.entries.is_empty() {
            return;
        }
        let entry = &mut self.entries[at(primary)];
        if entry.primary != primary {
            return;
        }
        entry.candidate = candidate;
        let entry = *entry;
        for neighbour in [primary.wrapping_sub(1), primary.wrapping_add(1)] {
            let other = self.entries[at(neighbour)];
            let same = other.publisher == entry.publisher && other.epoch == entry.epoch;
            if other.primary != neighbour || other.candidate == NOWHERE || same {
                continue;
            }
            self.counts.pairs += 1;
            let primary_goes_on = neighbour == primary.wrapping_add(1);
            let candidate_goes_on = other.candidate.wrapping_sub(candidate) < u32::MAX / 2;
            if primary_goes_on != candidate_goes_on {
                self.counts.inverted += 1;
            }
        }
    }
}

fn at(place: u32) -> usize {
    place as usize % ROOM
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Nanos = 100;

    fn origin(publisher: u8) -> Origin {
        Origin {
            publisher: PublisherId([publisher; 16]),
            epoch: 1,
            sequence: 0,
        }
    }

    /// One subscription, with what a slot remembers of each event.
    #[derive(Default)]
    struct Bench {
        orders: Interleaving,
        places: std::collections::HashMap<usize, [u32; 2]>,
        now: Nanos,
    }

    impl Bench {
        fn new() -> Self {
            let bench = Self::default();
            bench.orders.begin();
            bench
        }

        fn primary(&mut self, event: usize, publisher: u8) {
            let places = self.places.entry(event).or_default();
            places[0] = self
                .orders
                .by_primary(&origin(publisher), places[1], self.now, PATIENCE);
        }

        fn candidate(&mut self, event: usize) {
            let places = self.places.entry(event).or_default();
            places[1] = self.orders.by_candidate(places[0]);
        }

        fn counts(&self) -> (u64, u64) {
            let counts = self.orders.counts();
            (counts.pairs, counts.inverted)
        }
    }

    #[test]
    fn pairs_are_of_neighbours_and_of_different_publishers() {
        let mut bench = Bench::new();
        // a a b c, of which the candidate tells b before both of a.
        for (event, publisher) in [(0, 1), (1, 1), (2, 2), (3, 3)] {
            bench.primary(event, publisher);
        }
        for event in [2, 0, 1, 3] {
            bench.candidate(event);
        }
        assert_eq!(bench.counts(), (2, 1), "a b, b c");
        assert_eq!(bench.orders.counts().rate(), 0.5);
        assert_eq!(Inversions::default().rate(), 0.0);
    }

    #[test]
    fn another_epoch_is_another_publisher() {
        let orders = Interleaving::default();
        orders.begin();
        let again = Origin {
            epoch: 2,
            ..origin(1)
        };
        let first = orders.by_primary(&origin(1), NOWHERE, 0, PATIENCE);
        let second = orders.by_primary(&again, NOWHERE, 0, PATIENCE);
        orders.by_candidate(second);
        orders.by_candidate(first);
        assert_eq!((orders.counts().pairs, orders.counts().inverted), (1, 1));
    }

    #[test]
    fn one_publisher_costs_nothing() {
        let orders = Interleaving::default();
        assert_eq!(orders.by_primary(&origin(1), NOWHERE, 0, PATIENCE), NOWHERE);
        assert_eq!(orders.by_candidate(NOWHERE), NOWHERE);
        assert_eq!(orders.orders.lock().entries.capacity(), 0);
    }

    #[test]
    fn a_candidate_far_behind_is_looked_at_in_stretches() {
        let mut bench = Bench::new();
        let many = 3 * ROOM;
        for event in 0..many {
            bench.primary(event, (event % 2) as u8);
        }
        assert_eq!(bench.orders.orders.lock().entries.len(), ROOM);
        // Each two the other way round.
        for event in (0..many).map(|event| event ^ 1) {
            bench.candidate(event);
        }
        let all = ROOM as u64 - 1;
        assert_eq!(bench.counts(), (all, ROOM as u64 / 2));
        // It has caught up: there is room again.
        for event in many..many + 10 {
            bench.primary(event, (event % 2) as u8);
            bench.candidate(event);
        }
        assert_eq!(bench.counts(), (all + 9, ROOM as u64 / 2));
    }

    #[test]
    fn a_publisher_that_is_far_behind_is_looked_at_in_stretches() {
        let mut bench = Bench::new();
        let many = 5 * ROOM;
        // All of one publisher's is told at once, and the other's after everything.
        for event in 0..many {
            bench.primary(event, (event % 2) as u8);
            if event % 2 == 0 {
                bench.candidate(event);
            }
        }
        for event in (1..many).step_by(2) {
            bench.candidate(event);
        }
        let (pairs, inverted) = bench.counts();
        assert!(pairs >= ROOM as u64 - 1, "{pairs}");
        assert!((2 * inverted).abs_diff(pairs) <= 1, "{inverted} of {pairs}");
    }

    #[test]
    fn what_never_comes_does_not_keep_its_room() {
        let mut bench = Bench::new();
        for event in 0..ROOM {
            bench.primary(event, (event % 2) as u8);
        }
        bench.primary(ROOM, 0);
        assert_eq!(bench.places[&ROOM][0], NOWHERE, "all are waited for");
        bench.now += PATIENCE;
        for event in ROOM + 1..ROOM + 3 {
            bench.primary(event, (event % 2) as u8);
            bench.candidate(event);
        }
        assert_eq!(bench.counts(), (1, 0));
    }

    #[test]
    fn places_go_on_when_they_have_run_out() {
        let mut bench = Bench::new();
        {
            let mut orders = bench.orders.orders.lock();
            orders.last = [u32::MAX - 5, u32::MAX - 3];
            orders.done = u32::MAX - 5;
        }
        for event in 0..10 {
            bench.primary(event, (event % 2) as u8);
            bench.candidate(event);
        }
        // One event each has no place on one side.
        let (pairs, inverted) = bench.counts();
        assert!(pairs >= 5, "{pairs}");
        assert_eq!(inverted, 0);
    }

    proptest! {
        /// Whichever side is first, and whatever the candidate never delivers.
        #[test]
        fn agrees_with_the_definition(
            publishers in prop::collection::vec(0..4u8, 1..100),
            shuffle in prop::collection::vec((any::<u16>(), prop::bool::weighted(0.9)), 100),
            turns in prop::collection::vec(any::<bool>(), 300),
        ) {
            let count = publishers.len();
            let mut order: Vec<usize> = (0..count).filter(|n| shuffle[*n].1).collect();
            order.sort_by_key(|n| *n * 3000 + usize::from(shuffle[*n].0) / 8);
            let mut bench = Bench::new();
            let (mut primary, mut candidate) = (0..count, order.iter());
            for turn in turns.iter().chain(&[true; 100]).chain(&[false; 100]) {
                if *turn {
                    if let Some(event) = primary.next() {
                        bench.primary(event, publishers[event]);
                    }
                } else if let Some(event) = candidate.next() {
                    bench.candidate(*event);
                }
            }
            let place = |event: usize| order.iter().position(|other| *other == event);
            let mut due = (0, 0);
            for (a, b) in (0..count).zip(1..count) {
                if let (Some(x), Some(y)) = (place(a), place(b)) && publishers[a] != publishers[b] {
                    due.0 += 1;
                    due.1 += u64::from(y < x);
                }
            }
            prop_assert_eq!(bench.counts(), due);
        }
    }
}
