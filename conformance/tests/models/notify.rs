//! `tokio::sync::Notify`, as documented, over the mutex of whoever explores.
//!
//! It models what tokio promises, and nothing that it merely does:
//! - `notify_one` wakes the one that has waited longest; if nobody waits, one permit is stored, and
//!   never more than one. Who drops a `Notified` that was woken in this way passes the wake-up on.
//! - `notify_waiters` wakes all who wait and stores nothing. A `Notified` counts as waiting for it
//!   from when it was made; for `notify_one` only from when it was first polled, or enabled. Whom
//!   it has woken leaves a stored permit to others.
//!
//! The schedules hold it against tokio's.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::sabotage::{Bug, has};
use super::sync::Mutex;

#[derive(Debug, Default)]
pub(crate) struct Notify(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    permit: bool,
    /// How often all were woken.
    rounds: u64,
    next_id: u64,
    waiting: Vec<(u64, Option<Waker>)>,
    /// Woken by `notify_one`, and not polled since.
    woken: Vec<u64>,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_one(&self) {
        let waker = self.0.lock().wake_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn notify_waiters(&self) {
        if has(Bug::ToldNobody) {
            return;
        }
        if has(Bug::ToldOne) {
            let waker = self.0.lock().wake_one();
            return waker.into_iter().for_each(Waker::wake);
        }
        let waiting = {
            let mut state = self.0.lock();
            state.rounds += 1;
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting.into_iter().filter_map(|(_, waker)| waker) {
            waker.wake();
        }
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        let rounds = self.0.lock().rounds;
        Notified {
            notify: self,
            rounds,
            id: None,
            done: false,
        }
    }
}

impl State {
    fn wake_one(&mut self) -> Option<Waker> {
        if self.waiting.is_empty() {
            self.permit = !has(Bug::NoPermit);
            return None;
        }
        let (id, waker) = self.waiting.remove(0);
        self.woken.push(id);
        waker
    }
}

#[derive(Debug)]
pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    rounds: u64,
    /// Known to the others.
    id: Option<u64>,
    done: bool,
}

impl Notified<'_> {
    /// Waits from now on; whether there is nothing to wait for any more.
    pub(crate) fn enable(self: Pin<&mut Self>) -> bool {
        !has(Bug::NotedLate) && self.get_mut().look(None)
    }

    fn look(&mut self, waker: Option<&Waker>) -> bool {
        if self.done {
            return true;
        }
        let mut state = self.notify.0.lock();
        if self.id.is_none() && has(Bug::NotedLate) {
            self.rounds = state.rounds;
        }
        let all_were = state.rounds != self.rounds;
        let one_was = match self.id {
            Some(id) => take(&mut state.woken, |woken| *woken == id),
            None => !all_were && std::mem::take(&mut state.permit),
        };
        if all_were || one_was {
            take(&mut state.waiting, |(id, _)| Some(*id) == self.id);
            self.done = true;
            return true;
        }
        let id = *self.id.get_or_insert_with(|| {
            state.next_id += 1;
            let id = state.next_id;
            state.waiting.push((id, None));
            id
        });
        if let Some((_, slot)) = state.waiting.iter_mut().find(|(other, _)| *other == id)
            && waker.is_some()
        {
            *slot = waker.cloned();
        }
        false
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.get_mut().look(Some(cx.waker())) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let (Some(id), false) = (self.id, self.done) else {
            return;
        };
        let passed_on = {
            let mut state = self.notify.0.lock();
            take(&mut state.waiting, |(other, _)| *other == id);
            if take(&mut state.woken, |woken| *woken == id) {
                state.wake_one()
            } else {
                None
            }
        };
        if let Some(waker) = passed_on {
            waker.wake();
        }
    }
}

/// Removes the one that `which` picks; whether there was one.
fn take<T>(from: &mut Vec<T>, which: impl FnMut(&T) -> bool) -> bool {
    let at = from.iter().position(which);
    at.map(|at| from.remove(at)).is_some()
}
