//! Stamps of events that go to the primary alone, and publishing while there is no candidate.

use std::future::Future;

use eventbus_trait::{
    BatchRefused, Event, Origin, Receipt, Refused, TryPublishError, process_epoch,
};

use crate::lane::Lane;
use crate::sender::Sender;
use crate::shedding::Word;

/// The stamp of an event that is published without a candidate.
pub(crate) struct Alone {
    /// Whether it is of this handle's sequences; another one's stamp stays on it.
    own: bool,
    /// What it carried before.
    before: Option<Origin>,
    /// What it carries now.
    pub(crate) origin: Origin,
}

/// An event that is being published out of its slot, which says what has become of it when this is dropped:
/// a result that is looked at first would be moved once more on its way out.
struct Tried<'a> {
    sender: &'a Sender,
    lane: &'a Lane,
    word: Option<Word>,
    slot: &'a mut Option<Event>,
    sequence: u64,
}

impl Drop for Tried<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.sender.put_back(self.slot, self.sequence);
        } else if let Some(word) = self.word {
            let origin = || self.sender.origin(self.sequence);
            self.sender.count_turned_away(self.lane, word, origin);
        }
    }
}

impl Sender {
    /// Publishes an event to the primary alone: there is no candidate or, as `word` says, it turns
    /// everything away.
    #[inline]
    pub(crate) fn try_alone(
        &self,
        lane: &Lane,
        word: Option<Word>,
        slot: &mut Option<Event>,
        publish: impl FnOnce(&mut Option<Event>) -> Result<Receipt, TryPublishError>,
    ) -> Result<Receipt, TryPublishError> {
        let Some(event) = slot else {
            return Ok(Receipt::ready(0));
        };
        if event.origin().is_some() {
            return self.try_stamped(lane, word, slot, publish);
        }
        let all = &self.family().unwatched;
        let shed_by = word.map(|word| word.comparison);
        let sequence = self.own.take_unwatched(all, self.id, shed_by);
        event.give_origin(self.origin(sequence));
        let tried = Tried {
            sender: self,
            lane,
            word,
            slot,
            sequence,
        };
        publish(tried.slot)
    }

    /// The same for an event that has a stamp: it may be another one's, and comes back if it is refused.
    #[inline(never)]
    fn try_stamped(
        &self,
        lane: &Lane,
        word: Option<Word>,
        slot: &mut Option<Event>,
        publish: impl FnOnce(&mut Option<Event>) -> Result<Receipt, TryPublishError>,
    ) -> Result<Receipt, TryPublishError> {
        let Some(event) = slot else {
            return Ok(Receipt::ready(0));
        };
        let alone = self.stamp_alone(event, word.map(|word| word.comparison));
        let result = publish(slot);
        if result.is_err() {
            *slot = slot.take().map(|event| self.bare(event, &alone));
        } else if let Some(word) = word {
            self.count_turned_away(lane, word, || alone.origin);
        }
        result
    }

    /// The primary has refused an event that had no stamp before.
    #[cold]
    fn put_back(&self, slot: &mut Option<Event>, sequence: u64) {
        // Who panics may have published it.
        if !std::thread::panicking() {
            self.own.give_back(sequence);
        }
        *slot = slot.take().map(|event| event.taken_back(None));
    }

    /// This handle's stamp.
    #[inline]
    fn origin(&self, sequence: u64) -> Origin {
        Origin {
            publisher: self.id,
            epoch: process_epoch(),
            sequence,
        }
    }

    /// Publishes a batch by `publish`, which is the primary's, without a candidate.
    pub(crate) async fn batch_alone<F>(
        &self,
        events: Vec<Event>,
        publish: impl FnOnce(Vec<Event>) -> F,
    ) -> Result<Receipt, BatchRefused>
    where
        F: Future<Output = Result<Receipt, BatchRefused>>,
    {
        let (events, stamps): (Vec<_>, Vec<_>) = events
            .into_iter()
            .map(|mut event| {
                let alone = self.stamp_alone(&mut event, None);
                (event, alone)
            })
            .unzip();
        publish(events).await.map_err(|refused| {
            // What comes back is the end of what was given.
            let stamps = &stamps[stamps.len().saturating_sub(refused.events.len())..];
            let back = |(event, alone): (Event, &Alone)| self.bare(event, alone);
            let events = refused.events.into_iter().zip(stamps);
            // Backwards, so that their sequences are free again.
            let mut events: Vec<_> = events.rev().map(back).collect();
            events.reverse();
            BatchRefused { events, ..refused }
        })
    }

    /// Stamps an event that nobody doubles, or that `shed_by` has no room for; whatever side delivers
    /// it later, it is not compared.
    #[inline]
    pub(crate) fn stamp_alone(&self, event: &mut Event, shed_by: Option<u64>) -> Alone {
        let all = &self.family().unwatched;
        let before = event.origin().copied();
        if let Some(origin) = before.filter(|_| event.has_given_origin()) {
            self.unwatched.pass(all, &origin, shed_by, &self.own);
            return Alone {
                own: false,
                before,
                origin,
            };
        }
        let origin = self.origin(self.own.take_unwatched(all, self.id, shed_by));
        event.give_origin(origin);
        Alone {
            own: true,
            before,
            origin,
        }
    }

    pub(crate) fn unstamp<E>(&self, refused: Refused<E>, alone: &Alone) -> Refused<E> {
        let (event, reason) = refused.into_parts();
        Refused::new(self.bare(event, alone), reason)
    }

    /// The event as it was given; its sequence is free again if it was the last.
    fn bare(&self, event: Event, alone: &Alone) -> Event {
        if !alone.own {
            return event;
        }
        self.own.give_back(alone.origin.sequence);
        event.taken_back(alone.before)
    }
}
