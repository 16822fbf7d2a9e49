//! Waiting until everything that can be decided is decided.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_timer::Delay;

use crate::comparator::Comparator;
use crate::queue::Command;

/// How long to wait between two looks, at first and at most.
const TICKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// How long to wait between asking for markers twice, at first and at most: traffic that goes on
/// would be asked for again and again.
const ASKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(640));

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The candidate owes nothing any more, and markers have shown that nothing more comes.
    CandidateDone,
    /// Also the application has read everything.
    AllDecided,
}

/// Waits, at most for `deadline`; says whether it has come to that.
pub(crate) async fn settle(comparator: &Arc<Comparator>, deadline: Duration, until: Until) -> bool {
    let begun = Instant::now();
    let mut tick = TICKS.0;
    let (mut asked_at, mut ask_after) = (None, ASKS.0);
    loop {
        let ended = comparator.life.ended.load(Ordering::Acquire);
        // Before the counts: what leaves the queue after this is in them.
        let idle = ended || comparator.queue.is_idle();
        comparator.sweep();
        let counts = comparator.counts();
        let owed = counts.awaited + counts.unmarked;
        let due = match until {
            Until::CandidateDone => owed,
            Until::AllDecided => counts.open + owed + comparator.mirror.counted.under_way(),
        };
        if idle && due == 0 {
            return true;
        }
        let left = deadline.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return false;
        }
        let asked = asked_at.is_some_and(|at: Instant| at.elapsed() < ask_after);
        let again = owed > 0 && !asked && ask(comparator);
        if again && asked_at.replace(Instant::now()).is_some() {
            ask_after = (ask_after * 2).min(ASKS.1);
        }
        Delay::new(tick.min(left)).await;
        tick = (tick * 2).min(TICKS.1);
    }
}

/// Queues a command to send markers, unless one is queued already.
fn ask(comparator: &Comparator) -> bool {
    !comparator.mark_queued.swap(true, Ordering::AcqRel)
        && (comparator.queue.control(Command::Mark) || {
            comparator.mark_queued.store(false, Ordering::Release);
            false
        })
}
