//! What two buses of the same kind differ by, and what a candidate differs by beyond that.
//!
//! A second primary is not as fast as the first either, and lets publishers come in another order now
//! and then: because it is driven by another thread, because the machine is busy, because nobody
//! promises otherwise. To judge a candidate against zero would blame it for that. So a calibration
//! compares a primary with a second one first, and what was measured is the noise floor that the
//! verdict goes by.
//!
//! Invariant: divergences are not noise. Two primaries that diverge are no floor, and no floor
//! excuses a divergence.

use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::EventBus;
use futures_timer::Delay;
use serde::{Deserialize, Serialize};

use crate::bus::ShadowBus;
use crate::family::{AttachError, Family};
use crate::interleaving::Inversions;
use crate::latency::{LatencyDifference, Lateness, Ratio};
use crate::options::ShadowOptions;
use crate::report::{Report, Verdict};

/// Fewest deliveries that say anything about latency.
const FEWEST: u64 = 100;
/// How many standard deviations of chance an inversion rate may be off.
const SIGMAS: f64 = 3.0;

/// What a second primary differs by from the first: see [`ShadowBus::calibrate`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoiseFloor {
    /// The backend of both.
    pub backend: String,
    /// Deliveries compared.
    pub samples: u64,
    /// The second one's latency minus the first one's.
    pub latency: LatencyDifference,
    /// The second one's latency as a multiple of the first one's.
    pub latency_ratio: Ratio,
    /// How often, and by how much, the second one delivered later than the first.
    pub lateness: Lateness,
    /// How often the second one let publishers come in another order.
    pub inversions: Inversions,
}

/// A candidate against the noise floor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// What two primaries differ by.
    pub floor: NoiseFloor,
    /// The candidate's median latency as a multiple of the primary's, divided by the floor's, which
    /// counts as 1 if it is less. Absent if too little was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<f64>,
    /// By how much the rate of inversions is above the floor's, from 0 to 1, after what chance makes
    /// of so many pairs was taken off. Absent if there are no pairs on either side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inversions: Option<f64>,
    /// What is beyond the limits of the options, in one sentence each: the verdict is no match then.
    pub beyond: Vec<String>,
}

/// Why there is no noise floor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// The second primary could not be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Somebody else detached it.
    #[error("the second primary was detached before its time")]
    Detached,
    /// The two differ by more than noise.
    #[error("two buses of {backend} diverged {divergences} times; see the report")]
    Diverged {
        /// The backend of both.
        backend: String,
        /// How often.
        divergences: u64,
    },
    /// Not everything could be compared.
    #[error(
        "two buses of {backend} could not be compared: {unverified} deliveries unverified, {in_flight} undecided"
    )]
    Inconclusive {
        /// The backend of both.
        backend: String,
        /// Deliveries not compared.
        unverified: u64,
        /// Deliveries not decided.
        in_flight: u64,
    },
    /// Too little was delivered.
    #[error("{samples} deliveries say nothing about latency; {FEWEST} do")]
    TooFew {
        /// Deliveries compared.
        samples: u64,
    },
}

impl NoiseFloor {
    /// The noise floor that a comparison of two buses of the same kind has found.
    ///
    /// # Errors
    /// [`CalibrationError`] if the two diverged, or were not really compared.
    pub fn of(report: &Report) -> Result<Self, CalibrationError> {
        let backend = report.primary.clone();
        let samples = report.latency.samples;
        match report.verdict {
            Verdict::Match if samples < FEWEST => Err(CalibrationError::TooFew { samples }),
            Verdict::Match => Ok(Self {
                backend,
                samples,
                latency: report.latency,
                latency_ratio: report.latency_ratio().unwrap_or_default(),
                lateness: report.lateness,
                inversions: report.inversions,
            }),
            Verdict::Diverged => Err(CalibrationError::Diverged {
                backend,
                divergences: report.diverged(),
            }),
            Verdict::Inconclusive if report.expected == 0 => {
                Err(CalibrationError::TooFew { samples: 0 })
            }
            Verdict::Inconclusive => Err(CalibrationError::Inconclusive {
                backend,
                unverified: report.unverified,
                in_flight: report.in_flight,
            }),
        }
    }

    /// What a candidate differs by beyond it.
    pub(crate) fn against(&self, report: &Report, options: &ShadowOptions) -> Noise {
        let enough = report.latency.samples >= FEWEST;
        let ratio = report.latency_ratio().filter(|_| enough);
        let latency = ratio.map(|ratio| ratio.p50 / self.latency_ratio.p50.max(1.0));
        let inversions = beyond_chance(self.inversions, report.inversions);
        let mut beyond = Vec::new();
        if let Some(times) = latency.filter(|times| *times > options.latency_limit) {
            let limit = options.latency_limit;
            beyond.push(format!(
                "its median latency is {times:.1} times the noise floor, over the limit of {limit}"
            ));
        }
        if let Some(rate) = inversions.filter(|rate| *rate > options.inversion_limit) {
            let (rate, limit) = (100.0 * rate, 100.0 * options.inversion_limit);
            beyond.push(format!(
                "it inverts {rate:.1} % of the pairs beyond the noise floor, over the limit of {limit} %"
            ));
        }
        Noise {
            floor: self.clone(),
            latency,
            inversions,
            beyond,
        }
    }
}

/// By how much the rate of `found` is above that of `floor`, after what chance makes of so many.
fn beyond_chance(floor: Inversions, found: Inversions) -> Option<f64> {
    if floor.pairs == 0 || found.pairs == 0 {
        return None;
    }
    let (a, b) = (floor.pairs as f64, found.pairs as f64);
    let both = (floor.inverted + found.inverted) as f64 / (a + b);
    let deviation = (both * (1.0 - both) * (1.0 / a + 1.0 / b)).sqrt();
    Some((found.rate() - floor.rate() - SIGMAS * deviation).max(0.0))
}

impl ShadowBus {
    /// Compares this bus with `second`, another one of the same kind, for `time`, while the application
    /// goes on: that is the noise floor for the candidate that comes next, in its
    /// [`ShadowOptions::noise_floor`]. What is decided has until `deadline` after that, as in
    /// [`detach`](Self::detach). The application's traffic is the measure, so there must be some.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// # use eventbus_trait::EventBus;
    /// # use shadow::{CalibrationError, ShadowBus, ShadowOptions};
    /// # async fn example(
    /// #     bus: Arc<ShadowBus>,
    /// #     second: Arc<dyn EventBus>,
    /// #     candidate: Arc<dyn EventBus>,
    /// # ) -> Result<(), CalibrationError> {
    /// let floor = bus.calibrate(second, Duration::from_secs(10), Duration::from_secs(5)).await?;
    /// let options = ShadowOptions { noise_floor: Some(floor), ..ShadowOptions::default() };
    /// bus.attach_with(candidate, options)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CalibrationError`] if there is a candidate already, or the two buses are no noise floor.
    /// Cancelled, it lets go of `second` at once.
    pub async fn calibrate(
        &self,
        second: Arc<dyn EventBus>,
        time: Duration,
        deadline: Duration,
    ) -> Result<NoiseFloor, CalibrationError> {
        let family = self.family();
        // The file, the saboteur and the floor are the candidate's.
        let options = ShadowOptions {
            noise_floor: None,
            divergence_file: None,
            sabotage: None,
            ..family.options.clone()
        };
        let comparison = family.attach(self.sender(), second, options)?;
        let attached = Attached { family, comparison };
        Delay::new(time).await;
        let report = family.detach(deadline, Some(comparison)).await;
        drop(attached);
        NoiseFloor::of(&report.ok_or(CalibrationError::Detached)?)
    }
}

/// Lets go of the second primary, and of no other one, if the calibration is cancelled.
struct Attached<'a> {
    family: &'a Family,
    comparison: u64,
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.family.let_go(self.comparison);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Quantiles;

    fn inversions(pairs: u64, inverted: u64) -> Inversions {
        Inversions { pairs, inverted }
    }

    #[test]
    fn what_chance_makes_is_not_held_against_a_candidate() {
        let floor = inversions(1_000, 100);
        for (found, beyond) in [
            (inversions(1_000, 100), 0.0),
            (inversions(1_000, 0), 0.0),
            (inversions(50, 9), 0.0),
        ] {
            assert_eq!(beyond_chance(floor, found), Some(beyond), "{found:?}");
        }
        let far = beyond_chance(floor, inversions(1_000, 500)).unwrap();
        assert!((0.3..0.4).contains(&far), "{far}");
        assert_eq!(beyond_chance(inversions(0, 0), floor), None);
        assert_eq!(beyond_chance(floor, inversions(0, 0)), None);
    }

    fn report(primary: f64, candidate: f64, inversions: Inversions) -> Report {
        let quantiles = |us| Quantiles {
            p50_us: us,
            p99_us: us,
        };
        let mut report = Report::nothing("a");
        report.verdict = Verdict::Match;
        report.latency.samples = FEWEST;
        report.primary_latency = quantiles(primary);
        report.candidate_latency = quantiles(candidate);
        report.inversions = inversions;
        report
    }

    #[test]
    fn a_candidate_is_judged_by_what_a_second_primary_does() {
        let floor = NoiseFloor::of(&report(1.0, 3.0, inversions(1_000, 300))).unwrap();
        let options = ShadowOptions {
            latency_limit: 2.0,
            inversion_limit: 0.1,
            ..ShadowOptions::default()
        };
        let alike = floor.against(&report(2.0, 7.0, inversions(1_000, 330)), &options);
        assert_eq!(alike.beyond, [""; 0], "{alike:?}");
        let worse = floor.against(&report(2.0, 14.0, inversions(1_000, 700)), &options);
        assert_eq!(worse.beyond.len(), 2, "{worse:?}");
        assert!(worse.beyond[0].contains("2.3 times"), "{worse:?}");
        // A second primary that happened to be faster does not make a floor below nothing.
        let floor = NoiseFloor::of(&report(3.0, 1.0, inversions(0, 0))).unwrap();
        let as_fast = floor.against(&report(2.0, 2.0, inversions(9, 9)), &options);
        assert_eq!((as_fast.latency, as_fast.inversions), (Some(1.0), None));
        let unmeasured = Report {
            latency: LatencyDifference::default(),
            ..report(1.0, 99.0, inversions(0, 0))
        };
        assert_eq!(floor.against(&unmeasured, &options).latency, None);
    }

    #[test]
    fn what_diverges_or_is_not_compared_is_no_floor() {
        let of = |change: fn(&mut Report)| {
            let mut report = report(1.0, 1.0, inversions(0, 0));
            report.expected = 5;
            change(&mut report);
            NoiseFloor::of(&report)
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        assert_eq!(of(|_| {}), Ok(()));
        let told = |told: &str| Err(told.to_owned());
        assert_eq!(
            of(|r| (r.verdict, r.missing) = (Verdict::Diverged, 3)),
            told("two buses of a diverged 3 times; see the report")
        );
        assert_eq!(
            of(|r| (r.verdict, r.unverified) = (Verdict::Inconclusive, 2)),
            told("two buses of a could not be compared: 2 deliveries unverified, 0 undecided")
        );
        assert_eq!(
            of(|r| r.latency.samples = 99),
            told("99 deliveries say nothing about latency; 100 do")
        );
    }
}
