//! A collector: what it implements, and how it is served.
//!
//! ```
//! use std::sync::Arc;
//! use control::collector::{Asked, Collector, Options, Refusal, serve_collector};
//! use control::member::Identity;
//! use serde_json::Value;
//!
//! struct Clock;
//!
//! #[async_trait::async_trait]
//! impl Collector for Clock {
//!     async fn start_collection(&self, _: &Asked, _: &Value) -> Result<(), Refusal> { Ok(()) }
//!     async fn stop_collection(&self, _: &Asked) -> Result<(), Refusal> { Ok(()) }
//! }
//!
//! # async fn example(bus: Arc<dyn eventbus_trait::EventBus>) -> Result<(), Box<dyn std::error::Error>> {
//! let identity = Identity::new("clock-1", "clock").capability("tell_time").max_tasks(4);
//! let host = serve_collector(bus, identity, Clock, Options::default()).await?;
//! println!("{:?}", host.ended().await);
//! # Ok(())
//! # }
//! ```
//!
//! What the host sees to, so that no collector has to:
//!
//! - **One change at a time.** `start_collection`, `stop_collection` and `update_config` are carried out one
//!   after the other, and to their end, also if their caller has given up meanwhile. A call that
//!   nobody waits for any more when its turn comes is not begun.
//! - **Twice is once.** Starting what runs, stopping what does not, and the configuration that is in force
//!   already are successes, and the collector is not asked.
//! - **A configuration is taken whole or refused whole**, and a version that is not newer is refused.
//! - **What is in doubt is told.** A method that panics, or takes longer than [`Options::limit`], is an error
//!   to its caller, as any. Nobody knows then whether it was carried out, and others rely on that: so it
//!   is an ailment too, until the same operation has succeeded.
//! - **Shutting down** stops intake, drains, confirms; what is not done by the deadline is cut off, and the
//!   reply says so. Asking twice is asking once: both get the same answer, and the earlier deadline holds.
//! - **Heartbeats** go out on time whatever the collector's methods do, and at once when something changes.
//! - **Nobody hears of a member that does not hear its orders yet.** With a [task handler](Collector::task_handler)
//!   the first heartbeat goes out when the orders are subscribed to; and the last one when each task that was
//!   taken has ended and was told, or was given back.

mod books;
mod host;
mod keeper;
mod problem;
mod pulse;
mod service;
mod shared;
mod status;
mod tasks_only;
#[cfg(test)]
mod tests;
pub mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use eventbus_trait::Correlation;
use serde_json::Value;
use tokio::time::Instant;

pub use host::{Ended, Host, HostError, Options, serve_collector};
pub use problem::{Problem, Refusal};
pub use tasks_only::TasksOnly;

pub use crate::intake::{Hold, Intake};
use crate::tasks::worker::TaskHandler;

/// On whose behalf, and for how long, a collector is asked for something.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Asked {
    /// What the call belongs to.
    pub correlation: Option<Correlation>,
    /// Until when its caller waits. A change goes on beyond it.
    pub until: Instant,
}

/// What a collector is to its host. Methods may panic: see the [module](self).
#[async_trait]
pub trait Collector: Send + Sync + 'static {
    /// Says whether all is well, and if not, why, in a few words. It is asked before each heartbeat, and by
    /// callers, also several at a time.
    async fn health_check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Begins to collect, what and how `options` say: null if the caller says nothing.
    async fn start_collection(&self, asked: &Asked, options: &Value) -> Result<(), Refusal>;

    /// Collects no more. What was collected is published when this returns.
    async fn stop_collection(&self, asked: &Asked) -> Result<(), Refusal>;

    /// Says whether `config` could be applied, and changes nothing. It is asked before each
    /// [`update_config`](Self::update_config) too.
    async fn validate_config(&self, config: &Value) -> Result<(), Refusal> {
        let _ = config;
        Err(Refusal::new("this collector takes no configuration"))
    }

    /// Goes by `config` from now on, or refuses it as a whole and goes by what it had.
    async fn update_config(&self, asked: &Asked, config: &Value) -> Result<(), Refusal> {
        let _ = (asked, config);
        Err(Refusal::new("this collector takes no configuration"))
    }

    /// What it says of itself beyond its [`Identity`](crate::member::Identity).
    async fn get_capabilities(&self) -> Value {
        Value::Null
    }

    /// What does the tasks that the member is given; nothing if it takes none. It is asked for once, before
    /// anybody hears of the member.
    fn task_handler(&self) -> Option<Arc<dyn TaskHandler>> {
        None
    }

    /// Finishes what is left, after it was stopped and all work that was
    /// [taken in](Host::intake) is done. It is dropped at the deadline.
    async fn shutdown(&self, asked: &Asked) -> Result<(), Refusal> {
        let _ = asked;
        Ok(())
    }

    /// The deadline has come: ends at once what still runs in tasks of its own.
    fn abort(&self) {}
}
