//! The queue to a shadow's candidate, compiled a second time, beside values of no meaning for what
//! passes through it.
//!
//! `sync` is whatever the test that includes this file explores with.

pub(crate) use crate::sync;

pub(crate) mod link {
    #[derive(Debug, Default)]
    pub(crate) struct Link;
}

pub(crate) mod route {
    #[derive(Debug, Default)]
    pub(crate) struct Route;
}

pub(crate) mod sub {
    #[derive(Debug, Default)]
    pub(crate) struct Sub;
}

#[path = "../../../shadow/src/queue.rs"]
pub(crate) mod queue;
