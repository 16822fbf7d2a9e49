//! What happened on a bus, in the order in which it was seen to happen.
//!
//! A clause that compares as it goes can only say that the first thing it looked at was wrong. A
//! history is written down first, by everybody who publishes and receives, and judged afterwards
//! by the checkers of [`check`](crate::check), which name what they find.
//!
//! Invariant: `Invoke` is recorded before the bus sees the event, and its end after the bus has
//! answered; `Subscribed` after `subscribe` returned. So whatever was invoked after a `Subscribed`
//! entry was published after the subscription was there.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus_trait::{Delivery, Event, Overflow, PublisherId, Subscribe, Topic, TopicFilter};
use parking_lot::Mutex;

/// Names an event by who wrote it: written into its payload, so that it does not depend on what
/// the bus under test says about the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// The author: one task that publishes through one handle, one event after the other.
    pub author: u32,
    /// Position among the author's events, from 0.
    pub sequence: u64,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.author, self.sequence)
    }
}

/// One entry of a history.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Since the history began.
    pub at: Duration,
    /// What happened.
    pub op: Op,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// A publish begins.
    Invoke(Publication),
    /// The publish returned Ok.
    Accepted(Mark),
    /// The publish returned an error: nobody gets the event.
    Refused(Mark),
    /// The publish was cancelled: it may have happened.
    Unknown(Mark),
    /// A subscription was made.
    Subscribed(Interest),
    /// A subscription is about to be ended; what is still queued is given up.
    Ended(Arc<str>),
    /// A subscription yielded an event.
    Delivered(Arrival),
    /// A subscription was told that it lost events.
    Lagged(Arc<str>, u64),
    /// A subscription has been read until nothing could be on its way.
    Drained(Arc<str>),
}

/// An event as it was published.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// Which event.
    pub mark: Mark,
    /// The handle that it was published through.
    pub handle: PublisherId,
    /// Its topic.
    pub topic: Topic,
    /// Digest of everything that must arrive unaltered.
    pub digest: u64,
    /// The delivery asked for.
    pub delivery: Delivery,
}

/// What a subscription is to get.
#[derive(Debug, Clone, PartialEq)]
pub struct Interest {
    /// The subscription.
    pub subscription: Arc<str>,
    /// Its filters.
    pub filters: Vec<TopicFilter>,
    /// The handle whose events it leaves out.
    pub excluded: Option<PublisherId>,
    /// Whether it may lose events for want of room.
    pub lossy: bool,
}

impl Interest {
    /// Whether the subscription is to get `publication`, if it was published while it stood.
    #[must_use]
    pub fn takes(&self, publication: &Publication) -> bool {
        self.excluded != Some(publication.handle)
            && self.filters.iter().any(|f| f.matches(&publication.topic))
    }
}

/// An event as a subscription yielded it.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// The subscription.
    pub subscription: Arc<str>,
    /// Which event; `None` if it carries no mark, so that no author can have written it.
    pub mark: Option<Mark>,
    /// Its topic.
    pub topic: Topic,
    /// Digest of everything that must have arrived unaltered.
    pub digest: u64,
}

/// A finished history, for the checkers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// The entries, in the order in which they were recorded.
    pub entries: Vec<Entry>,
}

impl History {
    /// What a subscription yielded, in order.
    pub fn arrivals<'a>(&'a self, subscription: &'a str) -> impl Iterator<Item = &'a Arrival> {
        self.entries
            .iter()
            .filter_map(move |entry| match &entry.op {
                Op::Delivered(arrival) if *arrival.subscription == *subscription => Some(arrival),
                _ => None,
            })
    }

    /// How many publishes were refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| matches!(entry.op, Op::Refused(_)))
            .count()
    }

    /// The topics of what a subscription yielded, in order.
    #[must_use]
    pub fn topics_of<'a>(&'a self, subscription: &'a str) -> Vec<&'a str> {
        self.arrivals(subscription)
            .map(|arrival| arrival.topic.as_str())
            .collect()
    }

    /// The marks of what a subscription yielded, in order.
    #[must_use]
    pub fn marks_of(&self, subscription: &str) -> Vec<Option<Mark>> {
        self.arrivals(subscription)
            .map(|arrival| arrival.mark)
            .collect()
    }
}

/// Writes a history. Clones write the same one.
#[derive(Debug, Clone)]
pub struct Recorder {
    began: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            entries: Arc::default(),
        }
    }
}

impl Recorder {
    /// Records that something happened now.
    pub fn record(&self, op: Op) {
        let mut entries = self.entries.lock();
        let at = self.began.elapsed();
        entries.push(Entry { at, op });
    }

    /// Records that `event` is about to be published through `handle`. An event without a mark
    /// is not recorded.
    pub fn invoke(&self, handle: PublisherId, event: &Event) -> Pending {
        let mark = mark_of(event);
        if let Some(mark) = mark {
            self.record(Op::Invoke(Publication {
                mark,
                handle,
                topic: event.topic().clone(),
                digest: digest(event),
                delivery: event.get_delivery(),
            }));
        }
        Pending {
            recorder: self.clone(),
            mark,
        }
    }

    /// Records that `subscription` yielded `event`.
    pub fn delivered(&self, subscription: &Arc<str>, event: &Event) {
        self.record(Op::Delivered(Arrival {
            subscription: Arc::clone(subscription),
            mark: mark_of(event),
            topic: event.topic().clone(),
            digest: digest(event),
        }));
    }

    /// Records that a subscription was made by the handle `own`.
    pub fn subscribed(&self, name: &Arc<str>, subscribe: &Subscribe, own: PublisherId) {
        self.record(Op::Subscribed(Interest {
            subscription: Arc::clone(name),
            filters: subscribe.filters().to_vec(),
            excluded: subscribe.excludes_own().then_some(own),
            lossy: subscribe.get_overflow() != Overflow::Wait,
        }));
    }

    /// What has been recorded up to now.
    #[must_use]
    pub fn history(&self) -> History {
        History {
            entries: self.entries.lock().clone(),
        }
    }
}

/// A publish that has begun; dropped without an end it is recorded as unknown.
#[derive(Debug)]
#[must_use = "a publish that is not ended is recorded as unknown"]
pub struct Pending {
    recorder: Recorder,
    mark: Option<Mark>,
}

impl Pending {
    /// Records how the publish ended.
    pub fn end<T, E>(mut self, result: &Result<T, E>) {
        if let Some(mark) = self.mark.take() {
            self.recorder.record(match result {
                Ok(_) => Op::Accepted(mark),
                Err(_) => Op::Refused(mark),
            });
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(mark) = self.mark.take() {
            self.recorder.record(Op::Unknown(mark));
        }
    }
}

const MAGIC: &[u8] = b"\0ebc\xff";

/// The payload of a marked event: the mark, then `filler` bytes that differ from event to event.
#[must_use]
pub fn payload(mark: Mark, filler: usize) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(mark.author.to_be_bytes());
    bytes.extend(mark.sequence.to_be_bytes());
    let seed = mark
        .sequence
        .wrapping_mul(31)
        .wrapping_add(u64::from(mark.author));
    bytes.extend((0..filler).map(|at| (seed.wrapping_add(at as u64) % 251) as u8));
    bytes
}

/// The mark in an event's payload.
#[must_use]
pub fn mark_of(event: &Event) -> Option<Mark> {
    let bytes = event.bytes().ok()?;
    let rest = bytes.strip_prefix(MAGIC)?;
    let (author, rest) = rest.split_first_chunk::<4>()?;
    let (sequence, _) = rest.split_first_chunk::<8>()?;
    Some(Mark {
        author: u32::from_be_bytes(*author),
        sequence: u64::from_be_bytes(*sequence),
    })
}

/// A digest of everything of an event that must arrive unaltered. Comparable within one process.
#[must_use]
pub fn digest(event: &Event) -> u64 {
    let mut hasher = DefaultHasher::new();
    event.topic().hash(&mut hasher);
    event.payload().content_type().hash(&mut hasher);
    event.bytes().ok().hash(&mut hasher);
    event.get_headers().hash(&mut hasher);
    event.get_delivery().hash(&mut hasher);
    let correlation = event.get_correlation().map(|c| format!("{c:?}"));
    correlation.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(mark: Mark) -> Event {
        Event::new("a.b", payload(mark, 7)).unwrap()
    }

    #[test]
    fn a_mark_reads_back_and_bare_payloads_have_none() {
        let mark = Mark {
            author: 3,
            sequence: 1 << 40,
        };
        assert_eq!(mark_of(&event(mark)), Some(mark));
        assert_eq!(mark_of(&Event::new("a", "text").unwrap()), None);
        assert_eq!(mark_of(&Event::new("a", MAGIC).unwrap()), None);
    }

    #[test]
    fn a_digest_sees_each_part() {
        let event = event(Mark {
            author: 0,
            sequence: 0,
        });
        let same = digest(&event);
        assert_eq!(digest(&event.clone()), same);
        assert_ne!(digest(&event.clone().header("a", "b")), same);
        assert_ne!(digest(&event.clone().delivery(Delivery::AtMostOnce)), same);
        let correlation = eventbus_trait::Correlation::new("c");
        assert_ne!(digest(&event.clone().correlation(correlation)), same);
        assert_ne!(
            digest(&Event::on(Topic::new("a.c").unwrap(), event.into_payload())),
            same
        );
    }

    #[test]
    fn a_publish_that_is_dropped_is_unknown() {
        let recorder = Recorder::default();
        let mark = Mark {
            author: 1,
            sequence: 2,
        };
        let handle = PublisherId([0; 16]);
        drop(recorder.invoke(handle, &event(mark)));
        recorder.invoke(handle, &event(mark)).end(&Ok::<_, ()>(()));
        let ops: Vec<Op> = recorder
            .history()
            .entries
            .into_iter()
            .map(|e| e.op)
            .collect();
        assert!(matches!(ops[0], Op::Invoke(_)));
        assert_eq!(ops[1], Op::Unknown(mark));
        assert_eq!(ops[3], Op::Accepted(mark));
        assert_eq!(ops.len(), 4);
    }
}
