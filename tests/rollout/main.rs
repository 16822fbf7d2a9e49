//! A rollout: buses that change their phase while they are in use.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod calls;
mod control;
mod crash;
mod doors;
mod load;
mod pairs;
mod scene;
mod shadowed;
mod together;
