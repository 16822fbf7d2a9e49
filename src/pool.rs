//! One connection for each kind of peer, shared by all who talk to that kind.
//!
//! The parts of an application that each open a bus of their own cost a broker a connection each, and a
//! session that everybody else keeps in step with. They rarely need it: what parts of one application say
//! to one kind of collector can go over one handle.
//!
//! Invariant: at most one open handle for a kind and at most as many kinds as the pool may have, at any
//! time and however many ask at once; after shutdown, none.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use eventbus_trait::{BusState, ConnectError, EventBus, FlushError, ShutdownError};
use tokio::sync::OnceCell;

use crate::config::Config;
use crate::open::{OpenError, open};

/// Kinds that a pool has room for, if it is not told otherwise.
pub const DEFAULT_KINDS: usize = 64;

/// Hands out one bus for each kind of peer. Cloning shares it.
///
/// ```
/// # use eventbus::{Config, Event, Pool, Subscribe};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # if !eventbus::Phase::available().contains(&"crossbeam") { return Ok(()); }
/// let pool = Pool::over(eventbus::open(&Config::default()).await?);
/// let mut events = pool.get("process").await?.subscribe(Subscribe::to("events.#")?).await?;
/// // In another part of the application: the same connection.
/// pool.get("process").await?.publish(Event::json("events.process.new", &4711)?).await?;
/// assert!(events.recv().await.is_some());
/// assert_eq!(pool.kinds(), ["process"]);
/// pool.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// A bus that it hands out is everybody's: who shuts it down ends it for all, and the next who asks gets
/// a new one. Dropping it is nobody's business but one's own.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    way: Way,
    limit: usize,
    /// `None` after shutdown.
    seats: Mutex<Option<Seats>>,
}

type Seats = BTreeMap<String, Seat>;
/// Who asks for a kind that is being opened waits for the same opening.
type Seat = Arc<OnceCell<Arc<dyn EventBus>>>;
type Describe = Box<dyn Fn(&str) -> Config + Send + Sync>;

enum Way {
    Connect(Arc<dyn EventBus>),
    Open(Describe),
}

/// Why a pool has no bus for a kind.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// It could not be opened. The next who asks tries again.
    #[error("no bus for `{kind}`: {reason}")]
    Open {
        /// The kind.
        kind: String,
        /// Why not.
        #[source]
        reason: Box<OpenError>,
    },
    /// It could not be connected. The next who asks tries again.
    #[error("no connection for `{kind}`: {reason}")]
    Connect {
        /// The kind.
        kind: String,
        /// Why not.
        #[source]
        reason: ConnectError,
    },
    /// There are as many kinds as there may be.
    #[error(
        "no room for `{kind}` in a pool of {limit}; shut another one's bus down, or make the pool larger"
    )]
    Full {
        /// The kind.
        kind: String,
        /// Kinds that it has room for.
        limit: usize,
    },
    /// The pool was shut down.
    #[error("pool is closed")]
    Closed,
}

/// What of a pool's shutdown did not go as it should. All buses are closed all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not all shut down in order: {}", told(failed))]
pub struct PoolShutdownError {
    /// The kinds concerned, with what happened.
    pub failed: BTreeMap<String, ShutdownError>,
}

fn told(failed: &BTreeMap<String, ShutdownError>) -> String {
    let one = |(kind, error): (&String, &ShutdownError)| format!("`{kind}`: {error}");
    failed.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Pool {
    /// Further handles of one bus: at a broker a connection for each kind. The bus itself stays the
    /// caller's to shut down.
    #[must_use]
    pub fn over(bus: Arc<dyn EventBus>) -> Self {
        Self::new(Way::Connect(bus))
    }

    /// A bus for each kind, opened as `describe` says: kinds may be on different brokers. It is asked each
    /// time that one is opened.
    #[must_use]
    pub fn opening(describe: impl Fn(&str) -> Config + Send + Sync + 'static) -> Self {
        Self::new(Way::Open(Box::new(describe)))
    }

    fn new(way: Way) -> Self {
        let shared = Shared {
            way,
            limit: DEFAULT_KINDS,
            seats: Mutex::new(Some(Seats::new())),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The same, empty, with room for so many kinds: at least one.
    #[must_use]
    pub fn limit(self, kinds: usize) -> Self {
        let Some(mut shared) = Arc::into_inner(self.shared) else {
            unreachable!("a pool is told its limit before anybody else has it");
        };
        shared.limit = kinds.max(1);
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The bus for this kind: the one that is open, or a new one. Cancelling it is harmless.
    ///
    /// # Errors
    /// [`PoolError`]; whoever asks next begins anew.
    pub async fn get(&self, kind: &str) -> Result<Arc<dyn EventBus>, PoolError> {
        loop {
            let seat = self.seat(kind).await?;
            let mut fresh = false;
            let bus = seat
                .get_or_try_init(async || {
                    let opened = self.open(kind).await;
                    fresh = opened.is_ok();
                    opened
                })
                .await?;
            if self.is_closed() {
                // It may be the shutdown that came first, and found nothing to shut down.
                let _ = bus.shutdown().await;
                return Err(PoolError::Closed);
            }
            if fresh || !has_ended(bus).await {
                return Ok(Arc::clone(bus));
            }
            self.give_up(kind, &seat);
        }
    }

    /// The kinds for which there is a bus.
    #[must_use]
    pub fn kinds(&self) -> Vec<String> {
        let seats = self.seats();
        let open = seats
            .iter()
            .flatten()
            .filter(|(_, seat)| seat.initialized());
        open.map(|(kind, _)| kind.clone()).collect()
    }

    /// Shuts all buses down, at once. From then on there are no others. Idempotent.
    ///
    /// # Errors
    /// [`PoolShutdownError`] says which could not confirm everything in time.
    pub async fn shutdown(&self) -> Result<(), PoolShutdownError> {
        let seats = self.seats().take().unwrap_or_default();
        let mut ending: Vec<_> = seats
            .iter()
            .filter_map(|(kind, seat)| Some((kind, seat.get()?.shutdown())))
            .collect();
        let mut failed = BTreeMap::new();
        std::future::poll_fn(|cx| {
            ending.retain_mut(|(kind, end)| match end.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(error)) => {
                    failed.insert((*kind).clone(), error);
                    false
                }
            });
            if ending.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        if failed.is_empty() {
            return Ok(());
        }
        Err(PoolShutdownError { failed })
    }

    async fn open(&self, kind: &str) -> Result<Arc<dyn EventBus>, PoolError> {
        match &self.shared.way {
            Way::Connect(bus) => bus
                .connect(None)
                .await
                .map_err(|reason| PoolError::Connect {
                    kind: kind.to_owned(),
                    reason,
                }),
            Way::Open(describe) => {
                let opened = open(&describe(kind)).await;
                opened.map_err(|reason| PoolError::Open {
                    kind: kind.to_owned(),
                    reason: Box::new(reason),
                })
            }
        }
    }

    async fn seat(&self, kind: &str) -> Result<Seat, PoolError> {
        match self.seat_now(kind) {
            Err(PoolError::Full { .. }) => {}
            had => return had,
        }
        let all: Vec<_> = self.seats().iter().flatten().map(pair).collect();
        for (other, seat) in all {
            if let Some(bus) = seat.get()
                && has_ended(bus).await
            {
                self.give_up(&other, &seat);
            }
        }
        self.seat_now(kind)
    }

    fn seat_now(&self, kind: &str) -> Result<Seat, PoolError> {
        let mut seats = self.seats();
        let seats = seats.as_mut().ok_or(PoolError::Closed)?;
        if let Some(seat) = seats.get(kind) {
            return Ok(Arc::clone(seat));
        }
        let limit = self.shared.limit;
        if seats.len() >= limit {
            // What nobody is opening any more, since it failed. Seats are shared under the lock alone.
            seats.retain(|_, seat| seat.initialized() || Arc::strong_count(seat) > 1);
        }
        if seats.len() >= limit {
            let kind = kind.to_owned();
            return Err(PoolError::Full { kind, limit });
        }
        Ok(Arc::clone(seats.entry(kind.to_owned()).or_default()))
    }

    /// Makes room for another bus in the place of the one in `seat`.
    fn give_up(&self, kind: &str, seat: &Seat) {
        if let Some(seats) = &mut *self.seats()
            && seats.get(kind).is_some_and(|now| Arc::ptr_eq(now, seat))
        {
            seats.remove(kind);
        }
    }

    fn is_closed(&self) -> bool {
        self.seats().is_none()
    }

    fn seats(&self) -> MutexGuard<'_, Option<Seats>> {
        let seats = self.shared.seats.lock();
        seats.unwrap_or_else(PoisonError::into_inner)
    }
}

fn pair((kind, seat): (&String, &Seat)) -> (String, Seat) {
    (kind.clone(), Arc::clone(seat))
}

/// Whether it was shut down. A bus without a connection has no state to tell, and says it so.
async fn has_ended(bus: &Arc<dyn EventBus>) -> bool {
    *bus.state().borrow() == BusState::Closed
        || bus.flush(Duration::ZERO).await == Err(FlushError::Closed)
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("kinds", &self.kinds())
            .field("limit", &self.shared.limit)
            .finish_non_exhaustive()
    }
}
