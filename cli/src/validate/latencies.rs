//! The latencies of a transport: all of them, and round by round.
//!
//! A hiccup of a busy machine is in the tail of the whole, and should be. It should not decide which
//! transport is better: the median of the rounds has none in it.

use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};

use super::findings::Point;

/// Longest latency that is told apart, in nanoseconds: ten minutes.
const LONGEST: u64 = 600_000_000_000;
/// Quantiles of the curve, up to the maximum.
const QUANTILES: [f64; 19] = [
    0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9975, 0.999, 0.9995, 0.99975,
    0.9999, 0.99995, 0.99999, 0.999_999, 1.0,
];

/// Latencies of one stream.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u64>);

/// Latencies of several streams, one after the other.
#[derive(Debug)]
pub(super) struct Rounds {
    all: Latencies,
    p50s: Vec<f64>,
    p99s: Vec<f64>,
}

impl Latencies {
    pub(super) fn new() -> Result<Self, CreationError> {
        Histogram::new_with_bounds(1, LONGEST, 3).map(Self)
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanos);
    }

    /// The latency at a quantile, in microseconds.
    pub(super) fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

impl Rounds {
    pub(super) fn new() -> Result<Self, CreationError> {
        Ok(Self {
            all: Latencies::new()?,
            p50s: Vec::new(),
            p99s: Vec::new(),
        })
    }

    pub(super) fn add(&mut self, round: &Latencies) {
        // Both have the same bounds, and so nothing is outside.
        let _ = self.all.0.add(&round.0);
        self.p50s.push(round.at(0.5));
        self.p99s.push(round.at(0.99));
    }

    /// Of all rounds together, in microseconds.
    pub(super) fn at(&self, quantile: f64) -> f64 {
        self.all.at(quantile)
    }

    /// Medians of the rounds' p50 and p99, in microseconds.
    pub(super) fn typical(&self) -> [f64; 2] {
        [median(&self.p50s), median(&self.p99s)]
    }

    /// As far as there are events to tell quantiles apart by.
    pub(super) fn curve(&self) -> Vec<Point> {
        let events = self.all.0.len() as f64;
        // Not exactly one: a tenth of ten is a little less in floating point.
        let known = |quantile: &f64| *quantile == 1.0 || (1.0 - quantile) * events > 0.99;
        let known = QUANTILES.into_iter().filter(known);
        known
            .map(|quantile| Point {
                quantile,
                us: self.at(quantile),
            })
            .collect()
    }
}

/// The one in the middle; the better one of two if they are latencies.
pub(super) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.get(sorted.len().saturating_sub(1) / 2);
    middle.copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(micros: impl IntoIterator<Item = u64>) -> Latencies {
        let mut round = Latencies::new().unwrap();
        for micros in micros {
            round.record(Duration::from_micros(micros));
        }
        round
    }

    #[test]
    fn a_hiccup_is_in_the_whole_and_not_in_what_is_typical() {
        let mut rounds = Rounds::new().unwrap();
        for slow in [10, 50_000, 10, 10, 60_000] {
            rounds.add(&round((0..100).map(|n| if n < 20 { slow } else { 10 })));
        }
        assert!(rounds.at(0.99) > 49_000.0);
        let [p50, p99] = rounds.typical();
        assert!((p50 - 10.0).abs() < 0.1 && (p99 - 10.0).abs() < 0.1);
    }

    #[test]
    fn a_curve_ends_with_the_maximum_and_tells_no_more_than_there_is() {
        let mut rounds = Rounds::new().unwrap();
        rounds.add(&round(1..=10));
        let curve = rounds.curve();
        let quantiles: Vec<_> = curve.iter().map(|point| point.quantile).collect();
        assert_eq!(quantiles, [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]);
        assert!((curve[6].us - 10.0).abs() < 0.1);
        let none = Rounds::new().unwrap();
        assert_eq!((none.at(1.0), none.typical()), (0.0, [0.0, 0.0]));
    }

    #[test]
    fn a_median_is_one_of_them() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[2.0, 1.0]), 1.0);
        assert_eq!(median(&[]), 0.0);
    }
}
