//! Publishing out of a slot: the event is moved once, into where it goes, however many layers it
//! passes. An event is large, and each move costs as much as a lock.
//!
//! For backends and layers: whoever publishes out of a slot takes the event only if it is accepted,
//! and otherwise leaves it there as it was.

use crate::error::Refused;
use crate::event::Event;
use crate::receipt::Receipt;

/// Publishes what is in `slot` by a `publish` that takes an event, and puts it back if it is refused.
/// An empty slot is a publish to nobody.
///
/// ```
/// use eventbus_trait::{Event, PublishError, Receipt, Refused, slot};
/// let event = Event::new("a.b", "x")?;
/// let mut given = Some(event.clone());
/// let refused = slot::by_value(&mut given, |event| Err(Refused::new(event, PublishError::Closed)));
/// assert_eq!((refused.unwrap_err(), given), (PublishError::Closed, Some(event)));
/// # Ok::<(), eventbus_trait::TopicError>(())
/// ```
///
/// # Errors
/// What `publish` says.
pub fn by_value<E>(
    slot: &mut Option<Event>,
    publish: impl FnOnce(Event) -> Result<Receipt, Refused<E>>,
) -> Result<Receipt, E> {
    let Some(event) = slot.take() else {
        return Ok(Receipt::ready(0));
    };
    publish(event).map_err(|refused| {
        let (event, reason) = refused.into_parts();
        *slot = Some(event);
        reason
    })
}

/// Publishes an event by a `publish` that takes it out of a slot.
///
/// # Errors
/// What `publish` says, with the event that it left.
pub fn by_slot<E>(
    event: Event,
    publish: impl FnOnce(&mut Option<Event>) -> Result<Receipt, E>,
) -> Result<Receipt, Refused<E>> {
    let mut slot = Some(event);
    match (publish(&mut slot), slot) {
        (Ok(receipt), _) => Ok(receipt),
        (Err(reason), Some(event)) => Err(Refused::new(event, reason)),
        (Err(_), None) => Ok(taken_all_the_same()),
    }
}

/// A backend that took an event and refused it: no subscription is known to have it.
#[cold]
pub(crate) fn taken_all_the_same() -> Receipt {
    Receipt::ready(0)
}
