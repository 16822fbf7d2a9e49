//! One event bus, and configuration that says what it runs on.
//!
//! An application depends on this crate alone. It publishes and subscribes through
//! [`EventBus`]; whether the events go over crossbeam channels, a busrt broker inside the process,
//! or a broker behind a UNIX socket or a TCP port is the `phase` in its configuration, and never its code.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use eventbus::{Config, Event, Subscribe};
//! # struct Started { pid: u32 }
//! # let config = Config::default();
//! # if !eventbus::Phase::available().contains(&"crossbeam") { return Ok(()); }
//! let bus = eventbus::open(&config).await?;
//! let mut events = bus.subscribe(Subscribe::to("events.process.#")?).await?;
//! bus.publish(Event::json("events.process.new", &4711)?).await?;
//! let event = events.recv().await.ok_or("the bus was closed")?;
//! assert_eq!(event.topic().as_str(), "events.process.new");
//! assert_eq!(*event.decode_json::<u32>()?, 4711);
//! # Ok(())
//! # }
//! ```
//!
//! `Config::load()` in place of `Config::default()` reads `eventbus.toml` and the environment; see
//! [`Config`]. The features `crossbeam` (default), `busrt` and `tcp` are additive and only decide which
//! phases can be opened; `rollout` adds moving from one to the next ([`rollout`]), `observe` a page and
//! metrics. Everything of [`eventbus_trait`] is re-exported here.

#[cfg(all(windows, feature = "busrt"))]
compile_error!(
    "the feature `busrt` does not build on Windows, because busrt itself does not; \
     use the feature `crossbeam` there"
);

#[cfg(feature = "busrt")]
mod absent;
pub mod config;
#[cfg(feature = "observe")]
pub mod observe;
mod open;
pub mod phase;
mod pool;
pub mod rollout;
#[cfg(feature = "busrt")]
mod standalone;
#[cfg(feature = "opentelemetry")]
mod traced;

#[cfg(feature = "tcp")]
pub use busrt_backend::tls;
pub use config::{Broker, BrokerMode, Config, ConfigError, Observe, Tls};
pub use eventbus_trait::*;
pub use open::{OpenError, open, open_shadow};
pub use phase::{Phase, PhaseError};
pub use pool::{DEFAULT_KINDS, Pool, PoolError, PoolShutdownError};
/// Doubles traffic to a second bus and compares: what [`open_shadow`] returns, and its report.
pub use shadow;
#[cfg(feature = "busrt")]
pub use standalone::{StartError, start_broker};

#[cfg(feature = "opentelemetry")]
pub use traced::TracedBus;

/// A broker by itself: what [`start_broker`] starts.
#[cfg(feature = "busrt")]
pub mod broker {
    pub use busrt_backend::Address;
    pub use busrt_backend::broker::*;
}

/// The README's example, so that it is compiled and run as a test.
#[cfg(all(doctest, feature = "crossbeam"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The examples of the documents, in the same way.
#[cfg(all(doctest, feature = "crossbeam"))]
#[doc = include_str!("../docs/configuration.md")]
struct Configuration;

#[cfg(all(doctest, feature = "opentelemetry"))]
#[doc = include_str!("../docs/tracing.md")]
struct Tracing;

#[cfg(all(doctest, feature = "crossbeam", feature = "protobuf"))]
#[doc = include_str!("../docs/protobuf.md")]
struct Protobuf;
