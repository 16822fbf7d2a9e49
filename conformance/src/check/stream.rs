//! Checking a history of millions while it happens, in memory that does not grow with it.
//!
//! Where every publisher numbers what it has published on each topic from 0 without a gap, what a
//! subscription has had of a stream is one number, and the ranges that are missing below it: none
//! while nothing is wrong. A publisher tries a refused event again under its number, so an event
//! that was refused and delivered all the same shows as a duplicate.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::Kind;

/// Anomalies that are told by example.
const EXAMPLES: usize = 8;

/// One stream: what one publisher publishes on one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    /// The publisher's number.
    pub publisher: u32,
    /// The topic's number.
    pub topic: u32,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.publisher, self.topic)
    }
}

/// The streams of one subscription as they come.
#[derive(Debug, Default)]
pub struct StreamCheck {
    streams: HashMap<StreamId, Stream>,
    last: HashMap<u32, u64>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Stream {
    /// Above everything that has come.
    next: u64,
    /// What is below and has not come: first number, and the one behind the last.
    missing: BTreeMap<u64, u64>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Events that came.
    pub received: u64,
    /// Accepted events that never came, though something later of their stream did.
    pub lost: u64,
    /// Accepted events that never came, and nothing later of their stream did.
    pub unseen: u64,
    /// Events that came again.
    pub duplicates: u64,
    /// Events that came after a later one of their stream.
    pub nonmonotonic: u64,
    /// Events that nobody published.
    pub phantoms: u64,
    /// Events that came altered.
    pub corrupted: u64,
    /// Events that came after a later one of their publisher's, on another topic. No anomaly:
    /// ORD-002 is a SHOULD where faults intervene.
    pub across: u64,
    /// The first anomalies.
    pub examples: Vec<String>,
}

impl Tally {
    /// How much is wrong.
    #[must_use]
    pub fn anomalies(&self) -> u64 {
        let missing = self.lost + self.unseen;
        missing + self.duplicates + self.nonmonotonic + self.phantoms + self.corrupted
    }

    fn add(&mut self, kind: Kind, events: u64, stream: StreamId, number: u64) {
        *match kind {
            Kind::Duplicate => &mut self.duplicates,
            Kind::Nonmonotonic | Kind::Skip => &mut self.nonmonotonic,
            Kind::Phantom => &mut self.phantoms,
            Kind::Corrupted => &mut self.corrupted,
            Kind::Unseen => &mut self.unseen,
            Kind::Lost | Kind::Refused | Kind::Uncounted => &mut self.lost,
        } += events;
        if self.examples.len() < EXAMPLES {
            let from = if events > 1 { ", the first of " } else { "" };
            let events = if events > 1 {
                events.to_string()
            } else {
                String::new()
            };
            self.examples
                .push(format!("{kind}: event {number} of {stream}{from}{events}"));
        }
    }
}

impl StreamCheck {
    /// An event came: the `number`th of its stream, the `overall`th of its publisher.
    pub fn came(&mut self, id: StreamId, number: u64, overall: u64) {
        self.tally.received += 1;
        let stream = self.streams.entry(id).or_default();
        if number == stream.next {
            stream.next += 1;
        } else if number > stream.next {
            stream.missing.insert(stream.next, number);
            stream.next = number + 1;
        } else if stream.take_missing(number) {
            self.tally.add(Kind::Nonmonotonic, 1, id, number);
        } else {
            return self.tally.add(Kind::Duplicate, 1, id, number);
        }
        let last = self.last.entry(id.publisher).or_default();
        if overall < *last {
            self.tally.across += 1;
        }
        *last = overall.max(*last);
    }

    /// An event came that is not as it was published.
    pub fn came_altered(&mut self, id: StreamId, number: u64) {
        self.tally.received += 1;
        self.tally.add(Kind::Corrupted, 1, id, number);
    }

    /// How many events have come.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.tally.received
    }

    /// The verdict, once nothing more can come and it is known how many events of each stream were
    /// accepted.
    #[must_use]
    pub fn finish(mut self, accepted: impl IntoIterator<Item = (StreamId, u64)>) -> Tally {
        for (id, accepted) in accepted {
            let stream = self.streams.remove(&id).unwrap_or_default();
            for (first, end) in &stream.missing {
                self.tally.add(Kind::Lost, end - first, id, *first);
            }
            if stream.next < accepted {
                let unseen = accepted - stream.next;
                self.tally.add(Kind::Unseen, unseen, id, stream.next);
            } else if stream.next > accepted {
                let invented = stream.next - accepted;
                self.tally.add(Kind::Phantom, invented, id, accepted);
            }
        }
        for (id, stream) in self.streams {
            self.tally.add(Kind::Phantom, stream.next, id, 0);
        }
        self.tally
    }
}

impl Stream {
    /// Takes `number` out of what is missing, if it is there.
    fn take_missing(&mut self, number: u64) -> bool {
        let Some((&first, &end)) = self.missing.range(..=number).next_back() else {
            return false;
        };
        if number >= end {
            return false;
        }
        self.missing.remove(&first);
        if first < number {
            self.missing.insert(first, number);
        }
        if number + 1 < end {
            self.missing.insert(number + 1, end);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: StreamId = StreamId {
        publisher: 3,
        topic: 1,
    };

    fn tally(numbers: &[u64], accepted: u64) -> Tally {
        let mut check = StreamCheck::default();
        for number in numbers {
            check.came(ID, *number, *number);
        }
        check.finish([(ID, accepted)])
    }

    /// Lost, unseen, duplicates, nonmonotonic, phantoms.
    fn counts(numbers: &[u64], accepted: u64) -> [u64; 5] {
        let tally = tally(numbers, accepted);
        assert_eq!(tally.anomalies() == 0, tally.examples.is_empty());
        [
            tally.lost,
            tally.unseen,
            tally.duplicates,
            tally.nonmonotonic,
            tally.phantoms,
        ]
    }

    #[test]
    fn what_is_in_order_is_in_order() {
        assert_eq!(counts(&[0, 1, 2, 3], 4), [0; 5]);
        assert_eq!(counts(&[], 0), [0; 5]);
        assert_eq!(tally(&[0, 1, 2], 3).received, 3);
    }

    #[test]
    fn each_anomaly_is_counted_as_what_it_is() {
        assert_eq!(counts(&[1, 2], 3), [1, 0, 0, 0, 0], "the beginning is lost");
        assert_eq!(counts(&[0, 1, 5], 6), [3, 0, 0, 0, 0], "a middle is lost");
        assert_eq!(counts(&[0, 1], 6), [0, 4, 0, 0, 0], "the end is unseen");
        assert_eq!(counts(&[], 6), [0, 6, 0, 0, 0], "all is unseen");
        assert_eq!(counts(&[0, 1, 1, 2, 0], 3), [0, 0, 2, 0, 0]);
        assert_eq!(counts(&[0, 2, 1], 3), [0, 0, 0, 1, 0]);
        assert_eq!(counts(&[0, 4, 2, 2, 1, 3], 5), [0, 0, 1, 3, 0]);
        assert_eq!(counts(&[0, 4, 2], 5), [2, 0, 0, 1, 0], "1 and 3 are lost");
        assert_eq!(
            counts(&[0, 1, 2, 3], 2),
            [0, 0, 0, 0, 2],
            "beyond what was accepted"
        );
    }

    #[test]
    fn a_stream_that_nobody_has_is_a_phantom() {
        let mut check = StreamCheck::default();
        check.came(ID, 0, 0);
        assert_eq!(check.finish([]).phantoms, 1);
    }

    #[test]
    fn altered_events_are_missing_too() {
        let mut check = StreamCheck::default();
        check.came_altered(ID, 0);
        let tally = check.finish([(ID, 1)]);
        assert_eq!((tally.corrupted, tally.unseen), (1, 1));
        assert_eq!(
            tally.examples,
            ["corrupted: event 0 of 3/1", "unseen: event 0 of 3/1"]
        );
    }

    #[test]
    fn order_across_topics_is_told_apart() {
        let mut check = StreamCheck::default();
        let other = StreamId { topic: 2, ..ID };
        check.came(ID, 0, 1);
        check.came(other, 0, 0);
        let tally = check.finish([(ID, 1), (other, 1)]);
        assert_eq!((tally.across, tally.anomalies()), (1, 0));
    }

    /// Every way of delivering five events with one thing wrong, against a count by hand.
    #[test]
    fn it_agrees_with_a_plain_count() {
        for mut code in 0..6_usize.pow(6) {
            let mut numbers = Vec::new();
            for _ in 0..6 {
                numbers.push((code % 6) as u64);
                code /= 6;
            }
            // 5 stands for nothing.
            numbers.retain(|n| *n < 5);
            let mut seen = Vec::new();
            let (mut duplicates, mut nonmonotonic) = (0, 0);
            for n in &numbers {
                if seen.contains(n) {
                    duplicates += 1;
                } else if seen.iter().any(|s| s > n) {
                    nonmonotonic += 1;
                }
                seen.push(*n);
            }
            let missing =
                |within: std::ops::Range<u64>| within.filter(|n| !seen.contains(n)).count() as u64;
            let end = seen.iter().max().map_or(0, |last| last + 1);
            let (lost, unseen) = (missing(0..end), missing(end..5));
            assert_eq!(
                counts(&numbers, 5),
                [lost, unseen, duplicates, nonmonotonic, 0],
                "{numbers:?}"
            );
        }
    }
}
