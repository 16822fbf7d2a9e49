//! Event frames: a batch of events of one topic, and the links that it concerns.
//!
//! A frame is published on the events' topic. Its header lists, for each link (one publisher's
//! stream to one subscription), the sequence of the first event in it; the events follow each
//! other without a gap, so one integer per link checks order, finds what is missing, and is
//! acknowledged.

use bytes::Bytes;
use eventbus_trait::{Event, PublisherId, Topic};

use super::events::{Events, MIN_EVENT, Stamp, WrittenEvents, write_event};
use super::reader::{Reader, WireError};

/// What an event frame begins with. No JSON text, and no UTF-8 text at all, begins so.
pub const MAGIC: [u8; 4] = [0xEB, 0x05, b'E', b'F'];
const VERSION: u8 = 1;

/// Offset of the event count, which is known last.
const COUNT_AT: usize = 4 + 1 + 16 + 8;

/// One link that a frame concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkEntry {
    /// The subscription at the other end.
    pub subscription: u64,
    /// Link sequence of the frame's first event.
    pub first: u64,
    /// Events that the publisher dropped on this link so far, in all.
    pub dropped: u64,
}

/// A frame as read.
#[derive(Debug, Clone, PartialEq)]
pub struct EventFrame {
    /// Whose events these are, unless one says otherwise.
    pub publisher: PublisherId,
    /// The links that it concerns.
    pub links: Vec<LinkEntry>,
    /// The events, in publish order.
    pub events: Events,
}

/// Whether a payload is an event frame; if not, it is the payload of a foreign client's event.
#[must_use]
pub fn is_frame(payload: &[u8]) -> bool {
    payload.starts_with(&MAGIC)
}

/// Builds a frame, event by event.
#[derive(Debug)]
pub struct FrameWriter {
    out: Vec<u8>,
    /// Where the frame begins in `out`.
    start: usize,
    count: u32,
}

impl FrameWriter {
    /// Begins a frame. `publisher` and `epoch` are those of all its events but the ones that carry
    /// a stamp of their own; `hint` is the room to set aside, in bytes.
    #[must_use]
    pub fn new(publisher: PublisherId, epoch: u64, links: &[LinkEntry], hint: usize) -> Self {
        Self::after(Vec::new(), publisher, epoch, links, hint)
    }

    /// Begins a frame behind other bytes.
    pub(crate) fn after(
        mut out: Vec<u8>,
        publisher: PublisherId,
        epoch: u64,
        links: &[LinkEntry],
        hint: usize,
    ) -> Self {
        let start = out.len();
        out.reserve(COUNT_AT + 6 + links.len() * 24 + hint);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&publisher.0);
        out.extend_from_slice(&epoch.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let links = &links[..links.len().min(usize::from(u16::MAX))];
        #[allow(clippy::cast_possible_truncation, reason = "bounded by u16::MAX above")]
        out.extend_from_slice(&(links.len() as u16).to_le_bytes());
        for link in links {
            out.extend_from_slice(&link.subscription.to_le_bytes());
            out.extend_from_slice(&link.first.to_le_bytes());
            out.extend_from_slice(&link.dropped.to_le_bytes());
        }
        Self {
            out,
            start,
            count: 0,
        }
    }

    /// Adds an event; `payload` is its encoded payload, `publisher` and `epoch` those that the frame
    /// carries for all.
    pub fn push(&mut self, event: &Event, payload: &[u8], publisher: PublisherId, epoch: u64) {
        let foreign = event
            .origin()
            .filter(|o| o.publisher != publisher || o.epoch != epoch);
        let sequence = event.origin().map_or(0, |origin| origin.sequence);
        write_event(&mut self.out, event, payload, foreign, sequence);
        self.count += 1;
    }

    /// Adds events that were written before, but for the first `skip`.
    pub fn append(&mut self, written: &WrittenEvents, skip: u32) {
        let (bytes, count) = written.after(skip);
        self.out.extend_from_slice(bytes);
        self.count += count;
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether no event has been added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The frame.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let at = self.start + COUNT_AT;
        self.out[at..at + 4].copy_from_slice(&self.count.to_le_bytes());
        self.out
    }
}

impl EventFrame {
    /// Reads a frame that was published on `topic`. Payloads share the frame's memory.
    ///
    /// # Errors
    /// [`WireError`] says which field is wrong.
    pub fn read(topic: &Topic, bytes: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        if reader.array::<4>("magic")? != MAGIC {
            return Err(WireError::Invalid { field: "magic" });
        }
        let version = reader.u8("version")?;
        if version != VERSION {
            return Err(WireError::Version {
                version,
                known: VERSION,
            });
        }
        let publisher = PublisherId(reader.array("publisher")?);
        let epoch = reader.u64("epoch")?;
        let count = reader.u32("event count")? as usize;
        let links = read_links(&mut reader)?;
        if count > reader.left() / MIN_EVENT {
            return Err(WireError::Truncated {
                field: "events",
                needed: count.saturating_mul(MIN_EVENT),
                left: reader.left(),
            });
        }
        let stamp = Stamp {
            topic: topic.clone(),
            publisher,
            epoch,
        };
        Ok(Self {
            publisher,
            links,
            events: Events::check(stamp, reader, count)?,
        })
    }
}

fn read_links(reader: &mut Reader<'_>) -> Result<Vec<LinkEntry>, WireError> {
    let count = reader.count("links", 24)?;
    (0..count)
        .map(|_| {
            Ok(LinkEntry {
                subscription: reader.u64("subscription")?,
                first: reader.u64("first sequence")?,
                dropped: reader.u64("dropped")?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use eventbus_trait::{ContentType, Correlation, Delivery, Origin, Payload};
    use proptest::prelude::*;

    use super::*;

    const OWN: PublisherId = PublisherId([7; 16]);

    fn frame(links: &[LinkEntry], events: &[Event]) -> Bytes {
        let mut writer = FrameWriter::new(OWN, 3, links, 0);
        for event in events {
            writer.push(event, &event.bytes().unwrap(), OWN, 3);
        }
        writer.finish().into()
    }

    fn stamped(mut event: Event, publisher: PublisherId, sequence: u64) -> Event {
        event.accept(|| Origin {
            publisher,
            epoch: 3,
            sequence,
        });
        event
    }

    #[test]
    fn a_frame_reads_back_unaltered() {
        let topic = Topic::new("a.b").unwrap();
        let on = |payload: Payload| Event::on(topic.clone(), payload);
        let other = ContentType::Other("text/x-log".into());
        let events = [
            stamped(on(Payload::raw(Bytes::new())), OWN, 0),
            stamped(
                on(Payload::new(&b"{}"[..], ContentType::Json)).header("h", "\0"),
                OWN,
                1,
            ),
            stamped(
                on(Payload::new(vec![0xFF, 0, 1], other)),
                PublisherId([9; 16]),
                77,
            ),
            stamped(
                on(Payload::new(&b"p"[..], ContentType::Protobuf))
                    .correlation(Correlation::new("c").tag("k", "v"))
                    .delivery(Delivery::AtMostOnce),
                OWN,
                2,
            ),
        ];
        let links = [
            LinkEntry {
                subscription: 1,
                first: 10,
                dropped: 0,
            },
            LinkEntry {
                subscription: u64::MAX,
                first: 20,
                dropped: 5,
            },
        ];
        let read = EventFrame::read(&topic, &frame(&links, &events)).unwrap();
        assert_eq!(
            read,
            EventFrame {
                publisher: OWN,
                links: links.into(),
                events: events.to_vec().into()
            }
        );
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        let topic = Topic::new("a").unwrap();
        let mut bytes = frame(&[], &[]).to_vec();
        bytes[COUNT_AT..COUNT_AT + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            EventFrame::read(&topic, &bytes.into()),
            Err(WireError::Truncated {
                field: "events",
                ..
            })
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let topic = Topic::new("a").unwrap();
            let mut bytes = MAGIC.to_vec();
            bytes.push(VERSION);
            bytes.extend(&tail);
            let _ = EventFrame::read(&topic, &bytes.into());
        }

        #[test]
        fn a_truncated_or_changed_frame_is_an_error_or_a_frame(
            cut in 0_usize..200, at in 0_usize..200, byte: u8,
        ) {
            let topic = Topic::new("a").unwrap();
            let event = stamped(Event::on(topic.clone(), Payload::raw("payload")).header("a", "b"), OWN, 1);
            let whole = frame(&[LinkEntry { subscription: 1, first: 0, dropped: 0 }], &[event]);
            let mut changed = whole.to_vec();
            let len = changed.len();
            changed[at % len] = byte;
            let _ = EventFrame::read(&topic, &changed.into());
            let cut = cut % len;
            prop_assert!(EventFrame::read(&topic, &whole.slice(..cut)).is_err());
        }
    }
}
