//! The parts of the session over busrt that tasks share, compiled a second time.
//!
//! `sync` is whatever the test that includes this file explores with.

pub(crate) use crate::sync;

#[path = "../../../busrt-backend/src/session/acks.rs"]
pub(crate) mod acks;
#[path = "../../../busrt-backend/src/session/kept.rs"]
pub(crate) mod kept;
#[path = "../../../busrt-backend/src/session/link.rs"]
pub(crate) mod link;
#[path = "../../../busrt-backend/src/session/outbox.rs"]
pub(crate) mod outbox;
#[path = "../../../busrt-backend/src/session/receipt.rs"]
pub(crate) mod receipt;
#[path = "../../../busrt-backend/src/session/routes.rs"]
pub(crate) mod routes;
#[path = "../../../busrt-backend/src/session/sending.rs"]
pub(crate) mod sending;
#[path = "../../../busrt-backend/src/session/waiting.rs"]
pub(crate) mod waiting;
