//! CTL: members, tasks and results, as `control` has them over any bus.
//!
//! What is promised here is kept by the bus and by `control` together, so the clauses use both as an
//! application does: one handle for whoever asks, and one for each who is asked. Where a clause needs a
//! member to be silent, or an order to come twice, it speaks the protocol itself.
//!
//! Invariant: no clause looks at a clock. What takes time has an end that is waited for.

mod bounds;
mod config;
mod ends;
mod faults;
mod found;
mod given;
mod parts;
mod results;
mod scene;
mod shutdown;
mod silent;
mod twice;

pub(super) use bounds::ctl_008_what_is_kept_is_bounded;
pub(super) use config::ctl_003_a_configuration_is_whole;
pub(super) use ends::ctl_005_a_task_ends_once;
pub(super) use found::ctl_001_members_are_found;
pub(super) use given::ctl_004_a_task_goes_to_who_can;
pub(super) use parts::{AT_ONCE, Hands, task};
pub(super) use results::ctl_007_results_are_gathered;
pub(super) use scene::{AGENT, Scene};
pub(super) use shutdown::ctl_009_members_go_in_order;
pub(super) use silent::ctl_002_silence_is_noticed;
pub(super) use twice::ctl_006_a_task_is_done_once;
