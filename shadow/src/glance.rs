//! What is asked for while a comparison goes on, beyond its report: where divergences are, the newest
//! of them, and how long each side takes.
//!
//! Invariant: bounded, however many divergences and topics there are; and the counts by topic are of
//! all divergences, not of those that are listed.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::report::{Divergence, DivergenceClass};

/// Upper ends of all latency buckets but the last, which has no end, in microseconds.
pub const LATENCY_BOUNDS_US: [u64; 22] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000,
    200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
];
/// Most pairs of class and topic that are counted apart.
const MOST_PLACES: usize = 256;
/// How many of the newest divergences are kept.
const MOST_NEWEST: usize = 20;

/// A look at a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Glance {
    /// All divergences by class and topic.
    pub by_topic: Vec<TopicCount>,
    /// The newest divergences, newest first.
    pub newest: Vec<Divergence>,
    /// Events that wait for the candidate.
    pub queued: u64,
    /// Streams that are remembered, of all subscriptions.
    #[serde(default)]
    pub streams: u64,
    /// How long the primary takes.
    pub primary: SideLatency,
    /// How long the candidate takes.
    pub candidate: SideLatency,
}

/// How often something diverged in one way on one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicCount {
    /// In which way.
    pub class: DivergenceClass,
    /// The topic; empty for all those together that there was no room to count apart.
    pub topic: String,
    /// How often.
    pub count: u64,
}

/// Latencies of one side as a histogram, from the moment at which that side was given an event until
/// it was read from that side's subscription. Only deliveries that both sides made are in it, so that
/// the two can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideLatency {
    /// Deliveries measured.
    pub samples: u64,
    /// Their sum, in microseconds.
    pub sum_us: u64,
    /// How many were at most as long as each of [`LATENCY_BOUNDS_US`] and longer than the one before;
    /// the last is how many were longer than all.
    pub buckets: Vec<u64>,
}

impl Default for SideLatency {
    fn default() -> Self {
        Self {
            samples: 0,
            sum_us: 0,
            buckets: vec![0; LATENCY_BOUNDS_US.len() + 1],
        }
    }
}

/// The same, as it is counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Buckets {
    sum_nanos: u64,
    counts: [u64; LATENCY_BOUNDS_US.len() + 1],
}

impl Buckets {
    pub(crate) fn record(&mut self, nanos: u64) {
        let at = LATENCY_BOUNDS_US.partition_point(|bound| bound * 1000 < nanos);
        self.counts[at] += 1;
        self.sum_nanos = self.sum_nanos.saturating_add(nanos);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.sum_nanos = self.sum_nanos.saturating_add(other.sum_nanos);
        for (sum, n) in self.counts.iter_mut().zip(other.counts) {
            *sum += n;
        }
    }

    pub(crate) fn told(&self) -> SideLatency {
        SideLatency {
            samples: self.counts.iter().sum(),
            sum_us: self.sum_nanos / 1000,
            buckets: self.counts.to_vec(),
        }
    }
}

/// Where divergences are, and the newest.
#[derive(Debug, Default)]
pub(crate) struct Places {
    counts: BTreeMap<(DivergenceClass, String), u64>,
    newest: VecDeque<Divergence>,
}

impl Places {
    /// Notes a divergence; `was_missing` if the same delivery was noted as missing before.
    pub(crate) fn note(&mut self, new: &Divergence, was_missing: bool) {
        if was_missing {
            let key = self.key(DivergenceClass::Missing, &new.topic);
            if let Some(n) = self.counts.get_mut(&key) {
                *n = n.saturating_sub(1);
            }
            self.newest.retain(|old| {
                old.class != DivergenceClass::Missing
                    || old.sequence != new.sequence
                    || old.publisher != new.publisher
                    || old.epoch != new.epoch
                    || old.topic != new.topic
                    || old.subscription != new.subscription
            });
        }
        let key = self.key(new.class, &new.topic);
        *self.counts.entry(key).or_default() += 1;
        self.newest.truncate(MOST_NEWEST - 1);
        self.newest.push_front(new.clone());
    }

    pub(crate) fn newest(&self) -> Vec<Divergence> {
        self.newest.iter().cloned().collect()
    }

    pub(crate) fn counts(&self) -> Vec<TopicCount> {
        let some = self.counts.iter().filter(|(_, n)| **n > 0);
        some.map(|((class, topic), n)| TopicCount {
            class: *class,
            topic: topic.clone(),
            count: *n,
        })
        .collect()
    }

    fn key(&self, class: DivergenceClass, topic: &str) -> (DivergenceClass, String) {
        let key = (class, topic.to_owned());
        if self.counts.len() < MOST_PLACES || self.counts.contains_key(&key) {
            key
        } else {
            (class, String::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Side;

    fn divergence(class: DivergenceClass, topic: &str, sequence: u64) -> Divergence {
        Divergence {
            class,
            side: Side::Candidate,
            subscription: "s".to_owned(),
            publisher: "p".to_owned(),
            epoch: 1,
            topic: topic.to_owned(),
            sequence,
            displaced: None,
            detail: String::new(),
            shown: None,
        }
    }

    #[test]
    fn a_latency_at_a_bound_is_in_the_bucket_that_ends_there() {
        let mut buckets = Buckets::default();
        for nanos in [0, 1_000, 1_001, 2_000, 10_000_000_001] {
            buckets.record(nanos);
        }
        let told = buckets.told();
        assert_eq!(told.buckets[..3], [2, 2, 0]);
        assert_eq!(told.buckets[LATENCY_BOUNDS_US.len()], 1);
        assert_eq!((told.samples, told.sum_us), (5, 10_000_004));
    }

    #[test]
    fn what_was_missing_and_comes_is_counted_once() {
        let mut places = Places::default();
        for sequence in 0..30 {
            places.note(&divergence(DivergenceClass::Missing, "t", sequence), false);
        }
        places.note(&divergence(DivergenceClass::Late, "t", 29), true);
        let counts: Vec<_> = places.counts().iter().map(|c| (c.class, c.count)).collect();
        let due = [(DivergenceClass::Missing, 29), (DivergenceClass::Late, 1)];
        assert_eq!(counts, due);
        let newest = places.newest();
        assert_eq!(newest[0].class, DivergenceClass::Late);
        assert_eq!((newest[1].sequence, newest.len()), (28, MOST_NEWEST));
    }

    #[test]
    fn topics_without_number_are_counted_in_bounded_room() {
        let mut places = Places::default();
        for n in 0..1_000 {
            places.note(
                &divergence(DivergenceClass::Missing, &n.to_string(), n),
                false,
            );
        }
        let counts = places.counts();
        assert!(counts.len() <= MOST_PLACES + 1, "{}", counts.len());
        assert_eq!(counts.iter().map(|c| c.count).sum::<u64>(), 1_000);
        let rest = counts.iter().find(|c| c.topic.is_empty()).unwrap();
        assert_eq!(rest.count, 1_000 - MOST_PLACES as u64);
    }
}
