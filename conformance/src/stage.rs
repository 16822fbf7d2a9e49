//! What a clause stands on: a started bus, its handles, authors who publish and readers who
//! receive, all of them writing one history.
//!
//! A clause says what happens; waiting is done here, always for a condition and always with an
//! end, so that a bus that hangs breaks the clause that was waiting and no other.
//!
//! Invariant: nothing here sleeps for a time and then hopes. [`Stage::drain`] sends fences behind
//! everything published and reads until they have come.

mod actor;
mod asleep;
mod author;
mod context;
mod door;
mod faulty;
mod movable;
mod patience;
mod reader;

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use eventbus_trait::{Event, EventBus, Subscribe};
use futures_util::future::{Either, join_all, select, try_join_all};
use parking_lot::Mutex;

pub use actor::Actor;
pub use asleep::Sleeper;
pub use author::Author;
pub use context::{Context, Shadowed};
pub use door::AtDoor;
pub use faulty::{Faulty, Lasts};
pub use movable::{Movable, Wrecked};
pub use patience::Patience;
pub use reader::{Fence, Reader, is_fence};

use crate::harness::{FaultRig, Rig};
use crate::history::{History, Op, Recorder};
use crate::outcome::Tally;
use crate::seed::Seed;
use crate::verdict::{Checked, Unmet};

/// How many fences [`Stage::drain`] has each author send to each reader: the counters of a
/// subscription include them.
pub const FENCES: usize = 2;

/// A started bus. Clones share it.
#[derive(Clone)]
pub struct Stage(Arc<Inner>);

struct Inner {
    patience: Patience,
    seed: Seed,
    rig: Arc<dyn Rig>,
    handles: Mutex<Vec<Arc<dyn EventBus>>>,
    recorder: Recorder,
    authors: AtomicU32,
    readers: AtomicU32,
    fences: AtomicU64,
    unjudged: AtomicBool,
    /// The rig once more, if it is one that can be hurt.
    hurt: Mutex<Option<Weak<dyn FaultRig>>>,
    waiting: Mutex<&'static str>,
}

impl Stage {
    fn new(rig: Arc<dyn Rig>, patience: Patience, seed: Seed) -> Self {
        let bus = rig.bus();
        Self(Arc::new(Inner {
            patience,
            seed,
            rig,
            handles: Mutex::new(vec![bus]),
            recorder: Recorder::default(),
            authors: AtomicU32::new(0),
            readers: AtomicU32::new(0),
            fences: AtomicU64::new(0),
            unjudged: AtomicBool::new(false),
            hurt: Mutex::new(None),
            waiting: Mutex::new("nothing"),
        }))
    }

    /// The first handle.
    #[must_use]
    pub fn bus(&self) -> Arc<dyn EventBus> {
        self.0.rig.bus()
    }

    /// A further handle of the same bus.
    ///
    /// # Errors
    /// Broken, if there is none.
    pub async fn connect(&self) -> Checked<Arc<dyn EventBus>> {
        let handle = self
            .wait("a handle", async { self.bus().connect(None).await })
            .await??;
        self.0.handles.lock().push(Arc::clone(&handle));
        Ok(handle)
    }

    /// Somebody who publishes through `bus`, one event after the other.
    #[must_use]
    pub fn author(&self, bus: &Arc<dyn EventBus>) -> Arc<Author> {
        self.author_with(bus, false)
    }

    /// As [`author`](Self::author), each of whose events has a correlation of its own.
    #[must_use]
    pub fn correlated_author(&self, bus: &Arc<dyn EventBus>) -> Arc<Author> {
        self.author_with(bus, true)
    }

    fn author_with(&self, bus: &Arc<dyn EventBus>, correlated: bool) -> Arc<Author> {
        let number = self.0.authors.fetch_add(1, Ordering::Relaxed);
        Arc::new(Author::new(
            Arc::clone(bus),
            number,
            self.0.recorder.clone(),
            self.0.patience,
            self.0.seed.nth(u64::from(number)),
            correlated,
        ))
    }

    /// Somebody who subscribes on `bus` to everything that `filter` takes.
    ///
    /// # Errors
    /// Broken, if the filter or the subscription is refused.
    pub async fn reader(&self, bus: &Arc<dyn EventBus>, filter: &str) -> Checked<Reader> {
        self.read(bus, Subscribe::to(filter)?).await
    }

    /// Somebody who subscribes on `bus`; the subscription gets a filter for fences of its own.
    ///
    /// # Errors
    /// Broken, if the subscription is refused.
    pub async fn read(&self, bus: &Arc<dyn EventBus>, subscribe: Subscribe) -> Checked<Reader> {
        let number = self.next_reader();
        let subscribe = subscribe.and(reader::fence_topic(number))?;
        self.record(bus, subscribe, number).await
    }

    fn next_reader(&self) -> u32 {
        self.0.readers.fetch_add(1, Ordering::Relaxed)
    }

    async fn record(
        &self,
        bus: &Arc<dyn EventBus>,
        subscribe: Subscribe,
        number: u32,
    ) -> Checked<Reader> {
        let recorded = subscribe.clone();
        let subscribing = async { bus.subscribe(subscribe).await };
        let subscription = self.wait("a subscription", subscribing).await??;
        let recorder = self.0.recorder.clone();
        let name = subscription.name().into();
        recorder.subscribed(&name, &recorded, bus.publisher_id());
        Ok(Reader::new(number, subscription, recorder, self.0.patience))
    }

    /// As [`reader`](Self::reader), without a filter for fences, which the handle may not be allowed.
    ///
    /// # Errors
    /// Broken, if the filter or the subscription is refused.
    pub async fn reader_without_fences(
        &self,
        bus: &Arc<dyn EventBus>,
        filter: &str,
    ) -> Checked<Reader> {
        self.record(bus, Subscribe::to(filter)?, self.next_reader())
            .await
    }

    /// How long this stage waits for anything.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.0.patience.0
    }

    /// What has happened up to now.
    #[must_use]
    pub fn history(&self) -> History {
        self.0.recorder.history()
    }

    /// What has been done up to now.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let hurt = self.0.hurt.lock().as_ref().and_then(Weak::upgrade);
        let mut tally = Tally {
            struck: hurt.map_or(0, |rig| rig.struck()),
            ..Tally::default()
        };
        for entry in self.history().entries {
            tally.published += u64::from(matches!(entry.op, Op::Accepted(_)));
            tally.delivered += u64::from(matches!(entry.op, Op::Delivered(_)));
        }
        tally
    }

    /// Where to write what happens.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// Does `work` while every reader reads: a phase may hold as little as it likes for those who
    /// do not.
    ///
    /// # Errors
    /// As `work`, or broken, if it does not come to its end.
    pub async fn while_reading<T>(
        &self,
        readers: &mut [Reader],
        work: impl Future<Output = Checked<T>>,
    ) -> Checked<T> {
        let reading = join_all(readers.iter_mut().map(|reader| async move {
            while reader.next().await.is_some() {}
            // The stream has ended, the work has not.
            std::future::pending::<()>().await;
        }));
        let (work, reading) = (pin!(work), pin!(reading));
        let both = select(work, reading);
        match self.wait("the work to be done", both).await? {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(Unmet::broken("nobody reads")),
        }
    }

    /// Reads until nothing that `authors` have published can be on its way: each author sends a
    /// fence to each reader, twice, and every reader reads until it has got them all.
    ///
    /// # Errors
    /// Broken, if a fence is refused or does not come.
    pub async fn drain(&self, readers: &mut [Reader], authors: &[Arc<Author>]) -> Checked {
        for _ in 0..FENCES {
            self.fence_round(readers, authors).await?;
            self.wait("quiescence", self.0.rig.quiesce()).await?;
        }
        for reader in readers {
            reader.take();
            reader.note_drained();
        }
        Ok(())
    }

    async fn fence_round(&self, readers: &mut [Reader], authors: &[Arc<Author>]) -> Checked {
        let mut fences: Vec<(Arc<Author>, Event)> = Vec::new();
        let mut awaited: Vec<Vec<Fence>> = Vec::new();
        for reader in readers.iter() {
            let mut own = Vec::new();
            for author in authors {
                let fence = Fence(self.0.fences.fetch_add(1, Ordering::Relaxed));
                fences.push((Arc::clone(author), reader.fence_event(fence)?));
                own.push(fence);
            }
            awaited.push(own);
        }
        let sending = async {
            for (author, event) in fences {
                author.insist_unrecorded(event).await?;
            }
            Ok(())
        };
        // Who has its own fence reads on: another's may be for it too, and need its room.
        self.while_reading(readers, sending).await?;
        let reading = readers.iter_mut().zip(awaited);
        let reading = try_join_all(reading.map(|(reader, fences)| reader.read_until(fences)));
        self.wait("fences", reading).await?.map(|_| ())
    }

    /// Waits for `future`, with an end.
    ///
    /// # Errors
    /// Broken, naming `what` never came.
    pub async fn wait<T>(&self, what: &'static str, future: impl Future<Output = T>) -> Checked<T> {
        *self.0.waiting.lock() = what;
        let result = self.0.patience.wait(what, future).await;
        *self.0.waiting.lock() = "nothing";
        result
    }

    /// Waits until `condition` holds, with an end.
    ///
    /// # Errors
    /// Broken, naming `what` never came.
    pub async fn until(&self, what: &'static str, mut condition: impl FnMut() -> bool) -> Checked {
        self.wait(what, async {
            let mut beat = tokio::time::interval(Duration::from_millis(1));
            while !condition() {
                beat.tick().await;
            }
        })
        .await
    }

    /// Shuts every handle down, the last one first.
    ///
    /// # Errors
    /// Broken, if one of them does not shut down.
    pub async fn shut_down(&self) -> Checked {
        let handles = std::mem::take(&mut *self.0.handles.lock());
        let mut result = Ok(());
        for handle in handles.into_iter().rev() {
            let ended = self.0.patience.wait("shutdown", handle.shutdown()).await;
            result = result.and(ended.and_then(|ended| ended.map_err(Unmet::from)));
        }
        result
    }

    /// Paths that must be gone after [`shut_down`](Self::shut_down).
    #[must_use]
    pub fn paths(&self) -> Vec<std::path::PathBuf> {
        self.0.rig.paths()
    }

    async fn judge(&self) -> Checked {
        if self.0.unjudged.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.0
            .patience
            .wait("the phase's own judgement", self.0.rig.judge())
            .await?
            .map_err(Unmet::Broken)
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("bus", &self.0.rig.bus())
            .finish_non_exhaustive()
    }
}
