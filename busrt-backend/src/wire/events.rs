//! The events of a frame: written when they are accepted, checked when they come, read where they
//! are taken.
//!
//! Whoever drains a connection only checks them; the receiver makes events of them in its own
//! thread, so that what an event shares with its frame is counted up and down in one place.
//!
//! Where several subscriptions take them, they are made once for all.
//!
//! Invariant: the bytes of an [`Events`] have been checked, so reading them cannot fail.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::{fmt, vec};

use bytes::Bytes;
use eventbus_trait::{
    ContentType, Correlation, Delivery, Event, Headers, Origin, Payload, PublisherId, Topic,
};
use serde::{Deserialize, Serialize};

use super::blocks::Blocks;
use super::reader::{Reader, WireError, put_text};

const CONTENT_MASK: u8 = 0b0000_0011;
const AT_MOST_ONCE: u8 = 0b0000_0100;
const FOREIGN_ORIGIN: u8 = 0b0000_1000;
const META: u8 = 0b0001_0000;

/// Least bytes that an event takes: flags, sequence, payload length.
pub(super) const MIN_EVENT: usize = 1 + 8 + 4;
/// Where an event's sequence is.
const SEQUENCE: Range<usize> = 1..9;

/// Headers and correlation travel as JSON, so that any language reads them.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Meta {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: Headers,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<Correlation>,
}

/// The events of a frame, in publish order.
#[derive(Clone)]
pub struct Events(Repr);

#[derive(Clone)]
enum Repr {
    Read(vec::IntoIter<Event>),
    Unread(Unread),
    Shared(Shared),
}

/// Events that several receivers take, each at its own pace.
#[derive(Clone)]
struct Shared {
    all: Arc<[Event]>,
    at: usize,
}

impl Shared {
    fn left(&self) -> &[Event] {
        &self.all[self.at..]
    }
}

/// Events without headers or correlation, which cost little to read.
#[derive(Clone)]
struct Unread {
    stamp: Stamp,
    bytes: Bytes,
    blocks: Blocks,
    at: usize,
    left: usize,
    /// Bytes of the payloads that are left.
    size: u64,
}

/// What the events of a frame have in common.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// Their topic.
    pub topic: Topic,
    /// Who published them, unless an event says otherwise.
    pub publisher: PublisherId,
    /// The publisher's epoch.
    pub epoch: u64,
}

impl Events {
    /// No events.
    #[must_use]
    pub fn none() -> Self {
        Vec::new().into()
    }

    /// Checks the rest of a frame, which has `count` events.
    pub(super) fn check(
        stamp: Stamp,
        mut reader: Reader<'_>,
        count: usize,
    ) -> Result<Self, WireError> {
        let (bytes, at) = (reader.whole().clone(), reader.position());
        let mut size = 0;
        let mut plain = true;
        for _ in 0..count {
            let (payload, has_meta) = skip_event(&mut reader)?;
            size += payload as u64;
            plain &= !has_meta;
        }
        reader.end()?;
        let unread = Unread {
            stamp,
            bytes,
            blocks: Blocks::default(),
            at,
            left: count,
            size,
        };
        if plain {
            return Ok(Self(Repr::Unread(unread)));
        }
        // What it takes to check them is most of what it takes to read them.
        let mut reader = Reader::at(&unread.bytes, at);
        let mut blocks = Blocks::default();
        let events: Result<Vec<_>, _> = (0..count)
            .map(|_| read_event(&mut reader, &unread.stamp, &mut blocks))
            .collect();
        Ok(events?.into())
    }

    /// Payloads, headers and correlations of the events that are left, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.0 {
            Repr::Read(events) => size_of(events.as_slice()),
            Repr::Shared(events) => size_of(events.left()),
            Repr::Unread(unread) => unread.size,
        }
    }

    /// The same events, made once for all who take a copy of this.
    #[must_use]
    pub fn shared(self) -> Self {
        Self(Repr::Shared(Shared {
            all: self.collect(),
            at: 0,
        }))
    }

    /// Lets go of the next `count` events.
    pub fn let_go(&mut self, count: usize) {
        self.take(count).for_each(drop);
    }
}

/// Payloads, headers and correlations, in bytes.
fn size_of(events: &[Event]) -> u64 {
    let sizes = events
        .iter()
        .map(|event| event.known_size().unwrap_or(0) as u64);
    sizes.sum()
}

impl Unread {
    #[inline]
    fn next(&mut self) -> Option<Event> {
        if self.left == 0 {
            return None;
        }
        let mut reader = Reader::at(&self.bytes, self.at);
        let event = read_event(&mut reader, &self.stamp, &mut self.blocks).ok();
        self.at = reader.position();
        self.left -= 1;
        let size = event.as_ref().and_then(|event| event.payload().known_len());
        self.size = self.size.saturating_sub(size.unwrap_or_default() as u64);
        event
    }
}

impl Iterator for Events {
    type Item = Event;

    #[inline]
    fn next(&mut self) -> Option<Event> {
        match &mut self.0 {
            Repr::Unread(unread) => unread.next(),
            Repr::Shared(events) => {
                let event = events.all.get(events.at)?.clone();
                events.at += 1;
                Some(event)
            }
            Repr::Read(events) => events.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Repr::Read(events) => events.len(),
            Repr::Unread(unread) => unread.left,
            Repr::Shared(events) => events.left().len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Events {}

impl From<Vec<Event>> for Events {
    fn from(events: Vec<Event>) -> Self {
        Self(Repr::Read(events.into_iter()))
    }
}

impl PartialEq for Events {
    fn eq(&self, other: &Self) -> bool {
        self.clone().eq(other.clone())
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// Events as a frame has them, written before it is known in which frames they go.
#[derive(Debug, Clone, Default)]
pub struct WrittenEvents {
    bytes: Vec<u8>,
    count: u32,
}

impl WrittenEvents {
    /// Room for this many bytes before it grows.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            count: 0,
        }
    }

    /// How many events there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds an event. `payload` is its encoded payload; `foreign` its stamp, if that is not the one that
    /// the frame carries for all; `sequence` its sequence.
    pub fn push(&mut self, event: &Event, payload: &[u8], foreign: Option<&Origin>, sequence: u64) {
        write_event(&mut self.bytes, event, payload, foreign, sequence);
        self.count += 1;
    }

    /// Sets the sequence of the first event, which was not known when it was written.
    pub fn set_first_sequence(&mut self, sequence: u64) {
        if let Some(place) = self.bytes.get_mut(SEQUENCE) {
            place.copy_from_slice(&sequence.to_le_bytes());
        }
    }

    /// What is written of the events after the first `skip`, and how many these are.
    pub(super) fn after(&self, skip: u32) -> (&[u8], u32) {
        if skip == 0 {
            return (&self.bytes, self.count);
        }
        let skip = skip.min(self.count);
        (&self.bytes[self.offset_of(skip)..], self.count - skip)
    }

    /// The events after the first `skip`.
    #[must_use]
    pub fn read(&self, stamp: Stamp, skip: u32) -> Events {
        let (written, count) = self.after(skip);
        let bytes = Bytes::copy_from_slice(written);
        // What we have written ourselves we can read.
        Events::check(stamp, Reader::new(&bytes), count as usize).unwrap_or_else(|_| Events::none())
    }

    #[cold]
    fn offset_of(&self, count: u32) -> usize {
        let bytes = Bytes::copy_from_slice(&self.bytes);
        let mut reader = Reader::new(&bytes);
        for _ in 0..count {
            if skip_event(&mut reader).is_err() {
                break;
            }
        }
        reader.position()
    }
}

pub(super) fn write_event(
    out: &mut Vec<u8>,
    event: &Event,
    payload: &[u8],
    foreign: Option<&Origin>,
    sequence: u64,
) {
    let content = event.payload().content_type();
    let mut flags = match content {
        ContentType::Json => 0,
        ContentType::Protobuf => 1,
        ContentType::Raw => 2,
        ContentType::Other(_) => 3,
    };
    if event.get_delivery() == Delivery::AtMostOnce {
        flags |= AT_MOST_ONCE;
    }
    if foreign.is_some() {
        flags |= FOREIGN_ORIGIN;
    }
    let meta = meta(event);
    if meta.is_some() {
        flags |= META;
    }
    let mut head = [0; SEQUENCE.end];
    head[0] = flags;
    head[SEQUENCE].copy_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&head);
    if let Some(origin) = foreign {
        out.extend_from_slice(&origin.publisher.0);
        out.extend_from_slice(&origin.epoch.to_le_bytes());
    }
    if let ContentType::Other(media_type) = content {
        put_text(out, media_type);
    }
    if let Some(meta) = meta {
        put_bytes(out, &meta);
    }
    put_bytes(out, payload);
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "events are limited to far less than 4 GiB"
)]
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn meta(event: &Event) -> Option<Vec<u8>> {
    let headers = event.get_headers().filter(|headers| !headers.is_empty());
    let correlation = event.get_correlation();
    if headers.is_none() && correlation.is_none() {
        return None;
    }
    // A map of strings has no value that JSON lacks.
    serde_json::to_vec(&Meta {
        headers: headers.cloned().unwrap_or_default(),
        correlation: correlation.cloned(),
    })
    .ok()
}

/// Passes over an event; its payload's length, and whether it has metadata.
fn skip_event(reader: &mut Reader<'_>) -> Result<(usize, bool), WireError> {
    let flags = reader.u8("flags")?;
    reader.skip("sequence", 8)?;
    if flags & FOREIGN_ORIGIN != 0 {
        reader.skip("origin", 24)?;
    }
    if flags & CONTENT_MASK == 3 {
        reader.text("content type")?;
    }
    let has_meta = flags & META != 0;
    if has_meta {
        let len = reader.u32("metadata length")? as usize;
        reader.skip("metadata", len)?;
    }
    let len = reader.u32("payload length")? as usize;
    reader.skip("payload", len)?;
    Ok((len, has_meta))
}

#[inline]
fn read_event(
    reader: &mut Reader<'_>,
    stamp: &Stamp,
    blocks: &mut Blocks,
) -> Result<Event, WireError> {
    let flags = reader.u8("flags")?;
    let sequence = reader.u64("sequence")?;
    let mut origin = Origin {
        publisher: stamp.publisher,
        epoch: stamp.epoch,
        sequence,
    };
    if flags & FOREIGN_ORIGIN != 0 {
        origin.publisher = PublisherId(reader.array("origin")?);
        origin.epoch = reader.u64("origin epoch")?;
    }
    let content_type = match flags & CONTENT_MASK {
        0 => ContentType::Json,
        1 => ContentType::Protobuf,
        2 => ContentType::Raw,
        _ => ContentType::Other(reader.text("content type")?.into()),
    };
    let meta = if flags & META == 0 {
        None
    } else {
        let len = reader.u32("metadata length")? as usize;
        let bytes = reader.bytes("metadata", len)?;
        let invalid = |_| WireError::Invalid { field: "metadata" };
        Some(serde_json::from_slice::<Meta>(&bytes).map_err(invalid)?)
    };
    let len = reader.u32("payload length")? as usize;
    let from = reader.position();
    reader.skip("payload", len)?;
    let bytes = blocks.payload(reader.whole(), from..from + len);
    let payload = Payload::new(bytes, content_type);
    let mut event = Event::on(stamp.topic.clone(), payload);
    if let Some(meta) = meta {
        event = event.headers(meta.headers);
        if let Some(correlation) = meta.correlation {
            event = event.correlation(correlation);
        }
    }
    if flags & AT_MOST_ONCE != 0 {
        event = event.delivery(Delivery::AtMostOnce);
    }
    event.accept(|| origin);
    Ok(event)
}

#[cfg(test)]
mod tests;
