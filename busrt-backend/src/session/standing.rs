//! Where the links of an outbox stand: what they have not acknowledged, and what their subscribers do
//! not know of.

use std::sync::Arc;

use super::link::Link;
use super::outbox::Outbox;
use crate::wire::StatusEntry;

impl Outbox {
    /// Links that have acknowledged nothing for a heartbeat although something is missing.
    pub(crate) fn heartbeats(&self) -> Vec<(Arc<str>, StatusEntry)> {
        let state = self.state.lock();
        let links = state.routes.links();
        links
            .filter_map(|(link, _)| Some((Arc::clone(&link.peer), link.heartbeat()?)))
            .collect()
    }

    /// Links with drops that their subscribers do not know of, and where they stand.
    pub(crate) fn untold_drops(&self) -> Vec<(Arc<str>, StatusEntry)> {
        let state = self.state.lock();
        let untold = state.routes.links().filter(|(link, _)| link.has_untold());
        untold
            .map(|(link, _)| {
                let entry = StatusEntry {
                    subscription: link.subscription,
                    // What was accepted beyond has not been sent.
                    next: link.written(),
                    dropped: link.tell_dropped(),
                };
                (Arc::clone(&link.peer), entry)
            })
            .collect()
    }

    /// Links that have not acknowledged everything, with their next sequence.
    pub(crate) fn behind(&self) -> Vec<(Arc<Link>, u64)> {
        let state = self.state.lock();
        let links = state.routes.links().map(|(l, next)| (Arc::clone(l), next));
        links
            .filter(|(link, next)| link.received() < *next)
            .collect()
    }

    /// The same with how much is missing.
    pub(crate) fn unconfirmed(&self) -> Vec<(Arc<Link>, u64)> {
        let behind = self.behind().into_iter().map(missing);
        behind.filter(|(_, missing)| *missing > 0).collect()
    }
}

/// A link and its next sequence as the link and what was accepted for it and not acknowledged.
pub(super) fn missing((link, next): (Arc<Link>, u64)) -> (Arc<Link>, u64) {
    let missing = next - link.received();
    (link, missing)
}
