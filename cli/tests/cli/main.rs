//! The program as its users meet it: the built binary, its exit code, its two outputs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod broker;
mod call;
mod certs;
mod chromium;
mod config;
mod conformance;
mod documents;
mod first;
mod interrupts;
mod memory;
mod page;
mod program;
mod rollout;
mod scene;
mod shadow;
mod tail;
mod top;
mod usage;
mod validate;
