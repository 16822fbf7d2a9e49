//! The broker's counters in Prometheus' text format.
//!
//! A few lines written by hand: the numbers are the broker's own, so a registry would only keep
//! them a second time.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use eventbus::broker::BrokerStats;
use procfs::process::Process;

use super::health::Health;

/// Labels and a value.
type Sample = (String, f64);

struct Page(String);

impl Page {
    /// A family of metrics: what it means, and its samples.
    fn family(&mut self, kind: &str, name: &str, help: &str, samples: &[Sample]) {
        let page = &mut self.0;
        // Writing to a text cannot fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(page, "{name}{labels} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family("gauge", name, help, &[(String::new(), value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, &[(String::new(), value)]);
    }

    fn counters(&mut self, name: &str, help: &str, values: &[(String, u64)]) {
        let samples: Vec<Sample> = values
            .iter()
            .map(|(labels, value)| (labels.clone(), to_f64(*value)))
            .collect();
        self.family("counter", name, help, &samples);
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "the format has no other numbers"
)]
fn to_f64(value: u64) -> f64 {
    value as f64
}

/// No label's value here has a character to escape.
fn label(name: &str, value: impl Display) -> String {
    format!("{{{name}=\"{value}\"}}")
}

/// The page.
pub(super) fn text(health: &Health) -> String {
    let mut page = Page(String::new());
    broker(&mut page, &health.stats(), health.max_connections);
    own(&mut page, health.uptime(), health.is_draining());
    if let Ok(process) = Process::myself() {
        system(&mut page, &process);
    }
    page.0
}

fn broker(page: &mut Page, stats: &BrokerStats, max_connections: usize) {
    page.gauge(
        "eventbus_broker_connections",
        "Connections now.",
        to_f64(stats.connections as u64),
    );
    page.gauge(
        "eventbus_broker_max_connections",
        "Most connections.",
        to_f64(max_connections as u64),
    );
    page.gauge(
        "eventbus_broker_sessions",
        "Sessions now.",
        to_f64(stats.sessions as u64),
    );
    page.counter(
        "eventbus_broker_connections_accepted_total",
        "Connections accepted, refused ones included.",
        stats.accepted,
    );
    // All are there from the start, at 0: a counter that appears with its first refusal has not
    // increased, to Prometheus.
    let mut refused: BTreeMap<_, _> = BrokerStats::reasons().map(|reason| (reason, 0)).collect();
    refused.extend(&stats.refused);
    let refused: Vec<_> = refused
        .into_iter()
        .map(|(reason, count)| (label("reason", reason), count))
        .collect();
    page.counters(
        "eventbus_broker_connections_refused_total",
        "Connections refused, or ended for what they sent.",
        &refused,
    );
    page.counter(
        "eventbus_broker_accept_errors_total",
        "Failures to accept a connection, for want of descriptors mostly.",
        stats.accept_errors,
    );
    page.counter(
        "eventbus_broker_frames_total",
        "Frames from clients.",
        stats.frames,
    );
    page.counter(
        "eventbus_broker_frames_denied_total",
        "Frames denied to clients that the rules of access do not allow them.",
        stats.denied,
    );
    page.counters(
        "eventbus_broker_bytes_total",
        "Bytes from clients (in) and to clients (out).",
        &[
            (label("direction", "in"), stats.bytes_in),
            (label("direction", "out"), stats.bytes_out),
        ],
    );
    page.gauge(
        "eventbus_broker_silent_seconds",
        "Time since the directory of sessions went round; more than a few seconds is a broker that is stuck.",
        stats.silent.as_secs_f64(),
    );
}

fn own(page: &mut Page, uptime: Duration, draining: bool) {
    page.gauge(
        "eventbus_broker_draining",
        "1 while the broker ends, else 0.",
        f64::from(u8::from(draining)),
    );
    page.gauge(
        "eventbus_broker_uptime_seconds",
        "Time since the broker was ready.",
        uptime.as_secs_f64(),
    );
    page.family(
        "gauge",
        "eventbus_build_info",
        "Always 1; the version is a label.",
        &[(label("version", env!("CARGO_PKG_VERSION")), 1.0)],
    );
}

/// What Prometheus' own libraries tell of every process, by the same names.
fn system(page: &mut Page, process: &Process) {
    if let Ok(descriptors) = process.fd_count() {
        page.gauge(
            "process_open_fds",
            "Open file descriptors.",
            to_f64(descriptors as u64),
        );
    }
    let most = process
        .limits()
        .ok()
        .map(|limits| limits.max_open_files.soft_limit);
    if let Some(procfs::process::LimitValue::Value(most)) = most {
        page.gauge("process_max_fds", "Most file descriptors.", to_f64(most));
    }
    if let Ok(memory) = process.statm() {
        page.gauge(
            "process_resident_memory_bytes",
            "Resident memory.",
            to_f64(memory.resident.saturating_mul(procfs::page_size())),
        );
    }
}
