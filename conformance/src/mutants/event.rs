//! Events that are not what was published.

use std::sync::LazyLock;

use eventbus_trait::{ContentType, Event, Origin, Payload, PublisherId};

use crate::history::{Mark, mark_of, payload};

/// The author of a marked event.
pub(super) fn author_of(event: &Event) -> Option<u32> {
    mark_of(event).map(|mark| mark.author)
}

/// The handle that published an event.
pub(super) fn publisher_of(event: &Event) -> Option<PublisherId> {
    event.origin().map(|origin| origin.publisher)
}

/// With one byte more.
pub(super) fn longer(event: &Event) -> Event {
    let mut bytes = event.bytes().unwrap_or_default().to_vec();
    bytes.push(0xee);
    like(event, bytes)
}

/// With nothing from the first NUL on.
pub(super) fn until_nul(event: &Event) -> Event {
    let bytes = event.bytes().unwrap_or_default();
    let until = bytes.iter().position(|byte| *byte == 0);
    like(event, bytes[..until.unwrap_or(bytes.len())].to_vec())
}

/// As a decoder that knows the fields 1 and 2 would write it again; what is no protobuf stays as it is.
pub(super) fn reread(event: &Event) -> Event {
    let bytes = event.bytes().unwrap_or_default();
    if *event.payload().content_type() != ContentType::Protobuf {
        return event.clone();
    }
    known_fields(&bytes).map_or_else(|| event.clone(), |known| like(event, known))
}

fn known_fields(mut from: &[u8]) -> Option<Vec<u8>> {
    let mut known = Vec::new();
    while !from.is_empty() {
        let key = varint(&mut from)?;
        let value = varint(&mut from)?;
        let (text, rest) = match key % 8 {
            0 => (&[][..], from),
            2 => from.split_at_checked(usize::try_from(value).ok()?)?,
            _ => return None,
        };
        from = rest;
        if matches!(key / 8, 1 | 2) {
            put_varint(&mut known, key);
            put_varint(&mut known, value);
            known.extend(text);
        }
    }
    Some(known)
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        into.push((value % 128) as u8 | 0x80);
        value /= 128;
    }
    into.push(value as u8);
}

/// Without headers and correlation.
pub(super) fn bare(event: &Event) -> Event {
    let bare = Event::on(event.topic().clone(), event.payload().clone());
    stamped(bare.delivery(event.get_delivery()), event)
}

/// One that nobody has published.
pub(super) fn invented(event: &Event, sequence: u64) -> Event {
    let mark = Mark {
        author: u32::MAX,
        sequence,
    };
    like(event, payload(mark, 5)).given_origin(Origin {
        publisher: PublisherId::random(),
        epoch: 1,
        sequence,
    })
}

/// As if another publisher had published it.
pub(super) fn renamed(event: &Event) -> Event {
    static OTHER: LazyLock<PublisherId> = LazyLock::new(PublisherId::random);
    let other = |origin: &Origin| Origin {
        publisher: *OTHER,
        ..*origin
    };
    event.origin().map_or_else(
        || event.clone(),
        |origin| event.clone().given_origin(other(origin)),
    )
}

/// As if its publisher had begun to count anew.
pub(super) fn recounted(event: &Event) -> Event {
    let anew = |origin: &Origin| Origin {
        sequence: origin.sequence % 32,
        ..*origin
    };
    event.origin().map_or_else(
        || event.clone(),
        |origin| event.clone().given_origin(anew(origin)),
    )
}

/// An event with another payload.
fn like(event: &Event, bytes: Vec<u8>) -> Event {
    let payload = Payload::new(bytes, event.payload().content_type().clone());
    let mut copy = Event::on(event.topic().clone(), payload).delivery(event.get_delivery());
    if let Some(headers) = event.get_headers() {
        copy = copy.headers(headers.clone());
    }
    if let Some(correlation) = event.get_correlation() {
        copy = copy.correlation(correlation.clone());
    }
    stamped(copy, event)
}

fn stamped(copy: Event, original: &Event) -> Event {
    match original.origin() {
        Some(origin) => copy.given_origin(*origin),
        None => copy,
    }
}
