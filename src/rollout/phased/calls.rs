//! Calls over a bus whose phase changes.
//!
//! A service is served in both phases from before the commit until the old one is left, so whoever
//! calls finds it wherever he is; its bound on what runs is its own, and so is one over both. A call
//! ends in the phase in which it began, and the old phase is closed when none is under way there.
//!
//! Invariant: a call is made once, in the phase that holds when it begins; the count of a phase's calls
//! is closed only after nobody can find the phase any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::EventBus;
use eventbus_trait::rpc::{
    Call, CallError, DEFAULT_LONGEST, Reply, ServeError, Served, Service, Serving, Tally,
};
use parking_lot::Mutex;

use super::lane::Lane;

/// One handle's calls and services.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Calls under way, by the generation of their phase.
    under_way: Mutex<BTreeMap<u64, Arc<Tally>>>,
    hosted: Mutex<Vec<Weak<Hosted>>>,
}

/// A service of the application's, wherever it is served.
#[derive(Debug)]
pub(crate) struct Hosted {
    service: Service,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the generation of the phase.
    sides: BTreeMap<u64, Serving>,
    stopped: bool,
}

impl Calls {
    /// Calls in the phase that holds now.
    pub(crate) async fn call(&self, lane: &Lane, call: Call) -> Result<Reply, CallError> {
        let (bus, inside) = loop {
            let Some((bus, generation)) = lane.current() else {
                return Err(CallError::Closed);
            };
            // It is closed if the phase has changed in between.
            if let Ok(inside) = self.tally(generation).enter() {
                break (bus, inside);
            }
        };
        let result = bus.call(call).await;
        inside.done(result.is_ok());
        result
    }

    fn tally(&self, generation: u64) -> Arc<Tally> {
        let mut under_way = self.under_way.lock();
        let tally = under_way.entry(generation);
        Arc::clone(tally.or_insert_with(|| Tally::new(usize::MAX)))
    }

    /// Serves in a phase; further ones are for [`Hosted::join`].
    pub(crate) async fn serve(
        &self,
        bus: &Arc<dyn EventBus>,
        generation: u64,
        service: Service,
    ) -> Result<Serving, ServeError> {
        let hosted = Arc::new(Hosted {
            service,
            state: Mutex::default(),
        });
        hosted.join(bus, generation).await?;
        let mut all = self.hosted.lock();
        all.retain(|hosted| hosted.strong_count() > 0);
        all.push(Arc::downgrade(&hosted));
        drop(all);
        let name = hosted.service.name().to_owned();
        Ok(Serving::new(name, OnHosted(hosted)))
    }

    /// The services that are served.
    pub(crate) fn hosted(&self) -> Vec<Arc<Hosted>> {
        let hosted = self.hosted.lock();
        hosted.iter().filter_map(Weak::upgrade).collect()
    }

    /// Waits until no call is under way in the phases before `generation`, in which none begins any
    /// more. Each has its own deadline.
    pub(crate) async fn leave(&self, generation: u64) {
        let left: Vec<_> = {
            let under_way = self.under_way.lock();
            let before = under_way.range(..generation);
            before.map(|(_, tally)| Arc::clone(tally)).collect()
        };
        // Whoever is about to enter finds it closed, and looks again which phase holds.
        left.iter().for_each(|tally| tally.close());
        for tally in left {
            tally.empty().await;
        }
    }
}

impl Hosted {
    /// Serves in a further phase, unless it was stopped.
    pub(crate) async fn join(
        &self,
        bus: &Arc<dyn EventBus>,
        generation: u64,
    ) -> Result<(), ServeError> {
        if self.state.lock().stopped {
            return Ok(());
        }
        let serving = bus.serve(self.service.clone()).await?;
        let mut state = self.state.lock();
        let unwanted = if state.stopped {
            Some(serving)
        } else {
            state.sides.insert(generation, serving)
        };
        // Not under the lock.
        drop(state);
        drop(unwanted);
        Ok(())
    }

    /// Serves no more in a phase that did not come to be.
    pub(crate) fn undo(&self, generation: u64) {
        let undone = self.state.lock().sides.remove(&generation);
        drop(undone);
    }

    /// Serves no more in the phases before `generation`; calls that are under way there end first.
    pub(crate) async fn leave(&self, generation: u64) {
        let left = {
            let mut state = self.state.lock();
            let kept = state.sides.split_off(&generation);
            std::mem::replace(&mut state.sides, kept)
        };
        for serving in left.into_values() {
            serving.stop(DEFAULT_LONGEST).await;
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.service.name()
    }
}

/// The application's hold on a service.
#[derive(Debug)]
struct OnHosted(Arc<Hosted>);

#[async_trait]
impl Served for OnHosted {
    async fn stop(&self, deadline: Duration) -> bool {
        let sides = {
            let mut state = self.0.state.lock();
            state.stopped = true;
            std::mem::take(&mut state.sides)
        };
        let mut all = true;
        for serving in sides.into_values() {
            all &= serving.stop(deadline).await;
        }
        all
    }
}

impl Drop for OnHosted {
    fn drop(&mut self) {
        let sides = {
            let mut state = self.0.state.lock();
            state.stopped = true;
            std::mem::take(&mut state.sides)
        };
        drop(sides);
    }
}
