//! What a reader of a subscription remembers of the event before, since the next one is most likely
//! like it.

use std::sync::Arc;

use eventbus_trait::{Event, PublisherId};

use crate::comparator::Comparator;
use crate::streams::Stream;
use crate::unwatched::{Bound, Excuse};

#[derive(Debug, Default)]
pub(crate) struct Latest {
    pub(crate) stream: Option<Arc<Stream>>,
    bound: Option<KnownBound>,
}

/// A bound, and how far it was when it was last looked at: publishers move it, on other processors.
#[derive(Debug)]
struct KnownBound {
    publisher: PublisherId,
    epoch: u64,
    bound: Arc<Bound>,
    shed_below: u64,
}

impl Latest {
    /// The excuse of an event from the primary that is of the same stream as the one before, was never
    /// expected, and may have been published without a candidate or have found no room: there is
    /// nothing else to do about it. `None` also if that takes longer to find out.
    pub(crate) fn excuse(&mut self, comparator: &Comparator, event: &Event) -> Option<Excuse> {
        let (stream, origin) = (self.stream.as_ref()?, event.origin()?);
        if !stream.never_expected(origin.sequence) || !stream.key.is(origin, event.topic()) {
            return None;
        }
        let known = self.bound.as_mut();
        let known = known.filter(|b| b.publisher == origin.publisher && b.epoch == origin.epoch);
        if let Some(known) = known {
            if origin.sequence < known.bound.before() {
                return Some(Excuse::Earlier);
            }
            if comparator.queue.is_full() {
                // What was published just now was turned away. How far that reaches is not asked:
                // the publisher writes that down as it goes on, on another processor.
                return Some(Excuse::Unplaced);
            }
            if origin.sequence >= known.shed_below {
                known.shed_below = known.bound.shed_below();
            }
            return (origin.sequence < known.shed_below).then_some(Excuse::Unplaced);
        }
        self.bound = comparator.strays.bound(origin).map(|bound| KnownBound {
            publisher: origin.publisher,
            epoch: origin.epoch,
            shed_below: bound.shed_below(),
            bound,
        });
        None
    }
}
