//! The signals that end a program, noticed from when they are asked for.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use crate::failure::Failure;

/// SIGINT and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let notice = |kind| signal(kind).map_err(|reason| Failure::io("notice signals", reason));
        Ok(Self {
            interrupt: notice(SignalKind::interrupt())?,
            terminate: notice(SignalKind::terminate())?,
        })
    }

    /// Waits for one of them. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => info!("interrupted"),
            _ = self.terminate.recv() => info!("told to end"),
        }
    }
}
