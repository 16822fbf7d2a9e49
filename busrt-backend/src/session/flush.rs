//! Waiting until everything accepted so far has arrived.
//!
//! A receipt waits for one event's place on its links; this waits for the last place of every link.
//! What is accepted meanwhile is not waited for, so a busy publisher can be flushed too.

use std::time::Duration;

use eventbus_trait::{FlushError, ReceiptError};
use futures_timer::Delay;

use super::node::Node;
use super::receipt::Pending;

impl Node {
    /// Waits until every link has acknowledged what was accepted for it before.
    pub(crate) async fn flush(&self, deadline: Duration) -> Result<(), FlushError> {
        if self.gone().is_some() {
            return Err(FlushError::Closed);
        }
        let mut pending = Pending::default();
        for (link, next) in self.outbox.behind() {
            pending.add_all(link, next);
        }
        let settled = pending.settled(Delay::new(deadline)).await;
        settled.map(|_| ()).map_err(|reason| match reason {
            ReceiptError::Unconfirmed {
                subscriptions,
                waited,
            } => FlushError::Unconfirmed {
                subscriptions,
                waited,
            },
            ReceiptError::Lost { subscriptions } => FlushError::Lost { subscriptions },
            _ => FlushError::Closed,
        })
    }
}
