//! How the broker is, for whoever asks over HTTP and for the service manager.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use eventbus::broker::{BrokerStats, Monitor};
use serde::Serialize;

/// The directory goes round four times a second; a broker whose directory has not for so long has
/// not just been slow.
const STUCK: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Health {
    monitor: Monitor,
    started: Instant,
    draining: AtomicBool,
    pub(super) max_connections: usize,
}

/// What `/healthz` answers.
#[derive(Debug, Serialize)]
struct Document {
    status: &'static str,
    sessions: usize,
    connections: usize,
    uptime_seconds: u64,
}

impl Health {
    pub(super) fn new(monitor: Monitor, max_connections: usize) -> Self {
        Self {
            monitor,
            started: Instant::now(),
            draining: AtomicBool::new(false),
            max_connections,
        }
    }

    pub(super) fn stats(&self) -> BrokerStats {
        self.monitor.stats()
    }

    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// From now on nobody is accepted any more.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether the broker does its work.
    pub(super) fn is_alive(&self) -> bool {
        self.stats().silent < STUCK
    }

    /// Whether clients may be sent here, and the answer that says so.
    pub(super) fn document(&self) -> (bool, String) {
        let stats = self.stats();
        let status = if self.is_draining() {
            "draining"
        } else if stats.silent < STUCK {
            "ok"
        } else {
            "stuck"
        };
        let document = Document {
            status,
            sessions: stats.sessions,
            connections: stats.connections,
            uptime_seconds: self.uptime().as_secs(),
        };
        let text = serde_json::to_string(&document).unwrap_or_default();
        (status == "ok", text + "\n")
    }
}
