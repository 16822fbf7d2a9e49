//! The parts of the session over busrt that tasks share, compiled a second time.
//!
//! `sync` is whatever the test that includes this file explores with.

pub(crate) use crate::sync;

pub(crate) mod node {
    //! What an inbox asks of its node.

    use std::time::Duration;

    use eventbus_trait::Limits;

    use super::acks::AckBook;
    use super::outbox::Outbox;

    pub(crate) struct Node {
        pub(crate) acks: AckBook,
        pub(crate) outbox: Outbox,
        pub(crate) limits: Limits,
    }

    impl Node {
        pub(crate) fn end_subscription(&self, _: u64) {}

        pub(crate) async fn end_subscription_everywhere(&self, _: u64, _: Duration) {}
    }
}

#[path = "../../../busrt-backend/src/session/acks.rs"]
pub(crate) mod acks;
#[path = "../../../busrt-backend/src/session/cost.rs"]
pub(crate) mod cost;
#[path = "../../../busrt-backend/src/session/gathering.rs"]
pub(crate) mod gathering;
#[path = "../../../busrt-backend/src/session/inbox.rs"]
pub(crate) mod inbox;
#[path = "../../../busrt-backend/src/session/kept.rs"]
pub(crate) mod kept;
#[path = "../../../busrt-backend/src/session/link.rs"]
pub(crate) mod link;
#[path = "../../../busrt-backend/src/session/outbox.rs"]
pub(crate) mod outbox;
#[path = "../../../busrt-backend/src/session/places.rs"]
pub(crate) mod places;
#[path = "../../../busrt-backend/src/session/receipt.rs"]
pub(crate) mod receipt;
#[path = "../../../busrt-backend/src/session/routes.rs"]
pub(crate) mod routes;
#[path = "../../../busrt-backend/src/session/run.rs"]
pub(crate) mod run;
#[path = "../../../busrt-backend/src/session/sending.rs"]
pub(crate) mod sending;
#[path = "../../../busrt-backend/src/session/standing.rs"]
pub(crate) mod standing;
#[path = "../../../busrt-backend/src/session/waiting.rs"]
pub(crate) mod waiting;
