//! Whose turn it is to publish on a topic, so that both sides get its events in one order.
//!
//! Invariant: `waits` is true only while whoever has the turn waits for room; otherwise the turn is
//! given back within a moment, and trying again is cheaper than waiting.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use eventbus_trait::Topic;
use futures_timer::Delay;
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tokio::sync::MutexGuard;

use crate::route::Route;
use crate::shedding::Told;
use crate::untracked::{Biased, Untracked};

/// How often a turn that is about to be given back is asked for before it counts as taken.
const TRIES: usize = 64;

/// The order of one topic of one handle.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) topic: Topic,
    /// The route that was last used, which may be outdated.
    pub(crate) route: Mutex<Option<Arc<Route>>>,
    turn: tokio::sync::Mutex<()>,
    waits: AtomicBool,
    /// The generation of the route that `untracked` counts for.
    generation: AtomicU64,
    /// Events that are not entered yet where they are due.
    untracked: Biased,
    pub(crate) told: Told,
}

/// No route's.
const NO_GENERATION: u64 = u64::MAX;

/// The right to publish next on a topic.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    lane: &'a Lane,
    _guard: MutexGuard<'a, ()>,
}

impl Lane {
    pub(crate) fn new(topic: &Topic) -> Self {
        Self {
            topic: topic.clone(),
            route: Mutex::new(None),
            turn: tokio::sync::Mutex::new(()),
            waits: AtomicBool::new(false),
            generation: AtomicU64::new(NO_GENERATION),
            untracked: Biased::default(),
            told: Told::default(),
        }
    }

    /// Counts an event that is not tracked; false if the route for it has to be looked up first.
    pub(crate) fn count(&self, generation: u64, why: Untracked) -> bool {
        let known = self.counts_for(generation);
        if known {
            self.add(why);
        }
        known
    }

    /// Counts an event that is not tracked, for the route that there is.
    pub(crate) fn add(&self, why: Untracked) {
        self.untracked.add(why);
    }

    /// Whether it counts for the route of this generation.
    pub(crate) fn counts_for(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) == generation
    }

    /// The route, made by `make` unless the one that there is, `cached`, is `current`.
    pub(crate) fn route<'a>(
        &self,
        cached: &'a mut Option<Arc<Route>>,
        current: impl FnOnce(&Route) -> bool,
        make: impl FnOnce() -> Arc<Route>,
    ) -> &'a Arc<Route> {
        let before = cached.take();
        let route = match before {
            Some(route) if current(&route) => route,
            before => {
                self.enter(before.as_deref());
                let route = make();
                self.generation.store(route.generation, Ordering::Release);
                route
            }
        };
        cached.insert(route)
    }

    /// Forgets the route.
    pub(crate) fn forget_route(&self) {
        let mut route = self.route.lock();
        self.generation.store(NO_GENERATION, Ordering::Release);
        self.told.forget();
        let before = route.take();
        self.enter(before.as_deref());
    }

    /// Enters what was counted where it was due.
    pub(crate) fn enter_untracked(&self) {
        self.enter(self.route.lock().as_deref());
    }

    fn enter(&self, route: Option<&Route>) {
        match route {
            Some(route) => route.untracked(&self.untracked),
            // Published while the comparison was being ended.
            None => drop(self.untracked.take()),
        }
    }

    /// The turn, if it is free or about to be.
    pub(crate) fn turn_now(&self) -> Option<Turn<'_>> {
        for attempt in 0..TRIES {
            if let Ok(guard) = self.turn.try_lock() {
                return Some(self.with(guard));
            }
            if self.waits.load(Ordering::Relaxed) {
                return None;
            }
            if attempt < TRIES / 2 {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        None
    }

    /// Waits for the turn, however long it takes.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        self.with(self.turn.lock().await)
    }

    /// Waits for the turn, at most for `patience`.
    pub(crate) async fn turn_within(&self, patience: Duration) -> Option<Turn<'_>> {
        match select(pin!(self.turn.lock()), Delay::new(patience)).await {
            Either::Left((guard, _)) => Some(self.with(guard)),
            Either::Right(_) => None,
        }
    }

    fn with<'a>(&'a self, guard: MutexGuard<'a, ()>) -> Turn<'a> {
        Turn {
            lane: self,
            _guard: guard,
        }
    }
}

/// Polls a publish, and says of its turns when it has to wait.
pub(crate) async fn watch<F: Future>(turns: &[Turn<'_>], publish: F) -> F::Output {
    let mut publish = pin!(publish);
    poll_fn(|cx| {
        let polled = publish.as_mut().poll(cx);
        if polled.is_pending() {
            for turn in turns {
                turn.lane.waits.store(true, Ordering::Relaxed);
            }
        }
        polled
    })
    .await
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.lane.waits.store(false, Ordering::Relaxed);
    }
}
