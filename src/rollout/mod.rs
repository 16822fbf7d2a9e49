//! From one phase to the next while the application runs, and back.
//!
//! A [`PhasedBus`] is a bus whose phase changes under the application's feet; a [`Controller`] moves
//! it from stage to stage, by itself or when told to, and a journal says after a crash which phase
//! holds. What it promises are MIG-003 and MIG-004 of the contract.

#[cfg(feature = "rollout")]
pub mod admin;
#[cfg(feature = "rollout")]
mod conductor;
#[cfg(feature = "rollout")]
mod controller;
#[cfg(feature = "rollout")]
mod cutover;
#[cfg(feature = "rollout")]
mod gate;
#[cfg(feature = "rollout")]
mod hooks;
#[cfg(feature = "rollout")]
mod journal;
#[cfg(feature = "rollout")]
mod observed;
#[cfg(feature = "rollout")]
mod opening;
mod options;
#[cfg(feature = "rollout")]
mod phased;
#[cfg(feature = "rollout")]
mod plan;
#[cfg(feature = "rollout")]
mod shadowing;
#[cfg(feature = "rollout")]
mod stage;
pub mod status;

#[cfg(feature = "rollout")]
pub use controller::{Controller, Direction, RolloutError};
#[cfg(feature = "rollout")]
pub use journal::JournalError;
#[cfg(feature = "rollout")]
pub use opening::{Trial, open, open_trial};
pub use options::{Gates, Hooks, Rollout};
#[cfg(feature = "rollout")]
pub use phased::PhasedBus;
pub use status::{Activity, HistoryEntry, Mode, Plan, StageRef, Status, Step, Verdict, What};
