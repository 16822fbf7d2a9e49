//! How a member stands, as its heartbeats and its replies say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::host::Options;
use super::wire::HealthReport;
use super::{Asked, Collector};
use crate::intake::Intake;
use crate::member::{Activity, Heartbeat, Identity, MAX_AILMENT_BYTES};
use eventbus_trait::rpc::Call;

/// What the parts of a host share.
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) options: Options,
    pub(super) collector: Arc<dyn Collector>,
    pub(super) intake: Intake,
    pub(super) status: watch::Sender<Status>,
    pub(super) since: Instant,
    number: AtomicU64,
}

/// What changes about a member.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Status {
    pub(super) activity: Activity,
    pub(super) config_version: Option<u64>,
    /// What is not known to have been carried out.
    pub(super) doubts: Option<String>,
    /// The change that is being carried out, and since when.
    pub(super) doing: Option<(&'static str, Instant)>,
    /// What the collector said when it was last asked how it is.
    pub(super) checked: Option<String>,
    /// Since when it has been asked.
    pub(super) checking: Option<Instant>,
}

impl Shared {
    pub(super) fn new(identity: Identity, collector: Arc<dyn Collector>, options: Options) -> Self {
        let status = Status {
            activity: Activity::Idle,
            config_version: options.config.as_ref().map(|(version, _)| *version),
            doubts: None,
            doing: None,
            checked: None,
            checking: None,
        };
        Self {
            identity,
            options,
            collector,
            intake: Intake::new(),
            status: watch::channel(status).0,
            since: Instant::now(),
            number: AtomicU64::new(0),
        }
    }

    /// Asks the collector how it is. A check that panics or does not come back has found something, too.
    pub(super) async fn check(&self) -> Option<String> {
        let limit = self.options.check_limit;
        let check = async { self.collector.health_check().await };
        let check = std::panic::AssertUnwindSafe(check).catch_unwind();
        match timeout(limit, check).await {
            Ok(Ok(said)) => said.err(),
            Ok(Err(_)) => Some("health_check panicked".to_owned()),
            Err(_) => Some(format!("health_check has not come back within {limit:?}")),
        }
    }

    /// Why the member is not well, if the collector says this of itself.
    fn ailment(&self, checked: Option<String>) -> Option<String> {
        let status = self.status.borrow();
        let limit = self.options.limit;
        let stuck = status.doing.filter(|(_, since)| since.elapsed() > limit);
        let stuck = stuck.map(|(what, _)| format!("{what} has not come back within {limit:?}"));
        let parts = [status.doubts.clone(), stuck, checked];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| presentable(&parts.join("; ")))
    }

    /// From now on it says that it leaves.
    pub(super) fn leaves(&self) {
        let leaving = Activity::Leaving;
        self.status.send_modify(|status| status.activity = leaving);
    }

    pub(super) fn activity(&self) -> Activity {
        self.status.borrow().activity
    }

    /// The ailment as it is known without asking.
    pub(super) fn known_ailment(&self) -> Option<String> {
        let (checked, checking) = {
            let status = self.status.borrow();
            (status.checked.clone(), status.checking)
        };
        // A check that blocks its thread is never cut off.
        let limit = 2 * self.options.check_limit;
        let stuck = checking.is_some_and(|since| since.elapsed() > limit);
        self.ailment(if stuck {
            Some(format!("health_check has not come back within {limit:?}"))
        } else {
            checked
        })
    }

    /// The next heartbeat.
    pub(super) fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            identity: self.identity.clone(),
            activity: self.activity(),
            ailment: self.known_ailment(),
            interval_ms: millis(self.options.interval),
            number: self.number.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    pub(super) async fn report(&self) -> HealthReport {
        let ailment = self.ailment(self.check().await);
        let status = self.status.borrow();
        HealthReport {
            identity: self.identity.clone(),
            well: ailment.is_none(),
            ailment,
            activity: status.activity,
            uptime_ms: millis(self.since.elapsed()),
            config_version: status.config_version,
            working: self.intake.inside(),
        }
    }

    /// The member takes no more, and goes.
    pub(super) fn is_draining(&self) -> bool {
        self.intake.is_closed()
    }
}

impl Asked {
    pub(super) fn by(call: &Call) -> Self {
        let now = Instant::now();
        Self {
            correlation: call.correlation.clone(),
            until: now.checked_add(call.deadline).unwrap_or(now),
        }
    }

    pub(super) fn within(deadline: Duration) -> Self {
        Self {
            correlation: None,
            until: Instant::now() + deadline,
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A text that a heartbeat may carry.
fn presentable(text: &str) -> String {
    let mut fit = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if fit.len() + c.len_utf8() > MAX_AILMENT_BYTES {
            break;
        }
        fit.push(c);
    }
    fit
}
