//! What was seen, in Prometheus' text format.
//!
//! The families are tables, so that their documentation is made of them and not beside them. The
//! numbers are kept elsewhere already; a registry would only keep them a second time.
//!
//! Invariant: a counter never goes down while the process lives, except that a new comparison begins
//! at 0; labels have as many values as what was seen has rows, which is bounded.

use std::fmt::Write as _;

use shadow::{LATENCY_BOUNDS_US, Reason, SideLatency, Verdict};

use super::observed::{Brokered, Observed, Shadowed};
use crate::rollout::status::{Activity, Status};
use eventbus_trait::{Stats, SubscriptionStats};

/// A family of metrics, made of one part of what was seen.
#[derive(Clone, Copy)]
struct Family<T: ?Sized> {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: fn(&T) -> Vec<Sample>,
}

/// One line.
struct Sample {
    suffix: &'static str,
    labels: Vec<(&'static str, String)>,
    value: f64,
}

type Rows<T> = [Family<T>];

const fn family<T: ?Sized>(
    kind: &'static str,
    name: &'static str,
    help: &'static str,
    samples: fn(&T) -> Vec<Sample>,
) -> Family<T> {
    Family {
        name,
        kind,
        help,
        samples,
    }
}

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";
const HISTOGRAM: &str = "histogram";

static PROCESS: &Rows<Observed> = &[
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

static BUS: &Rows<Stats> = &[
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
            let of = |(name, f): (&String, &eventbus_trait::FamilyStats)| {
                labelled("family", name, float(f.published))
            };
            s.families.iter().map(of).collect()
        },
    ),
    family(
        COUNTER,
        "eventbus_family_deliveries_total",
        "Copies owed to subscriptions, by topic family.",
        |s| {
            let of = |(name, f): (&String, &eventbus_trait::FamilyStats)| {
                labelled("family", name, float(f.deliveries))
            };
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
];

static SHADOW: &Rows<Shadowed> = &[
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
        COUNTER,
        "eventbus_shadow_published_events_total",
        "Events that the primary accepted.",
        |s| count(s.report.published),
    ),
    family(
        COUNTER,
        "eventbus_shadow_expected_deliveries_total",
        "Deliveries due: each event once for each subscription that takes it.",
        |s| count(s.report.expected),
    ),
    family(
        COUNTER,
        "eventbus_shadow_deliveries_total",
        "Deliveries by the class that they have ended in for good.",
        |s| {
            let r = &s.report;
            let classes = [
                ("matched", r.matched),
                ("ignored", r.ignored),
                ("late", r.late),
                ("reordered", r.reordered),
                ("differs", r.differs),
                ("duplicate", r.duplicates),
                ("phantom", r.phantoms),
                ("unverified", r.unverified),
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
        COUNTER,
        "eventbus_shadow_unverified_deliveries_total",
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

static ROLLOUT: &Rows<Status> = &[
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

static BROKER: &Rows<Brokered> = &[
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

/// All families of what there is to see.
pub(super) fn text(seen: &Observed) -> String {
    let mut page = String::new();
    write_all(&mut page, PROCESS, Some(seen));
    write_all(&mut page, BUS, seen.stats.as_ref());
    write_all(&mut page, SHADOW, seen.shadow.as_ref());
    write_all(&mut page, ROLLOUT, seen.rollout.as_ref());
    write_all(&mut page, BROKER, seen.broker.as_ref());
    page
}

/// The table of all families for people, in Markdown.
#[cfg(test)]
pub(super) fn documentation() -> String {
    fn rows<T: ?Sized>(table: &mut String, families: &Rows<T>) {
        for family in families {
            let Family {
                name, kind, help, ..
            } = family;
            let _ = writeln!(table, "| `{name}` | {kind} | {help} |");
        }
    }
    let mut table = "| metric | kind | |\n| --- | --- | --- |\n".to_owned();
    rows(&mut table, PROCESS);
    rows(&mut table, BUS);
    rows(&mut table, SHADOW);
    rows(&mut table, ROLLOUT);
    rows(&mut table, BROKER);
    table
}

fn write_all<T>(page: &mut String, families: &Rows<T>, seen: Option<&T>) {
    let Some(seen) = seen else { return };
    for family in families {
        let Family {
            name,
            kind,
            help,
            samples,
        } = family;
        // Writing to a text cannot fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for Sample {
            suffix,
            labels,
            value,
        } in samples(seen)
        {
            let _ = write!(page, "{name}{suffix}");
            for (at, (label, text)) in labels.iter().enumerate() {
                let before = if at == 0 { '{' } else { ',' };
                let _ = write!(page, "{before}{label}=\"{}\"", escaped(text));
            }
            let end = if labels.is_empty() { "" } else { "}" };
            let _ = writeln!(page, "{end} {value}");
        }
    }
}

/// The three characters that would end a label's value, or the line.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

#[allow(
    clippy::cast_precision_loss,
    reason = "the format has no other numbers"
)]
fn float(n: u64) -> f64 {
    n as f64
}

fn seconds(micros: u64) -> f64 {
    float(micros) / 1e6
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn one(value: f64) -> Vec<Sample> {
    vec![Sample {
        suffix: "",
        labels: Vec::new(),
        value,
    }]
}

fn count(n: u64) -> Vec<Sample> {
    one(float(n))
}

fn labelled(label: &'static str, text: &str, value: f64) -> Sample {
    Sample {
        suffix: "",
        labels: vec![(label, text.to_owned())],
        value,
    }
}

fn of_each(stats: &Stats, count: fn(&SubscriptionStats) -> u64) -> Vec<Sample> {
    let subscriptions = stats.subscriptions.iter();
    subscriptions
        .map(|one| labelled("subscription", &one.name, float(count(one))))
        .collect()
}

/// Cumulative, as the format wants it.
fn histogram(side: &str, latency: &SideLatency) -> Vec<Sample> {
    let mut samples = Vec::with_capacity(latency.buckets.len() + 2);
    let mut below = 0;
    let line = |suffix, le: Option<String>, value| Sample {
        suffix,
        labels: [("side", side.to_owned())]
            .into_iter()
            .chain(le.map(|le| ("le", le)))
            .collect(),
        value,
    };
    let bounds = LATENCY_BOUNDS_US
        .into_iter()
        .map(|us| seconds(us).to_string());
    let bounds = bounds.chain(["+Inf".to_owned()]);
    for (bound, n) in bounds.zip(&latency.buckets) {
        below += n;
        samples.push(line("_bucket", Some(bound), float(below)));
    }
    samples.push(line("_sum", None, seconds(latency.sum_us)));
    samples.push(line("_count", None, float(latency.samples)));
    samples
}

#[derive(Clone, Copy)]
enum Process {
    OpenFds,
    MaxFds,
    ResidentBytes,
}

/// What Prometheus' own libraries tell of every process, by the same names.
#[cfg(target_os = "linux")]
fn process(what: Process) -> Vec<Sample> {
    use procfs::process::{LimitValue, Process as Proc};
    let value = || {
        let process = Proc::myself().ok()?;
        match what {
            Process::OpenFds => Some(process.fd_count().ok()? as u64),
            Process::MaxFds => match process.limits().ok()?.max_open_files.soft_limit {
                LimitValue::Value(most) => Some(most),
                LimitValue::Unlimited => None,
            },
            Process::ResidentBytes => {
                let pages = process.statm().ok()?.resident;
                Some(pages.saturating_mul(procfs::page_size()))
            }
        }
    };
    value().map(count).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn process(_: Process) -> Vec<Sample> {
    Vec::new()
}
