//! Pauses of an executor's tasks, shorter than the runtime's clock can tell apart.
//!
//! Invariant: a pause is in the table, with its waker until it is told that it is over, from when its task
//! is told to wait until the task goes on or is dropped. Wakers are called and dropped without the lock.

use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use slab::Slab;

#[derive(Default)]
pub(crate) struct Pauses(Mutex<Slab<(Instant, Option<Waker>)>>);

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

    /// When the first one is over that has not been told so.
    pub(crate) fn first(&self) -> Option<Instant> {
        let pauses = self.0.lock();
        let untold = pauses.iter().filter(|(_, (_, waker))| waker.is_some());
        untold.map(|(_, (until, _))| *until).min()
    }

    /// Wakes the tasks whose pauses are over.
    pub(crate) fn tell(&self) {
        let over: Vec<_> = {
            let mut pauses = self.0.lock();
            if pauses.is_empty() {
                return;
            }
            let now = Instant::now();
            let over = pauses.iter_mut().filter(|(_, (until, _))| *until <= now);
            over.filter_map(|(_, (_, waker))| waker.take()).collect()
        };
        over.into_iter().for_each(Waker::wake);
    }
}

impl Entry<'_> {
    fn keep(&mut self, until: Instant, waker: &Waker) {
        let waker = Some(waker.clone());
        let mut pauses = self.pauses.0.lock();
        let before = match self.at.and_then(|at| pauses.get_mut(at)) {
            Some((_, kept)) => std::mem::replace(kept, waker),
            None => {
                self.at = Some(pauses.insert((until, waker)));
                None
            }
        };
        drop(pauses);
        drop(before);
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            let entry = self.pauses.0.lock().try_remove(at);
            drop(entry);
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
        pauses.tell();
        assert!(pauses.first().is_some(), "it is not over");
        drop(long);
        assert_eq!(pauses.first(), None);
    }
}
