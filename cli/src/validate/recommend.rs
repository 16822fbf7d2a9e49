//! A recommendation for each use, worked out of what was measured and of what each transport is.
//!
//! Who lacks what a use needs, was not measured, or failed, is out. Of the rest the best by `merit` is
//! recommended, unless one with fewer parts is as good within [`ALIKE`].

use serde::Serialize;

use super::findings::Findings;
use super::memory::mib;
use super::plan::Transport;
use super::properties::{Peers, Properties, Reach};
use super::words::{micros, rate, seconds};

/// Merits that are apart by less are alike: runs differ by as much.
const ALIKE: f64 = 1.25;
/// A ratio below it is not worth telling.
const NOTABLE: f64 = 1.1;

/// What a bus is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Use {
    OneProcess,
    OneHost,
    SeveralHosts,
    UntrustedNetwork,
}

/// What to use for it.
#[derive(Debug, Serialize)]
pub(crate) struct Recommendation {
    #[serde(rename = "use")]
    pub(crate) purpose: Use,
    /// `null` if none that was measured is fit.
    pub(crate) transport: Option<Transport>,
    /// What spoke for it.
    pub(crate) reasons: Vec<String>,
    /// What speaks against it all the same.
    pub(crate) drawbacks: Vec<String>,
    /// Why it is none of the others.
    pub(crate) others: Vec<Other>,
}

/// One that is not recommended.
#[derive(Debug, Serialize)]
pub(crate) struct Other {
    pub(crate) transport: Transport,
    pub(crate) reasons: Vec<String>,
}

impl Use {
    pub(crate) const ALL: [Self; 4] = [
        Self::OneProcess,
        Self::OneHost,
        Self::SeveralHosts,
        Self::UntrustedNetwork,
    ];

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::OneProcess => "one process",
            Self::OneHost => "several processes on one host",
            Self::SeveralHosts => "several hosts",
            Self::UntrustedNetwork => "an untrusted network",
        }
    }

    /// What the transport lacks for this use.
    fn lacks(self, properties: Properties) -> Vec<String> {
        let reach = match self {
            Self::OneProcess => Reach::Process,
            Self::OneHost => Reach::Host,
            Self::SeveralHosts | Self::UntrustedNetwork => Reach::Network,
        };
        let mut lacks = Vec::new();
        if properties.reach < reach {
            lacks.push(format!("it reaches {} only", properties.reach.words()));
        }
        if self == Self::UntrustedNetwork {
            if !properties.encrypted {
                lacks.push("what is on its way is not encrypted".to_owned());
            }
            if properties.peers != Peers::Certificate {
                lacks.push("peers do not prove who they are by certificates".to_owned());
            }
        }
        lacks
    }

    /// A property that this use needs, and that the transport has.
    fn has(self, properties: Properties) -> String {
        let (reach, peers) = (properties.reach.words(), properties.peers.words());
        match self {
            Self::OneProcess => format!("it reaches {reach}; {peers}"),
            Self::OneHost | Self::SeveralHosts => format!("it reaches {reach}; {peers}"),
            Self::UntrustedNetwork => format!("what is on its way is encrypted; {peers}"),
        }
    }
}

/// For each use.
pub(crate) fn recommend(measured: &[Findings]) -> Vec<Recommendation> {
    Use::ALL.map(|purpose| for_use(purpose, measured)).into()
}

fn for_use(purpose: Use, measured: &[Findings]) -> Recommendation {
    let fit: Vec<&Findings> = measured
        .iter()
        .filter(|found| found.passed && purpose.lacks(found.properties).is_empty())
        .collect();
    let best = fit.iter().map(|found| merit(found)).fold(0.0, f64::max);
    // The first in the order of the migration is the one with the fewest parts.
    let alike = fit.iter().filter(|found| merit(found) * ALIKE >= best);
    let choice = alike.copied().min_by_key(|found| found.transport);
    let others = Transport::ALL.into_iter();
    let others = others.filter(|other| choice.is_none_or(|choice| choice.transport != *other));
    Recommendation {
        purpose,
        transport: choice.map(|choice| choice.transport),
        reasons: choice.map_or_else(Vec::new, |choice| reasons(purpose, choice, &fit)),
        drawbacks: choice.map_or_else(Vec::new, |choice| drawbacks(purpose, choice, &fit)),
        others: others
            .map(|transport| Other {
                transport,
                reasons: against(purpose, transport, measured, choice),
            })
            .collect(),
    }
}

/// Throughput and typical latency weigh the same: being twice as good in one makes up for being half as
/// good in the other. The tail is told and does not count: where other work is done on the machine, it
/// is the scheduler's.
fn merit(found: &Findings) -> f64 {
    let p50 = found.latency.p50_typical_us.max(0.001);
    (found.throughput.events_per_second / p50).sqrt()
}

fn reasons(purpose: Use, choice: &Findings, fit: &[&Findings]) -> Vec<String> {
    let mut reasons = vec![purpose.has(choice.properties)];
    reasons.push(format!(
        "{} events/s; latency p50 {}, p99 {}, typically {}, at {} events/s",
        rate(choice.throughput.events_per_second),
        micros(choice.latency.p50_us),
        micros(choice.latency.p99_us),
        micros(choice.latency.p99_typical_us),
        rate(f64::from(choice.latency.rate)),
    ));
    for other in fit
        .iter()
        .filter(|other| other.transport != choice.transport)
    {
        let alike = merit(choice) < merit(other) * ALIKE;
        if alike && choice.transport < other.transport {
            reasons.push(format!(
                "as good as {} by throughput and latency within a quarter, and simpler to run",
                other.transport
            ));
        }
    }
    reasons.push(format!(
        "each of {} accepted events was delivered once, unaltered and in order",
        choice.delivery.accepted
    ));
    if let Some(recovered) = choice.recovery.measured()
        && let Some(after) = recovered.seconds
    {
        reasons.push(format!(
            "events came again {} after its broker was killed, and none of {} was lost",
            seconds(after),
            recovered.delivery.accepted
        ));
    }
    reasons
}

fn drawbacks(purpose: Use, choice: &Findings, fit: &[&Findings]) -> Vec<String> {
    let mut drawbacks = Vec::new();
    let properties = choice.properties;
    match properties.peers {
        Peers::SameProcess => drawbacks
            .push("another process needs another transport; the program stays as it is".to_owned()),
        Peers::SameUser => drawbacks.push(
            "every process has to run as the same user, and may take any client name".to_owned(),
        ),
        Peers::Certificate => {
            drawbacks.push("certificates have to be made, given out and renewed".to_owned());
        }
    }
    if properties.reach == Reach::Network && purpose != Use::OneProcess && choice.against.is_none()
    {
        drawbacks.push(
            "it was measured over the loopback device; a network's own latency and loss come on top"
                .to_owned(),
        );
    }
    if let super::findings::Recovery::NotMeasured { not_measured } = &choice.recovery {
        drawbacks.push(format!("recovery was not measured: {not_measured}"));
    }
    if choice.errors.total() > 0 {
        let kinds = choice.errors.kinds().into_iter();
        let told: Vec<_> = kinds
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        drawbacks.push(format!("errors came up: {}", told.join(", ")));
    }
    if !choice.latency.kept_up() {
        drawbacks.push(format!(
            "it did not keep up with {} events/s while latency was measured",
            rate(f64::from(choice.latency.rate))
        ));
    }
    let others = fit
        .iter()
        .filter(|other| other.transport != choice.transport);
    for other in others {
        let better = comparisons(other, choice);
        if !better.is_empty() {
            drawbacks.push(format!("{} has {}", other.transport, better.join(", ")));
        }
    }
    drawbacks
}

/// Why it is not this one.
fn against(
    purpose: Use,
    transport: Transport,
    measured: &[Findings],
    choice: Option<&Findings>,
) -> Vec<String> {
    let mut reasons = purpose.lacks(transport.properties());
    let Some(found) = measured.iter().find(|found| found.transport == transport) else {
        reasons.push("it was not measured".to_owned());
        return reasons;
    };
    reasons.extend(found.failures.iter().cloned());
    if !reasons.is_empty() {
        return reasons;
    }
    let Some(choice) = choice else {
        return reasons;
    };
    let better = comparisons(choice, found);
    if !better.is_empty() {
        reasons.push(format!("{} has {}", choice.transport, better.join(", ")));
    }
    if found.properties.reach > choice.properties.reach {
        reasons.push(format!(
            "it reaches {}, which is not needed",
            found.properties.reach.words()
        ));
    }
    if reasons.is_empty() {
        reasons.push(format!(
            "{} is better by throughput and latency together",
            choice.transport
        ));
    }
    reasons
}

/// In what `one` is notably better than `other`.
fn comparisons(one: &Findings, other: &Findings) -> Vec<String> {
    let mut better = Vec::new();
    let (fast, slow) = (
        one.throughput.events_per_second,
        other.throughput.events_per_second,
    );
    if fast > slow * NOTABLE {
        better.push(format!("{} times the throughput", times(fast, slow)));
    }
    let latencies = [
        (
            "typical p50",
            one.latency.p50_typical_us,
            other.latency.p50_typical_us,
        ),
        (
            "typical p99",
            one.latency.p99_typical_us,
            other.latency.p99_typical_us,
        ),
    ];
    for (name, less, more) in latencies {
        if more > less * NOTABLE {
            let (less_told, more_told) = (micros(less), micros(more));
            better.push(format!("a {name} of {less_told} instead of {more_told}"));
        }
    }
    let (less, more) = (one.setup.seconds(), other.setup.seconds());
    if more > less * NOTABLE {
        better.push(format!(
            "a set-up of {} instead of {}",
            seconds(less),
            seconds(more)
        ));
    }
    let all = |found: &Findings| found.memory.growth() + found.memory.broker.unwrap_or(0);
    let (less, more) = (all(one), all(other));
    if more as f64 > less as f64 * NOTABLE {
        better.push(format!("{} of memory instead of {}", mib(less), mib(more)));
    }
    better
}

fn times(more: f64, less: f64) -> String {
    let times = more / less.max(f64::MIN_POSITIVE);
    if times < 10.0 {
        format!("{times:.1}")
    } else {
        format!("{times:.0}")
    }
}

#[cfg(test)]
#[path = "recommend_tests.rs"]
mod tests;
