//! What a shadow run has found: plain data, for people and programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::calls::Calls;
use crate::class::{Reason, Side};
use crate::interleaving::Inversions;
use crate::latency::{LatencyDifference, Lateness, Quantiles, Ratio};
use crate::noise::Noise;
use crate::record::FileReport;

/// What the comparison says as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Something was compared and nothing diverged; nothing is unverified for a reason that the
    /// application did not give itself.
    Match,
    /// At least one delivery diverged, or a call was answered otherwise.
    Diverged,
    /// Nothing diverged, but it cannot be said that all would match: nothing was compared, an error
    /// or unverified deliveries stand in the way, or the candidate differs by more than
    /// [`Noise`] allows.
    Inconclusive,
}

/// In which way a delivery diverged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DivergenceClass {
    /// One side delivered it and the other did not.
    Missing,
    /// A side delivered it longer after a later event of its stream than the grace time.
    Late,
    /// A side delivered it after a later event of its stream.
    Reordered,
    /// The sides delivered different contents.
    Differs,
    /// A side delivered it more than once.
    Duplicate,
    /// A side delivered what nobody published, or not to this subscription.
    Phantom,
}

/// One divergence, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// In which way it diverged.
    pub class: DivergenceClass,
    /// The side that is to blame.
    pub side: Side,
    /// The subscription.
    pub subscription: String,
    /// The event's publisher, 32 hexadecimal digits, or empty if the event carries none.
    pub publisher: String,
    /// The publisher's epoch.
    pub epoch: u64,
    /// The event's topic.
    pub topic: String,
    /// The event's sequence.
    pub sequence: u64,
    /// How many later events of its stream came before it, if it came after all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced: Option<u64>,
    /// What was seen, for people.
    pub detail: String,
    /// What may be shown of it, if the options say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Shown>,
}

/// What may be shown of a delivery, by what [`Redact`](crate::Redact) has made of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shown {
    /// The primary's, if it delivered it and the comparison still has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// The candidate's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
}

/// By how many later events those were overtaken that came late or out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Displaced {
    /// How many came after a later one.
    pub events: u64,
    /// The sum over them of how many had come before.
    pub sum: u64,
    /// The most.
    pub max: u64,
}

impl Displaced {
    pub(crate) fn note(&mut self, by: u64) {
        self.events += 1;
        self.sum += by;
        self.max = self.max.max(by);
    }
}

/// The state of a comparison.
///
/// At every instant `expected = matched + ignored + missing + late + reordered + differs +
/// unverified + in_flight`; `duplicates` and `phantoms` are arrivals beyond those.
///
/// In JSON the fields have the names that they have here; enums are in snake case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// What the comparison says as a whole: `match`, `diverged`, `inconclusive`.
    pub verdict: Verdict,
    /// The primary's backend.
    pub primary: String,
    /// The candidate's backend.
    pub candidate: String,
    /// Events that the primary accepted.
    pub published: u64,
    /// Subscriptions made, those that have ended included.
    pub subscribers: u64,
    /// Deliveries due: each event once for each subscription that takes it; and deliveries beyond
    /// those that cannot be told from what may be due, which are [`Reason::Unplaced`].
    pub expected: u64,
    /// Both sides delivered it, alike and in order.
    pub matched: u64,
    /// Of the matched ones, those whose contents were left out by sampling.
    #[serde(default)]
    pub unsampled: u64,
    /// Left alone because the options say so.
    pub ignored: u64,
    /// One side did not deliver it.
    pub missing: u64,
    /// Delivered after the grace time.
    pub late: u64,
    /// Delivered out of order.
    pub reordered: u64,
    /// Delivered with different contents.
    pub differs: u64,
    /// Not compared, for the reasons in `unverified_by_reason`.
    pub unverified: u64,
    /// Not decided yet.
    pub in_flight: u64,
    /// Deliveries beyond the first of the same event.
    pub duplicates: u64,
    /// Deliveries of what nobody published, or not to that subscription.
    pub phantoms: u64,
    /// Why deliveries were not compared.
    pub unverified_by_reason: BTreeMap<Reason, u64>,
    /// Events that the primary delivered and that were not published through this shadow.
    pub foreign: u64,
    /// Events that the primary delivered and that were published, by their sequence, before the
    /// candidate was attached. They are not expected.
    #[serde(default)]
    pub earlier: u64,
    /// Errors and panics of the candidate by `operation/kind`.
    pub candidate_errors: BTreeMap<String, u64>,
    /// Why the shadow was disabled, if it was: nothing more is compared, and the application goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<String>,
    /// Panics and errors of hooks, by the hook's name.
    #[serde(default)]
    pub hook_errors: BTreeMap<String, u64>,
    /// The first divergences; `max_divergences` of the options says how many at most.
    pub divergences: Vec<Divergence>,
    /// How far out of place events came, on either side.
    #[serde(default)]
    pub displaced: Displaced,
    /// How often the events of different publishers came in another order.
    #[serde(default)]
    pub inversions: Inversions,
    /// What became of the divergence file, if there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence_file: Option<FileReport>,
    /// Latency of the candidate minus latency of the primary.
    pub latency: LatencyDifference,
    /// Latency of the primary.
    #[serde(default)]
    pub primary_latency: Quantiles,
    /// Latency of the candidate, of the same deliveries.
    #[serde(default)]
    pub candidate_latency: Quantiles,
    /// How often, and by how much, the candidate delivered later than the primary.
    #[serde(default)]
    pub lateness: Lateness,
    /// The candidate against what two primaries differ by, if the options have that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
    /// Most events that ever waited for the candidate.
    pub queue_high_water: u64,
    /// Whether the last `settle` decided everything; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<bool>,
    /// Divergences injected on purpose, if the options name a saboteur.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injected: Option<u64>,
    /// What became of calls.
    #[serde(default)]
    pub calls: Calls,
}

impl Report {
    /// The report of a bus that has had no candidate yet.
    pub(crate) fn nothing(primary: &str) -> Self {
        Self {
            verdict: Verdict::Inconclusive,
            primary: primary.to_owned(),
            candidate: "none".to_owned(),
            published: 0,
            subscribers: 0,
            expected: 0,
            matched: 0,
            unsampled: 0,
            ignored: 0,
            missing: 0,
            late: 0,
            reordered: 0,
            differs: 0,
            unverified: 0,
            in_flight: 0,
            duplicates: 0,
            phantoms: 0,
            unverified_by_reason: BTreeMap::new(),
            foreign: 0,
            earlier: 0,
            candidate_errors: BTreeMap::new(),
            disabled: None,
            hook_errors: BTreeMap::new(),
            divergences: Vec::new(),
            displaced: Displaced::default(),
            inversions: Inversions::default(),
            divergence_file: None,
            latency: LatencyDifference::default(),
            primary_latency: Quantiles::default(),
            candidate_latency: Quantiles::default(),
            lateness: Lateness::default(),
            noise: None,
            queue_high_water: 0,
            settled: None,
            injected: None,
            calls: Calls::default(),
        }
    }

    pub(crate) fn with_first(mut self, most: usize) -> Self {
        self.divergences.truncate(most);
        self
    }

    /// All divergences counted: missing, late, reordered, differing, duplicate and phantom
    /// deliveries.
    #[must_use]
    pub fn diverged(&self) -> u64 {
        self.missing + self.late + self.reordered + self.differs + self.duplicates + self.phantoms
    }

    /// The candidate's latency as a multiple of the primary's, quantile by quantile; `None` if nothing
    /// was measured.
    #[must_use]
    pub fn latency_ratio(&self) -> Option<Ratio> {
        let (a, b) = (self.primary_latency, self.candidate_latency);
        (self.latency.samples > 0 && a.p50_us > 0.0).then(|| Ratio {
            p50: b.p50_us / a.p50_us,
            p99: b.p99_us / a.p99_us,
        })
    }

    /// The verdict that the counts give, where `unverified_limit` is the share of deliveries, and
    /// of errors, that may stay unexplained.
    pub(crate) fn judge(&self, unverified_limit: f64) -> Verdict {
        if self.diverged() > 0 || self.calls.differs > 0 {
            return Verdict::Diverged;
        }
        let over = |n: u64, of: u64| n > 0 && n as f64 > of as f64 * unverified_limit;
        let unexplained = self
            .unverified_by_reason
            .iter()
            .filter(|(reason, _)| !reason.is_explained())
            .map(|(_, n)| n)
            .sum();
        let errors = self.candidate_errors.values().sum();
        if self.matched == 0
            || self.disabled.is_some()
            || self
                .noise
                .as_ref()
                .is_some_and(|noise| !noise.beyond.is_empty())
            || self.in_flight > 0
            || self.settled == Some(false)
            || over(unexplained, self.expected)
            || over(errors, self.published)
            || over(self.calls.unexplained(), self.calls.made)
        {
            return Verdict::Inconclusive;
        }
        Verdict::Match
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Match => "match",
            Self::Diverged => "diverged",
            Self::Inconclusive => "inconclusive",
        })
    }
}

impl fmt::Display for DivergenceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Late => "late",
            Self::Reordered => "reordered",
            Self::Differs => "differs",
            Self::Duplicate => "duplicate",
            Self::Phantom => "phantom",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(limit: f64, change: impl FnOnce(&mut Report)) -> Verdict {
        let mut report = Report {
            published: 100,
            subscribers: 1,
            expected: 100,
            matched: 99,
            unverified: 1,
            unverified_by_reason: [(Reason::Cancelled, 1)].into(),
            settled: Some(true),
            ..Report::nothing("a")
        };
        change(&mut report);
        report.judge(limit)
    }

    #[test]
    fn what_is_explained_does_not_stand_in_the_way() {
        assert_eq!(judged(0.0, |_| {}), Verdict::Match);
        assert_eq!(judged(0.0, |r| r.settled = None), Verdict::Match);
        assert_eq!(judged(0.0, |r| r.ignored = 5), Verdict::Match);
        assert_eq!(judged(0.0, |r| r.foreign = 5), Verdict::Match);
    }

    #[test]
    fn each_kind_of_divergence_counts() {
        let kinds: [fn(&mut Report); 6] = [
            |r| r.missing = 1,
            |r| r.late = 1,
            |r| r.reordered = 1,
            |r| r.differs = 1,
            |r| r.duplicates = 1,
            |r| r.phantoms = 1,
        ];
        for kind in kinds {
            assert_eq!(judged(1.0, kind), Verdict::Diverged);
        }
    }

    #[test]
    fn what_cannot_be_said_is_inconclusive() {
        let error = |r: &mut Report| {
            r.candidate_errors.insert("publish/closed".to_owned(), 1);
        };
        let full = |r: &mut Report| {
            r.unverified_by_reason.insert(Reason::QueueFull, 1);
        };
        assert_eq!(judged(0.0, |r| r.matched = 0), Verdict::Inconclusive);
        assert_eq!(
            judged(0.0, |r| r.settled = Some(false)),
            Verdict::Inconclusive
        );
        assert_eq!(judged(0.0, error), Verdict::Inconclusive);
        assert_eq!(judged(0.0, full), Verdict::Inconclusive);
        assert_eq!(judged(0.01, error), Verdict::Match);
        assert_eq!(judged(0.01, full), Verdict::Match);
    }
}
