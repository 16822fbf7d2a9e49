//! RPC: calls end once, with what their callee said, and leave nothing behind.

mod bounds;
mod ends;
mod errors;
mod faults;
mod many;
mod replies;
mod scene;

pub(super) use bounds::{rpc_007_a_dropped_call_leaves_nothing, rpc_009_load_is_bounded};
pub(super) use ends::{rpc_001_a_call_ends_once, rpc_008_a_callee_ends};
pub(super) use errors::{
    rpc_004_a_timeout_says_so, rpc_005_unknown_at_once, rpc_006_a_panic_is_an_error,
};
pub(super) use replies::{rpc_002_its_own_reply, rpc_003_late_is_nobodys};
