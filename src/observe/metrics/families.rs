//! The families, by the part of what was seen that they are made of.

use eventbus_trait::{FamilyStats, Stats};
use shadow::{NotCompared, Reason, Verdict};

use super::samples::{
    Process, Sample, by_service, count, float, histogram, labelled, of_each, one, process, seconds,
    truth,
};
use super::{Rows, family};
use crate::observe::observed::{Brokered, Observed, Shadowed};
use crate::rollout::status::{Activity, Status};

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";
const HISTOGRAM: &str = "histogram";

pub(super) static PROCESS: &Rows<Observed> = &[
    family(
        GAUGE,
        "eventbus_build_info",
        "Always 1; the version is a label.",
        |seen| vec![labelled("version", &seen.version, 1.0)],
    ),
    family(
        GAUGE,
        "eventbus_healthy",
        "1 if /healthz answers 200, else 0.",
        |seen| one(truth(seen.health.is_ok())),
    ),
    family(
        GAUGE,
        "eventbus_draining",
        "1 while the process ends, else 0.",
        |seen| one(truth(seen.health.status == "draining")),
    ),
    family(
        GAUGE,
        "eventbus_uptime_seconds",
        "Time since the process is looked at.",
        |seen| one(seconds(seen.uptime_ms.saturating_mul(1000))),
    ),
    family(
        GAUGE,
        "eventbus_left_out_rows",
        "Subscriptions, topic families and services that are together in (others).",
        |seen| {
            let all = &seen.left_out;
            let kinds = [
                ("subscription", all.subscriptions),
                ("family", all.families),
                ("service", all.services),
            ];
            kinds
                .map(|(kind, n)| labelled("kind", kind, float(n)))
                .into()
        },
    ),
    family(
        COUNTER,
        "eventbus_refused_trace_parents_total",
        "Trace parents from others that were none.",
        |seen| count(seen.refused_trace_parents),
    ),
    family(GAUGE, "process_open_fds", "Open file descriptors.", |_| {
        process(Process::OpenFds)
    }),
    family(GAUGE, "process_max_fds", "Most file descriptors.", |_| {
        process(Process::MaxFds)
    }),
    family(
        GAUGE,
        "process_resident_memory_bytes",
        "Resident memory.",
        |_| process(Process::ResidentBytes),
    ),
];

pub(super) static BUS: &Rows<Stats> = &[
    family(
        GAUGE,
        "eventbus_info",
        "Always 1; what the bus runs on is a label.",
        |s| vec![labelled("backend", &s.backend, 1.0)],
    ),
    family(
        COUNTER,
        "eventbus_published_events_total",
        "Events accepted.",
        |s| count(s.published),
    ),
    family(
        COUNTER,
        "eventbus_refused_events_total",
        "Events refused with an error.",
        |s| count(s.refused),
    ),
    family(
        COUNTER,
        "eventbus_dropped_events_total",
        "Copies of at-most-once events that found no room.",
        |s| count(s.dropped),
    ),
    family(
        COUNTER,
        "eventbus_malformed_messages_total",
        "Frames or events from others that could not be read.",
        |s| count(s.malformed),
    ),
    family(
        COUNTER,
        "eventbus_reconnects_total",
        "Connections made again after a loss.",
        |s| count(s.reconnects),
    ),
    family(
        COUNTER,
        "eventbus_resent_events_total",
        "Events sent again after a loss.",
        |s| count(s.resends),
    ),
    family(
        COUNTER,
        "eventbus_given_up_events_total",
        "Copies given up because their subscriber stayed away too long.",
        |s| count(s.given_up),
    ),
    family(
        COUNTER,
        "eventbus_family_published_events_total",
        "Events accepted, by topic family.",
        |s| {
            let of =
                |(name, f): (&String, &FamilyStats)| labelled("family", name, float(f.published));
            s.families.iter().map(of).collect()
        },
    ),
    family(
        COUNTER,
        "eventbus_family_deliveries_total",
        "Copies owed to subscriptions, by topic family.",
        |s| {
            let of =
                |(name, f): (&String, &FamilyStats)| labelled("family", name, float(f.deliveries));
            s.families.iter().map(of).collect()
        },
    ),
    family(
        COUNTER,
        "eventbus_subscription_matched_events_total",
        "Events whose topic matched.",
        |s| of_each(s, |one| one.matched),
    ),
    family(
        COUNTER,
        "eventbus_subscription_delivered_events_total",
        "Events handed to the application.",
        |s| of_each(s, |one| one.delivered),
    ),
    family(
        COUNTER,
        "eventbus_subscription_filtered_events_total",
        "Events that a predicate or a correlation filter turned away.",
        |s| of_each(s, |one| one.filtered),
    ),
    family(
        COUNTER,
        "eventbus_subscription_dropped_events_total",
        "Events dropped for want of room, or lost with a peer.",
        |s| of_each(s, |one| one.dropped),
    ),
    family(
        GAUGE,
        "eventbus_subscription_queued_events",
        "Events accepted and not yet handed over.",
        |s| of_each(s, |one| one.queued),
    ),
    family(
        COUNTER,
        "eventbus_calls_total",
        "Calls made that have ended, by outcome.",
        |s| {
            let c = &s.calls;
            let outcomes = [
                ("replied", c.replied),
                ("failed", c.failed),
                ("cancelled", c.cancelled),
            ];
            outcomes
                .map(|(outcome, n)| labelled("outcome", outcome, float(n)))
                .into()
        },
    ),
    family(
        GAUGE,
        "eventbus_calls_in_flight",
        "Calls made that have not ended.",
        |s| count(s.calls.outstanding),
    ),
    family(
        COUNTER,
        "eventbus_service_calls_total",
        "Calls that came to a service and have ended, by outcome; `busy` was refused for want of room.",
        |s| {
            by_service(s, "outcome", |one| {
                vec![
                    ("replied", one.replied),
                    ("failed", one.failed),
                    ("panicked", one.panicked),
                    ("dropped", one.dropped),
                    ("busy", one.busy),
                ]
            })
        },
    ),
    family(
        GAUGE,
        "eventbus_service_calls_in_flight",
        "Calls that wait at a service, or whose handler runs.",
        |s| {
            by_service(s, "state", |one| {
                vec![("waiting", one.waiting), ("running", one.running)]
            })
        },
    ),
];

pub(super) static SHADOW: &Rows<Shadowed> = &[
    family(
        GAUGE,
        "eventbus_shadow_verdict",
        "1 for the verdict that holds, else 0.",
        |s| {
            let all = [Verdict::Match, Verdict::Diverged, Verdict::Inconclusive];
            let of = |verdict: Verdict| {
                let holds = truth(verdict == s.report.verdict);
                labelled("verdict", &verdict.to_string(), holds)
            };
            all.into_iter().map(of).collect()
        },
    ),
    family(
        GAUGE,
        "eventbus_shadow_disabled",
        "1 if nothing more is compared because the candidate was given up, else 0.",
        |s| one(truth(s.report.disabled.is_some())),
    ),
    family(
        COUNTER,
        "eventbus_shadow_published_events_total",
        "Events that the primary accepted.",
        |s| count(s.report.published),
    ),
    family(
        GAUGE,
        "eventbus_shadow_expected_deliveries",
        "Deliveries due: each event once for each subscription that takes it, unless it is refused.",
        |s| count(s.report.expected),
    ),
    family(
        COUNTER,
        "eventbus_shadow_deliveries_total",
        "Deliveries compared, by the class that they have ended in for good.",
        |s| {
            let r = &s.report;
            let classes = [
                ("matched", r.matched),
                ("late", r.late),
                ("reordered", r.reordered),
                ("differs", r.differs),
                ("duplicate", r.duplicates),
                ("phantom", r.phantoms),
            ];
            let of = |(class, n)| labelled("class", class, float(n));
            classes.into_iter().map(of).collect()
        },
    ),
    family(
        GAUGE,
        "eventbus_shadow_missing_deliveries",
        "Deliveries that one side has not made; one that comes after all becomes late.",
        |s| count(s.report.missing),
    ),
    family(
        GAUGE,
        "eventbus_shadow_in_flight_deliveries",
        "Deliveries that are not decided yet.",
        |s| count(s.report.in_flight),
    ),
    family(
        GAUGE,
        "eventbus_shadow_ignored_deliveries",
        "Deliveries that the comparison leaves alone.",
        |s| count(s.report.ignored),
    ),
    family(
        GAUGE,
        "eventbus_shadow_unverified_deliveries",
        "Deliveries that were not compared, by reason.",
        |s| {
            let of = |reason: Reason| {
                let n = s.report.unverified_by_reason.get(&reason);
                let word = serde_json::to_value(reason).unwrap_or_default();
                let word = word.as_str().unwrap_or_default().to_owned();
                labelled("reason", &word, float(n.copied().unwrap_or_default()))
            };
            Reason::ALL.into_iter().map(of).collect()
        },
    ),
    family(
        COUNTER,
        "eventbus_shadow_candidate_errors_total",
        "Errors and panics of the candidate, by operation and kind.",
        |s| {
            let of = |(kind, n): (&String, &u64)| labelled("kind", kind, float(*n));
            s.report.candidate_errors.iter().map(of).collect()
        },
    ),
    family(
        COUNTER,
        "eventbus_shadow_publisher_pairs_total",
        "Neighbouring deliveries of different publishers that were looked at.",
        |s| count(s.report.inversions.pairs),
    ),
    family(
        COUNTER,
        "eventbus_shadow_inverted_pairs_total",
        "Those of them that the candidate told the other way round.",
        |s| count(s.report.inversions.inverted),
    ),
    family(
        COUNTER,
        "eventbus_shadow_calls_total",
        "Calls that ended on the primary, by what came of them on the candidate.",
        |s| {
            let c = &s.report.calls;
            let outcomes = [
                ("unmirrored", c.unmirrored),
                ("same", c.same),
                ("differs", c.differs),
                ("failed", c.failed),
                ("not_compared", c.not_compared),
            ];
            outcomes
                .map(|(outcome, n)| labelled("outcome", outcome, float(n)))
                .into()
        },
    ),
    family(
        COUNTER,
        "eventbus_shadow_not_compared_calls_total",
        "Idempotent calls that were not compared, by reason.",
        |s| {
            let of = |reason: NotCompared| {
                let n = s.report.calls.not_compared_by_reason.get(&reason);
                let word = serde_json::to_value(reason).unwrap_or_default();
                let word = word.as_str().unwrap_or_default().to_owned();
                labelled("reason", &word, float(n.copied().unwrap_or_default()))
            };
            NotCompared::ALL.into_iter().map(of).collect()
        },
    ),
    family(
        GAUGE,
        "eventbus_shadow_calls_in_flight",
        "Calls whose answer from the candidate is awaited.",
        |s| count(s.report.calls.under_way),
    ),
    family(
        GAUGE,
        "eventbus_shadow_candidate_queued_events",
        "Events that wait for the candidate.",
        |s| count(s.glance.queued),
    ),
    family(
        HISTOGRAM,
        "eventbus_shadow_latency_seconds",
        "From when a side was given an event until it was read from that side's subscription.",
        |s| {
            let mut samples = histogram("primary", &s.glance.primary);
            samples.extend(histogram("candidate", &s.glance.candidate));
            samples
        },
    ),
];

pub(super) static ROLLOUT: &Rows<Status> = &[
    family(
        GAUGE,
        "eventbus_rollout_info",
        "Always 1; phase and mode are labels.",
        |s| {
            let labels = vec![("phase", s.phase.clone()), ("mode", s.mode.to_string())];
            vec![Sample {
                suffix: "",
                labels,
                value: 1.0,
            }]
        },
    ),
    family(GAUGE, "eventbus_rollout_stage", "The stage, from 0.", |s| {
        count(s.stage as u64)
    }),
    family(
        GAUGE,
        "eventbus_rollout_stages",
        "How many stages there are.",
        |s| count(s.stages.len() as u64),
    ),
    family(
        GAUGE,
        "eventbus_rollout_stage_start_timestamp_seconds",
        "When the stage began.",
        |s| one(seconds(s.stage_since_ms.saturating_mul(1000))),
    ),
    family(
        GAUGE,
        "eventbus_rollout_activity",
        "1 for what it is doing, else 0.",
        |s| {
            let all = [
                Activity::Watching,
                Activity::Asking,
                Activity::Moving,
                Activity::Paused,
                Activity::Halted,
                Activity::Done,
            ];
            let of = |doing: Activity| {
                labelled("activity", &doing.to_string(), truth(doing == s.activity))
            };
            all.into_iter().map(of).collect()
        },
    ),
    family(
        GAUGE,
        "eventbus_rollout_gate_passed",
        "1 for a gate that passes, else 0.",
        |s| {
            use crate::rollout::status::Verdict;
            let gates = s.gates.iter();
            gates
                .map(|gate| labelled("gate", &gate.name, truth(gate.verdict == Verdict::Pass)))
                .collect()
        },
    ),
    family(
        GAUGE,
        "eventbus_rollout_gate_progress_ratio",
        "How far a gate is, from 0 to 1, where that can be said.",
        |s| {
            let gates = s.gates.iter();
            gates
                .filter_map(|gate| Some(labelled("gate", &gate.name, gate.progress?)))
                .collect()
        },
    ),
    family(
        GAUGE,
        "eventbus_rollout_failures",
        "Evaluations of the gates that failed since the stage began.",
        |s| count(u64::from(s.failures)),
    ),
    family(
        COUNTER,
        "eventbus_rollout_cutovers_total",
        "Cutovers of this process that were completed.",
        |s| count(s.cutovers),
    ),
    family(
        GAUGE,
        "eventbus_rollout_longest_publish_delay_seconds",
        "Longest time that a publisher was held up by a cutover.",
        |s| one(seconds(s.longest_publish_delay_us)),
    ),
];

pub(super) static BROKER: &Rows<Brokered> = &[
    family(
        GAUGE,
        "eventbus_broker_connections",
        "Connections now.",
        |b| count(b.connections),
    ),
    family(
        GAUGE,
        "eventbus_broker_max_connections",
        "Most connections.",
        |b| count(b.max_connections),
    ),
    family(
        GAUGE,
        "eventbus_broker_sessions",
        "Sessions now: connections that have joined the bus.",
        |b| count(b.sessions),
    ),
    family(
        COUNTER,
        "eventbus_broker_connections_accepted_total",
        "Connections accepted, refused ones included.",
        |b| count(b.accepted),
    ),
    family(
        COUNTER,
        "eventbus_broker_connections_refused_total",
        "Connections refused, or ended for what they sent, by the reason that stands in the log.",
        |b| {
            let of = |(reason, n): (&String, &u64)| labelled("reason", reason, float(*n));
            b.refused.iter().map(of).collect()
        },
    ),
    family(
        COUNTER,
        "eventbus_broker_accept_errors_total",
        "Failures to accept a connection, for want of descriptors mostly.",
        |b| count(b.accept_errors),
    ),
    family(
        COUNTER,
        "eventbus_broker_frames_total",
        "Frames from clients.",
        |b| count(b.frames),
    ),
    family(
        COUNTER,
        "eventbus_broker_frames_denied_total",
        "Frames denied to clients that the rules of access do not allow them.",
        |b| count(b.denied),
    ),
    family(
        COUNTER,
        "eventbus_broker_bytes_total",
        "Bytes from clients (in) and to clients (out).",
        |b| {
            vec![
                labelled("direction", "in", float(b.bytes_in)),
                labelled("direction", "out", float(b.bytes_out)),
            ]
        },
    ),
    family(
        GAUGE,
        "eventbus_broker_silent_seconds",
        "Time since the directory of sessions went round; more than a few seconds is a broker that is stuck.",
        |b| one(seconds(b.silent_us)),
    ),
];
