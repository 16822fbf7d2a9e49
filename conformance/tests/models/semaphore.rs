//! `tokio::sync::Semaphore`, as documented, over the mutex of whoever explores.
//!
//! It models what tokio promises: permits go to who has waited longest, who keeps what there is
//! until there is enough, so that a large request is not starved; `close` fails all who wait and
//! all who come; a cancelled wait gives back what it had. The schedules hold it against
//! tokio's.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::sabotage::{Bug, has};
use super::sync::Mutex;

#[derive(Debug)]
pub(crate) struct Semaphore(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    permits: usize,
    closed: bool,
    next_id: u64,
    /// In order: who, how many are still missing, and whom to wake.
    waiting: Vec<(u64, usize, Waker)>,
    /// Who waited when it was closed, and how many were missing.
    failed: Vec<(u64, usize)>,
}

/// There is no room now, or will be none any more.
#[derive(Debug)]
pub(crate) struct NotAcquired;

#[derive(Debug)]
pub(crate) struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

impl Semaphore {
    pub(crate) const MAX_PERMITS: usize = usize::MAX >> 3;

    pub(crate) fn new(permits: usize) -> Self {
        let state = State {
            permits,
            ..State::default()
        };
        Self(Mutex::new(state))
    }

    pub(crate) fn try_acquire_many(&self, n: u32) -> Result<SemaphorePermit<'_>, NotAcquired> {
        let mut state = self.0.lock();
        let permits = n as usize;
        if state.closed || state.permits < permits {
            return Err(NotAcquired);
        }
        state.permits -= permits;
        Ok(self.permit(permits))
    }

    pub(crate) fn acquire_many(&self, n: u32) -> Acquire<'_> {
        Acquire {
            semaphore: self,
            wanted: n as usize,
            id: None,
            done: false,
        }
    }

    pub(crate) fn add_permits(&self, n: usize) {
        let mut wakers = Vec::new();
        {
            let mut state = self.0.lock();
            let mut left = n;
            while let Some((_, missing, _)) = state.waiting.first_mut() {
                let given = left.min(*missing);
                *missing -= given;
                left -= given;
                if *missing > 0 {
                    break;
                }
                wakers.push(state.waiting.remove(0).2);
            }
            state.permits += left;
        }
        if !has(Bug::ToldNobody) {
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    pub(crate) fn close(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.closed = true;
            let waiting = std::mem::take(&mut state.waiting);
            let failed = waiting.iter().map(|(id, missing, _)| (*id, *missing));
            state.failed.extend(failed);
            waiting
        };
        if !has(Bug::ClosedInSilence) {
            waiting.into_iter().for_each(|(_, _, waker)| waker.wake());
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    pub(crate) fn available_permits(&self) -> usize {
        self.0.lock().permits
    }

    fn permit(&self, permits: usize) -> SemaphorePermit<'_> {
        SemaphorePermit {
            semaphore: self,
            permits,
        }
    }
}

impl SemaphorePermit<'_> {
    pub(crate) fn num_permits(&self) -> usize {
        self.permits
    }

    pub(crate) fn forget(mut self) {
        self.permits = 0;
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        if self.permits > 0 {
            self.semaphore.add_permits(self.permits);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Acquire<'a> {
    semaphore: &'a Semaphore,
    wanted: usize,
    /// Known to the others.
    id: Option<u64>,
    done: bool,
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<SemaphorePermit<'a>, NotAcquired>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut state = this.semaphore.0.lock();
        if state.closed {
            return Poll::Ready(Err(NotAcquired));
        }
        if let Some(id) = this.id {
            if let Some((_, _, waker)) = state.waiting.iter_mut().find(|(other, ..)| *other == id) {
                waker.clone_from(cx.waker());
                return Poll::Pending;
            }
        } else {
            let given = state.permits.min(this.wanted);
            state.permits -= given;
            if given < this.wanted {
                state.next_id += 1;
                let id = state.next_id;
                this.id = Some(id);
                let missing = this.wanted - given;
                state.waiting.push((id, missing, cx.waker().clone()));
                return Poll::Pending;
            }
        }
        this.done = true;
        Poll::Ready(Ok(this.semaphore.permit(this.wanted)))
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let (Some(id), false) = (self.id, self.done) else {
            return;
        };
        let had = {
            let mut state = self.semaphore.0.lock();
            let waiting = state.waiting.iter().position(|(other, ..)| *other == id);
            let failed = state.failed.iter().position(|(other, _)| *other == id);
            let missing = match (waiting, failed) {
                (Some(at), _) => state.waiting.remove(at).1,
                (None, Some(at)) => state.failed.remove(at).1,
                (None, None) => 0,
            };
            self.wanted - missing
        };
        self.semaphore.add_permits(had);
    }
}
