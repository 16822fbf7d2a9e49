//! The task of a registry: reads heartbeats, watches the clock and the bus.
//!
//! Invariant: nobody is judged before everything has been read that was there when the time came.

use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::plain::Plain;
use eventbus_trait::{BusState, Event, Item, Subscription, TryRecvError};
use tokio::sync::watch;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::snapshot::Change;
use super::table::Table;
use super::watch::Shared;
use crate::complaints::Complaints;

/// A timer that comes so late tells that this process stood still, and may not have heard what was said.
const STALL: Duration = Duration::from_millis(250);

pub(super) async fn run(
    shared: Ending,
    mut heartbeats: Subscription,
    mut bus: watch::Receiver<BusState>,
) {
    let mut listener = Listener {
        shared,
        refused: Complaints::default(),
        lagged: Complaints::default(),
    };
    let mut stateful = true;
    listener.connected(&bus.borrow_and_update().clone());
    loop {
        let next = listener.shared.0.next();
        tokio::select! {
            item = heartbeats.recv_item() => match item {
                Some(item) => listener.take(item),
                None => return,
            },
            changed = bus.changed(), if stateful => match changed {
                Ok(()) => listener.connected(&bus.borrow_and_update().clone()),
                Err(_) => stateful = false,
            },
            () = until(next) => {
                if listener.read_all(&mut heartbeats).is_err() {
                    return;
                }
                listener.judge(next);
            }
        }
        // A flood would never let this task wait.
        consume_budget().await;
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(next) => sleep_until(next).await,
        None => std::future::pending().await,
    }
}

/// Ends the streams of all watchers when the task ends, however that is.
pub(super) struct Ending(pub(super) Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Listener {
    shared: Ending,
    refused: Complaints,
    lagged: Complaints,
}

impl Listener {
    fn take(&mut self, item: Item) {
        let now = Instant::now();
        match item {
            Item::Lagged(lost) => {
                self.shared.0.change(|table, _| table.lost(lost, now));
                if let Some(more) = self.lagged.turn(now) {
                    warn!(lost, more, "registry was too slow, and has lost heartbeats");
                }
            }
            Item::Event(event) => self.hear(&event, now),
        }
    }

    fn hear(&mut self, event: &Event, now: Instant) {
        let topic = event.topic().as_str();
        let bytes = event.bytes();
        let bytes = bytes.as_deref().unwrap_or_default();
        let hear = |table: &mut Table, changed: &mut _| table.hear(topic, bytes, now, changed);
        let (heard, changed) = self.shared.0.change(hear);
        tell(&changed);
        if let Err(reason) = heard
            && let Some(more) = self.refused.turn(now)
        {
            warn!(topic, reason = %Plain::field(reason), more, "heartbeat refused");
        }
    }

    /// Reads what is queued now.
    fn read_all(&mut self, heartbeats: &mut Subscription) -> Result<(), TryRecvError> {
        let most = heartbeats.stats().queued;
        for _ in 0..most {
            match heartbeats.try_recv_item() {
                Ok(item) => self.take(item),
                Err(TryRecvError::Empty) => break,
                Err(closed) => return Err(closed),
            }
        }
        Ok(())
    }

    fn judge(&self, due: Option<Instant>) {
        let now = Instant::now();
        let late = due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        let ((), changed) = self.shared.0.change(|table, changed| {
            if late > STALL {
                table.forgive(now);
            }
            table.sweep(now, changed);
        });
        if late > STALL {
            debug!(?late, "registry stood still, and gives all members time");
        }
        tell(&changed);
    }

    fn connected(&self, state: &BusState) {
        let hears = matches!(state, BusState::Connected);
        debug!(hears, "registry's connection");
        let now = Instant::now();
        self.shared.0.change(|table, _| table.hears(hears, now));
    }
}

/// Tells the log what has changed.
fn tell(changes: &[Change]) {
    for change in changes {
        match change {
            Change::Joined(member) => {
                let identity = &member.identity;
                let (name, kind) = (&identity.name, &identity.kind);
                info!(name, kind, instance = identity.instance, "member joined");
            }
            Change::Degraded(member) => {
                warn!(name = member.identity.name, health = ?member.health, "member degraded");
            }
            Change::Recovered(member) => info!(name = member.identity.name, "member recovered"),
            Change::Removed { member, reason } => {
                let (name, instance) = (&member.identity.name, &member.identity.instance);
                info!(name, instance, %reason, "member removed");
            }
            Change::Changed(_) | Change::Resync(_) => {}
        }
    }
}
