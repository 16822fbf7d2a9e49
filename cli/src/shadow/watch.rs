//! What ends comparisons that do not end by themselves: their user, or a standstill.
//!
//! The source waits for both buses, so a candidate that takes nothing and refuses nothing would
//! hold it for ever. The first interrupt ends the source, what was published is compared, and no
//! further comparison is begun; the second ends the program.
//!
//! Invariant: one watch for all comparisons, so that what comes between two of them is noticed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{interval, timeout};
use tracing::info;

use super::feed::Feed;
use crate::failure::Failure;
use crate::signals::WIND_UP;
use crate::{begin_a_line, tell};

/// A source that has published nothing for so long is not slow but stuck.
const STANDSTILL: Duration = Duration::from_secs(60);
/// Time between two looks at the source.
const INTERVAL: Duration = Duration::from_secs(1);

/// Signals, which are noticed from when this is made.
#[derive(Debug)]
pub(crate) struct Watch {
    interrupt: Signal,
    terminate: Signal,
    interrupted: bool,
}

impl Watch {
    /// Takes the signals over from the system, which would end the program.
    pub(crate) fn new() -> Result<Self, Failure> {
        let notice = |kind| signal(kind).map_err(|reason| Failure::io("notice signals", reason));
        Ok(Self {
            interrupt: notice(SignalKind::interrupt())?,
            terminate: notice(SignalKind::terminate())?,
            interrupted: false,
        })
    }

    /// Whether nothing more is to be begun.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// What comes of `work`, which no source could end: an interrupt waits for it, but no longer than
    /// [`WIND_UP`].
    pub(crate) async fn beside<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let over = async {
            if !self.signalled().await {
                tell("interrupted: what has not begun is left out; once more ends it at once");
                let _ = timeout(WIND_UP, self.signalled()).await;
            }
        };
        tokio::select! {
            biased;
            () = over => Err(Failure::Interrupted),
            done = work => done,
        }
    }

    /// Returns why the comparison cannot go on, once it cannot.
    pub(crate) async fn over(&mut self, feed: &Arc<Feed>) -> Failure {
        tokio::select! {
            failure = self.ended(feed) => failure,
            failure = standstill(feed) => failure,
        }
    }

    async fn ended(&mut self, feed: &Arc<Feed>) -> Failure {
        while !self.signalled().await {
            info!("interrupted; what was published is compared");
            tell("interrupted: what was published is compared; once more ends it at once");
            feed.cancel();
        }
        Failure::Interrupted
    }

    /// Waits for a signal, and says whether it ends the program.
    async fn signalled(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => return true,
            _ = self.interrupt.recv() => {}
        }
        begin_a_line();
        std::mem::replace(&mut self.interrupted, true)
    }
}

async fn standstill(feed: &Arc<Feed>) -> Failure {
    let mut ticks = interval(INTERVAL);
    let mut moved = (0, Instant::now());
    loop {
        ticks.tick().await;
        let published = feed.published();
        if published != moved.0 || feed.is_finished() {
            moved = (published, Instant::now());
        } else if moved.1.elapsed() >= STANDSTILL {
            let waited = STANDSTILL;
            return Failure::Standstill { published, waited };
        }
    }
}
