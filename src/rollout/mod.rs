//! From one phase to the next while the application runs, and back.

#[allow(dead_code, reason = "the task that owns a rollout comes next")]
mod controller;
mod plan;
pub mod status;

pub use controller::{Controller, Direction, RolloutError};
