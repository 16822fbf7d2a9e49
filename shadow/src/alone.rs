//! Stamps of events that go to the primary alone, and publishing while there is no candidate.

use std::future::Future;

use eventbus_trait::{
    BatchRefused, Event, Origin, Receipt, Refused, TryPublishError, process_epoch,
};

use crate::sender::Sender;

/// The stamp of an event that is published without a candidate.
pub(crate) struct Alone {
    /// Whether it is of this handle's sequences; another one's stamp stays on it.
    own: bool,
    /// What it carried before.
    before: Option<Origin>,
    /// What it carries now.
    pub(crate) origin: Origin,
}

impl Sender {
    pub(crate) fn try_alone(
        &self,
        slot: &mut Option<Event>,
        publish: impl FnOnce(&mut Option<Event>) -> Result<Receipt, TryPublishError>,
    ) -> Result<Receipt, TryPublishError> {
        let Some(event) = slot else {
            return Ok(Receipt::ready(0));
        };
        let alone = self.stamp_alone(event, None);
        publish(slot).inspect_err(|_| self.unstamp_in(slot, &alone))
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
        let origin = Origin {
            publisher: self.id,
            epoch: process_epoch(),
            sequence: self.own.take_unwatched(all, self.id, shed_by),
        };
        event.give_origin(origin);
        Alone {
            own: true,
            before,
            origin,
        }
    }

    /// As `unstamp`, where the event is.
    #[cold]
    pub(crate) fn unstamp_in(&self, slot: &mut Option<Event>, alone: &Alone) {
        *slot = slot.take().map(|event| self.bare(event, alone));
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
