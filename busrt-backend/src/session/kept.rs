//! What has been put into frames for a link and is not acknowledged: kept to be sent again.
//!
//! Runs are kept whole and shared by the links that they are for, so keeping costs one entry for
//! each run and link. Credit bounds them: whatever is kept is within a window.
//!
//! Invariant: the runs follow each other without a gap up to `written`; `sent <= written`; while
//! the link is `live`, `sent == written`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::outbox::Run;
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
        self.first + self.run.events.len() as u64
    }
}

/// A run to be sent to one subscriber, without its first `skip` events.
#[derive(Debug)]
pub(crate) struct Again {
    pub(crate) run: Arc<Run>,
    pub(crate) skip: usize,
    pub(crate) entry: LinkEntry,
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
        self.written += run.events.len() as u64;
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
            skip: usize::try_from(skip).unwrap_or(usize::MAX),
            entry: LinkEntry {
                subscription,
                first: kept.first + skip,
                dropped: kept.dropped,
            },
        })
    }

    /// Nothing will be sent again.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.cost = 0;
    }
}

#[cfg(test)]
mod tests {
    use eventbus_trait::Event;

    use super::super::outbox::tests::run_of;
    use super::*;

    fn run(len: usize) -> Arc<Run> {
        let events = (0..len).map(|n| Event::new("a", n.to_string().into_bytes()).unwrap());
        Arc::new(run_of(events.collect()))
    }

    fn again(kept: &mut Kept) -> Vec<(u64, usize)> {
        std::iter::from_fn(|| kept.again(1))
            .map(|a| (a.entry.first, a.run.events.len() - a.skip))
            .collect()
    }

    #[test]
    fn what_follows_the_cursor_is_sent_again_and_then_the_link_is_live() {
        let mut kept = Kept::new(0, true);
        assert_eq!(kept.keep(&run(10), 0), Some(0));
        assert_eq!(kept.keep(&run(5), 0), Some(10));
        kept.release(4);
        kept.rewind(4);
        assert_eq!(kept.keep(&run(2), 3), None, "live events wait behind it");
        assert_eq!(again(&mut kept), [(4, 6), (10, 5), (15, 2)]);
        assert!(kept.is_live());
        assert_eq!(kept.keep(&run(1), 3), Some(17));
    }

    #[test]
    fn what_is_acknowledged_is_let_go() {
        let mut kept = Kept::new(7, true);
        for _ in 0..3 {
            kept.keep(&run(10), 0);
        }
        kept.release(27);
        assert_eq!(kept.runs.len(), 1, "a run is kept until all of it is there");
        kept.release(37);
        assert!(kept.runs.is_empty());
        kept.rewind(37);
        assert!(again(&mut kept).is_empty());
        assert!(kept.is_live());
    }

    #[test]
    fn a_detached_link_gets_nothing_until_its_subscriber_tells_its_cursor() {
        let mut kept = Kept::new(0, true);
        kept.keep(&run(3), 0);
        kept.detach();
        assert_eq!(kept.keep(&run(2), 0), None);
        kept.rewind(3);
        assert_eq!(again(&mut kept), [(3, 2)]);
    }
}
