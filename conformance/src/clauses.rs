//! The clauses, by family.

mod ctl;
mod del;
mod flt;
mod flw;
mod lif;
mod mig;
mod obs;
mod ord;
mod rpc;
mod sec;
mod sub;
mod top;

use crate::clause::{Clause, Unbuilt, clause};
use crate::harness::Capability::{
    self, Calls, Clock, Control, Cutover, Door, Faults, Proc, SeveralHandles, Shadow, Socket, Tls,
};

/// What members, tasks and results need of a bus.
const CONTROL: &[Capability] = &[SeveralHandles, Calls, Control];

/// Every clause that is checked, in the contract's order.
pub static CLAUSES: &[Clause] = &[
    clause!(
        "TOP-001",
        top::top_001_topics_are_checked,
        "what a topic may be"
    ),
    clause!(
        "TOP-002",
        top::top_002_one_segment,
        "`*` and `+` match one segment"
    ),
    clause!(
        "TOP-003",
        top::top_003_any_segments,
        "`#` matches zero or more segments"
    ),
    clause!(
        "TOP-004",
        top::top_004_whole_segments,
        "a wildcard is a whole segment"
    ),
    clause!(
        "TOP-005",
        top::top_005_agrees_with_the_definition,
        "filters match by definition"
    ),
    clause!("DEL-001", del::del_001_reaches_every_subscription, "accepted is delivered",
        needs: &[SeveralHandles]),
    clause!(
        "DEL-002",
        del::del_002_no_phantom,
        "nothing that nobody published"
    ),
    clause!("DEL-003", del::del_003_no_duplicate, "never twice"),
    clause!(
        "DEL-004",
        del::del_004_refused_is_never_delivered,
        "refused is never delivered"
    ),
    clause!(
        "DEL-005",
        del::del_005_cancelled_at_most_once,
        "cancelled comes once at most"
    ),
    clause!(
        "DEL-006",
        del::del_006_unaltered,
        "everything arrives unaltered"
    ),
    clause!(
        "DEL-007",
        del::del_007_too_large,
        "an event over the limit is refused"
    ),
    clause!(
        "DEL-008",
        del::del_008_conservation,
        "every event is in one counter"
    ),
    clause!(
        "DEL-009",
        del::del_009_at_most_once_never_waits,
        "`AtMostOnce` never waits"
    ),
    clause!(
        "DEL-010",
        del::del_010_receipt,
        "a receipt says that all have it"
    ),
    clause!("DEL-011", del::del_011_flush, "`flush` waits until all have all",
        needs: &[SeveralHandles]),
    clause!(
        "DEL-012",
        del::del_012_as_its_codec_wrote_it,
        "bytes are those of the codec"
    ),
    clause!(
        "ORD-001",
        ord::ord_001_order_within_a_topic,
        "publish order within a topic"
    ),
    clause!(
        "ORD-002",
        ord::ord_002_order_across_topics,
        "publish order across topics"
    ),
    clause!(
        "ORD-003",
        ord::ord_003_two_tasks_one_handle,
        "each task's own order"
    ),
    clause!("ORD-004", ord::ord_004_control_passes_full_queues, "control passes full queues",
        needs: &[SeveralHandles]),
    clause!("ORD-005", ord::ord_005_cause_before_effect, "a cause before its effect",
        should, needs: &[SeveralHandles]),
    clause!("SUB-001", sub::sub_001_barrier, "what comes after `subscribe` is seen",
        needs: &[SeveralHandles]),
    clause!(
        "SUB-002",
        sub::sub_002_nothing_after_unsubscribe,
        "nothing after the end",
        needs: &[SeveralHandles]
    ),
    clause!(
        "SUB-003",
        sub::sub_003_one_copy,
        "overlapping filters, one copy"
    ),
    clause!(
        "SUB-004",
        sub::sub_004_a_copy_each,
        "a copy for each subscription"
    ),
    clause!("SUB-005", sub::sub_005_names_are_unique, "a name is used once on a bus",
        needs: &[SeveralHandles]),
    clause!(
        "SUB-006",
        sub::sub_006_subscriptions_are_limited,
        "subscriptions are limited"
    ),
    clause!("SUB-007", sub::sub_007_subscriptions_are_restored, "subscriptions are restored",
        needs: &[Faults]),
    clause!("SUB-008", sub::sub_008_a_stall_is_local, "a stalled subscription is alone",
        needs: &[SeveralHandles]),
    clause!(
        "SUB-009",
        sub::sub_009_gates_decide_alike,
        "predicate and correlation filter"
    ),
    clause!(
        "FLW-001",
        flw::flw_001_room_in_all_or_none,
        "room in all before any is entered"
    ),
    clause!(
        "FLW-002",
        flw::flw_002_losses_are_told_in_band,
        "losses are told in band"
    ),
    clause!(
        "FLW-003",
        flw::flw_003_handlers_may_publish,
        "no deadlock in a handler"
    ),
    clause!("FLW-004", flw::flw_004_no_lost_wake_up, "no lost wake-up"),
    clause!(
        "FLW-005",
        flw::flw_005_a_rate_is_kept,
        "a rate limit is kept"
    ),
    clause!("FLW-006", flw::flw_006_memory_is_bounded, "memory stops growing in a stall",
        needs: &[Proc], alone: true),
    clause!("RPC-001", rpc::rpc_001_a_call_ends_once, "a call ends once",
        needs: &[SeveralHandles, Calls]),
    clause!("RPC-002", rpc::rpc_002_its_own_reply, "a reply is its own call's",
        needs: &[SeveralHandles, Calls]),
    clause!("RPC-003", rpc::rpc_003_late_is_nobodys, "a late reply is nobody's",
        needs: &[SeveralHandles, Calls]),
    clause!("RPC-004", rpc::rpc_004_a_timeout_says_so, "a timeout may have run",
        needs: &[SeveralHandles, Calls]),
    clause!("RPC-005", rpc::rpc_005_unknown_at_once, "unknown is said at once",
        needs: &[SeveralHandles, Calls]),
    clause!("RPC-006", rpc::rpc_006_a_panic_is_an_error, "a panic is an error",
        needs: &[SeveralHandles, Calls]),
    clause!("RPC-007", rpc::rpc_007_a_dropped_call_leaves_nothing, "a dropped call leaves nothing",
        needs: &[SeveralHandles, Calls]),
    clause!("RPC-008", rpc::rpc_008_a_callee_ends, "a callee's end ends its calls",
        needs: &[SeveralHandles, Calls]),
    clause!("RPC-009", rpc::rpc_009_load_is_bounded, "handlers are bounded",
        needs: &[SeveralHandles, Calls]),
    clause!("CTL-001", ctl::ctl_001_members_are_found, "members are found",
        needs: CONTROL),
    clause!("CTL-002", ctl::ctl_002_silence_is_noticed, "silence degrades, then removes",
        needs: CONTROL),
    clause!("CTL-003", ctl::ctl_003_a_configuration_is_whole, "a configuration is taken whole",
        needs: CONTROL),
    clause!("CTL-004", ctl::ctl_004_a_task_goes_to_who_can, "a task goes to who can do it",
        needs: CONTROL),
    clause!("CTL-005", ctl::ctl_005_a_task_ends_once, "a task ends once",
        needs: CONTROL),
    clause!("CTL-006", ctl::ctl_006_a_task_is_done_once, "a task is done once",
        needs: CONTROL),
    clause!("CTL-007", ctl::ctl_007_results_are_gathered, "results are gathered",
        needs: CONTROL),
    clause!("CTL-008", ctl::ctl_008_what_is_kept_is_bounded, "what is kept is bounded",
        needs: CONTROL),
    clause!("CTL-009", ctl::ctl_009_members_go_in_order, "members go in order",
        needs: CONTROL),
    clause!("LIF-001", lif::lif_001_shutdown_is_idempotent, "shutdown, then `Closed`",
        needs: &[SeveralHandles]),
    clause!("LIF-002", lif::lif_002_shutdown_drains, "shutdown drains",
        needs: &[SeveralHandles]),
    clause!(
        "LIF-003",
        lif::lif_003_recv_is_cancel_safe,
        "`recv` is cancel-safe"
    ),
    clause!("LIF-004", lif::lif_004_nothing_is_left_behind, "nothing is left behind",
        needs: &[Proc], alone: true),
    clause!(
        "LIF-005",
        lif::lif_005_handles_cross_threads,
        "handles cross threads"
    ),
    clause!(
        "LIF-006",
        lif::lif_006_client_names_are_unique,
        "a client's name is used once",
        needs: &[SeveralHandles]
    ),
    clause!("LIF-007", lif::lif_007_a_silent_peer_is_noticed, "a silent peer is noticed",
        needs: &[Faults]),
    clause!("LIF-008", lif::lif_008_nobody_listens, "nobody listens, then somebody",
        needs: &[Faults]),
    clause!("SEC-001", sec::sec_001_the_socket_is_its_users, "the socket is its user's",
        needs: &[Door, Socket]),
    clause!("SEC-002", sec::sec_002_tls_or_nothing, "TLS with a certificate, or nothing",
        needs: &[Door, Tls]),
    clause!("SEC-003", sec::sec_003_a_name_is_its_certificates, "a name is its certificate's",
        needs: &[Door, Tls]),
    clause!("SEC-004", sec::sec_004_denied_is_an_error, "denied is an error",
        needs: &[Door]),
    clause!("SEC-005", sec::sec_005_garbage_is_thrown_out, "garbage is thrown out",
        needs: &[Door]),
    clause!("SEC-006", sec::sec_006_connections_are_limited, "connections are limited",
        needs: &[Door]),
    clause!("SEC-007", sec::sec_007_no_descriptors_no_spinning, "no descriptors, no spinning",
        needs: &[Faults]),
    clause!("FLT-001", flt::flt_001_the_broker_is_killed, "the broker is killed",
        needs: &[Faults]),
    clause!("FLT-002", flt::flt_002_a_connection_is_reset, "a connection is reset",
        needs: &[Faults]),
    clause!("FLT-003", flt::flt_003_the_network_is_partitioned, "a partition, whole and half",
        needs: &[Faults]),
    clause!("FLT-004", flt::flt_004_bytes_are_torn, "late, trickling and torn bytes",
        needs: &[Faults]),
    clause!("FLT-005", flt::flt_005_a_subscriber_is_killed, "a subscriber is killed",
        needs: &[Faults]),
    clause!("FLT-006", flt::flt_006_a_publisher_is_killed, "a publisher is killed",
        needs: &[Faults]),
    clause!("FLT-007", flt::flt_007_clocks_jump, "a clock jumps", needs: &[Clock]),
    clause!(
        "OBS-001",
        obs::obs_001_counters,
        "counters tell what happened"
    ),
    clause!(
        "OBS-002",
        obs::obs_002_losses_are_in_the_log,
        "losses are in the log"
    ),
    clause!("OBS-003", obs::obs_003_correlation_goes_along, "correlation goes along",
        needs: &[SeveralHandles, Calls]),
    clause!("OBS-004", obs::obs_004_a_workflow_is_one_trace, "a workflow is one trace",
        needs: CONTROL),
    clause!("MIG-001", mig::mig_001_the_primary_alone, "the application sees the primary",
        needs: &[Shadow]),
    clause!("MIG-002", mig::mig_002_divergences_are_classified, "divergences are classified",
        needs: &[Shadow]),
    clause!("MIG-003", mig::mig_003_a_cutover_is_not_noticed, "a cutover is not noticed",
        needs: &[Cutover]),
    clause!("MIG-004", mig::mig_004_a_crash_leaves_one_phase, "a crash leaves one phase",
        needs: &[Cutover]),
    clause!(
        "MIG-005",
        mig::mig_005_errors_are_the_same,
        "errors are the same everywhere"
    ),
    clause!("MIG-006", mig::mig_006_calls_are_the_primarys, "calls are the primary's",
        needs: &[Shadow, Calls]),
];

/// The ids of the contract whose part of the product does not exist yet. Whoever builds one takes
/// it out of here, and adds its clause and its mutants.
pub static UNBUILT: &[Unbuilt] = &[];

/// The clause with this id.
#[must_use]
pub fn clause_of(id: &str) -> Option<&'static Clause> {
    CLAUSES.iter().find(|clause| clause.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_begins_with_its_id() {
        for clause in CLAUSES {
            let prefix = clause.id.to_lowercase().replace('-', "_") + "_";
            assert!(clause.name.starts_with(&prefix), "{}", clause.name);
        }
    }
}
