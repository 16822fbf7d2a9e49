//! The program as its users meet it: the built binary, its exit code, its two outputs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod broker;
mod certs;
mod conformance;
mod program;
mod rollout;
mod shadow;
mod usage;
mod validate;
