//! Publishing out of a slot: a layer that only looks at an event, or stamps it, passes it on without
//! moving it, which for an event costs as much as a lock.
//!
//! For backends and layers. Invariant: an event is taken out of its slot only once nothing can fail any
//! more; after an error it is there as it was.

use crate::error::Refused;
use crate::event::Event;
use crate::receipt::Receipt;

/// Publishes what is in `slot` by a `publish` that wants the event itself, and puts it back if it is
/// refused. An empty slot is a publish to nobody.
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
#[inline]
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

/// Publishes an event by a `publish` that wants a slot.
///
/// # Errors
/// What `publish` says, with the event that it left.
#[inline]
pub fn by_slot<E>(
    event: Event,
    publish: impl FnOnce(&mut Option<Event>) -> Result<Receipt, E>,
) -> Result<Receipt, Refused<E>> {
    let mut slot = Some(event);
    match publish(&mut slot) {
        Ok(receipt) => Ok(receipt),
        Err(reason) => refused(slot, reason),
    }
}

/// What comes of a publish that was refused with the event left in `slot`. A backend that has taken it
/// all the same has lost it: that is logged, and the receipt is of a publish to nobody.
#[cold]
pub(crate) fn refused<E>(slot: Option<Event>, reason: E) -> Result<Receipt, Refused<E>> {
    match slot {
        Some(event) => Err(Refused::new(event, reason)),
        None => {
            tracing::error!("a backend has taken an event that it refused: the event is lost");
            Ok(Receipt::ready(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::PublishError;

    #[test]
    fn what_is_refused_comes_back_and_what_was_taken_all_the_same_does_not() {
        let event = Event::new("a.b", "x").unwrap();
        let left = by_slot(event.clone(), |_| Err(PublishError::Closed));
        let left = left.unwrap_err().into_parts();
        assert_eq!(left, (event.clone(), PublishError::Closed));
        let taken = by_slot(event, |slot| {
            *slot = None;
            Err(PublishError::Closed)
        });
        assert_eq!(taken.unwrap().now().unwrap().deliveries, 0);
    }

    #[test]
    fn an_empty_slot_is_a_publish_to_nobody() {
        let nobody = by_value::<PublishError>(&mut None, |_| panic!("there is nothing"));
        assert_eq!(nobody.unwrap().now().unwrap().deliveries, 0);
    }
}
