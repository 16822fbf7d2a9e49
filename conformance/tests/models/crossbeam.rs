//! The bus over crossbeam channels, compiled a second time, whole.
//!
//! The channels themselves are the real ones: nobody ever blocks in them, so each of their
//! operations is one step. `sync` is whatever the test that includes this file explores with.

pub(crate) use crate::sync;

#[path = "../../../crossbeam-backend/src/bus.rs"]
pub(crate) mod bus;
#[path = "../../../crossbeam-backend/src/calls.rs"]
pub(crate) mod calls;
#[path = "../../../crossbeam-backend/src/handle.rs"]
pub(crate) mod handle;
#[path = "../../../crossbeam-backend/src/hub.rs"]
pub(crate) mod hub;
#[path = "../../../crossbeam-backend/src/queue.rs"]
pub(crate) mod queue;
#[path = "../../../crossbeam-backend/src/room.rs"]
pub(crate) mod room;
#[path = "../../../crossbeam-backend/src/route.rs"]
pub(crate) mod route;
#[path = "../../../crossbeam-backend/src/source.rs"]
pub(crate) mod source;
#[path = "../../../crossbeam-backend/src/trie.rs"]
pub(crate) mod trie;
#[path = "../../../crossbeam-backend/src/wait.rs"]
pub(crate) mod wait;
