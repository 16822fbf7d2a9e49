//! TCP behind TLS, over real sockets: who gets in, who does not, and what each side is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod exchange;
mod files;
mod refusals;
mod reload;
mod support;
