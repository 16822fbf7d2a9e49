//! What ends comparisons that do not end by themselves: their user, or a standstill.
//!
//! The source waits for both buses, so a candidate that takes nothing and refuses nothing would
//! hold it for ever. The first interrupt ends the source, what was published is compared, and no
//! further comparison is begun; the second ends the program.
//!
//! Invariant: one watch for all comparisons, so that what comes between two of them is noticed.

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{interval, timeout};

use super::feed::Feed;
use crate::failure::Failure;
use crate::signals::{Signal, Signals, WIND_UP};
use crate::{begin_a_line, tell};

/// A source that has published nothing for so long is not slow but stuck.
const STANDSTILL: Duration = Duration::from_secs(60);
/// Time between two looks at the source.
const INTERVAL: Duration = Duration::from_secs(1);

/// Signals, which are noticed from when this is made.
#[derive(Debug)]
pub(crate) struct Watch {
    signals: Signals,
    interrupted: bool,
}

impl Watch {
    /// Takes the signals over from the system, which would end the program.
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            signals: Signals::new()?,
            interrupted: false,
        })
    }

    /// Whether nothing more is to be begun.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Notices a signal that came while nobody waited for one.
    pub(crate) async fn notice_pending(&mut self) -> Result<(), Failure> {
        let ends_now = tokio::select! {
            biased;
            ends_now = self.signalled() => ends_now,
            () = ready(()) => false,
        };
        if ends_now {
            return Err(Failure::Interrupted);
        }
        Ok(())
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
            tell("interrupted: what was published is compared; once more ends it at once");
            feed.cancel();
        }
        Failure::Interrupted
    }

    /// Waits for a signal, and says whether it ends the program.
    async fn signalled(&mut self) -> bool {
        if self.signals.next().await == Signal::Terminate {
            return true;
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
