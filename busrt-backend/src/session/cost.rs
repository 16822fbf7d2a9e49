//! What events cost in bytes of credit.

use eventbus_trait::Event;

use crate::wire::Events;

/// What every event costs in bytes of credit besides its own.
const EVENT_OVERHEAD: u64 = 64;

/// What an event costs in bytes of credit; both ends of a link count alike.
///
/// The payload's bytes exist on both: it was encoded before it was offered, or came off a wire.
pub(crate) fn event_cost(event: &Event) -> u64 {
    event.known_size().unwrap_or_default() as u64 + EVENT_OVERHEAD
}

/// The sum of [`event_cost`] over events that came off a wire.
pub(crate) fn events_cost(events: &Events) -> u64 {
    events.size() + EVENT_OVERHEAD * events.len() as u64
}
