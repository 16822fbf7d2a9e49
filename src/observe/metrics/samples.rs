//! The lines of a family, and the numbers in them.

use eventbus_trait::rpc::ServiceStats;
use eventbus_trait::{Stats, SubscriptionStats};
use shadow::{LATENCY_BOUNDS_US, SideLatency};

/// One line.
pub(super) struct Sample {
    pub(super) suffix: &'static str,
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: f64,
}

#[allow(
    clippy::cast_precision_loss,
    reason = "the format has no other numbers"
)]
pub(super) fn float(n: u64) -> f64 {
    n as f64
}

pub(super) fn seconds(micros: u64) -> f64 {
    float(micros) / 1e6
}

pub(super) fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

pub(super) fn one(value: f64) -> Vec<Sample> {
    vec![Sample {
        suffix: "",
        labels: Vec::new(),
        value,
    }]
}

pub(super) fn count(n: u64) -> Vec<Sample> {
    one(float(n))
}

pub(super) fn labelled(label: &'static str, text: &str, value: f64) -> Sample {
    Sample {
        suffix: "",
        labels: vec![(label, text.to_owned())],
        value,
    }
}

pub(super) fn of_each(stats: &Stats, count: fn(&SubscriptionStats) -> u64) -> Vec<Sample> {
    let subscriptions = stats.subscriptions.iter();
    subscriptions
        .map(|one| labelled("subscription", &one.name, float(count(one))))
        .collect()
}

/// A line for each service and each of what `counts` says of it.
pub(super) fn by_service(
    stats: &Stats,
    label: &'static str,
    counts: fn(&ServiceStats) -> Vec<(&'static str, u64)>,
) -> Vec<Sample> {
    let services = stats.services.iter();
    let lines = services.flat_map(|one| {
        let of = move |(text, n): (&'static str, u64)| Sample {
            suffix: "",
            labels: vec![("service", one.name.clone()), (label, text.to_owned())],
            value: float(n),
        };
        counts(one).into_iter().map(of)
    });
    lines.collect()
}

/// Cumulative, as the format wants it.
pub(super) fn histogram(side: &str, latency: &SideLatency) -> Vec<Sample> {
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
pub(super) enum Process {
    OpenFds,
    MaxFds,
    ResidentBytes,
}

/// What Prometheus' own libraries tell of every process, by the same names.
#[cfg(target_os = "linux")]
pub(super) fn process(what: Process) -> Vec<Sample> {
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
pub(super) fn process(_: Process) -> Vec<Sample> {
    Vec::new()
}
