//! The signals that end a program, noticed from when they are asked for.

use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::info;

use crate::begin_a_line;
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

    /// Does what is not polled, on a thread that is left behind if one of them comes first.
    pub(crate) fn or<T: Send + 'static>(
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|reason| Failure::io("start the runtime", reason))?;
        runtime.block_on(async {
            let mut signals = Self::new()?;
            let (tell, told) = oneshot::channel();
            // Nobody listens any more if it was interrupted.
            thread::spawn(move || drop(tell.send(work())));
            tokio::select! {
                biased;
                () = signals.next() => {
                    begin_a_line();
                    Err(Failure::Interrupted)
                }
                ended = told => ended.map_err(|_| Failure::io("go on", "a thread has panicked"))?,
            }
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
