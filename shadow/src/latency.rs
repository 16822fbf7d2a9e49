//! How much later the candidate delivers than the primary.
//!
//! A difference has a sign and a histogram has none, so there are two: one for deliveries that the
//! candidate was slower with, one for those that it was faster with.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::glance::{Buckets, SideLatency};
use crate::track::Nanos;

/// Latency of the candidate minus latency of the primary, over all deliveries compared, in
/// microseconds. Each side's latency runs from the moment at which that side was given the event
/// until it was read from that side's subscription, so that waiting in the shadow's own queue does
/// not count. Quantiles are exact to 1 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LatencyDifference {
    /// Deliveries measured.
    pub samples: u64,
    /// Half of them are below or at this.
    pub p50_us: i64,
    /// 99 in 100 are below or at this.
    pub p99_us: i64,
    /// The largest.
    pub max_us: i64,
}

/// Quantiles of one side's latency in microseconds, exact to 1 %.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half of them are below or at this.
    pub p50_us: f64,
    /// 99 in 100 are below or at this.
    pub p99_us: f64,
}

/// The candidate's quantiles as multiples of the primary's.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Ratio {
    /// Of the medians.
    pub p50: f64,
    /// Of what 99 in 100 are below or at.
    pub p99: f64,
}

/// Deliveries that the candidate made later than the primary, by a microsecond or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lateness {
    /// How many.
    pub deliveries: u64,
    /// Half of them were later by this or less, in microseconds.
    pub p50_us: u64,
    /// 99 in 100 of them.
    pub p99_us: u64,
    /// The latest.
    pub max_us: u64,
}

#[derive(Debug)]
pub(crate) struct Latency {
    slower: Histogram<u64>,
    faster: Histogram<u64>,
    sides: [Buckets; 2],
    /// Of each side by itself, in nanoseconds.
    exact: [Histogram<u64>; 2],
}

/// Candidate minus primary, in nanoseconds.
pub(crate) fn difference([primary, candidate]: [Nanos; 2]) -> i64 {
    let signed = |nanos: Nanos| i64::try_from(nanos).unwrap_or(i64::MAX);
    signed(candidate) - signed(primary)
}

impl Latency {
    pub(crate) fn new() -> Self {
        Self {
            slower: histogram(),
            faster: histogram(),
            sides: [Buckets::default(); 2],
            exact: [histogram(), histogram()],
        }
    }

    /// Records how long the primary and the candidate took for one delivery.
    pub(crate) fn record(&mut self, sides: [Nanos; 2]) {
        for (buckets, nanos) in self.sides.iter_mut().zip(sides) {
            buckets.record(nanos);
        }
        for (exact, nanos) in self.exact.iter_mut().zip(sides) {
            exact.saturating_record(nanos.max(1));
        }
        let nanos = difference(sides);
        let micros = nanos.unsigned_abs() / 1000;
        if nanos < 0 && micros > 0 {
            self.faster.saturating_record(micros);
        } else {
            self.slower.saturating_record(micros);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        // Both grow as needed, so there is no value that does not fit.
        let _ = self.slower.add(&other.slower);
        let _ = self.faster.add(&other.faster);
        for (sum, buckets) in self.sides.iter_mut().zip(&other.sides) {
            sum.add(buckets);
        }
        for (sum, exact) in self.exact.iter_mut().zip(&other.exact) {
            let _ = sum.add(exact);
        }
    }

    /// The primary's and the candidate's, in microseconds.
    pub(crate) fn quantiles(&self) -> [Quantiles; 2] {
        let micros = |of: &Histogram<u64>, q: f64| of.value_at_quantile(q) as f64 / 1000.0;
        [&self.exact[0], &self.exact[1]].map(|of| Quantiles {
            p50_us: micros(of, 0.5),
            p99_us: micros(of, 0.99),
        })
    }

    pub(crate) fn lateness(&self) -> Lateness {
        let all = self.slower.len();
        // What took as long on both sides is counted as slower by nothing.
        let alike = self.slower.count_at(0);
        let deliveries = all - alike;
        if deliveries == 0 {
            return Lateness::default();
        }
        let quantile = |quantile: f64| {
            let rank = alike as f64 + deliveries as f64 * quantile;
            let value = self.slower.value_at_quantile(rank / all as f64);
            value.clamp(1, self.slower.max())
        };
        Lateness {
            deliveries,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            max_us: self.slower.max(),
        }
    }

    /// The primary's and the candidate's.
    pub(crate) fn sides(&self) -> [SideLatency; 2] {
        self.sides.map(|buckets| buckets.told())
    }

    pub(crate) fn summary(&self) -> LatencyDifference {
        let samples = self.slower.len() + self.faster.len();
        if samples == 0 {
            return LatencyDifference::default();
        }
        LatencyDifference {
            samples,
            p50_us: self.quantile(0.5),
            p99_us: self.quantile(0.99),
            max_us: self.quantile(1.0),
        }
    }

    fn quantile(&self, quantile: f64) -> i64 {
        let samples = self.slower.len() + self.faster.len();
        let rank = ((samples as f64 * quantile).ceil() as u64).clamp(1, samples);
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        if rank <= self.faster.len() {
            // The most negative ones come first.
            let from_top = self.faster.len() - rank + 1;
            let share = from_top as f64 / self.faster.len() as f64;
            -signed(self.faster.value_at_quantile(share))
        } else {
            let share = (rank - self.faster.len()) as f64 / self.slower.len() as f64;
            let value = self.slower.value_at_quantile(share);
            signed(value.min(self.slower.max()))
        }
    }
}

/// Two significant digits, up to an hour, growing as needed.
fn histogram() -> Histogram<u64> {
    let mut histogram = match Histogram::new_with_bounds(1, 3_600_000_000, 2) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("these bounds are valid: {error}"),
    };
    histogram.auto(true);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(micros: i64) -> [Nanos; 2] {
        let slower = micros.unsigned_abs() * 1000;
        if micros < 0 { [slower, 0] } else { [0, slower] }
    }

    fn summary(micros: impl IntoIterator<Item = i64>) -> LatencyDifference {
        let mut latency = Latency::new();
        for micros in micros {
            latency.record(sides(micros));
        }
        latency.summary()
    }

    #[test]
    fn nothing_measured_is_nothing() {
        assert_eq!(summary([]), LatencyDifference::default());
    }

    #[test]
    fn quantiles_run_across_zero() {
        let all = summary(-49..=50);
        assert_eq!(all.samples, 100);
        assert_eq!((all.p50_us, all.p99_us, all.max_us), (0, 49, 50));
        let faster = summary(-100..=-1);
        assert_eq!((faster.p50_us, faster.p99_us, faster.max_us), (-51, -2, -1));
    }

    #[test]
    fn each_side_has_quantiles_and_the_candidate_its_lateness() {
        let mut latency = Latency::new();
        assert_eq!(latency.lateness(), Lateness::default());
        assert_eq!(latency.quantiles(), [Quantiles::default(); 2]);
        for micros in -50..=50 {
            latency.record(sides(micros));
        }
        let lateness = latency.lateness();
        assert_eq!((lateness.deliveries, lateness.p50_us), (50, 25));
        assert_eq!((lateness.p99_us, lateness.max_us), (50, 50));
        let mut latency = Latency::new();
        for nanos in 1..=1000 {
            latency.record([nanos, 100 * nanos]);
        }
        let [primary, candidate] = latency.quantiles();
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 0.02;
        assert!(
            near(primary.p50_us, 0.5) && near(primary.p99_us, 0.99),
            "{primary:?}"
        );
        assert!(near(candidate.p50_us, 50.0) && near(candidate.p99_us, 99.0));
    }

    #[test]
    fn sums_add_up() {
        let mut sum = Latency::new();
        for micros in [-5, 5] {
            let mut one = Latency::new();
            one.record(sides(micros));
            sum.add(&one);
        }
        assert_eq!(sum.sides().map(|side| side.samples), [2, 2]);
        assert_eq!(sum.summary().samples, 2);
        assert_eq!(sum.summary().max_us, 5);
    }
}
