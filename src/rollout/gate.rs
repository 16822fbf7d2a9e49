//! The gates of a stage: what was measured, held against what is wanted.
//!
//! Invariant: no evidence is no pass. What could not be measured is inconclusive, and what was
//! measured too long ago is stale.

use std::time::Duration;

use super::options::Gates;
use super::status::{GateStatus, Verdict};

/// What there is to judge by.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Snapshot {
    /// Whether two phases are compared in this stage.
    pub(crate) shadowed: bool,
    /// Events compared, or published where nothing is compared, since the stage began.
    pub(crate) events: u64,
    /// Divergences by class.
    pub(crate) divergences: Vec<(String, u64)>,
    /// The candidate's median latency over the primary's.
    pub(crate) latency_ratio: Option<f64>,
    /// What the candidate delivered and was compared, over what the primary delivered.
    pub(crate) throughput_ratio: Option<f64>,
    /// How long the stage has lasted.
    pub(crate) lasted: Duration,
    /// How long ago the last event came.
    pub(crate) age: Duration,
    /// Why the phase's connection does not stand, if it does not.
    pub(crate) disconnected: Option<String>,
}

/// Judges all gates of a stage.
pub(crate) fn judge(gates: &Gates, now: &Snapshot) -> Vec<GateStatus> {
    let enough = now.events >= gates.min_events;
    let mut all = vec![
        time(gates, now),
        connection(now),
        events(gates, now, enough),
    ];
    if now.shadowed {
        all.push(divergences(gates, now, enough));
        all.push(ratio(
            "latency",
            Bound::AtMost(gates.latency_ratio),
            now.latency_ratio.filter(|_| enough),
        ));
        all.push(ratio(
            "throughput",
            Bound::AtLeast(gates.throughput_ratio),
            now.throughput_ratio.filter(|_| enough),
        ));
    }
    if now.age > gates.stale {
        let passed = all.iter_mut().filter(|gate| gate.verdict == Verdict::Pass);
        passed
            .filter(|gate| !matches!(&*gate.name, "time" | "connection"))
            .for_each(|gate| gate.verdict = Verdict::Stale);
    }
    all
}

/// What follows from all gates together.
pub(crate) fn overall(gates: &[GateStatus]) -> Verdict {
    let any = |verdict| gates.iter().any(|gate| gate.verdict == verdict);
    if any(Verdict::Fail) {
        Verdict::Fail
    } else if any(Verdict::Stale) {
        Verdict::Stale
    } else if any(Verdict::Inconclusive) {
        Verdict::Inconclusive
    } else {
        Verdict::Pass
    }
}

/// What a ratio is held against.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| (part / whole).clamp(0.0, 1.0))
}

fn time(gates: &Gates, now: &Snapshot) -> GateStatus {
    let (lasted, wanted) = (now.lasted, gates.min_time);
    GateStatus {
        name: "time".to_owned(),
        wanted: format!("at least {wanted:?} in this stage"),
        measured: Some(format!("{} s", lasted.as_secs())),
        progress: share(lasted.as_secs_f64(), wanted.as_secs_f64()),
        verdict: if lasted >= wanted {
            Verdict::Pass
        } else {
            Verdict::Inconclusive
        },
    }
}

fn connection(now: &Snapshot) -> GateStatus {
    GateStatus {
        name: "connection".to_owned(),
        wanted: "a connection that stands".to_owned(),
        measured: Some(now.disconnected.clone().unwrap_or("it stands".to_owned())),
        progress: None,
        verdict: match now.disconnected {
            None => Verdict::Pass,
            Some(_) => Verdict::Inconclusive,
        },
    }
}

fn events(gates: &Gates, now: &Snapshot, enough: bool) -> GateStatus {
    let what = if now.shadowed {
        "events compared"
    } else {
        "events published"
    };
    GateStatus {
        name: "events".to_owned(),
        wanted: format!("at least {} {what}", gates.min_events),
        measured: Some(format!("{} {what}", now.events)),
        progress: share(now.events as f64, gates.min_events as f64),
        verdict: if enough {
            Verdict::Pass
        } else {
            Verdict::Inconclusive
        },
    }
}

fn divergences(gates: &Gates, now: &Snapshot, enough: bool) -> GateStatus {
    let found: u64 = now.divergences.iter().map(|(_, n)| n).sum();
    let classes = now.divergences.iter().filter(|(_, n)| *n > 0);
    let classes: Vec<_> = classes.map(|(class, n)| format!("{n} {class}")).collect();
    GateStatus {
        name: "divergences".to_owned(),
        wanted: format!("at most {}", gates.max_divergences),
        measured: Some(if classes.is_empty() {
            "none".to_owned()
        } else {
            classes.join(", ")
        }),
        progress: None,
        verdict: match (found > gates.max_divergences, enough) {
            (true, _) => Verdict::Fail,
            (false, true) => Verdict::Pass,
            (false, false) => Verdict::Inconclusive,
        },
    }
}

fn ratio(name: &str, bound: Bound, measured: Option<f64>) -> GateStatus {
    let (wanted, holds): (_, fn(f64, f64) -> bool) = match bound {
        Bound::AtMost(most) => (format!("at most {most} x the primary's"), |m, b| m <= b),
        Bound::AtLeast(least) => (format!("at least {least} x the primary's"), |m, b| m >= b),
    };
    let (Bound::AtMost(bound) | Bound::AtLeast(bound)) = bound;
    GateStatus {
        name: name.to_owned(),
        wanted,
        measured: measured.map(|ratio| format!("{ratio:.3} x")),
        progress: None,
        verdict: match measured {
            None => Verdict::Inconclusive,
            Some(ratio) if holds(ratio, bound) => Verdict::Pass,
            Some(_) => Verdict::Fail,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Snapshot {
        Snapshot {
            shadowed: true,
            events: 20_000,
            divergences: vec![("missing".to_owned(), 0)],
            latency_ratio: Some(1.5),
            throughput_ratio: Some(1.0),
            lasted: Duration::from_secs(61),
            age: Duration::ZERO,
            disconnected: None,
        }
    }

    fn verdict(now: &Snapshot) -> Verdict {
        overall(&judge(&Gates::default(), now))
    }

    #[test]
    fn a_stage_passes_only_if_every_gate_does() {
        assert_eq!(verdict(&good()), Verdict::Pass);
        type Change = fn(&mut Snapshot);
        let changes: [(Change, Verdict); 9] = [
            (|s| s.events = 9_999, Verdict::Inconclusive),
            (|s| s.divergences[0].1 = 1, Verdict::Fail),
            (|s| s.latency_ratio = Some(50.1), Verdict::Fail),
            (|s| s.latency_ratio = None, Verdict::Inconclusive),
            (|s| s.throughput_ratio = Some(0.98), Verdict::Fail),
            (|s| s.throughput_ratio = None, Verdict::Inconclusive),
            (
                |s| s.lasted = Duration::from_secs(59),
                Verdict::Inconclusive,
            ),
            (|s| s.age = Duration::from_secs(301), Verdict::Stale),
            (
                |s| s.disconnected = Some("gone".to_owned()),
                Verdict::Inconclusive,
            ),
        ];
        for (change, expected) in changes {
            let mut now = good();
            change(&mut now);
            assert_eq!(verdict(&now), expected, "{now:?}");
        }
    }

    #[test]
    fn a_divergence_fails_before_there_is_enough_to_pass() {
        let mut now = good();
        now.events = 10;
        now.divergences[0].1 = 1;
        now.latency_ratio = Some(100.0);
        let gates = judge(&Gates::default(), &now);
        let of = |name: &str| gates.iter().find(|gate| gate.name == name).unwrap();
        assert_eq!(of("divergences").verdict, Verdict::Fail);
        assert_eq!(of("divergences").measured.as_deref(), Some("1 missing"));
        assert_eq!(of("latency").verdict, Verdict::Inconclusive);
    }

    #[test]
    fn without_a_shadow_nothing_is_wanted_of_one() {
        let mut now = good();
        now.shadowed = false;
        (now.latency_ratio, now.throughput_ratio) = (None, None);
        assert_eq!(verdict(&now), Verdict::Pass);
    }
}
