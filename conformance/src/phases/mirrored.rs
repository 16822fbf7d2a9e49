//! The shadow as a phase: crossbeam for the application, in-process busrt beside it.

use std::sync::Arc;
use std::time::Duration;

use crate::{Comparison, Harness, Rig, ShadowHarness, ShadowRig, Wrap};
use async_trait::async_trait;
use busrt_backend::Address;
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{EventBus, Limits};
use shadow::{Reason, Report, ShadowBus, ShadowOptions, Verdict};

/// Far longer than any comparison takes; it ends a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// A shadow of crossbeam and in-process busrt.
#[derive(Debug)]
pub struct Shadow;

#[async_trait]
impl Harness for Shadow {
    fn name(&self) -> &str {
        "shadow"
    }

    fn backend(&self) -> Option<String> {
        let primary = crossbeam_backend::VERSION;
        let candidate = super::busrt_version();
        Some(format!("crossbeam-backend {primary} beside {candidate}"))
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        Ok(Box::new(
            start(limits, Box::new(|candidate| candidate)).await?,
        ))
    }

    fn shadow(&self) -> Option<&dyn ShadowHarness> {
        Some(self)
    }
}

#[async_trait]
impl ShadowHarness for Shadow {
    async fn start_shadow(&self, limits: Limits, wrap: Wrap) -> Result<Box<dyn ShadowRig>, String> {
        Ok(Box::new(start(limits, wrap).await?))
    }
}

async fn start(limits: Limits, wrap: Wrap) -> Result<Mirrored, String> {
    let primary = CrossbeamBus::new(limits.clone());
    // The candidate ends a subscription some time after the primary has, so that an application
    // at its limit needs room for more there. A rate limit is the primary's alone.
    let limits = Limits {
        max_subscriptions: limits.max_subscriptions * 4,
        rate: None,
        ..limits
    };
    let candidate = wrap(super::open(Address::InProcess, limits).await?);
    Ok(Mirrored {
        bus: ShadowBus::new(primary, candidate, ShadowOptions::default()),
    })
}

struct Mirrored {
    bus: Arc<ShadowBus>,
}

impl Mirrored {
    async fn settled(&self, patience: Duration) -> Report {
        self.bus.settle(patience).await;
        self.bus.report()
    }
}

#[async_trait]
impl Rig for Mirrored {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus) as Arc<dyn EventBus>
    }

    async fn judge(&self) -> Result<(), String> {
        let report = self.settled(PATIENCE).await;
        // A clause may end every subscription before it has read anything, or shut a handle down:
        // no match is due for what was left then.
        let left = |reason: &Reason| reason.is_explained() || *reason == Reason::Shutdown;
        let explained = report.unverified_by_reason.keys().all(left)
            && report.candidate_errors.is_empty()
            && report.settled != Some(false);
        match report.verdict {
            Verdict::Match => return Ok(()),
            Verdict::Inconclusive if explained => return Ok(()),
            _ => {}
        }
        Err(format!(
            "the shadow says {}:\n{}",
            report.verdict,
            report.table()
        ))
    }
}

#[async_trait]
impl ShadowRig for Mirrored {
    async fn compare(&self, patience: Duration) -> Comparison {
        let report = self.settled(patience).await;
        let places = report
            .divergences
            .iter()
            .map(|d| (d.topic.clone(), d.sequence))
            .collect();
        Comparison {
            expected: report.expected,
            matched: report.matched,
            ignored: report.ignored,
            missing: report.missing,
            late: report.late,
            reordered: report.reordered,
            differs: report.differs,
            unverified: report.unverified,
            in_flight: report.in_flight,
            duplicate: report.duplicates,
            phantom: report.phantoms,
            places,
        }
    }
}
