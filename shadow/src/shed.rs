//! An event that there is no room for in the queue to the candidate, on its way to the primary alone.
//!
//! Invariant: it is counted once, however its publish ends, unless the primary refuses it.

use eventbus_trait::{Event, Origin, Receipt, Refused, TryPublishError, slot};

use crate::alone::Alone;
use crate::attached::Attached;
use crate::lane::Lane;
use crate::sender::Sender;
use crate::shedding::Word;
use crate::untracked::Untracked;

pub(crate) struct Shed<'a> {
    sender: &'a Sender,
    attached: &'a Attached,
    lane: &'a Lane,
    why: Untracked,
    /// Its stamp, from when it has one until it is counted.
    origin: Option<Origin>,
}

impl<'a> Shed<'a> {
    pub(crate) fn new(
        sender: &'a Sender,
        attached: &'a Attached,
        lane: &'a Lane,
        event: &Event,
    ) -> Self {
        let comparator = &attached.comparator;
        let why = if comparator.ignores(event) {
            Untracked::Ignored
        } else if comparator.queue.is_closed() {
            Untracked::Unavailable
        } else {
            Untracked::QueueFull
        };
        Self {
            sender,
            attached,
            lane,
            why,
            origin: None,
        }
    }

    /// The event is about to be published with this stamp.
    pub(crate) fn stamped(mut self, alone: &Alone) -> Self {
        self.origin = Some(alone.origin);
        self
    }

    /// Takes what the primary said to it.
    pub(crate) fn conclude<E>(
        mut self,
        alone: &Alone,
        result: Result<Receipt, Refused<E>>,
    ) -> Result<Receipt, Refused<E>> {
        let origin = self.origin.take();
        match (result, origin) {
            (Ok(receipt), Some(origin)) => {
                self.count(&origin, self.why);
                Ok(receipt)
            }
            (result, _) => result.map_err(|refused| self.sender.unstamp(refused, alone)),
        }
    }

    fn count(&self, origin: &Origin, why: Untracked) {
        let comparator = &self.attached.comparator;
        let shedding = &self.sender.family().shedding;
        while !self.lane.count(comparator.generation(), why) {
            let mut cached = self.lane.route.lock();
            self.sender
                .route(self.attached, self.lane, &mut cached, origin);
        }
        shedding.tell(comparator, self.lane);
    }
}

impl Sender {
    /// An event that there is no room for goes to the primary alone. It costs hardly more than one
    /// that is published without a candidate: it is counted, and not tracked.
    pub(crate) fn try_shed(
        &self,
        attached: &Attached,
        lane: &Lane,
        slot: &mut Option<Event>,
        publish: impl FnOnce(&mut Option<Event>) -> Result<Receipt, TryPublishError>,
    ) -> Result<Receipt, TryPublishError> {
        slot::by_value(slot, |mut event| {
            let shed = Shed::new(self, attached, lane, &event);
            let alone = self.stamp_alone(&mut event, Some(attached.comparator.id));
            let shed = shed.stamped(&alone);
            shed.conclude(&alone, slot::by_slot(event, publish))
        })
    }

    /// The primary has an event that was turned away.
    #[inline]
    pub(crate) fn count_turned_away(
        &self,
        lane: &Lane,
        word: Word,
        origin: impl FnOnce() -> Origin,
    ) {
        if self.family().shedding.holds(word) {
            lane.add(word.why());
        } else {
            self.count_late(lane, word, &origin());
        }
    }

    /// Something has changed since the event was turned away.
    #[cold]
    fn count_late(&self, lane: &Lane, word: Word, origin: &Origin) {
        let attached = self.attached();
        let same = attached.filter(|attached| attached.comparator.id == word.comparison);
        let Some(attached) = same else {
            return;
        };
        let shed = Shed {
            sender: self,
            attached: &attached,
            lane,
            why: word.why(),
            origin: None,
        };
        shed.count(origin, word.why());
    }
}

impl Drop for Shed<'_> {
    fn drop(&mut self) {
        if let Some(origin) = self.origin.take() {
            self.count(&origin, Untracked::Cancelled);
        }
    }
}
