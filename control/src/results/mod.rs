//! Gathering results: what belongs to one piece of work, from whoever publishes it on `results.*`.
//!
//! Events belong together by the root of their correlation. So the reports of [tasks](crate::dispatch) that
//! were submitted for one whole are gathered, as is anything else that members publish on its behalf.
//!
//! ```
//! use std::time::Duration;
//! use control::results::{Gather, Options, Wanted};
//! # async fn example(bus: std::sync::Arc<dyn eventbus_trait::EventBus>) -> Result<(), Box<dyn std::error::Error>> {
//! let gather = Gather::start(bus, Options::default()).await?;
//! let wanted = Wanted::ids("scan-7", ["scan-7/a", "scan-7/b"]).within(Duration::from_secs(5));
//! let gathering = gather.begin(wanted)?;
//! // Whatever is published from here on is seen.
//! let gathered = gathering.gathered().await;
//! for missing in &gathered.missing {
//!     println!("{missing}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: what is kept is bounded, in gatherings, parts and bytes; what finds no room is counted, and
//! the gathering that it is for says so.

mod heap;
#[cfg(test)]
mod tests;
mod wanted;

use std::fmt;
use std::sync::Arc;

use eventbus_trait::{EventBus, FilterError, Subscribe, SubscribeError, Subscription};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

pub use heap::GatherStats;
use heap::Heap;
pub use wanted::{Absence, Ended, Gathered, Missing, Part, Wanted};

/// What takes all results.
const RESULTS: &str = "results.#";

/// Bounds of a [`Gather`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Gatherings at once: 256.
    pub gatherings: usize,
    /// Parts of one gathering: 4,096.
    pub parts: usize,
    /// Bytes that all gatherings together keep, of payloads, topics and correlations: 64 MiB.
    pub bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gatherings: 256,
            parts: 4096,
            bytes: 64 << 20,
        }
    }
}

/// Why nothing is gathered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GatherError {
    /// There is no such filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Results cannot be had.
    #[error("cannot take results: {0}")]
    Subscribe(#[from] SubscribeError),
    /// As many gatherings are under way as may be.
    #[error(
        "{limit} gatherings are under way, which is the limit; wait for one, or raise `gatherings`"
    )]
    Full {
        /// The limit.
        limit: usize,
    },
    /// It wants more parts than may be.
    #[error("{parts} parts are over the limit of {limit}")]
    TooManyParts {
        /// What it wants.
        parts: usize,
        /// The limit.
        limit: usize,
    },
    /// The bus is closed.
    #[error("bus is closed")]
    Closed,
}

/// Gathers results, for as many as want some, over one subscription. Dropping it ends what is under way.
pub struct Gather {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

struct Shared {
    heap: Mutex<Heap>,
    wake: Notify,
}

impl Gather {
    /// Listens for results from now on. Within a tokio runtime.
    ///
    /// # Errors
    /// [`GatherError::Filter`], [`GatherError::Subscribe`].
    pub async fn start(bus: Arc<dyn EventBus>, options: Options) -> Result<Self, GatherError> {
        let results = bus.subscribe(Subscribe::to(RESULTS)?).await?;
        let shared = Arc::new(Shared {
            heap: Mutex::new(Heap::new(options)),
            wake: Notify::new(),
        });
        let driver = tokio::spawn(drive(Arc::clone(&shared), results, bus));
        Ok(Self { shared, driver })
    }

    /// Gathers what is wanted, of what comes from now on: so begin before the work does.
    ///
    /// # Errors
    /// [`GatherError::Full`], [`GatherError::TooManyParts`], [`GatherError::Closed`].
    pub fn begin(&self, wanted: Wanted) -> Result<Gathering, GatherError> {
        let (number, gathered) = self.shared.heap.lock().begin(wanted, Instant::now())?;
        self.shared.wake.notify_one();
        Ok(Gathering {
            number,
            shared: Arc::clone(&self.shared),
            gathered,
        })
    }

    /// Counters since the start, and what is kept now.
    #[must_use]
    pub fn stats(&self) -> GatherStats {
        self.shared.heap.lock().stats()
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        self.driver.abort();
        self.shared.heap.lock().close();
    }
}

impl fmt::Debug for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").finish_non_exhaustive()
    }
}

/// Results that are being gathered. Dropping it gives them up.
#[must_use = "dropping it gives up what it gathers"]
pub struct Gathering {
    number: u64,
    shared: Arc<Shared>,
    gathered: oneshot::Receiver<Gathered>,
}

impl Gathering {
    /// Waits until there is enough, or its deadline has passed. Dropping the future gives it up.
    pub async fn gathered(mut self) -> Gathered {
        let gathered = (&mut self.gathered).await;
        gathered.unwrap_or_else(|_| Gathered::nothing(Ended::Closed))
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.shared.heap.lock().give_up(self.number);
    }
}

impl fmt::Debug for Gathering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathering").finish_non_exhaustive()
    }
}

/// Holds the bus, because a subscription ends with the last handle.
async fn drive(shared: Arc<Shared>, mut results: Subscription, _bus: Arc<dyn EventBus>) {
    loop {
        let alarm = shared.heap.lock().next_alarm();
        tokio::select! {
            event = results.recv() => match event {
                Some(event) => shared.heap.lock().event(&event),
                None => break,
            },
            () = at(alarm) => shared.heap.lock().tick(Instant::now()),
            () = shared.wake.notified() => {}
        }
    }
    shared.heap.lock().close();
}

/// Waits until then; for ever if there is no such moment.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
