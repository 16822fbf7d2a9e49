//! What ends a comparison that does not end by itself: its user, or a standstill.
//!
//! The source waits for both buses, so a candidate that takes nothing and refuses nothing would
//! hold it for ever. The first interrupt ends the source and what was published is compared, the
//! second ends the program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use super::feed::Feed;
use crate::failure::Failure;
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
}

impl Watch {
    /// Takes the signals over from the system, which would end the program.
    pub(crate) fn new() -> Result<Self, Failure> {
        let notice = |kind| signal(kind).map_err(|reason| Failure::io("notice signals", reason));
        Ok(Self {
            interrupt: notice(SignalKind::interrupt())?,
            terminate: notice(SignalKind::terminate())?,
        })
    }

    /// Returns why the comparison cannot go on, once it cannot.
    pub(crate) async fn over(mut self, feed: &Arc<Feed>) -> Failure {
        let mut ticks = tokio::time::interval(INTERVAL);
        let mut moved = (0, Instant::now());
        let mut interrupted = false;
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {
                    if interrupted {
                        return Failure::Interrupted;
                    }
                    interrupted = true;
                    info!("interrupted; what was published is compared");
                    begin_a_line();
                    tell("interrupted: what was published is compared; once more ends it at once");
                    feed.cancel();
                }
                _ = self.terminate.recv() => return Failure::Interrupted,
                _ = ticks.tick() => {
                    let published = feed.published();
                    if published != moved.0 || feed.is_finished() {
                        moved = (published, Instant::now());
                    } else if moved.1.elapsed() >= STANDSTILL {
                        return Failure::Standstill { published, waited: STANDSTILL };
                    }
                }
            }
        }
    }
}
