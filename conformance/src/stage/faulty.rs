//! A stage whose first handle's connection, and whose broker, can be hurt.

use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::{BusState, EventBus};
use futures_util::future::try_join;

use super::{Actor, Author, Reader, Stage};
use crate::harness::{Fault, FaultRig, Opening, Refusal, Way};
use crate::peer::Part;
use crate::verdict::{Checked, Unmet};

/// A started bus and the means to hurt it. [`Stage::bus`] is the handle that is hurt.
pub struct Faulty {
    /// The stage.
    pub stage: Stage,
    pub(super) rig: Arc<dyn FaultRig>,
}

/// How long a fault that lasts goes on, at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// Until it has struck.
    Moment,
    /// Until so many pieces have gone through it, each way.
    Pieces(u64),
    /// Longer than a broker puts up with a silent client.
    LongerThanKeepalive,
    /// For this time.
    For(Duration),
}

impl Faulty {
    /// Another bus at the same broker, whose connection is not hurt.
    ///
    /// # Errors
    /// Broken, if there is none.
    pub async fn open(&self, opening: Opening) -> Checked<Arc<dyn EventBus>> {
        let bus = self
            .stage
            .wait("another bus", self.rig.open(opening))
            .await?;
        let bus = bus.map_err(Unmet::broken)?;
        self.stage.0.handles.lock().push(Arc::clone(&bus));
        Ok(bus)
    }

    /// As [`open`](Self::open), where it may well fail.
    ///
    /// # Errors
    /// What opening said.
    pub async fn try_open(&self, opening: Opening) -> Result<Arc<dyn EventBus>, Refusal> {
        let bus = self.rig.open(opening).await?;
        self.stage.0.handles.lock().push(Arc::clone(&bus));
        Ok(bus)
    }

    /// Strikes.
    ///
    /// # Errors
    /// Unexercised, if it cannot.
    pub async fn strike(&self, fault: Fault) -> Checked {
        self.rig.strike(fault).await.map_err(Unmet::Unexercised)
    }

    /// Ends whatever lasts.
    ///
    /// # Errors
    /// Unexercised, if it cannot.
    pub async fn heal(&self) -> Checked {
        self.rig.heal().await.map_err(Unmet::Unexercised)
    }

    /// How often faults have really touched something.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.rig.struck()
    }

    /// The keepalive of the handles.
    #[must_use]
    pub fn keepalive(&self) -> Duration {
        self.rig.keepalive()
    }

    /// The CPU time that the broker's process has used up to now, if that can be told.
    #[must_use]
    pub fn broker_cpu(&self) -> Option<Duration> {
        self.rig.broker_cpu()
    }

    /// Another process on the bus, once it is ready.
    ///
    /// # Errors
    /// Unexercised, if there is none.
    pub async fn start_peer(&self, part: Part) -> Checked<Actor> {
        let starting = self.rig.start_peer(part.clone());
        let peer = self.stage.wait("another process", starting).await?;
        let recorder = self.stage.recorder().clone();
        Actor::new(peer.map_err(Unmet::Unexercised)?, &part, recorder)
    }

    /// Publishes by every author, to topics by turns, from before the fault strikes until some time
    /// after it is over, while every reader reads.
    ///
    /// # Errors
    /// Broken, if an event is refused for another reason than backpressure. Unexercised, if the
    /// fault never touched anything.
    pub async fn publish_through(
        &self,
        fault: Fault,
        lasts: Lasts,
        authors: &[Arc<Author>],
        readers: &mut [Reader],
    ) -> Checked {
        const BEFORE: u64 = 100;
        const AFTER: usize = 100;
        const TOPICS: &[&str] = &["a.b", "a.c", "a.b.c"];
        let over = std::sync::atomic::AtomicBool::new(false);
        let publishing = futures_util::future::try_join_all(authors.iter().map(|author| {
            let over = &over;
            async move {
                while !over.load(std::sync::atomic::Ordering::SeqCst) {
                    author.insist_over(TOPICS, 10).await?;
                    // So that a phase without a queue does not keep the others from running.
                    tokio::task::yield_now().await;
                }
                author.insist_over(TOPICS, AFTER).await
            }
        }));
        let begun: Vec<u64> = authors.iter().map(|author| author.written()).collect();
        let striking = async {
            self.stage
                .until("publishing to have begun", || {
                    let mut written = authors.iter().zip(&begun);
                    written.all(|(author, begun)| author.written() >= begun + BEFORE)
                })
                .await?;
            // A fault before may not be over for the handle.
            let state = self.stage.bus().state();
            let connected = || *state.borrow() == BusState::Connected;
            self.stage
                .until("the handle to be connected", connected)
                .await?;
            let before = self.struck();
            let mut state = self.stage.bus().state();
            state.mark_unchanged();
            let pieces = self.pieces();
            self.strike(fault).await?;
            let striking = async {
                let mut beat = tokio::time::interval(Duration::from_millis(1));
                while self.struck() == before {
                    beat.tick().await;
                }
            };
            // Well before the wait for all of it ends.
            let struck = tokio::time::timeout(self.stage.patience() / 2, striking).await;
            let never = |_| Unmet::unexercised(format_args!("{fault:?} never struck"));
            struck.map_err(never)?;
            if let Lasts::Pieces(each) = lasts {
                self.lasts_for(fault, each, pieces).await?;
            }
            let time = match lasts {
                Lasts::Moment | Lasts::Pieces(_) => None,
                Lasts::LongerThanKeepalive => Some(self.keepalive() * 2),
                Lasts::For(time) => Some(time),
            };
            if let Some(time) = time {
                // The fault itself: nothing is concluded from the time having passed.
                let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
            }
            self.heal().await?;
            // A phase whose state never changes has nothing to come back from.
            if fault.breaks_the_connection() && state.has_changed().is_ok() {
                let back = async {
                    let _ = state.changed().await;
                    let _ = state.wait_for(|state| *state == BusState::Connected).await;
                };
                self.stage
                    .wait("the handle to be connected again", back)
                    .await?;
            }
            over.store(true, std::sync::atomic::Ordering::SeqCst);
            Ok(())
        };
        let work = async { try_join(publishing, striking).await.map(|_| ()) };
        self.stage.while_reading(readers, work).await
    }

    /// Pieces that have gone up, and down.
    fn pieces(&self) -> [u64; 2] {
        [Way::Up, Way::Down].map(|way| self.rig.pieces(way))
    }

    /// Waits until `each` more pieces than `before` have gone each way.
    async fn lasts_for(&self, fault: Fault, each: u64, before: [u64; 2]) -> Checked {
        let through = || {
            let [up, down] = self.pieces();
            [up - before[0], down - before[1]]
        };
        let passing = async {
            let mut beat = tokio::time::interval(Duration::from_millis(1));
            while through().iter().any(|pieces| *pieces < each) {
                beat.tick().await;
            }
        };
        // Well before the wait for all of it ends.
        let passed = tokio::time::timeout(self.stage.patience() / 2, passing).await;
        passed.map_err(|_| {
            let [up, down] = through();
            Unmet::broken(format_args!(
                "of {each} pieces each way, {up} went up and {down} came down through {fault:?}"
            ))
        })
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faulty")
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
