//! Marks: who wrote an event, in its payload, and what of it must arrive unaltered.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use eventbus_trait::Event;

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

/// A digest of everything of an event that must arrive unaltered. Comparable
/// between processes of one build.
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
    use eventbus_trait::{Delivery, Topic};

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
}
