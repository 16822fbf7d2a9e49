//! A cutover: the phase changes under publishers and subscriptions that go on.
//!
//! Publishers are held only between the new phase standing ready and the commit. What they sent
//! before is then in the queues of the old phase, and nothing of them is on the new one: so each
//! subscription reads the old one empty and goes on with the new one, without marks and without a
//! number to agree on.
//!
//! Invariant: until the commit is in the journal nothing was published on the new phase, and undoing
//! is closing it; afterwards there is only forward.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus_trait::{EventBus, FlushError, Subscribe, SubscribeError};
use futures_timer::Delay;
use tokio::sync::RwLockWriteGuard;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::journal::{Journal, Record};
use super::phased::fabric::Fabric;
use super::phased::handle::Handle;
use super::status::Step;
use crate::phase::Phase;

/// What tells whether two phases are one bus.
const PROBE: &str = "eventbus.rollout.probe";

/// A cutover that is to be made.
pub(crate) struct Cutover<'a> {
    pub(crate) fabric: &'a Arc<Fabric>,
    pub(crate) journal: &'a mut Journal,
    pub(crate) number: u64,
    pub(crate) to: Phase,
    /// How long publishers may be held.
    pub(crate) hold: Duration,
    /// Told before each step.
    pub(crate) on_step: &'a (dyn Fn(Step) + Send + Sync),
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    /// How long publishers were held.
    pub(crate) delay_us: u64,
}

/// It was given up; everything is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenUp {
    pub(crate) step: Step,
    pub(crate) reason: String,
}

/// The new phase while it is made.
#[derive(Default)]
struct New<'a> {
    root: Option<Arc<dyn EventBus>>,
    handles: Vec<(Arc<Handle>, Arc<dyn EventBus>)>,
    /// Since when publishers are held.
    held: Option<Instant>,
    turn: Option<RwLockWriteGuard<'a, ()>>,
}

impl Cutover<'_> {
    /// Moves everything to the new phase. `aborted` is ready when somebody wants it given up.
    ///
    /// Not to be cancelled: it undoes what it has begun only by itself.
    pub(crate) async fn run(mut self, aborted: impl Future<Output = ()>) -> Result<Moved, GivenUp> {
        let from = self.fabric.phase();
        self.fabric.begin_delay();
        self.step(Step::Begin);
        let begin = Record::Begin {
            number: self.number,
            from: from.to_string(),
            to: self.to.to_string(),
        };
        self.write(Step::Begin, begin).await?;
        let fabric = Arc::clone(self.fabric);
        let mut new = New::default();
        let mut step = Step::Open;
        let unwanted = || Err("somebody wanted it given up".to_owned());
        let mut aborted = std::pin::pin!(aborted);
        let mut prepared = tokio::select! {
            biased;
            () = &mut aborted => unwanted(),
            prepared = self.prepare(&fabric, &mut new, &mut step) => prepared,
        };
        if prepared.is_ok() {
            // Who asks from here on is told that it is too late, so this look is the last.
            self.step(Step::Commit);
            prepared = tokio::select! {
                biased;
                () = &mut aborted => unwanted(),
                () = std::future::ready(()) => Ok(()),
            };
        }
        let committed = match prepared {
            Ok(()) => {
                let commit = Record::Commit {
                    number: self.number,
                    to: self.to.to_string(),
                };
                self.write(Step::Commit, commit).await
            }
            Err(reason) => Err(GivenUp { step, reason }),
        };
        if let Err(given_up) = committed {
            self.undo(new, &given_up).await;
            return Err(given_up);
        }
        let old = self.switch(new);
        self.leave(old).await;
        self.step(Step::Done);
        let done = Record::Done {
            number: self.number,
        };
        if let Err(error) = self.journal.write(done).await {
            // The commit says the same.
            warn!(%error, "the journal does not know that the cutover is done");
        }
        Ok(Moved {
            delay_us: self.fabric.delay_us(),
        })
    }

    fn step(&self, step: Step) {
        let (number, to) = (self.number, &self.to);
        info!(cutover = number, %step, %to, "cutover");
        (self.on_step)(step);
    }

    async fn write(&mut self, step: Step, record: Record) -> Result<(), GivenUp> {
        self.journal.write(record).await.map_err(|error| GivenUp {
            step,
            reason: error.to_string(),
        })
    }

    /// Everything before the commit. What is begun is in `new`, wherever this ends.
    async fn prepare<'f>(
        &self,
        fabric: &'f Arc<Fabric>,
        new: &mut New<'f>,
        step: &mut Step,
    ) -> Result<(), String> {
        self.step(Step::Open);
        let opened = fabric.opener.open(&self.to).await;
        let root = opened.map_err(|error| error.to_string())?;
        new.root = Some(Arc::clone(&root));
        self.check_apart(&root).await?;
        *step = Step::Subscribe;
        self.step(Step::Subscribe);
        new.turn = Some(fabric.turn.write().await);
        self.connect(&root, new).await?;
        self.subscribe(new).await?;
        self.serve(new).await?;
        *step = Step::Hold;
        self.step(Step::Hold);
        self.hold(new).await
    }

    /// Two phases may meet at one broker; then they are one bus, where each event would come twice.
    async fn check_apart(&self, new: &Arc<dyn EventBus>) -> Result<(), String> {
        let Some(old) = self
            .fabric
            .handles()
            .into_iter()
            .find_map(|h| h.lane.current())
        else {
            return Ok(());
        };
        let name = format!("{PROBE}-{}", new.publisher_id());
        let probe = || Subscribe::to(PROBE).map(|subscribe| subscribe.named(&*name));
        let (Ok(here), Ok(there)) = (probe(), probe()) else {
            return Ok(());
        };
        let denied = |error| match error {
            // Whoever may not subscribe cannot ask; most subscriptions have names that tell, too.
            SubscribeError::Denied { .. } => Ok(()),
            error => Err(error.to_string()),
        };
        let first = match old.0.subscribe(here).await {
            Ok(first) => first,
            Err(error) => return denied(error),
        };
        let second = new.subscribe(there).await;
        first.unsubscribe().await;
        match second {
            Ok(second) => {
                second.unsubscribe().await;
                Ok(())
            }
            Err(SubscribeError::AlreadySubscribed { .. }) => Err(format!(
                "`{}` and `{}` are one broker's, so each event would come twice; give one of them \
                 a broker of its own",
                self.fabric.phase(),
                self.to
            )),
            Err(error) => denied(error),
        }
    }

    /// A handle of the new phase for each of ours.
    async fn connect(&self, root: &Arc<dyn EventBus>, new: &mut New<'_>) -> Result<(), String> {
        for handle in self.fabric.handles() {
            let bus = if handle.is_root {
                Arc::clone(root)
            } else {
                let connected = root.connect(handle.name.as_deref()).await;
                connected.map_err(|error| error.to_string())?
            };
            new.handles.push((handle, bus));
        }
        Ok(())
    }

    /// Each subscription in the new phase as well. Every handle is connected by now, so nothing that
    /// one of them publishes is missed (SUB-001).
    async fn subscribe(&self, new: &New<'_>) -> Result<(), String> {
        let generation = self.fabric.generation() + 1;
        for (handle, bus) in &new.handles {
            for member in handle.members() {
                if member.is_closed() {
                    continue;
                }
                let subscribed = bus.subscribe(member.subscribe.clone()).await;
                let subscription = subscribed
                    .map_err(|error| format!("subscription `{}`: {error}", member.name))?;
                member.join(generation, subscription);
            }
        }
        Ok(())
    }

    /// Each service in the new phase as well, before anybody can call it there.
    async fn serve(&self, new: &New<'_>) -> Result<(), String> {
        let generation = self.fabric.generation() + 1;
        for (handle, bus) in &new.handles {
            for hosted in handle.calls.hosted() {
                let joined = hosted.join(bus, generation).await;
                joined.map_err(|error| format!("service `{}`: {error}", hosted.name()))?;
            }
        }
        Ok(())
    }

    /// Holds publishers, until everything that they sent has arrived.
    async fn hold(&self, new: &mut New<'_>) -> Result<(), String> {
        let held = *new.held.insert(Instant::now());
        for (handle, _) in &new.handles {
            handle.lane.hold();
        }
        let everybody = async {
            for (handle, _) in &new.handles {
                handle.emptied().await;
            }
        };
        tokio::select! {
            biased;
            () = everybody => {}
            () = Delay::new(self.hold) => {
                return Err(format!("publishers waited for room for longer than {:?}", self.hold));
            }
        }
        for (handle, _) in &new.handles {
            let Some((bus, _)) = handle.lane.current() else {
                continue;
            };
            match bus.flush(self.hold.saturating_sub(held.elapsed())).await {
                // Who has gone away gets nothing in any phase; that was told where it was noticed.
                Ok(()) | Err(FlushError::Lost { .. } | FlushError::Closed) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// The commit is on disk: publishers go on in the new phase. Returns what is left of the old.
    fn switch(&self, new: New<'_>) -> Vec<Arc<dyn EventBus>> {
        self.step(Step::Switch);
        let generation = self.fabric.generation() + 1;
        self.fabric.set_phase(self.to.clone(), generation);
        let mut rooted = false;
        let mut old = Vec::new();
        for (handle, bus) in new.handles {
            rooted |= handle.is_root;
            handle.add_side(Arc::clone(&bus), generation);
            match handle.lane.switch(Arc::clone(&bus), generation) {
                Some(before) => old.push(before),
                // Dropped meanwhile.
                None => old.push(bus),
            }
        }
        if let Some(held) = new.held {
            // Who waits has not told yet; nobody waited for longer at a gate that was closed so long.
            self.fabric.note_delay(held.elapsed());
        }
        // The others hold what it made.
        old.extend(new.root.filter(|_| !rooted));
        old
    }

    /// Ends the old phase. Its subscriptions are read to their end, whenever the application does.
    async fn leave(&self, old: Vec<Arc<dyn EventBus>>) {
        self.step(Step::Drain);
        self.leave_calls().await;
        let mut closing = JoinSet::new();
        for bus in old {
            closing.spawn(async move { bus.shutdown().await });
        }
        self.step(Step::Close);
        while let Some(closed) = closing.join_next().await {
            if let Ok(Err(error)) = closed {
                warn!(%error, "the old phase was closed all the same");
            }
        }
    }

    /// Waits until all calls of the old phase have ended there.
    async fn leave_calls(&self) {
        let generation = self.fabric.generation();
        let handles = self.fabric.handles();
        for handle in &handles {
            handle.calls.leave(generation).await;
        }
        for handle in &handles {
            for hosted in handle.calls.hosted() {
                hosted.leave(generation).await;
            }
        }
    }

    async fn undo(&mut self, new: New<'_>, why: &GivenUp) {
        let generation = self.fabric.generation() + 1;
        for (handle, _) in &new.handles {
            if new.held.is_some() {
                handle.lane.release();
            }
            for member in handle.members() {
                member.leave(generation);
            }
            for hosted in handle.calls.hosted() {
                hosted.undo(generation);
            }
        }
        drop(new.turn);
        let record = Record::Abort {
            number: self.number,
            reason: why.reason.clone(),
        };
        if let Err(error) = self.journal.write(record).await {
            // A journal without a commit says the same.
            warn!(%error, "the journal does not know that the cutover was given up");
        }
        let mut closing = JoinSet::new();
        let others = new.handles.into_iter().map(|(_, bus)| bus);
        for bus in others.chain(new.root) {
            closing.spawn(async move { bus.shutdown().await });
        }
        while closing.join_next().await.is_some() {}
    }
}
