//! The conformance suite on a backend that is none of this project's, and does not pass.
//!
//! ```text
//! cargo run -p conformance --example broadcast
//! ```
//!
//! `bus.rs` is the backend; `harness.rs` and `main` are all that the suite needs to run on it.

mod bus;
mod harness;

use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    conformance::run(vec![Arc::new(harness::Broadcast)])
}
