//! A table, for a document or for a terminal, and how figures are written.

use comfy_table::{Cell, CellAlignment, Table, presets};

/// A heading for each column, and rows. All but the first column are figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grid {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(crate) fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        Self {
            head: head.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = self.head.iter().skip(1).map(|_| " ---: |");
        let rows = self.rows.iter().map(|row| line(row));
        let top = [line(&self.head), "| --- |".to_owned()];
        let rule = rule.map(str::to_owned).chain(["\n".to_owned()]);
        top.into_iter().chain(rule).chain(rows).collect()
    }

    pub(crate) fn for_a_terminal(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(&self.head);
        for row in &self.rows {
            let figures = row.iter().skip(1);
            let figures = figures.map(|cell| Cell::new(cell).set_alignment(CellAlignment::Right));
            table.add_row(row.iter().take(1).map(Cell::new).chain(figures));
        }
        format!("{table}\n")
    }
}

/// A ratio: two digits that count.
pub(crate) fn ratio(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value < 10.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.1}"),
    }
}

/// Events per second.
pub(crate) fn rate(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.2} M", value / 1e6),
        _ if value >= 1e3 => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

/// Nanoseconds.
pub(crate) fn time(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.2} ms", value / 1e6),
        _ if value >= 1e3 => format!("{:.1} us", value / 1e3),
        _ => format!("{value:.0} ns"),
    }
}

/// Bytes of memory.
pub(crate) fn memory(value: f64) -> String {
    format!("{:.1} MiB", value / f64::from(1 << 20))
}

/// Counts and sizes, as they stand beside a curve.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
