//! Whether the broker lives, for its service manager; for whoever asks over HTTP the facade judges
//! alike.

use std::time::Duration;

use eventbus::broker::Monitor;
use eventbus::observe::{Brokered, Observer};

/// The directory goes round four times a second; a broker whose directory has not for so long has
/// not just been slow.
const STUCK: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Health {
    monitor: Monitor,
    observer: Observer,
}

impl Health {
    pub(super) fn new(monitor: Monitor, max_connections: usize) -> Self {
        let observer = Observer::new("eventbus broker");
        let watched = monitor.clone();
        observer.watch_broker(move || Some(Brokered::of(&watched.stats(), max_connections)));
        Self { monitor, observer }
    }

    /// For who serves what there is to see.
    pub(super) fn observer(&self) -> &Observer {
        &self.observer
    }

    pub(super) fn connections(&self) -> usize {
        self.monitor.stats().connections
    }

    pub(super) fn silent(&self) -> Duration {
        self.monitor.stats().silent
    }

    /// From now on nobody is accepted any more.
    pub(super) fn drain(&self) {
        self.observer.drain();
    }

    /// Whether the broker does its work.
    pub(super) fn is_alive(&self) -> bool {
        self.silent() < STUCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventbus::broker::{Broker, BrokerOptions};

    #[tokio::test]
    async fn a_broker_that_drains_or_has_ended_says_so() {
        let broker = Broker::start(BrokerOptions::new()).await.unwrap();
        let health = Health::new(broker.monitor(), 1);
        let status = || health.observer().look().health.status;
        assert_eq!(status(), "ok");
        assert!(health.is_alive());
        health.drain();
        assert_eq!(status(), "draining");
        broker.stop().await;
        assert_eq!(status(), "draining");
    }
}
