//! Who is there: the members that are heard of on `health.#`, and what changes about them.
//!
//! Every heartbeat says everything, so a registry asks nobody and remembers nothing between its lives: one
//! interval after it has started it knows all members, whoever was there first.
//!
//! A member whose heartbeats stay away is degraded and then removed, by the clock of the registry alone.
//! What the registry may have missed by its own fault is held against nobody: while its bus has no
//! connection, when its queue has overflowed, and after its process stood still, all members have
//! their time again.
//!
//! A heartbeat proves nothing but that somebody may publish on its topic. What is refused here is what
//! contradicts itself or what was heard before; who may publish on `health.KIND.NAME` is for the
//! broker's access lists to say (SEC-004).
//!
//! ```
//! use control::registry::{Change, Registry, Rules};
//! # async fn example(bus: std::sync::Arc<dyn eventbus_trait::EventBus>) -> Result<(), Box<dyn std::error::Error>> {
//! let registry = Registry::start(bus, Rules::default()).await?;
//! let mut changes = registry.watch();
//! while let Some(change) = changes.next().await {
//!     match change {
//!         Change::Joined(member) => println!("{} is there", member.identity.name),
//!         Change::Removed { member, reason } => println!("{} {reason}", member.identity.name),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod entry;
mod listen;
mod rules;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::sync::Arc;

use eventbus_trait::{EventBus, FilterError, Subscribe, SubscribeError};
use tokio::task::AbortHandle;

use crate::member::HEARTBEATS;
use listen::Ending;
pub use rules::{Refused, Rules, RulesError};
pub use snapshot::{Change, Health, Member, RegistryStats, Removal};
use table::Table;
use watch::Shared;
pub use watch::Watch;

/// Why a registry was not started.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The rules are none.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// Heartbeats have no filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Heartbeats cannot be subscribed to.
    #[error("cannot listen for heartbeats: {0}")]
    Subscribe(#[from] SubscribeError),
}

/// The members of a bus. Clones are the same registry; it ends with the last of them.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    _task: Arc<Ended>,
    /// Without it the handle would be shut down, and the registry deaf.
    _bus: Arc<dyn EventBus>,
}

/// Ends the task that listens when the last clone is gone.
struct Ended(AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Registry {
    /// Listens for heartbeats on `bus` from now on. Call it within a tokio runtime.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn start(bus: Arc<dyn EventBus>, rules: Rules) -> Result<Self, RegistryError> {
        rules.check()?;
        let all = Subscribe::to(HEARTBEATS)?.capacity(rules.queue);
        let heartbeats = bus.subscribe(all).await?;
        let shared = Arc::new(Shared::new(Table::new(rules)));
        let listening = listen::run(Ending(Arc::clone(&shared)), heartbeats, bus.state());
        let task = tokio::spawn(listening).abort_handle();
        tracing::debug!(filter = HEARTBEATS, "registry listens");
        Ok(Self {
            shared,
            _task: Arc::new(Ended(task)),
            _bus: bus,
        })
    }

    /// All members as of now, in the order of their names.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.shared.members()
    }

    /// The member of this name, if there is one.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<Member> {
        self.shared.member(name)
    }

    /// What changes from now on. The first that it yields is [`Change::Resync`] with all members, so
    /// nothing is missed between looking and watching.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(Arc::clone(&self.shared))
    }

    /// Counters as of now.
    #[must_use]
    pub fn stats(&self) -> RegistryStats {
        self.shared.stats()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
