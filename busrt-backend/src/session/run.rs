//! What is sent next: runs of accepted events, and messages that have their place among them.
//!
//! Invariant: the events of a run are those of one route, in the order in which they were accepted.

use std::collections::VecDeque;
use std::sync::Arc;

use eventbus_trait::{Origin, PublisherId};

use super::link::{Link, LinkState};
use super::routes::Route;
use crate::wire::{Control, Events, Stamp, WrittenEvents};

/// Most events in a run, and so in a frame.
pub(crate) const MAX_RUN: u32 = 1_000;
/// Cost in bytes after which a run takes no further event.
pub(crate) const MAX_RUN_BYTES: u64 = 128 * 1024;

/// What the writer sends next, in order.
#[derive(Debug)]
pub(crate) enum Item {
    Run(Run),
    /// A message that has its place in the order of events.
    Control(Arc<str>, Control),
}

/// Accepted events of one route, as many as fit into one frame, written as a frame has them.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) route: Arc<Route>,
    pub(crate) written: WrittenEvents,
    /// What they cost in all.
    pub(crate) cost: u64,
    /// Whose its events are but for those that say otherwise: its first one's. Under a layer that stamps
    /// events itself that is not the session's, and no event has to say so.
    pub(crate) publisher: PublisherId,
    pub(crate) epoch: u64,
}

impl Run {
    /// How many events there are.
    pub(crate) fn count(&self) -> u64 {
        u64::from(self.written.count())
    }

    /// Whether another event of `route` may be added.
    pub(crate) fn takes(&self, route: &Arc<Route>, cost: u64) -> bool {
        Arc::ptr_eq(&self.route, route)
            && self.written.count() < MAX_RUN
            && self.cost + cost <= MAX_RUN_BYTES
    }

    /// Whether an event of this stamp need not carry it itself.
    pub(crate) fn stamps(&self, origin: &Origin) -> bool {
        origin.publisher == self.publisher && origin.epoch == self.epoch
    }

    /// The events after the first `skip`, for the log.
    #[cold]
    pub(crate) fn events(&self, skip: u32) -> Events {
        let stamp = Stamp {
            topic: self.route.topic.clone(),
            publisher: self.publisher,
            epoch: self.epoch,
        };
        self.written.read(stamp, skip)
    }
}

/// What the writer takes out of the outbox.
#[derive(Default)]
pub(crate) struct Taken {
    /// Messages that go ahead of all events.
    pub(crate) urgent: VecDeque<(Arc<str>, Control)>,
    pub(crate) again: Vec<Arc<Link>>,
    pub(crate) items: VecDeque<Item>,
}

/// What was never sent is lost to those who still want it.
impl Drop for Taken {
    fn drop(&mut self) {
        for item in &self.items {
            let Item::Run(run) = item else { continue };
            for (_, link) in &run.route.links {
                if link.state() != LinkState::Closed {
                    link.tell_lost(run, 0, "not sent when its session ended");
                }
            }
        }
    }
}

impl Taken {
    /// How many runs there are, and events.
    pub(crate) fn count(&self) -> (u64, u64) {
        let runs = self.items.iter().filter_map(|item| match item {
            Item::Run(run) => Some(run.count()),
            Item::Control(..) => None,
        });
        runs.fold((0, 0), |(runs, events), count| (runs + 1, events + count))
    }

    /// Forgets all but events: what was to be said is out of date.
    pub(crate) fn forget_messages(&mut self) {
        self.urgent.clear();
        for link in self.again.drain(..) {
            link.follow_note();
        }
        self.items.retain(|item| matches!(item, Item::Run(_)));
    }
}
