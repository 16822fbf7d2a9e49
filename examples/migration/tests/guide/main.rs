//! The guide's steps are what they are said to be: each runs, for real, and the same events come out
//! of it; and the document shows them as they are. After a change of the steps:
//! `EVENTBUS_BLESS=1 cargo test -p migration`
// Helpers of tests are outside of what clippy takes for tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that fails should stop where it does"
)]

mod document;
mod prey;
mod program;
mod runs;
mod scene;
