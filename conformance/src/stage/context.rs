//! The context of one run of one clause: the phase, and what has to be ended after it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eventbus_trait::Limits;
use parking_lot::Mutex;

use super::{AtDoor, Faulty, Movable, Patience, Stage, Wrecked};
use crate::harness::{
    Capability, Comparison, Course, CutoverHarness, CutoverRig, Depth, DoorRig, FaultRig, Harness,
    Plane, Replayed, Rig, ShadowRig, Steps, Wrap,
};
use crate::outcome::Tally;
use crate::seed::{Rng, Seed};
use crate::verdict::{Checked, Unmet};

/// What a clause is given: the phase, and what to clean up after it.
#[derive(Clone)]
pub struct Context {
    harness: Arc<dyn Harness>,
    patience: Patience,
    seed: Seed,
    stages: Arc<Mutex<Vec<Stage>>>,
    /// What was done on stages that are closed.
    done: Arc<Mutex<Tally>>,
}

impl Context {
    /// A context for one run of one clause, with the [seed of the run](Seed::of_run).
    #[must_use]
    pub fn new(harness: Arc<dyn Harness>, patience: Patience) -> Self {
        let seed = Seed::of_run().of(harness.name());
        Self {
            harness,
            patience,
            seed,
            stages: Arc::default(),
            done: Arc::default(),
        }
    }

    /// The same for the clause of this name: its seed is derived from `run`, phase and name.
    #[must_use]
    pub fn seeded(mut self, run: Seed, clause: &str) -> Self {
        self.seed = run.of(self.harness.name()).of(clause);
        self
    }

    /// The same with this seed: for what has to be the same on several phases.
    #[must_use]
    pub fn with_seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// The clause's own seed, derived from the run's.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// The clause's own generator, which begins anew each time it is asked for.
    #[must_use]
    pub fn rng(&self) -> Rng {
        self.seed.rng()
    }

    /// Starts a bus with default limits.
    ///
    /// # Errors
    /// Broken, if it does not start.
    pub async fn stage(&self) -> Checked<Stage> {
        self.stage_with(Limits::default()).await
    }

    /// Starts a bus.
    ///
    /// # Errors
    /// Broken, if it does not start.
    pub async fn stage_with(&self, limits: Limits) -> Checked<Stage> {
        let rig = self
            .patience
            .wait("the bus to start", self.harness.start(limits))
            .await?;
        Ok(self.enter(Arc::from(rig.map_err(Unmet::Broken)?)))
    }

    /// Starts a shadow with `wrap` around its candidate.
    ///
    /// # Errors
    /// Broken, if it does not start; not applicable, if the phase doubles nothing.
    pub async fn shadow_stage(&self, wrap: Wrap) -> Checked<Shadowed> {
        let Some(shadow) = self.harness.shadow() else {
            return Err(Unmet::NotApplicable("the phase doubles nothing".into()));
        };
        let starting = shadow.start_shadow(Limits::default(), wrap);
        let rig = self
            .patience
            .wait("the shadow to start", starting)
            .await?
            .map_err(Unmet::Broken)?;
        let rig: Arc<dyn ShadowRig> = Arc::from(rig);
        let stage = self.enter(Arc::clone(&rig) as Arc<dyn Rig>);
        stage.0.unjudged.store(true, Ordering::Relaxed);
        Ok(Shadowed { stage, rig })
    }

    /// Starts a bus that can be hurt.
    ///
    /// # Errors
    /// Broken, if it does not start; not applicable, if the phase has nothing to hurt.
    pub async fn fault_stage(&self) -> Checked<Faulty> {
        let Some(faults) = self.harness.faults() else {
            return Err(Unmet::NotApplicable(Capability::Faults.lack().into()));
        };
        self.enter_faulty(faults.start_faulty(Limits::default()))
            .await
    }

    /// Starts a bus that can be hurt, and whose broker's wall clock can be turned.
    ///
    /// # Errors
    /// Broken, if it does not start; not applicable, if there is no such clock.
    pub async fn clock_stage(&self) -> Checked<Faulty> {
        let faults = self.harness.faults().filter(|f| f.turns_clocks());
        let Some(faults) = faults else {
            return Err(Unmet::NotApplicable(Capability::Clock.lack().into()));
        };
        self.enter_faulty(faults.start_by_a_clock(Limits::default()))
            .await
    }

    async fn enter_faulty(
        &self,
        starting: impl Future<Output = Result<Box<dyn FaultRig>, String>>,
    ) -> Checked<Faulty> {
        let rig = self.patience.wait("the bus to start", starting).await?;
        let rig: Arc<dyn FaultRig> = Arc::from(rig.map_err(Unmet::Broken)?);
        let stage = self.enter(Arc::clone(&rig) as Arc<dyn Rig>);
        *stage.0.hurt.lock() = Some(Arc::downgrade(&rig));
        Ok(Faulty { stage, rig })
    }

    /// Starts a bus whose front door takes at most `connections`.
    ///
    /// # Errors
    /// Broken, if it does not start; not applicable, if the phase has no front door.
    pub async fn door_stage(&self, connections: usize) -> Checked<AtDoor> {
        let Some(door) = self.harness.door() else {
            return Err(Unmet::NotApplicable(Capability::Door.lack().into()));
        };
        let starting = door.start_door(Limits::default(), connections);
        let rig = self.patience.wait("the bus to start", starting).await?;
        let rig: Arc<dyn DoorRig> = Arc::from(rig.map_err(Unmet::Broken)?);
        let stage = self.enter(Arc::clone(&rig) as Arc<dyn Rig>);
        Ok(AtDoor { stage, rig })
    }

    fn cutover(&self) -> Checked<&dyn CutoverHarness> {
        let lack = || Unmet::NotApplicable(Capability::Cutover.lack().into());
        self.harness.cutover().ok_or_else(lack)
    }

    /// The steps of a move.
    ///
    /// # Errors
    /// Not applicable, if the phase is not moved to another.
    pub fn cutover_steps(&self) -> Checked<Steps> {
        Ok(self.cutover()?.steps())
    }

    /// Starts a bus that can be moved to another phase.
    ///
    /// # Errors
    /// Broken, if it does not start; not applicable, if the phase is not moved to another.
    pub async fn movable_stage(&self) -> Checked<Movable> {
        let starting = self.cutover()?.start_movable(Limits::default());
        self.enter_movable(starting).await
    }

    /// Has a process of its own move a bus, and kills it just before `step`.
    ///
    /// # Errors
    /// Unexercised, if it does not come to that; not applicable, if the phase is not moved to
    /// another.
    pub async fn crash(&self, course: Course, step: u8) -> Checked<Wrecked> {
        let crashing = self.cutover()?.crash(course, step);
        let wreck = self
            .patience
            .wait("a process to be killed", crashing)
            .await?;
        Ok(Wrecked(wreck.map_err(Unmet::Unexercised)?))
    }

    /// Starts a bus from what a killed process has left.
    ///
    /// # Errors
    /// Broken, if it does not start.
    pub async fn restarted(&self, wreck: &Wrecked) -> Checked<Movable> {
        self.enter_movable(wreck.0.restart()).await
    }

    async fn enter_movable(
        &self,
        starting: impl Future<Output = Result<Box<dyn CutoverRig>, String>>,
    ) -> Checked<Movable> {
        let rig = self.patience.wait("the bus to start", starting).await?;
        let rig: Arc<dyn CutoverRig> = Arc::from(rig.map_err(Unmet::Broken)?);
        let stage = self.enter(Arc::clone(&rig) as Arc<dyn Rig>);
        Ok(Movable { stage, rig })
    }

    /// Shuts a stage down before the clause ends, and lets go of everything it held.
    ///
    /// # Errors
    /// Broken, if a handle does not shut down.
    pub async fn close(&self, stage: Stage) -> Checked {
        {
            let mut stages = self.stages.lock();
            stages.retain(|other| !Arc::ptr_eq(&other.0, &stage.0));
            *self.done.lock() += stage.tally();
        }
        stage.shut_down().await
    }

    /// Asks the stages of a clause that passed what they have found themselves.
    ///
    /// # Errors
    /// As `checked`, or broken, if a phase found something wrong.
    pub async fn judge(&self, checked: Checked) -> Checked {
        checked?;
        let stages = self.stages.lock().clone();
        for stage in stages {
            stage.judge().await?;
        }
        Ok(())
    }

    /// Ends every stage that was entered, all of them within the patience of a single wait. A bus
    /// that cannot be shut down breaks LIF-001 and LIF-004, which look at it, and no other clause.
    pub async fn clean(&self) {
        let stages = {
            let mut stages = self.stages.lock();
            let mut done = self.done.lock();
            stages.iter().for_each(|stage| *done += stage.tally());
            std::mem::take(&mut *stages)
        };
        let cleaning = async {
            for stage in &stages {
                let _ = stage.shut_down().await;
            }
        };
        let _ = self.patience.wait("the clean-up", cleaning).await;
    }

    /// What the clause has done up to now, on all its stages.
    #[must_use]
    pub fn tally(&self) -> Tally {
        // In this order: a stage is in one of them.
        let stages = self.stages.lock();
        let mut tally = *self.done.lock();
        for stage in stages.iter() {
            tally += stage.tally();
        }
        tally
    }

    /// What the clause was last seen to do, for a watchdog to tell.
    #[must_use]
    pub fn progress(&self) -> String {
        let stages = self.stages.lock();
        match stages.last() {
            None => "before any bus was started".to_owned(),
            Some(stage) => format!(
                "after {} entries of history, waiting for {}",
                stage.0.recorder.history().entries.len(),
                stage.0.waiting.lock(),
            ),
        }
    }

    /// How long anything is waited for.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience.0
    }

    /// Waits for `future`, with an end.
    ///
    /// # Errors
    /// Broken, naming `what` never came.
    pub async fn wait<T>(&self, what: &str, future: impl Future<Output = T>) -> Checked<T> {
        self.patience.wait(what, future).await
    }

    /// A client name that handles of the phase may have.
    #[must_use]
    pub fn client_name(&self) -> &str {
        self.harness.client_name()
    }

    /// How the parts of the control plane are started on the phase.
    pub(crate) fn plane(&self) -> &dyn Plane {
        self.harness.plane()
    }

    /// Whether the phase has `capability`.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.harness.has(capability)
    }

    fn enter(&self, rig: Arc<dyn Rig>) -> Stage {
        let mut stages = self.stages.lock();
        let seed = self.seed.of("stage").nth(stages.len() as u64);
        let stage = Stage::new(rig, self.patience, seed);
        stages.push(stage.clone());
        stage
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("phase", &self.harness.name())
            .finish_non_exhaustive()
    }
}

/// A started shadow and the way to its counts.
pub struct Shadowed {
    /// The application's side.
    pub stage: Stage,
    rig: Arc<dyn ShadowRig>,
}

impl Shadowed {
    /// Waits until everything has been classified, and counts.
    pub async fn compare(&self) -> Comparison {
        self.rig.compare(self.stage.patience()).await
    }

    /// Takes the candidate away, which has until `deadline` to be judged, and counts.
    ///
    /// # Errors
    /// Broken, if that does not end.
    pub async fn detach(&self, deadline: Duration) -> Checked<Comparison> {
        let detaching = self.rig.detach(deadline);
        let longer = Patience(self.stage.patience() * 2);
        longer.wait("the candidate to be let go", detaching).await
    }

    /// Brings another candidate, with `wrap` around it.
    ///
    /// # Errors
    /// Broken, if there is none.
    pub async fn attach(&self, wrap: Wrap, depth: Depth) -> Checked {
        let attaching = self.rig.attach(wrap, depth);
        let attached = self.stage.wait("another candidate", attaching).await?;
        attached.map_err(Unmet::Broken)
    }

    /// Makes the verdicts in a file of divergences again.
    ///
    /// # Errors
    /// Broken, if it cannot be read.
    pub async fn replay(&self, file: &Path) -> Checked<Replayed> {
        self.rig.replay(file).await.map_err(Unmet::Broken)
    }
}

impl fmt::Debug for Shadowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadowed")
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
