//! A broker with a pair of sessions on it that must not notice what is done beside them.
#![allow(dead_code, reason = "each test program uses its part")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use busrt_backend::broker::{Broker, BrokerOptions, BrokerStats, Listener};
use tokio::runtime::Runtime;

use crate::peer::{Bystanders, PATIENCE, socket};

/// A broker, a pair of sessions on it, and a count of who else has come.
pub(crate) struct Scene {
    runtime: Runtime,
    broker: Option<Broker>,
    bystanders: Option<Bystanders>,
    pub(crate) path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new(adjust: impl FnOnce(&mut BrokerOptions)) -> Self {
        let (dir, path) = socket();
        let mut options = BrokerOptions::new();
        options.listeners.push(Listener::Unix(path.clone()));
        adjust(&mut options);
        let keepalive = options.keepalive;
        let runtime = Runtime::new().unwrap();
        let broker = runtime.block_on(Broker::start(options)).unwrap();
        Self {
            runtime,
            broker: Some(broker),
            bystanders: Some(Bystanders::start(&path, keepalive)),
            path,
            _dir: dir,
        }
    }

    pub(crate) fn stats(&self) -> BrokerStats {
        self.broker.as_ref().unwrap().stats()
    }

    pub(crate) fn refused(&self, reason: &str) -> u64 {
        self.stats().refused.get(reason).copied().unwrap_or(0)
    }

    pub(crate) fn go_on(&self) {
        self.bystanders.as_ref().unwrap().go_on();
    }

    pub(crate) fn victim(&self) -> &'static str {
        self.bystanders.as_ref().unwrap().victim
    }

    /// Waits until something about the broker holds.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let watchdog = Instant::now() + PATIENCE;
        self.runtime.block_on(async {
            let mut look = tokio::time::interval(Duration::from_millis(5));
            while !holds(self) {
                assert!(
                    Instant::now() < watchdog,
                    "never: {what}: {:?}",
                    self.stats()
                );
                look.tick().await;
            }
        });
    }

    /// Ends it: the two sessions have gone on, and none of them has had to come back.
    pub(crate) fn end(mut self, strangers: u64) {
        let accepted = self.stats().accepted;
        self.bystanders.take().unwrap().end();
        assert_eq!(accepted, 2 + strangers, "somebody had to connect again");
        self.until("all have left", |scene| scene.stats().connections == 0);
        let broker = self.broker.take().unwrap();
        self.runtime.block_on(broker.stop());
    }
}
