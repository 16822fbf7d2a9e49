//! The event bus over a busrt broker: in process or over a UNIX socket.
//!
//! busrt moves frames between clients quickly and loses them silently. This crate adds what a bus
//! needs: a session that keeps order and loses nothing between connected peers (credit,
//! acknowledgements), a broker whose shutdown is real, and a front door of its own. What travels
//! is specified in `docs/wire-format.md`.
//!
//! Payloads that arrive share the memory of the buffer they came in (160 KiB at most, or one larger
//! event): an application that keeps small payloads for long should copy them.

#[cfg(windows)]
compile_error!("busrt does not build on Windows; use the `crossbeam` phase there");

pub mod broker;
mod bus;
mod calls;
mod client;
mod dial;
mod executor;
#[doc(hidden)]
pub mod fuzzing;
mod home;
mod namespace;
mod options;
mod patterns;
mod pauses;
mod runtime;
mod session;
#[cfg(feature = "tcp")]
pub mod tls;
pub mod topics;
mod transport;
pub mod wire;
mod work;

pub use broker::SocketError;
pub use bus::BusrtBus;
pub use home::open;
pub use options::{Address, Backoff, BrokerMode, OpenError, Options};

/// This crate's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
