//! What has been put into frames for a link and is not acknowledged: kept to be sent again.
//!
//! Runs are kept whole and shared by the links that they are for, so keeping costs one entry for
//! each run and link. Credit bounds them: whatever is kept is within a window.
//!
//! Invariant: the runs follow each other without a gap up to `written`; `sent <= written`; while
//! the link is `live`, `sent == written`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::run::Run;
use crate::wire::LinkEntry;

/// A run, and what a frame said of it.
#[derive(Debug, Clone)]
pub(crate) struct KeptRun {
    /// Link sequence of its first event.
    first: u64,
    /// Events dropped on the link before it, in all.
    dropped: u64,
    run: Arc<Run>,
}

impl KeptRun {
    fn end(&self) -> u64 {
        self.first + self.run.count()
    }
}

/// A run to be sent to one subscriber, without its first `skip` events.
#[derive(Debug)]
pub(crate) struct Again {
    pub(crate) run: Arc<Run>,
    pub(crate) skip: u32,
    pub(crate) entry: LinkEntry,
}

impl Again {
    /// The link sequence that follows it.
    pub(crate) fn next(&self) -> u64 {
        self.entry.first + self.run.count().saturating_sub(self.skip.into())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Kept {
    runs: VecDeque<KeptRun>,
    /// The link sequence of the next event to be put into a frame.
    written: u64,
    /// Everything below has been sent since the subscriber told its cursor.
    sent: u64,
    /// The subscriber is there and has been sent everything: it takes part in common frames.
    live: bool,
    /// What the runs cost in bytes.
    cost: u64,
}

impl Kept {
    pub(crate) fn new(first: u64, live: bool) -> Self {
        Self {
            runs: VecDeque::new(),
            written: first,
            sent: first,
            live,
            cost: 0,
        }
    }

    /// What is kept, in bytes.
    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    /// How many runs are kept.
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Keeps a run that is being put into a frame; whether the frame is for this link too.
    pub(crate) fn keep(&mut self, run: &Arc<Run>, dropped: u64) -> Option<u64> {
        let first = self.written;
        self.written += run.count();
        self.cost += run.cost;
        self.runs.push_back(KeptRun {
            first,
            dropped,
            run: Arc::clone(run),
        });
        if self.live {
            self.sent = self.written;
            return Some(first);
        }
        None
    }

    /// Lets go of what is in the subscription's queue.
    pub(crate) fn release(&mut self, received: u64) {
        while let Some(run) = self.runs.pop_front_if(|run| run.end() <= received) {
            self.cost -= run.run.cost;
        }
    }

    /// The subscriber has nothing from `cursor` on; it is sent that before it is live again.
    pub(crate) fn rewind(&mut self, cursor: u64) {
        self.release(cursor);
        self.sent = cursor;
        self.live = false;
    }

    /// The subscriber cannot be reached: frames are not for this link.
    pub(crate) fn detach(&mut self) {
        self.live = false;
    }

    /// What is to be sent to the subscriber next. If there is nothing it is live.
    pub(crate) fn again(&mut self, subscription: u64) -> Option<Again> {
        let at = self.runs.partition_point(|run| run.end() <= self.sent);
        let Some(kept) = self.runs.get(at) else {
            self.live = true;
            return None;
        };
        let skip = self.sent.saturating_sub(kept.first);
        self.sent = kept.end();
        Some(Again {
            run: Arc::clone(&kept.run),
            skip: u32::try_from(skip).unwrap_or(u32::MAX),
            entry: LinkEntry {
                subscription,
                first: kept.first + skip,
                dropped: kept.dropped,
            },
        })
    }

    /// Nothing will be sent again. Returns the runs that were kept, each with how many of its events
    /// are below `received`.
    pub(crate) fn clear(&mut self, received: u64) -> Vec<(Arc<Run>, u32)> {
        self.cost = 0;
        let runs = self.runs.drain(..).map(|kept| {
            let skip = received.saturating_sub(kept.first);
            (kept.run, u32::try_from(skip).unwrap_or(u32::MAX))
        });
        runs.collect()
    }
}
