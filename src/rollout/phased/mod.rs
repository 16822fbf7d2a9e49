//! The bus that is moved: one identity over all phases.

mod bus;
mod calls;
pub(crate) mod fabric;
pub(crate) mod handle;
mod lane;
mod mail;
mod source;

pub use bus::PhasedBus;
