//! Plots as inline SVG, drawn for a width of 400 and readable at it; the page's style colours them.

use std::fmt::{self, Display, Formatter};

use super::findings::{Findings, Point};
use super::plan::Transport;
use super::words::{micros, rate};

/// Width of a plot, in its own units.
const WIDTH: f64 = 400.0;
/// Room for a scale at the left, and for names at the right.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 76.0;
/// Quantiles that the scale names.
const NAMED: [(f64, &str); 6] = [
    (0.0, "0"),
    (0.5, "50"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.9999, "99.99"),
];

/// Latency by percentile: a line for each transport.
pub(super) struct Latencies<'a>(pub(super) &'a [Findings]);

/// Events per second: a bar for each transport.
pub(super) struct Throughputs<'a>(pub(super) &'a [Findings]);

/// A line's place among the colours and patterns of the style.
fn class(transport: Transport) -> &'static str {
    match transport {
        Transport::Crossbeam => "t0",
        Transport::InProcess => "t1",
        Transport::Unix => "t2",
        Transport::Tcp => "t3",
    }
}

/// From a span of logarithms to a span of the plot.
struct Scale {
    from: f64,
    to: f64,
    low: f64,
    high: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let share = (value - self.from) / (self.to - self.from).max(f64::MIN_POSITIVE);
        self.low + share.clamp(0.0, 1.0) * (self.high - self.low)
    }
}

/// Each further nine is as far from the last as that was from the one before.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).max(1e-9).log10()
}

impl Latencies<'_> {
    const HEIGHT: f64 = 280.0;
    const TOP: f64 = 12.0;
    const BOTTOM: f64 = 244.0;
    /// Between two names at the right.
    const LINE: f64 = 14.0;

    /// Powers of ten of a microsecond, around everything that is shown.
    fn decades(&self) -> (i32, i32) {
        let all = self.0.iter().flat_map(|found| &found.latency.distribution);
        let logs = all.map(|point| point.us.max(0.01).log10());
        let (low, high) = logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), log| {
            (low.min(log), high.max(log))
        });
        if low > high {
            return (0, 1);
        }
        let (low, high) = (low.floor() as i32, high.ceil() as i32);
        (low, high.max(low + 1))
    }

    fn scales(&self) -> (Scale, Scale, f64) {
        let (low, high) = self.decades();
        let finite = self
            .0
            .iter()
            .flat_map(|found| &found.latency.distribution)
            .map(|point| point.quantile)
            .filter(|quantile| *quantile < 1.0)
            .fold(0.9, f64::max);
        // The maximum has a place of its own at the end.
        let end = nines(finite) + 0.7;
        let across = Scale {
            from: 0.0,
            to: end,
            low: LEFT,
            high: WIDTH - RIGHT,
        };
        let up = Scale {
            from: f64::from(low),
            to: f64::from(high),
            low: Self::BOTTOM,
            high: Self::TOP,
        };
        (across, up, end)
    }

    fn grid(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (across, up, end) = self.scales();
        let (low, high) = self.decades();
        let right = WIDTH - RIGHT;
        for decade in low..=high {
            let y = up.at(f64::from(decade));
            let told = micros(10_f64.powi(decade));
            let told = told.replace(".00", "").replace(".0", "");
            writeln!(
                f,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text class=\"end\" x=\"{:.1}\" \
                 y=\"{:.1}\">{told}</text>",
                LEFT - 6.0,
                y + 4.0
            )?;
        }
        let named = NAMED
            .iter()
            .map(|(quantile, name)| (nines(*quantile), *name));
        let named = named.filter(|(at, _)| *at < end - 0.7);
        for (at, name) in named.chain([(end, "max")]) {
            let x = across.at(at);
            writeln!(
                f,
                "<path class=\"grid\" d=\"M{x:.1} {}V{}\"/><text class=\"middle\" x=\"{x:.1}\" \
                 y=\"{}\">{name}</text>",
                Self::TOP,
                Self::BOTTOM,
                Self::BOTTOM + 15.0
            )?;
        }
        let middle = f64::midpoint(LEFT, right);
        let below = Self::HEIGHT - 4.0;
        writeln!(
            f,
            "<text class=\"middle\" x=\"{middle:.1}\" y=\"{below:.1}\">percentile</text>"
        )
    }

    /// Where each line's name stands: beside its end, and none on another.
    fn names(&self, up: &Scale) -> Vec<(&Findings, f64)> {
        let last = |found: &Findings| found.latency.max_us.max(0.01).log10();
        let mut ends: Vec<_> = self
            .0
            .iter()
            .map(|found| (found, up.at(last(found))))
            .collect();
        ends.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut free = Self::TOP;
        for (_, y) in &mut ends {
            *y = y.max(free);
            free = *y + Self::LINE;
        }
        // What that has pushed beyond the end goes up again.
        let mut most = Self::BOTTOM;
        for (_, y) in ends.iter_mut().rev() {
            *y = y.min(most);
            most = *y - Self::LINE;
        }
        ends
    }
}

impl Display for Latencies<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (across, up, end) = self.scales();
        open(f, Self::HEIGHT, "Latency by percentile")?;
        self.grid(f)?;
        for found in self.0 {
            let place = |point: &Point| {
                let x = if point.quantile < 1.0 {
                    nines(point.quantile)
                } else {
                    end
                };
                (across.at(x), up.at(point.us.max(0.01).log10()))
            };
            write!(f, "<path class=\"line {}\" d=\"", class(found.transport))?;
            for (at, point) in found.latency.distribution.iter().enumerate() {
                let (x, y) = place(point);
                write!(f, "{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' })?;
            }
            writeln!(f, "\"/>")?;
        }
        for (found, y) in self.names(&up) {
            writeln!(
                f,
                "<text class=\"name {}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                class(found.transport),
                WIDTH - RIGHT + 6.0,
                y + 4.0,
                found.transport
            )?;
        }
        writeln!(f, "</svg>")
    }
}

impl Display for Throughputs<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const ROW: f64 = 34.0;
        const BAR: f64 = 20.0;
        const NAMES: f64 = 78.0;
        let most = self
            .0
            .iter()
            .map(|found| found.throughput.events_per_second);
        let most = most.fold(1.0, f64::max);
        open(f, ROW * self.0.len() as f64 + 4.0, "Events per second")?;
        for (at, found) in self.0.iter().enumerate() {
            let y = ROW * at as f64 + 6.0;
            let events = found.throughput.events_per_second;
            let width = events / most * (WIDTH - NAMES - 64.0);
            writeln!(
                f,
                "<text class=\"end name\" x=\"{:.1}\" y=\"{:.1}\">{}</text><rect class=\"bar {}\" \
                 x=\"{NAMES}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/><text \
                 x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                NAMES - 8.0,
                y + 14.0,
                found.transport,
                class(found.transport),
                width.max(1.0),
                NAMES + width + 6.0,
                y + 14.0,
                rate(events)
            )?;
        }
        writeln!(f, "</svg>")
    }
}

fn open(f: &mut Formatter<'_>, height: f64, title: &str) -> fmt::Result {
    writeln!(
        f,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}; the table has the \
         figures\">"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nine_is_as_far_as_the_last() {
        assert!((nines(0.99) - nines(0.9) - 1.0).abs() < 1e-9);
        assert_eq!(nines(0.0), 0.0);
        assert!(nines(1.0).is_finite());
    }

    #[test]
    fn a_scale_leaves_nothing_outside_of_the_plot() {
        let scale = Scale {
            from: 0.0,
            to: 2.0,
            low: 10.0,
            high: 20.0,
        };
        assert_eq!(scale.at(1.0), 15.0);
        assert_eq!((scale.at(-5.0), scale.at(9.0)), (10.0, 20.0));
    }

    #[test]
    fn nothing_measured_is_drawn_all_the_same() {
        for svg in [Latencies(&[]).to_string(), Throughputs(&[]).to_string()] {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
