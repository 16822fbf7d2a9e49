//! Faults: a proxy that hurts connections, and processes that are killed and stopped.
//!
//! What a fault has done is counted where it was done, so that a run in which none struck is not
//! taken for one that survived them. Nothing here knows a bus: it works on sockets and processes.
//! The timers in here are the faults themselves; whoever uses them waits for conditions.

mod address;
#[cfg(any(feature = "phases", feature = "soak"))]
mod authority;
mod broker;
mod busrtd;
mod clock;
mod descriptors;
mod process;
mod proxy;
mod rules;
mod stream;

pub use address::Reserved;
#[cfg(any(feature = "phases", feature = "soak"))]
pub use authority::{Authority, Certificate};
pub use broker::BrokerProcess;
pub use busrtd::{BUSRTD_VARIABLE, BUSRTD_VERSION, busrtd};
pub use clock::Clock;
pub use descriptors::{Starved, cpu_time};
pub use process::{Process, ProcessError};
pub use proxy::Proxy;
pub use rules::{Rules, Struck, Trickle};

pub use crate::harness::Way;
pub use stream::Place;
