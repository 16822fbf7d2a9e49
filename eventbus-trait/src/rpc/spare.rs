//! A service's handler in the slots that its calls leave free: for a layer that has calls carried out
//! once more, as a shadow does.
//!
//! Invariant: together with these no more handlers run than the service says; a call that finds no
//! free slot has one as soon as a handler of these is dropped, and none is refused for them.

use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;

use super::call::{Call, Reply};
use super::desk::{Desk, before};
use super::error::Failure;
use super::service::{Handler, Service};
use super::tally::Tally;

/// The code of the [`Failure`] that a call of a spare service ends with because its service needs the
/// slot, or is served no more.
pub const YIELDED: i16 = -32054;
/// The code of the [`Failure`] of a call of a spare service that is not marked
/// [idempotent](Call::idempotent).
pub const NOT_IDEMPOTENT: i16 = -32055;

/// A service's handler, for calls that nobody waits for.
#[derive(Debug)]
pub struct Spare {
    desk: Arc<Desk>,
    under_way: Arc<Tally>,
}

impl Spare {
    /// That of a service. Its calls run in the service's own slots and count in none of its counters.
    #[must_use]
    pub fn of(service: &Service) -> Self {
        Self {
            desk: Arc::clone(service.desk()),
            under_way: Tally::new(usize::MAX),
        }
    }

    /// The service to serve elsewhere, under `name`. It carries out what is marked idempotent, and
    /// drops what it has begun when a call of the service itself finds no slot.
    #[must_use]
    pub fn service(&self, name: &str) -> Service {
        let handler = Yielding {
            desk: Arc::clone(&self.desk),
            under_way: Arc::clone(&self.under_way),
        };
        Service::new(name, handler)
    }

    /// Ends it: what is under way is dropped, nothing more begins. Idempotent.
    pub fn end(&self) {
        self.under_way.end();
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.end();
    }
}

struct Yielding {
    desk: Arc<Desk>,
    under_way: Arc<Tally>,
}

#[async_trait]
impl Handler for Yielding {
    async fn handle(&self, call: Call) -> Result<Reply, Failure> {
        if !call.idempotent {
            let reason = "a spare service carries out nothing that is not marked idempotent";
            return Err(Failure::new(NOT_IDEMPOTENT, reason));
        }
        let over = || Failure::new(YIELDED, "the service is served no more");
        let inside = self.under_way.enter().map_err(|_| over())?;
        let ended = pin!(self.under_way.over());
        let handled = before(self.desk.handle_spare(call), ended).await;
        let handled = handled.ok_or_else(over)?;
        inside.done(matches!(handled, Some(Ok(_))));
        handled.unwrap_or_else(|| Err(Failure::new(YIELDED, "the service needs the slot")))
    }

    fn has(&self, method: &str) -> bool {
        self.desk.has(method)
    }
}
