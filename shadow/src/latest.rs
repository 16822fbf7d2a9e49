//! What a reader of a subscription remembers of the event before, since the next one is most likely
//! like it.

use std::sync::Arc;

use eventbus_trait::{Event, PublisherId};

use crate::comparator::Comparator;
use crate::streams::Stream;
use crate::unwatched::Bound;

#[derive(Debug, Default)]
pub(crate) struct Latest {
    pub(crate) stream: Option<Arc<Stream>>,
    bound: Option<KnownBound>,
}

/// A bound, and how far it was when it was last looked at: it moves with each publish, on another
/// processor.
#[derive(Debug)]
struct KnownBound {
    publisher: PublisherId,
    epoch: u64,
    bound: Arc<Bound>,
    below: u64,
}

impl Latest {
    /// Whether an event from the primary is of the same stream as the one before, was never expected,
    /// and may have been published without a candidate or have found no room: there is nothing to do
    /// about it. False also if that takes longer to find out.
    pub(crate) fn is_nobodys(&mut self, comparator: &Comparator, event: &Event) -> bool {
        let (Some(stream), Some(origin)) = (&self.stream, event.origin()) else {
            return false;
        };
        if !stream.never_expected(origin.sequence) || !stream.key.is(origin, event.topic()) {
            return false;
        }
        if comparator.queue.is_full() {
            // What was published just now was turned away. How far that reaches is not asked: the
            // publisher writes that down with each event.
            return true;
        }
        let known = self.bound.as_mut();
        let known = known.filter(|b| b.publisher == origin.publisher && b.epoch == origin.epoch);
        if let Some(known) = known {
            if origin.sequence >= known.below {
                known.below = known.bound.below();
            }
            return origin.sequence < known.below;
        }
        self.bound = comparator.unwatched.find(origin).map(|bound| KnownBound {
            publisher: origin.publisher,
            epoch: origin.epoch,
            below: bound.below(),
            bound,
        });
        false
    }
}
