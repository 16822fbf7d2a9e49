//! The task that owns a rollout: it measures, decides, moves, and notes down.
//!
//! Invariant: one move at a time; between moves the journal, the stage and the status say the same.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_timer::Delay;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::admin::Server;
use super::controller::{Ask, Direction, Order, RolloutError, Shared};
use super::cutover::{Cutover, Moved};
use super::gate::{self, Snapshot};
use super::hooks::{self, Move};
use super::journal::{Journal, Record};
use super::observed::Evidence;
use super::options::Rollout;
use super::phased::fabric::Fabric;
use super::plan;
use super::shadowing::Shadowing;
use super::stage::Stage;
use super::status::{
    Activity, CutoverStatus, HistoryEntry, Mode, StageRef, Status, Step, Verdict, What,
};

/// Entries of the history that are kept.
const HISTORY: usize = 100;

/// Moves that may fail in one stage before the automatic mode halts: each holds publishers up.
const MOST_FAILED_MOVES: u32 = 3;

/// Told before each step of a cutover.
pub(crate) type OnStep = Arc<dyn Fn(Step) + Send + Sync>;

pub(crate) struct Conductor {
    pub(crate) fabric: Arc<Fabric>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) journal: Journal,
    pub(crate) rollout: Rollout,
    pub(crate) stages: Vec<Stage>,
    pub(crate) at: usize,
    pub(crate) number: u64,
    pub(crate) shadowing: Shadowing,
    pub(crate) evidence: Evidence,
    pub(crate) on_step: Option<OnStep>,
    /// Served as long as there is a rollout.
    pub(crate) _admin: Option<Server>,
}

/// How a move ended well.
struct Outcome {
    took: Duration,
    delay_us: u64,
}

impl Conductor {
    /// Serves until the last handle of the bus is gone, or nobody can give orders any more.
    pub(crate) async fn run(mut self) {
        self.restore().await;
        self.begin_stage();
        // Whoever gives orders does not put it off.
        let mut interval = Delay::new(self.rollout.gates.interval);
        loop {
            let fabric = Arc::clone(&self.fabric);
            let ended = fabric.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if !fabric.has_handles() {
                return;
            }
            let order = tokio::select! {
                () = &mut ended => continue,
                order = self.orders.recv() => order,
                () = &mut interval => {
                    self.evaluate().await;
                    interval.reset(self.rollout.gates.interval);
                    continue;
                }
            };
            let Some(order) = order else { return };
            let answer = self.obey(order.what).await;
            let _ = oneshot::Sender::send(order.answer, answer);
        }
    }

    async fn obey(&mut self, ask: Ask) -> Result<HistoryEntry, RolloutError> {
        match ask {
            Ask::Move {
                direction,
                force,
                from,
            } => {
                self.check_here(from)?;
                let reason = if force && direction == Direction::Advance {
                    "told to, whatever the gates say"
                } else {
                    "told to"
                };
                self.measure();
                if !force {
                    let objections = plan::objections(&self.shared.status.lock());
                    if !objections.is_empty() {
                        return Err(RolloutError::Gates { objections });
                    }
                }
                self.go(direction, reason.to_owned()).await
            }
            Ask::Pause => Ok(self.stand(Activity::Paused, What::Paused, "told to")),
            Ask::Resume => {
                self.evidence.forget_verdicts();
                let activity = self.resting();
                let entry = self.stand(activity, What::Resumed, "told to");
                self.measure();
                Ok(entry)
            }
        }
    }

    /// Who has seen another stage than this means another move.
    fn check_here(&self, from: Option<StageRef>) -> Result<(), RolloutError> {
        let here = self.stages[self.at].name();
        match from {
            Some(from) if !from.is(self.at, &here) => Err(RolloutError::Elsewhere { here, from }),
            _ => Ok(()),
        }
    }

    /// What it does when nothing is the matter.
    fn resting(&self) -> Activity {
        if self.at + 1 == self.stages.len() {
            Activity::Done
        } else {
            Activity::Watching
        }
    }

    /// Looks at the gates, and does what follows from them.
    async fn evaluate(&mut self) {
        self.measure();
        let (activity, gates) = {
            let status = self.shared.status.lock();
            (status.activity, status.gates.clone())
        };
        if !matches!(activity, Activity::Watching | Activity::Asking) {
            return;
        }
        let wanted = self.rollout.gates;
        let verdict = self.evidence.judged(gate::overall(&gates));
        self.show_counts();
        match verdict {
            Verdict::Pass if self.evidence.successes >= wanted.successes => self.passed().await,
            Verdict::Fail if self.evidence.failures >= wanted.failures => self.failed().await,
            Verdict::Inconclusive | Verdict::Stale
                if self.evidence.undecided_for() > wanted.patience =>
            {
                let waited = wanted.patience;
                let reason = format!("the gates said nothing for {waited:?}");
                self.stand(Activity::Paused, What::Paused, &reason);
            }
            Verdict::Pass => {}
            // What it asked for is not so any more.
            _ if activity == Activity::Asking => {
                self.shared.status.lock().activity = Activity::Watching;
            }
            _ => {}
        }
    }

    async fn passed(&mut self) {
        if self.rollout.mode == Mode::Manual {
            let mut status = self.shared.status.lock();
            if status.activity != Activity::Asking {
                status.activity = Activity::Asking;
                info!(
                    stage = self.stages[self.at].name(),
                    "the gates have passed; advance?"
                );
            }
            return;
        }
        let reason = "its gates have passed".to_owned();
        if let Err(error) = self.go(Direction::Advance, reason).await {
            warn!(%error, "cannot go on");
            self.evidence.moves_failed += 1;
            if self.evidence.moves_failed >= MOST_FAILED_MOVES {
                self.stand(Activity::Halted, What::Halted, &error.to_string());
                return;
            }
            // Once more after as many good evaluations.
            self.evidence.forget_verdicts();
        }
    }

    async fn failed(&mut self) {
        let failed = {
            let status = self.shared.status.lock();
            let failed = status.gates.iter().find(|g| g.verdict == Verdict::Fail);
            failed.map_or_else(String::new, |gate| {
                let measured = gate.measured.as_deref().unwrap_or("nothing");
                format!("{}: {measured}, wanted {}", gate.name, gate.wanted)
            })
        };
        error!(
            stage = self.stages[self.at].name(),
            failed, "a gate has failed"
        );
        self.shared.status.lock().last_error = Some(failed.clone());
        let back = self.rollout.fall_back && self.rollout.mode == Mode::Automatic && self.at > 0;
        if back && let Err(error) = self.go(Direction::Back, failed.clone()).await {
            error!(%error, "cannot go back");
        }
        // Also after it went back: the same way on would end the same.
        self.stand(Activity::Halted, What::Halted, &failed);
    }

    /// Measures and shows the gates.
    fn measure(&mut self) {
        let is_last = self.at + 1 == self.stages.len();
        let snapshot = self.snapshot();
        let gates = if is_last {
            Vec::new()
        } else {
            gate::judge(&self.rollout.gates, &snapshot)
        };
        let mut status = self.shared.status.lock();
        status.gates = gates;
        status.longest_publish_delay_us = self.fabric.longest_us();
    }

    fn snapshot(&mut self) -> Snapshot {
        let mut snapshot = Snapshot {
            shadowed: self.stages[self.at].candidate.is_some(),
            ..Snapshot::default()
        };
        if snapshot.shadowed {
            self.shadowing.fill(&mut snapshot);
        } else {
            snapshot.events = self.fabric.published();
        }
        snapshot.disconnected = self.fabric.disconnected();
        self.evidence.complete(&mut snapshot);
        snapshot
    }

    /// Stands still, and says why.
    fn stand(&mut self, activity: Activity, what: What, reason: &str) -> HistoryEntry {
        let here = self.stages[self.at].name();
        let entry = self.note(what, &here, reason, Duration::ZERO, 0);
        // Whoever sees that it stands finds the reason in the history.
        self.shared.status.lock().activity = activity;
        entry
    }

    /// Moves by one stage.
    async fn go(&mut self, way: Direction, reason: String) -> Result<HistoryEntry, RolloutError> {
        let from = self.stages[self.at].clone();
        let to = match way {
            Direction::Advance => self.at.checked_add(1),
            Direction::Back => self.at.checked_sub(1),
        };
        let Some(to) = to.filter(|to| *to < self.stages.len()) else {
            return Err(RolloutError::NoStage {
                stage: from.name(),
                direction: way,
            });
        };
        let before = std::mem::replace(&mut self.shared.status.lock().activity, Activity::Moving);
        let place = self.at;
        let this = Move {
            from: from.name(),
            to: self.stages[to].name(),
            direction: way,
        };
        match self.moved(&this, &from, to).await {
            Ok(outcome) => {
                hooks::after(&self.rollout.hooks, &this).await;
                let what = match way {
                    Direction::Advance => What::Advanced,
                    Direction::Back => What::WentBack,
                };
                let Outcome { took, delay_us } = outcome;
                let entry = self.note(what, &this.from, &reason, took, delay_us);
                self.begin_stage();
                if before == Activity::Paused {
                    self.shared.status.lock().activity = before;
                }
                Ok(entry)
            }
            Err(error) => {
                let here = self.stages[self.at].name();
                if self.at != place {
                    // Half-way: what was measured says nothing about this stage.
                    self.evidence = Evidence::begin(self.fabric.published());
                }
                {
                    let mut status = self.shared.status.lock();
                    status.activity = before;
                    status.cutover = None;
                    status.last_error = Some(error.to_string());
                }
                self.note(What::Aborted, &here, &error.to_string(), Duration::ZERO, 0);
                Err(error)
            }
        }
    }

    /// Moves from one stage to another. If this fails, `self.at` is the stage that holds.
    async fn moved(
        &mut self,
        this: &Move,
        from: &Stage,
        at: usize,
    ) -> Result<Outcome, RolloutError> {
        hooks::before(&self.rollout.hooks, this).await?;
        let begun = Instant::now();
        let to = self.stages[at].clone();
        let mut delay_us = 0;
        if from.candidate.is_some() {
            self.shadowing.detach(&to.phase).await;
            self.arrive(self.plain(from)).await;
        }
        if from.phase != to.phase {
            let cut_over = self.cut_over(&to).await;
            if cut_over.is_err() {
                self.shadowing.forget_kept().await;
            }
            delay_us = cut_over?.delay_us;
            self.arrive(self.plain(&to)).await;
        }
        if to.candidate.is_some() {
            self.attach(&to).await?;
            self.arrive(at).await;
        }
        Ok(Outcome {
            took: begun.elapsed(),
            delay_us,
        })
    }

    async fn attach(&mut self, to: &Stage) -> Result<(), RolloutError> {
        let Some(candidate) = &to.candidate else {
            return Ok(());
        };
        let attached = self.shadowing.attach(&to.phase, candidate).await;
        attached.map_err(|reason| RolloutError::Aborted {
            step: format!("shadow on `{candidate}`"),
            reason,
        })
    }

    /// Notes that a stage holds.
    async fn arrive(&mut self, at: usize) {
        self.at = at;
        self.show_stage();
        let stage = self.stages[at].name();
        if let Err(error) = self.journal.write(Record::Stage { stage }).await {
            // The phase is in it; a restart begins without the shadow, or with one that was ended.
            error!(%error, "the journal does not know the stage");
        }
    }

    /// A restart goes on with the shadow that there was.
    async fn restore(&mut self) {
        let here = self.stages[self.at].clone();
        if let Err(error) = self.attach(&here).await {
            warn!(%error, "the shadow is not restored");
            self.shared.status.lock().last_error = Some(error.to_string());
            self.arrive(self.plain(&here)).await;
        }
    }

    /// The stage of the same phase without a shadow.
    fn plain(&self, stage: &Stage) -> usize {
        let plain = |s: &Stage| s.phase == stage.phase && s.candidate.is_none();
        self.stages.iter().position(plain).unwrap_or(self.at)
    }

    async fn cut_over(&mut self, to: &Stage) -> Result<Moved, RolloutError> {
        self.number += 1;
        let begun = CutoverStatus {
            number: self.number,
            from: self.fabric.phase().to_string(),
            to: to.phase.to_string(),
            step: Step::Begin,
            since_ms: now_ms(),
        };
        let shared = Arc::clone(&self.shared);
        // Registered before anybody sees the cutover, so that no wish to give it up is missed.
        let aborted = shared.aborted.notified();
        shared.status.lock().cutover = Some(begun);
        let on_step = |step: Step| {
            if let Some(cutover) = &mut shared.status.lock().cutover {
                cutover.step = step;
            }
            if let Some(on_step) = &self.on_step {
                on_step(step);
            }
        };
        let cutover = Cutover {
            fabric: &self.fabric,
            journal: &mut self.journal,
            number: self.number,
            to: to.phase.clone(),
            hold: self.rollout.hold,
            on_step: &on_step,
        };
        let moved = cutover.run(aborted).await;
        let mut status = shared.status.lock();
        status.cutover = None;
        match moved {
            Ok(moved) => {
                status.cutovers += 1;
                status.longest_publish_delay_us = self.fabric.longest_us();
                Ok(moved)
            }
            Err(given_up) => Err(RolloutError::Aborted {
                step: format!("{} ({})", given_up.step.number(), given_up.step),
                reason: given_up.reason,
            }),
        }
    }

    /// A stage begins: what was measured before says nothing about it.
    fn begin_stage(&mut self) {
        self.evidence = Evidence::begin(self.fabric.published());
        self.show_stage();
        self.shared.status.lock().activity = self.resting();
        self.measure();
        self.show_counts();
    }

    fn show_stage(&self) {
        let mut status = self.shared.status.lock();
        status.phase = self.fabric.phase().to_string();
        status.stage = self.at;
        status.stage_since_ms = now_ms();
    }

    fn show_counts(&self) {
        let mut status = self.shared.status.lock();
        status.successes = self.evidence.successes;
        status.failures = self.evidence.failures;
    }

    fn note(
        &self,
        what: What,
        from: &str,
        reason: &str,
        took: Duration,
        publish_delay_us: u64,
    ) -> HistoryEntry {
        let entry = HistoryEntry {
            at_ms: now_ms(),
            what,
            from: from.to_owned(),
            to: self.stages[self.at].name(),
            reason: reason.to_owned(),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            publish_delay_us,
        };
        let HistoryEntry {
            from, to, took_us, ..
        } = &entry;
        info!(
            ?what,
            from, to, reason, took_us, publish_delay_us, "rollout"
        );
        let mut status = self.shared.status.lock();
        if status.history.len() >= HISTORY {
            status.history.remove(0);
        }
        status.history.push(entry.clone());
        entry
    }
}

/// The status of a rollout that begins in a stage.
pub(crate) fn first_status(rollout: &Rollout, stages: &[Stage], at: usize) -> Status {
    let name = stages.get(at).map(Stage::name).unwrap_or_default();
    let started = HistoryEntry {
        at_ms: now_ms(),
        what: What::Started,
        from: name.clone(),
        to: name,
        reason: "the process has started".to_owned(),
        took_us: 0,
        publish_delay_us: 0,
    };
    Status {
        phase: stages
            .get(at)
            .map(|s| s.phase.to_string())
            .unwrap_or_default(),
        stage: at,
        stages: stages.iter().map(Stage::status).collect(),
        mode: rollout.mode,
        activity: Activity::Watching,
        cutover: None,
        gates: Vec::new(),
        successes: 0,
        successes_wanted: rollout.gates.successes,
        failures: 0,
        failures_allowed: rollout.gates.failures,
        stage_since_ms: now_ms(),
        history: VecDeque::from([started]).into(),
        last_error: None,
        longest_publish_delay_us: 0,
        cutovers: 0,
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
