//! Waiting for room, and for everything to be acknowledged.
//!
//! Invariant: who waits says so before it looks for the last time, and who makes room, or ends what
//! is waited for, does so before it tells. So nobody sleeps on what has come already.

use std::future::Future;
use std::sync::Arc;

use eventbus_trait::Event;

use super::link::Link;
use super::outbox::{Accepted, Outbox};
use super::places::Places;
use super::routes::Route;
use super::sync::Notify;

/// Why an event was not accepted.
#[derive(Debug)]
pub(crate) enum NotAccepted {
    /// The node takes nothing any more.
    Closed,
    /// There was no room until the deadline: on this link, or in the outbox itself.
    Full(Option<Arc<Link>>),
}

/// Offers an event until it is accepted, or until the deadline, which `deadline` makes if there is
/// something to wait for. Cancelling it leaves the event either accepted or not: accepting is one
/// step that does not await.
pub(crate) async fn accept_within<D>(
    outbox: &Outbox,
    offer: &mut Option<Event>,
    cached: &mut Option<Arc<Route>>,
    deadline: impl FnOnce() -> D,
) -> Result<Places, NotAccepted>
where
    D: Future<Output = ()> + Unpin,
{
    let mut full = match attempt(outbox, offer, cached)? {
        Ok(links) => return Ok(links),
        Err(full) => full,
    };
    let mut deadline = deadline();
    loop {
        let link = full.clone();
        let room: &Notify = link.as_ref().map_or(&outbox.room, |link| &link.progress);
        let room = room.notified();
        tokio::pin!(room);
        room.as_mut().enable();
        // Once more, now that no wake-up can be missed.
        let next = match attempt(outbox, offer, cached)? {
            Ok(links) => return Ok(links),
            Err(next) => next,
        };
        let same = match (&next, &full) {
            (Some(next), Some(full)) => Arc::ptr_eq(next, full),
            (next, full) => next.is_none() && full.is_none(),
        };
        if same {
            tokio::select! {
                biased;
                () = &mut room => {}
                () = &mut deadline => return Err(NotAccepted::Full(next)),
            }
        } else {
            full = next;
        }
    }
}

/// One attempt; if there is no room, on which link.
fn attempt(
    outbox: &Outbox,
    offer: &mut Option<Event>,
    cached: &mut Option<Arc<Route>>,
) -> Result<Result<Places, Option<Arc<Link>>>, NotAccepted> {
    match outbox.accept(offer, cached) {
        Accepted::Queued(links) => Ok(Ok(links)),
        Accepted::NoCredit(link) => Ok(Err(Some(link))),
        Accepted::QueueFull => Ok(Err(None)),
        Accepted::Closed => Err(NotAccepted::Closed),
    }
}

/// Waits until every link has acknowledged everything, or has ended, at most until `deadline` is
/// ready; then the links that have not, with how much is missing.
pub(crate) async fn confirm_all(
    outbox: &Outbox,
    mut deadline: impl Future<Output = ()> + Unpin,
) -> Result<(), Vec<(Arc<Link>, u64)>> {
    loop {
        let Some((link, _)) = outbox.unconfirmed().into_iter().next() else {
            return Ok(());
        };
        let progress = link.progress.notified();
        tokio::pin!(progress);
        progress.as_mut().enable();
        let rest = outbox.unconfirmed();
        if !rest.iter().any(|(other, _)| Arc::ptr_eq(other, &link)) {
            continue;
        }
        tokio::select! {
            biased;
            () = &mut progress => {}
            () = &mut deadline => return Err(rest),
        }
    }
}
