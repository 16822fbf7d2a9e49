//! The project's targets for speed, and what a run found of them.

use crate::report::results::{Bound, Curve, Results, Row, Table, Target};

/// Those that the parts of the run can tell.
pub(crate) fn of(results: &Results) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut add = |name: String, bound, target, measured: Option<f64>| {
        targets.extend(measured.map(|measured| Target {
            name,
            bound,
            target,
            measured,
        }));
    };
    for (name, target) in [
        ("crossbeam", 0.5),
        ("in-process", 4.0),
        ("unix", 10.0),
        ("tcp", 6.0),
    ] {
        let measured = ratio(results.headline.as_ref(), name, |row| row.rate_ratio);
        add(
            format!("throughput, {name}"),
            Bound::AtLeast,
            target,
            measured,
        );
    }
    for style in ["threads", "tasks"] {
        let scheduled = results.latency.iter().find(|table| table.name == style);
        for (name, target) in [("in-process", 5.0), ("unix", 1.3), ("tcp", 2.5)] {
            let measured = ratio(scheduled, name, |row| row.p50_ratio);
            let name = format!("latency p50, {name}, {style}");
            add(name, Bound::AtMost, target, measured);
        }
    }
    for name in ["crossbeam", "in-process", "unix", "tcp"] {
        let growth = growth(&results.curves, "subscriptions", name, 10_000);
        add(
            format!("10,000 subscriptions that do not match beside 1, {name}"),
            Bound::AtMost,
            1.2,
            growth,
        );
    }
    for name in ["crossbeam", "in-process"] {
        let growth = growth(&results.curves, "subscribers", name, 10);
        add(
            format!("10 subscribers of a topic beside 1, {name}"),
            Bound::AtMost,
            3.0,
            growth,
        );
    }
    targets
}

fn ratio(table: Option<&Table>, name: &str, figure: fn(&Row) -> Option<f64>) -> Option<f64> {
    let row = table?.rows.iter().find(|row| row.name == name)?;
    figure(row)
}

/// How many times the cost at 1 an event costs at `x`.
fn growth(curves: &[Curve], curve: &str, phase: &str, x: u64) -> Option<f64> {
    let curve = curves.iter().find(|one| one.name == curve)?;
    let series = curve.series.iter().find(|one| one.name == phase)?;
    let at = |x| series.points.iter().find(|point| point.x == x);
    Some(at(x)?.cost / at(1)?.cost)
}
