//! Request and reply.
//!
//! A [`Service`] is a name, a [`Handler`], and how many calls it takes at once. Whoever
//! [serves](crate::EventBus::serve) it on a bus answers the calls that anybody on that bus makes to
//! the name:
//!
//! ```
//! use eventbus_trait::rpc::{Call, Methods, Reply, Service};
//! # async fn example(bus: std::sync::Arc<dyn eventbus_trait::EventBus>) -> Result<(), Box<dyn std::error::Error>> {
//! let methods = Methods::new().on("double", |call: Call| async move {
//!     let number = call.decode_json::<i64>()?;
//!     Ok(Reply::json(&(*number * 2))?)
//! });
//! let serving = bus.serve(Service::new("calculator", methods).concurrency(4)).await?;
//! let reply = bus.call(Call::json("calculator", "double", &21)?).await?;
//! assert_eq!(*reply.decode_json::<i64>()?, 42);
//! serving.stop(std::time::Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
//!
//! What holds in every phase:
//!
//! - **A call ends once** (RPC-001): with a [`Reply`], or with a [`CallError`] that is the same value
//!   in every phase. The future of a call that is dropped is the cancellation: the handler is dropped
//!   too, and nothing of the call is left (RPC-007).
//! - **Each call has a deadline**, and the handler is told what is left of it. After it the handler
//!   is dropped. An error says whether the call may have been carried out all the same
//!   ([`CallError::may_have_run`], RPC-004).
//! - **A service bounds its load** (RPC-009): so many calls run, so many more wait in their order, and
//!   what comes then is [`CallError::Busy`] at once. A service and its clones share that bound, on
//!   however many buses they are served.
//! - **Handlers run on the tokio runtime within which `serve` was called.** A handler that panics is an
//!   error of its call (RPC-006).
//! - **A name is served once on a bus.** On a broker it is a client's name, so the rules for who may
//!   call and who may have a name hold, and clients in other languages call it, and are called, by
//!   busrt's own RPC.
//!
//! For backends: [`Desk`] admits calls and runs handlers, [`Tally`] knows what is under way.

mod call;
mod deadlines;
mod desk;
mod error;
mod methods;
mod service;
mod serving;
mod spare;
mod stats;
mod tally;
#[cfg(test)]
mod tests;

pub use call::{Call, DEFAULT_DEADLINE, MAX_METHOD_BYTES, Reply};
pub use deadlines::Deadlines;
pub use desk::{Desk, GiveUp, Ticket};
pub use error::{CallError, Failure, INVALID_REQUEST, ServeError};
pub use methods::Methods;
pub use service::{
    DEFAULT_CONCURRENCY, DEFAULT_LONGEST, DEFAULT_QUEUE, Handler, MAX_CALLS, Service,
};
pub use serving::{Served, Serving};
pub use spare::{NOT_IDEMPOTENT, Spare, YIELDED};
pub use stats::{CallStats, ServiceStats};
pub use tally::{Inside, NotIn, Tally};
