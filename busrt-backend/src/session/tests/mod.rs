//! Tests of the modules that are compiled a second time elsewhere, where these could not run.

mod inbox;
mod kept;
mod link;
pub(super) mod outbox;
