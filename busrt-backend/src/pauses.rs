//! Pauses of an executor's tasks, shorter than the runtime's clock can tell apart.
//!
//! Invariant: a pause is in the table from when its task is told to wait until the task goes on or is
//! dropped, so whoever finds the table empty need not look at the clock.

use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use slab::Slab;

#[derive(Default)]
pub(crate) struct Pauses(Mutex<Slab<(Instant, Waker)>>);

/// A pause that a task is in, until this is dropped.
struct Entry<'a> {
    pauses: &'a Pauses,
    at: Option<usize>,
}

impl Pauses {
    /// Is over when `time` has passed and somebody has [told](Self::tell) so.
    pub(crate) async fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut entry = Entry {
            pauses: self,
            at: None,
        };
        poll_fn(|cx| {
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            entry.keep(until, cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// When the first one is over.
    pub(crate) fn first(&self) -> Option<Instant> {
        let pauses = self.0.lock();
        pauses.iter().map(|(_, (until, _))| *until).min()
    }

    /// Wakes the tasks whose pauses are over.
    pub(crate) fn tell(&self) {
        let now = Instant::now();
        let pauses = self.0.lock();
        let over = pauses.iter().filter(|(_, (until, _))| *until <= now);
        let over: Vec<_> = over.map(|(_, (_, waker))| waker.clone()).collect();
        drop(pauses);
        over.into_iter().for_each(Waker::wake);
    }
}

impl Entry<'_> {
    fn keep(&mut self, until: Instant, waker: &Waker) {
        let mut pauses = self.pauses.0.lock();
        match self.at.and_then(|at| pauses.get_mut(at)) {
            Some((_, kept)) => kept.clone_from(waker),
            None => self.at = Some(pauses.insert((until, waker.clone()))),
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            // Without the lock: it may be the last of a task.
            let waker = self.pauses.0.lock().try_remove(at);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use super::*;

    #[test]
    fn a_pause_is_in_the_table_until_it_is_over_or_dropped() {
        let pauses = Pauses::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut long = Box::pin(pauses.pause(Duration::from_secs(3_600)));
        let mut none = Box::pin(pauses.pause(Duration::ZERO));
        assert!(none.as_mut().poll(&mut cx).is_ready());
        assert_eq!(pauses.first(), None);
        for _ in 0..2 {
            assert!(long.as_mut().poll(&mut cx).is_pending());
            assert_eq!(pauses.0.lock().len(), 1);
        }
        assert!(pauses.first().is_some());
        drop(long);
        assert_eq!(pauses.first(), None);
    }
}
