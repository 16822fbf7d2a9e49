//! How it was before: points in time, few enough to be kept for ever.
//!
//! When there is no more room, neighbours become one and the interval doubles, until a point is
//! a quarter of a minute; from then on the oldest go. So a run of up to an hour is kept whole, and of
//! a longer one the last hour.
//!
//! Invariant: at most [`MOST`] points, and no delivery is in two of them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use shadow::SideLatency;

use super::observed::Observed;

/// Most points.
const MOST: usize = 240;
/// Time between two looks.
pub(super) const TICK_MS: u64 = 1_000;
/// The longest that a point becomes, in ticks.
const COARSEST: u64 = 16;

/// Points in time, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct History {
    /// What each point stands for, in milliseconds; the last may be shorter.
    pub interval_ms: u64,
    /// The points.
    pub points: VecDeque<Point>,
}

/// What was between one point in time and the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Point {
    /// When it ended.
    pub at_ms: u64,
    /// Events published in it.
    pub published: u64,
    /// Deliveries that diverged in it.
    pub diverged: u64,
    /// Most events that waited in subscriptions at a look.
    pub queued: u64,
    /// Most events that waited for the candidate at a look.
    pub candidate_queued: u64,
    /// The primary's latencies in it, in buckets that end at `shadow::LATENCY_BOUNDS_US`; without a
    /// shadow there are none.
    pub primary: Vec<u64>,
    /// The candidate's.
    pub candidate: Vec<u64>,
}

/// Keeps the points.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    points: VecDeque<Point>,
    /// Ticks that a point stands for.
    coarse: u64,
    /// Ticks that the last point has.
    filled: u64,
    before: Totals,
}

/// What only grows.
#[derive(Debug, Default)]
struct Totals {
    published: u64,
    /// Events published since the comparison began.
    doubled: u64,
    diverged: u64,
    primary: Vec<u64>,
    candidate: Vec<u64>,
}

impl Keeper {
    /// Notes what is seen now.
    pub(super) fn note(&mut self, seen: &Observed) {
        self.coarse = self.coarse.max(1);
        let stats = seen.stats.as_ref();
        let shadow = seen.shadow.as_ref();
        let buckets =
            |side: Option<&SideLatency>| side.map(|s| s.buckets.clone()).unwrap_or_default();
        let totals = Totals {
            // A shadow comes and goes, and so does what it has counted.
            published: match (stats, shadow) {
                (Some(stats), _) => stats.published,
                (None, Some(shadow)) => shadow.report.published,
                (None, None) => 0,
            },
            doubled: shadow.map_or(0, |shadow| shadow.report.published),
            diverged: shadow.map_or(0, |shadow| shadow.report.diverged()),
            primary: buckets(shadow.map(|shadow| &shadow.glance.primary)),
            candidate: buckets(shadow.map(|shadow| &shadow.glance.candidate)),
        };
        let before = &self.before;
        let point = Point {
            at_ms: seen.at_ms,
            published: grown(before.published, totals.published),
            diverged: totals.diverged_since(before),
            queued: stats.map_or(0, |s| s.subscriptions.iter().map(|s| s.queued).sum()),
            candidate_queued: shadow.map_or(0, |shadow| shadow.glance.queued),
            primary: all_grown(&before.primary, &totals.primary),
            candidate: all_grown(&before.candidate, &totals.candidate),
        };
        self.before = totals;
        self.push(point);
    }

    pub(super) fn told(&self) -> History {
        History {
            interval_ms: TICK_MS * self.coarse.max(1),
            points: self.points.clone(),
        }
    }

    fn push(&mut self, point: Point) {
        match self.points.back_mut() {
            Some(last) if self.filled < self.coarse => {
                last.absorb(point);
                self.filled += 1;
                return;
            }
            _ => {}
        }
        if self.points.len() >= MOST {
            if self.coarse < COARSEST {
                self.halve();
            } else {
                self.points.pop_front();
            }
        }
        self.points.push_back(point);
        self.filled = 1;
    }

    fn halve(&mut self) {
        let mut halved = VecDeque::with_capacity(MOST);
        while let Some(mut first) = self.points.pop_front() {
            if let Some(second) = self.points.pop_front() {
                first.absorb(second);
            }
            halved.push_back(first);
        }
        self.points = halved;
        self.coarse *= 2;
    }
}

impl Totals {
    /// What was missing may come and be late instead, which is no divergence more; but all of another
    /// comparison's are.
    fn diverged_since(&self, before: &Self) -> u64 {
        match self.doubled < before.doubled {
            true => self.diverged,
            false => self.diverged.saturating_sub(before.diverged),
        }
    }
}

impl Point {
    /// Adds what came right after.
    fn absorb(&mut self, next: Self) {
        self.at_ms = next.at_ms;
        self.published += next.published;
        self.diverged += next.diverged;
        self.queued = self.queued.max(next.queued);
        self.candidate_queued = self.candidate_queued.max(next.candidate_queued);
        for (mine, other) in [
            (&mut self.primary, next.primary),
            (&mut self.candidate, next.candidate),
        ] {
            mine.resize(mine.len().max(other.len()), 0);
            for (sum, n) in mine.iter_mut().zip(other) {
                *sum += n;
            }
        }
    }
}

/// A counter that is lower than before has begun again.
fn grown(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

fn all_grown(before: &[u64], now: &[u64]) -> Vec<u64> {
    let again = before.iter().zip(now).any(|(before, now)| now < before);
    let before = |at| {
        if again {
            0
        } else {
            before.get(at).copied().unwrap_or(0)
        }
    };
    now.iter()
        .enumerate()
        .map(|(at, n)| n - before(at))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventbus_trait::Stats;

    fn after(ticks: u64) -> History {
        let mut keeper = Keeper::default();
        for tick in 1..=ticks {
            let stats = Stats {
                published: tick * 10,
                ..Stats::default()
            };
            keeper.note(&Observed {
                at_ms: tick * TICK_MS,
                stats: Some(stats),
                ..Observed::default()
            });
        }
        keeper.told()
    }

    #[test]
    fn an_hour_is_kept_whole_in_bounded_room() {
        for (ticks, interval) in [(1, 1), (240, 1), (241, 2), (481, 4), (3_600, 16)] {
            let history = after(ticks);
            assert!(history.points.len() <= MOST, "{ticks}");
            assert_eq!(history.interval_ms, interval * TICK_MS, "{ticks}");
            let sum: u64 = history.points.iter().map(|p| p.published).sum();
            assert_eq!(sum, ticks * 10, "{ticks}");
            assert_eq!(history.points.back().unwrap().at_ms, ticks * TICK_MS);
        }
    }

    /// One comparison ends and another begins, with nothing in between that anybody looked at.
    #[cfg(feature = "crossbeam")]
    #[test]
    fn a_shadow_that_comes_and_goes_makes_nothing_jump() {
        use crate::observe::Shadowed;
        use shadow::{Glance, ShadowBus, ShadowOptions};

        let bus = crossbeam_backend::CrossbeamBus::new(eventbus_trait::Limits::default());
        let mut keeper = Keeper::default();
        let mut report = ShadowBus::alone(bus, ShadowOptions::default()).report();
        for (published, shadow) in [
            (100, None),
            (200, Some((100, 7))),
            (300, Some((40, 5))),
            (400, None),
        ] {
            let shadow = shadow.map(|(doubled, missing)| {
                (report.published, report.missing) = (doubled, missing);
                Shadowed {
                    report: report.clone(),
                    glance: Glance::default(),
                }
            });
            let stats = Stats {
                published,
                ..Stats::default()
            };
            keeper.note(&Observed {
                stats: Some(stats),
                shadow,
                ..Observed::default()
            });
        }
        let told = keeper.told();
        let published: Vec<u64> = told.points.iter().map(|p| p.published).collect();
        let diverged: Vec<u64> = told.points.iter().map(|p| p.diverged).collect();
        assert_eq!(published, [100; 4]);
        assert_eq!(diverged, [0, 7, 5, 0]);
    }

    #[test]
    fn of_a_longer_run_the_last_hour_is_left() {
        let history = after(20_000);
        assert_eq!(history.points.len(), MOST);
        let sum: u64 = history.points.iter().map(|p| p.published).sum();
        assert!((38_000..=38_400).contains(&sum), "{sum}");
    }

    #[test]
    fn a_counter_that_begins_again_is_no_huge_number() {
        assert_eq!(grown(10, 3), 3);
        assert_eq!(all_grown(&[5, 5], &[6, 1]), [6, 1]);
        assert_eq!(all_grown(&[5, 5], &[6, 5]), [1, 0]);
        assert_eq!(all_grown(&[], &[6, 5]), [6, 5]);
    }
}
