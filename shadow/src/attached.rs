//! One handle in one comparison: its counterpart on the candidate, and what it has on its way.

use std::sync::Arc;

use eventbus_trait::{Origin, PublisherId};
use parking_lot::{Mutex, MutexGuard};

use crate::comparator::Comparator;
use crate::lanes::Lanes;
use crate::link::Link;
use crate::queue::Command;
use crate::route::InFlight;
use crate::sender::Sender;

#[derive(Debug)]
pub(crate) struct Attached {
    /// The handle.
    pub(crate) id: PublisherId,
    pub(crate) comparator: Arc<Comparator>,
    pub(crate) link: Arc<Link>,
    pub(crate) lanes: Arc<Lanes>,
    in_flight: Mutex<Flights>,
}

/// Events between being stamped and being on both sides, or on none.
#[derive(Debug, Default)]
pub(crate) struct Flights(Vec<InFlight>);

impl Attached {
    /// Adds a handle to a comparison.
    pub(crate) fn new(sender: &Sender, comparator: &Arc<Comparator>, link: Arc<Link>) -> Arc<Self> {
        let attached = Arc::new(Self {
            id: sender.id,
            comparator: Arc::clone(comparator),
            link,
            lanes: Arc::clone(sender.lanes()),
            in_flight: Mutex::default(),
        });
        comparator.join(&attached);
        attached
    }

    pub(crate) fn flights(&self) -> MutexGuard<'_, Flights> {
        self.in_flight.lock()
    }

    pub(crate) fn for_each_in_flight(&self, each: impl FnMut(&InFlight)) {
        self.in_flight.lock().0.iter().for_each(each);
    }

    /// The event is where it belongs.
    pub(crate) fn landed(&self, origin: &Origin) {
        self.in_flight.lock().land(origin);
    }

    /// Lets go of the candidate. The last handle ends the candidate's thread.
    pub(crate) fn disconnect(&self, shutdown: bool) {
        let comparator = &self.comparator;
        let link = Arc::clone(&self.link);
        comparator
            .queue
            .control(Command::Disconnect { link, shutdown });
        comparator.life.leave(&comparator.queue);
    }
}

/// The handle is gone, or the candidate: whoever had it last enters what it counted.
impl Drop for Attached {
    fn drop(&mut self) {
        self.lanes.enter_untracked();
    }
}

impl Flights {
    pub(crate) fn push(&mut self, flight: InFlight) {
        self.0.push(flight);
    }

    pub(crate) fn land(&mut self, origin: &Origin) {
        if let Some(at) = self.0.iter().position(|f| f.origin == *origin) {
            self.0.swap_remove(at);
        }
    }
}
