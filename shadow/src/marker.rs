//! Markers: events that the shadow sends to the candidate alone, to learn that everything before
//! them on their stream has come through.
//!
//! A marker travels by the same handle and topic as the events that it follows, so that the bus's
//! own order puts it behind them. Nothing that looks like a marker is ever compared.

use eventbus_trait::{Event, Origin, Payload, Topic};

/// The reserved header; its value is the comparison that sent the marker.
pub(crate) const HEADER: &str = "eventbus-shadow-marker";

/// A marker behind everything up to `origin.sequence` of its stream.
pub(crate) fn marker(comparison: u64, topic: Topic, origin: Origin) -> Event {
    Event::on(topic, Payload::raw(Vec::new()))
        .header(HEADER, format!("{comparison:016x}"))
        .given_origin(origin)
}

/// Whether `event` is a marker, whoever sent it.
pub(crate) fn is_marker(event: &Event) -> bool {
    event.get_header(HEADER).is_some()
}

/// Whether `event` is a marker that `comparison` sent.
pub(crate) fn is_from(event: &Event, comparison: u64) -> bool {
    event
        .get_header(HEADER)
        .is_some_and(|value| u64::from_str_radix(value, 16) == Ok(comparison))
}
