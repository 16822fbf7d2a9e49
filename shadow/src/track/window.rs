//! Keeping a track within bounds: letting go of what is done with, giving up what is too much.

use std::collections::VecDeque;

use super::slot::Slot;
use super::{Class, Nanos, Reason, Track};

/// Room for so many slots is given back once there are none.
const LARGE: usize = 2048;

impl Track {
    /// Lets go of slots at the front that are done with.
    pub(super) fn trim(&mut self, now: Nanos) {
        while self
            .slots
            .front()
            .is_some_and(|slot| slot.is_done(now, self.rules.grace))
        {
            if let Some(slot) = self.drop_front() {
                self.history.remember(&slot);
                self.keep_recent(&slot);
            }
        }
        if self.slots.is_empty() && self.slots.capacity() > LARGE {
            // It has grown since the last time, so this is a constant share of the cost; and a stream
            // that has ended keeps nothing.
            self.slots = VecDeque::new();
        }
    }

    fn drop_front(&mut self) -> Option<Slot> {
        let slot = self.slots.pop_front();
        self.offer_next = self.offer_next.saturating_sub(1);
        for cursor in &mut self.sides {
            cursor.next = cursor.next.saturating_sub(1);
        }
        slot
    }

    /// Keeps the number of slots within bounds. Slots that are done with behind one that is not
    /// are let go from time to time, each at a constant share of the cost.
    pub(super) fn make_room(&mut self, now: Nanos) {
        if self.slots.len() > 2 * self.kept + 1024 {
            self.compact(now);
        }
        if self.slots.len() < self.rules.window {
            return;
        }
        self.trim(now);
        if self.slots.len() < self.rules.window {
            return;
        }
        if let Some(slot) = self.slots.front() {
            self.history.give_up(slot);
            if slot.class == Class::Open {
                self.set_class(0, Class::Unverified(Reason::Window));
            }
            self.counts.awaited -= u64::from(self.slots[0].is_awaited());
            self.drop_front();
        }
    }

    fn compact(&mut self, now: Nanos) {
        let (history, grace) = (&mut self.history, self.rules.grace);
        self.slots.retain(|slot| {
            let done = slot.is_done(now, grace);
            if done {
                history.remember(slot);
            }
            !done
        });
        self.kept = self.slots.len();
        for cursor in &mut self.sides {
            let highest = cursor.highest;
            cursor.next = self.slots.partition_point(|s| Some(s.sequence) <= highest);
        }
        if self.slots.capacity() > 8192 && self.slots.capacity() > 8 * self.kept {
            self.slots.shrink_to(2 * self.kept);
        }
    }
}
