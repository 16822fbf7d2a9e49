//! Shadows as phases: each phase for the application, the one after it in the migration beside it;
//! and the same two as what a bus is moved between.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Comparison, CutoverHarness, Depth, Harness, Mirroring, Replayed, Rig, ShadowHarness, ShadowRig,
    Waiver, Wrap,
};
use async_trait::async_trait;
use eventbus_trait::{Event, EventBus, Limits};
use parking_lot::Mutex;
use shadow::{DivergenceFile, Reason, Report, Sample, ShadowBus, ShadowOptions, Verdict};

use super::{Crossbeam, InProcess, Tcp, Unix};

/// Far longer than any comparison takes; it ends a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// A shadow of two neighbours in the migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shadow {
    /// Crossbeam, with in-process busrt beside it.
    CrossbeamInProcess,
    /// In-process busrt, with a UNIX socket beside it.
    InProcessUnix,
    /// A UNIX socket, with TCP beside it.
    UnixTcp,
}

impl Shadow {
    /// The application's side, and the side that is compared with it.
    fn sides(self) -> (&'static dyn Harness, &'static dyn Harness) {
        match self {
            Self::CrossbeamInProcess => (&Crossbeam, &InProcess),
            Self::InProcessUnix => (&InProcess, &Unix),
            Self::UnixTcp => (&Unix, &Tcp),
        }
    }

    async fn mirrored(self, limits: Limits, wrap: Wrap) -> Result<Mirrored, String> {
        let (primary, candidate) = self.sides();
        let primary = primary.start(limits.clone()).await?;
        // The candidate ends a subscription some time after the primary has, so that an application
        // at its limit needs room for more there. A rate limit is the primary's alone.
        let limits = Limits {
            max_subscriptions: limits.max_subscriptions * 4,
            rate: None,
            ..limits
        };
        let candidate = candidate.start(limits.clone()).await?;
        let beside = wrap(candidate.bus());
        Ok(Mirrored {
            bus: ShadowBus::new(primary.bus(), beside, ShadowOptions::default()),
            sides: Mutex::new(vec![primary, candidate]),
            kind: self,
            limits,
        })
    }
}

#[async_trait]
impl Harness for Shadow {
    fn name(&self) -> &str {
        match self {
            Self::CrossbeamInProcess => "shadow-crossbeam-in-process",
            Self::InProcessUnix => "shadow-in-process-unix",
            Self::UnixTcp => "shadow-unix-tcp",
        }
    }

    fn backend(&self) -> Option<String> {
        let (primary, candidate) = self.sides();
        let (primary, candidate) = (primary.backend()?, candidate.backend()?);
        Some(format!("{primary} beside {candidate}"))
    }

    fn is_modelled(&self) -> bool {
        true
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        let alone: Wrap = Box::new(|candidate| candidate);
        Ok(Box::new(self.mirrored(limits, alone).await?))
    }

    fn shadow(&self) -> Option<&dyn ShadowHarness> {
        Some(self)
    }

    fn cutover(&self) -> Option<&dyn CutoverHarness> {
        Some(self)
    }

    fn waivers(&self) -> Vec<Waiver> {
        vec![Waiver {
            id: "FLW-006",
            reason: "a shadow remembers 131,072 deliveries of each stream, more than the clause \
                     offers; that this is a bound is tested in `shadow`",
        }]
    }
}

#[async_trait]
impl ShadowHarness for Shadow {
    async fn start_shadow(&self, limits: Limits, wrap: Wrap) -> Result<Box<dyn ShadowRig>, String> {
        Ok(Box::new(self.mirrored(limits, wrap).await?))
    }
}

struct Mirrored {
    bus: Arc<ShadowBus>,
    /// The primary, and every candidate that there was.
    sides: Mutex<Vec<Box<dyn Rig>>>,
    kind: Shadow,
    /// The candidates'.
    limits: Limits,
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

    fn paths(&self) -> Vec<PathBuf> {
        let sides = self.sides.lock();
        sides.iter().flat_map(|side| side.paths()).collect()
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
        counted(&self.settled(patience).await)
    }

    async fn detach(&self, patience: Duration) -> Comparison {
        let report = self.bus.detach(patience).await;
        counted(&report.unwrap_or_else(|| self.bus.report()))
    }

    async fn attach(&self, wrap: Wrap, depth: Depth) -> Result<(), String> {
        let (_, candidate) = self.kind.sides();
        let candidate = candidate.start(self.limits.clone()).await?;
        let beside = wrap(candidate.bus());
        self.sides.lock().push(candidate);
        let by_bytes = |event: &Event| event.bytes().ok();
        let options = ShadowOptions {
            sample: Some(Sample::by(depth.sample, by_bytes)),
            divergence_file: depth.file.map(DivergenceFile::new),
            ..ShadowOptions::default()
        };
        let attached = self.bus.attach_with(beside, options);
        attached.map_err(|reason| reason.to_string())
    }

    async fn replay(&self, file: &Path) -> Result<Replayed, String> {
        let lines = File::open(file).map_err(|reason| reason.to_string())?;
        let replay = shadow::replay(BufReader::new(lines)).map_err(|reason| reason.to_string())?;
        Ok(Replayed {
            reproduced: replay.reproduced,
            otherwise: replay.otherwise.len() as u64,
        })
    }
}

fn counted(report: &Report) -> Comparison {
    let places = report.divergences.iter();
    Comparison {
        expected: report.expected,
        matched: report.matched,
        unsampled: report.unsampled,
        ignored: report.ignored,
        missing: report.missing,
        late: report.late,
        reordered: report.reordered,
        differs: report.differs,
        unverified: report.unverified,
        in_flight: report.in_flight,
        duplicate: report.duplicates,
        phantom: report.phantoms,
        inverted: report.inversions.inverted,
        calls: Mirroring {
            made: report.calls.made,
            unmirrored: report.calls.unmirrored,
            same: report.calls.same,
            differs: report.calls.differs,
            failed: report.calls.failed,
            not_compared: report.calls.not_compared,
        },
        places: places.map(|d| (d.topic.clone(), d.sequence)).collect(),
    }
}
