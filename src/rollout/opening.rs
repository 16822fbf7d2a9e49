//! Opening a rollout: where the journal says, with everything that belongs to it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use eventbus_trait::EventBus;
use shadow::ShadowBus;

use super::admin::Server;
use super::conductor::{Conductor, OnStep, first_status};
use super::controller::Controller;
use super::journal::{Journal, Record};
use super::observed::Evidence;
use super::options::Rollout;
use super::phased::PhasedBus;
use super::phased::fabric::{Fabric, Opener};
use super::phased::handle::Handle;
use super::shadowing::{Shadowing, Shadows};
use super::stage::Stage;
use crate::config::Config;
use crate::open::{Attaching, OpenError, open_plain};
use crate::phase::Phase;
use crate::rollout::Step;

/// Opens the phases of a rollout.
pub(crate) struct Opening {
    config: Config,
    /// Whether phases are compared.
    compares: bool,
    /// What is put around candidates.
    around: Option<Around>,
    pub(crate) shadows: Shadows,
}

/// What stands around a candidate, given that itself.
type Around = Arc<dyn Fn(Arc<dyn EventBus>) -> Arc<dyn EventBus> + Send + Sync>;

/// What a trial of a rollout adds to it: by default nothing.
#[derive(Clone, Default)]
pub struct Trial {
    on_step: Option<OnStep>,
    around: Option<Around>,
}

impl Trial {
    /// Tells `on_step` before each step of a cutover; it may take its time.
    #[must_use]
    pub fn on_step(mut self, on_step: impl Fn(Step) + Send + Sync + 'static) -> Self {
        self.on_step = Some(Arc::new(on_step));
        self
    }

    /// Puts `around` around each candidate that is compared: [sabotage](shadow::sabotage), say, to
    /// see that its gate finds it.
    #[must_use]
    pub fn around_candidates(
        mut self,
        around: impl Fn(Arc<dyn EventBus>) -> Arc<dyn EventBus> + Send + Sync + 'static,
    ) -> Self {
        self.around = Some(Arc::new(around));
        self
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial")
            .field("on_step", &self.on_step.is_some())
            .field("around_candidates", &self.around.is_some())
            .finish()
    }
}

impl Opening {
    /// Whether publishers have no rate limit.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.config.limits.rate.is_none()
    }

    /// A first handle of a phase that is to be compared with the one that holds, whose rate limit
    /// decides what there is to compare.
    pub(crate) async fn candidate(&self, phase: &Phase) -> Result<Arc<dyn EventBus>, OpenError> {
        let mut beside = self.config.clone();
        beside.limits.rate = None;
        let candidate = open_plain(&beside, phase).await?;
        Ok(match &self.around {
            Some(around) => around(candidate),
            None => candidate,
        })
    }
}

#[async_trait]
impl Opener for Arc<Opening> {
    async fn open(&self, phase: &Phase) -> Result<Arc<dyn EventBus>, OpenError> {
        let bus = match self.shadows.take(phase) {
            Some(candidate) => candidate,
            None => open_plain(&self.config, phase).await?,
        };
        if self.compares {
            return Ok(self.shadows.wrap(phase, bus));
        }
        Ok(bus)
    }

    fn attached(&self, phase: &Phase) -> Option<Arc<ShadowBus>> {
        self.shadows.attached(&phase.to_string())
    }
}

/// Opens the bus of a rollout in the phase that its journal says, or else in the first. Call it
/// within a tokio runtime, on which the rollout then runs.
///
/// # Errors
/// [`OpenError::Rollout`] if there is no rollout in `config`, or its journal cannot be used; else as
/// [`open`](crate::open).
pub async fn open(config: &Config) -> Result<Arc<PhasedBus>, OpenError> {
    open_trial(config, Trial::default()).await
}

/// As [`open`], with what a trial adds.
///
/// # Errors
/// As [`open`].
pub async fn open_trial(config: &Config, trial: Trial) -> Result<Arc<PhasedBus>, OpenError> {
    let Trial { on_step, around } = trial;
    let Some(rollout) = &config.rollout else {
        return Err(failed("there is no `rollout` in the configuration"));
    };
    let observed = Attaching::begin(config).await?;
    let (mut journal, standing) = Journal::open(&rollout.journal).await.map_err(failed)?;
    let stages = Stage::all(rollout);
    let at = place(
        &stages,
        rollout,
        standing.phase.as_deref(),
        standing.stage.as_deref(),
    )?;
    let Some(stage) = stages.get(at).cloned() else {
        return Err(failed("a rollout needs phases"));
    };
    if let Some(to) = &standing.unfinished {
        let phase = stage.phase.to_string();
        tracing::warn!(
            phase,
            to,
            "a cutover had not come to its commit; the old phase holds"
        );
    }
    let opening = Arc::new(Opening {
        config: config.clone(),
        compares: rollout.shadow,
        around,
        shadows: Shadows::default(),
    });
    let looked_at = Arc::downgrade(&opening);
    let bus = Arc::clone(&opening).open(&stage.phase).await?;
    let start = Record::Start {
        stage: stage.name(),
        phase: stage.phase.to_string(),
    };
    journal.write(start).await.map_err(failed)?;
    let limits = config.limits.clone();
    let fabric = Fabric::new(Box::new(Arc::clone(&opening)), stage.phase.clone(), limits);
    let fabric = Arc::new(fabric);
    let (controller, shared, orders) = Controller::new(first_status(rollout, &stages, at));
    let admin = rollout.admin.as_deref();
    let admin = admin.map(|path| Server::start(path, controller.clone()));
    let admin = admin.transpose().map_err(failed)?;
    let handle = Handle::new(&fabric, bus, 0, config.name.as_deref(), true);
    let conductor = Conductor {
        evidence: Evidence::begin(0),
        shadowing: Shadowing::new(opening),
        rollout: rollout.clone(),
        number: standing.number,
        fabric: Arc::clone(&fabric),
        shared,
        orders,
        journal,
        stages,
        at,
        on_step,
        _admin: admin,
    };
    fabric.set_conductor(tokio::spawn(conductor.run()));
    let bus = PhasedBus::new(handle, controller);
    observed.rollout(&bus, move |phase| {
        looked_at.upgrade()?.shadows.attached(phase)
    });
    Ok(bus)
}

/// Which stage holds.
fn place(
    stages: &[Stage],
    rollout: &Rollout,
    phase: Option<&str>,
    stage: Option<&str>,
) -> Result<usize, OpenError> {
    let Some(phase) = phase else { return Ok(0) };
    let of_phase = |s: &&Stage| s.phase.to_string() == phase;
    let plain = stages
        .iter()
        .filter(of_phase)
        .find(|s| s.candidate.is_none());
    let exact = stages
        .iter()
        .filter(of_phase)
        .find(|s| Some(&*s.name()) == stage);
    let found = exact
        .or(plain)
        .and_then(|s| stages.iter().position(|other| other == s));
    found.ok_or_else(|| {
        let journal = rollout.journal.display();
        failed(format!(
            "journal `{journal}` says that phase `{phase}` holds, which is not in `rollout.phases`"
        ))
    })
}

fn failed(reason: impl ToString) -> OpenError {
    OpenError::Rollout {
        reason: reason.to_string(),
    }
}
