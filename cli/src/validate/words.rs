//! Figures as people read them: three digits that count, and a unit.

/// Events per second, or any count: `11.0 M`, `10 000` as `10.0 k`.
pub(super) fn rate(number: f64) -> String {
    match number {
        n if n >= 999_500_000.0 => format!("{} G", digits(n / 1e9)),
        n if n >= 999_500.0 => format!("{} M", digits(n / 1e6)),
        n if n >= 999.5 => format!("{} k", digits(n / 1e3)),
        n => digits(n),
    }
}

/// A time given in microseconds.
pub(super) fn micros(time: f64) -> String {
    seconds(time / 1e6)
}

/// A time given in seconds.
pub(super) fn seconds(time: f64) -> String {
    match time {
        t if t >= 0.999_5 => format!("{} s", digits(t)),
        t if t >= 0.000_999_5 => format!("{} ms", digits(t * 1e3)),
        t if t >= 0.000_000_999_5 => format!("{} µs", digits(t * 1e6)),
        t => format!("{:.0} ns", t * 1e9),
    }
}

fn digits(number: f64) -> String {
    match number {
        n if n >= 99.95 => format!("{n:.0}"),
        n if n >= 9.995 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

/// A share of 1 in percent: 100 only if it is all.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if share < 1.0 && percent >= 99.999 {
        return "99.999 %".to_owned();
    }
    let text = format!("{percent:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (number, told) in [
            (11_020_000.0, "11.0 M"),
            (10_000.0, "10.0 k"),
            (999_600.0, "1.00 M"),
            (42.0, "42.0"),
            (0.0, "0.00"),
        ] {
            assert_eq!(rate(number), told);
        }
        for (time, told) in [
            (0.000_000_431, "431 ns"),
            (0.000_027_4, "27.4 µs"),
            (0.000_999_9, "1.00 ms"),
            (0.123, "123 ms"),
            (2.5, "2.50 s"),
        ] {
            assert_eq!(seconds(time), told);
        }
    }

    #[test]
    fn all_but_one_is_not_all() {
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.999_999_9), "99.999 %");
        assert_eq!(percent(0.5), "50 %");
        assert_eq!(percent(0.0), "0 %");
    }
}
