//! Members and their watchers, under one lock.
//!
//! A change is made and told under the lock, and a watcher that begins or has fallen behind takes its
//! place in the queue under the same lock as it takes the snapshot. So what it gets next is exactly
//! what came after the snapshot.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast::{Receiver, Sender, channel, error::RecvError};
use tokio::time::Instant;
use tracing::debug;

use super::snapshot::{Change, Member, RegistryStats};
use super::table::Table;
use crate::complaints::Complaints;

/// What listener, handles and watchers of a registry share.
pub(super) struct Shared(Mutex<Told>);

struct Told {
    table: Table,
    /// `None` once nothing changes any more.
    changes: Option<Sender<Change>>,
}

impl Shared {
    pub(super) fn new(table: Table) -> Self {
        let changes = Some(channel(table.rules().watch_queue).0);
        Self(Mutex::new(Told { table, changes }))
    }

    /// Lets `change` at the table, and tells the watchers what has changed; returns it too.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Table, &mut Vec<Change>) -> T,
    ) -> (T, Vec<Change>) {
        let mut changed = Vec::new();
        let told = &mut *self.0.lock();
        let result = change(&mut told.table, &mut changed);
        if let Some(changes) = &told.changes {
            for change in &changed {
                // Nobody watches, if it fails.
                let _ = changes.send(change.clone());
            }
        }
        (result, changed)
    }

    /// When somebody may have been silent for too long.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.lock().table.next()
    }

    /// Nothing changes any more.
    pub(super) fn end(&self) {
        self.0.lock().changes = None;
    }

    pub(super) fn members(&self) -> Vec<Member> {
        self.0.lock().table.members(Instant::now())
    }

    pub(super) fn member(&self, name: &str) -> Option<Member> {
        self.0.lock().table.member(name, Instant::now())
    }

    pub(super) fn stats(&self) -> RegistryStats {
        self.0.lock().table.stats()
    }

    /// All members, and what changes after that.
    fn resync(&self) -> Option<(Vec<Member>, Receiver<Change>)> {
        let told = self.0.lock();
        let changes = told.changes.as_ref()?.subscribe();
        Some((told.table.members(Instant::now()), changes))
    }
}

/// A stream of changes, bounded: whoever is too slow for it gets all members anew.
pub struct Watch {
    shared: Arc<Shared>,
    changes: Option<Receiver<Change>>,
    slow: Complaints,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            changes: None,
            slow: Complaints::default(),
        }
    }

    /// The next change; the first is [`Change::Resync`]. `None` when the bus is closed or the last
    /// handle of the registry is gone: nothing changes any more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Change> {
        if let Some(changes) = &mut self.changes {
            match changes.recv().await {
                Ok(change) => return Some(change),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(behind)) => {
                    if let Some(more) = self.slow.turn(Instant::now()) {
                        debug!(
                            behind,
                            more, "watcher of members is too slow, and begins anew"
                        );
                    }
                }
            }
        }
        let (members, changes) = self.shared.resync()?;
        self.changes = Some(changes);
        Some(Change::Resync(members))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
