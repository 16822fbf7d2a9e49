//! The lanes of one handle, by topic.

use std::collections::HashMap;
use std::sync::Arc;

use eventbus_trait::Topic;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::lane::Lane;

#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<HashMap<Topic, Arc<Lane>, RandomState>>);

impl Lanes {
    /// The lane of a topic. With `most` of them, those that nobody uses are forgotten.
    pub(crate) fn lane(&self, topic: &Topic, most: usize) -> Arc<Lane> {
        let mut lanes = self.0.lock();
        if let Some(lane) = lanes.get(topic) {
            return Arc::clone(lane);
        }
        if lanes.len() >= most {
            // Whoever uses a lane holds it, so no order is lost with the others.
            lanes.retain(|_, lane| {
                let used = Arc::strong_count(lane) > 1;
                if !used {
                    lane.forget_route();
                }
                used
            });
        }
        let lane = Arc::new(Lane::new(topic));
        lanes.insert(topic.clone(), Arc::clone(&lane));
        lane
    }

    /// Enters everywhere what is not tracked.
    pub(crate) fn enter_untracked(&self) {
        self.0
            .lock()
            .values()
            .for_each(|lane| lane.enter_untracked());
    }

    /// Forgets the routes, which hold on to everything that was compared.
    pub(crate) fn forget_routes(&self) {
        self.0.lock().values().for_each(|lane| lane.forget_route());
    }
}
