//! What is sent for what was accepted, for whom, and in which order; the wire is the caller's.
//!
//! Invariant: messages of our own go first, then what links have to be sent again, then events in
//! the order in which they were accepted. A run is kept by its links before it is sent, so at
//! whichever byte a connection ends, nothing is lost.

use std::sync::Arc;

use super::kept::Again;
use super::link::{Link, LinkState, Put};
use super::outbox::Outbox;
use super::run::{Item, Run, Taken};
use crate::wire::{Control, LinkEntry};

/// What carries frames and messages to the broker.
pub(crate) trait Wire {
    type Error;

    /// Sends a message to one client.
    async fn message(&mut self, to: &Arc<str>, message: &Control) -> Result<(), Self::Error>;
    /// Sends a run to whoever subscribed to its topic; `links` take it.
    async fn frame(&mut self, run: &Run, links: &[LinkEntry]) -> Result<(), Self::Error>;
    /// Sends a run, or the rest of it, to the subscriber of `link` alone.
    async fn frame_again(&mut self, link: &Link, again: &Again) -> Result<(), Self::Error>;
    /// The subscriber of `link` has been sent the events from `first` to before `next` again.
    fn sent_again(&mut self, link: &Link, first: u64, next: u64);
}

/// Sends everything that was taken. What could not be sent stays in `taken`, but for messages and
/// the run whose sending failed: that one is kept by its links.
pub(crate) async fn send_all<W: Wire>(
    outbox: &Outbox,
    taken: &mut Taken,
    wire: &mut W,
) -> Result<(), W::Error> {
    while let Some((to, message)) = taken.urgent.pop_front() {
        wire.message(&to, &message).await?;
    }
    // Before the events, so that all links whose subscribers are there take part in them.
    while let Some(link) = taken.again.pop() {
        send_again(&link, wire).await?;
    }
    while let Some(item) = taken.items.pop_front() {
        match item {
            Item::Control(to, message) => wire.message(&to, &message).await?,
            Item::Run(run) => send_run(run, wire).await?,
        }
    }
    tell_drops(outbox, wire).await
}

async fn send_run<W: Wire>(run: Run, wire: &mut W) -> Result<(), W::Error> {
    let run = Arc::new(run);
    let mut links: Vec<LinkEntry> = Vec::with_capacity(run.route.links.len());
    for (_, link) in &run.route.links {
        match link.keep(&run) {
            Put::InFrame(entry) => links.push(entry),
            Put::Later => {}
            Put::Never => link.tell_lost(&run, 0, "its subscriber is given up"),
        }
    }
    wire.frame(&run, &links).await
}

/// Sends a subscriber what it misses, run by run, until it has everything.
async fn send_again<W: Wire>(link: &Link, wire: &mut W) -> Result<(), W::Error> {
    if link.state() == LinkState::Lost {
        return Ok(());
    }
    link.follow_note();
    let mut range = None;
    // No longer, however often the subscriber begins anew meanwhile: it gets another turn.
    for _ in 0..=link.kept_runs() {
        let Some(again) = link.again() else { break };
        let (first, _) = *range.get_or_insert((again.entry.first, 0));
        range = Some((first, again.next()));
        wire.frame_again(link, &again).await?;
    }
    if let Some((first, next)) = range {
        wire.sent_again(link, first, next);
    }
    Ok(())
}

async fn tell_drops<W: Wire>(outbox: &Outbox, wire: &mut W) -> Result<(), W::Error> {
    if outbox.dropped() == 0 {
        return Ok(());
    }
    for (peer, entry) in outbox.untold_drops() {
        wire.message(&peer, &Control::Status(vec![entry])).await?;
    }
    Ok(())
}
