//! The tables of a run, and `docs/performance.md`.

use super::grid::{Grid, count, memory, rate, ratio, time};
use super::plot::{self, Failed};
use super::prose;
use super::results::{Bound, Curve, Machine, Results, Row, Table, Target};

/// The phases, in the order of the migration.
const PHASES: [&str; 4] = ["crossbeam", "in-process", "unix", "tcp"];

/// All tables, each with its heading, as Markdown.
pub(crate) fn tables(results: &Results) -> String {
    render(results, Grid::markdown)
}

/// All tables, each with its heading, as lines.
pub(crate) fn for_a_terminal(results: &Results) -> String {
    render(results, Grid::for_a_terminal)
}

/// The documents, by name below `docs`.
pub(crate) fn files(results: &Results) -> Result<Vec<(String, String)>, Failed> {
    let mut files = vec![("performance.md".to_owned(), document(results))];
    for curve in &results.curves {
        files.push((picture(curve), plot::svg(curve)?));
    }
    Ok(files)
}

fn render(results: &Results, table: fn(&Grid) -> String) -> String {
    let mut parts = Vec::new();
    let mut add = |name: &str, grid: Grid| parts.push(format!("{name}\n\n{}", table(&grid)));
    if !results.targets.is_empty() {
        add("Targets", targets(&results.targets));
    }
    if let Some(headline) = &results.headline {
        add(
            "Throughput: 1 publisher, 1 subscriber, 100 B, at least once",
            throughput(headline),
        );
    }
    if !results.matrix.is_empty() {
        add(
            "Throughput ratios, one thing changed",
            ratios(&results.matrix),
        );
        add("Copies that arrived per second", rates(&results.matrix));
        add(
            "Processor time per copy that arrived",
            processor(&results.matrix),
        );
    }
    for table in &results.latency {
        add(&format!("Latency one way, {}", table.name), latency(table));
    }
    for curve in &results.curves {
        add(&format!("Time per event: {}", curve.title), costs(curve));
    }
    parts.join("\n")
}

/// The page, of a whole run.
fn document(results: &Results) -> String {
    let mut parts = vec![prose::TOP.to_owned(), machine(results)];
    let mut say = |words: &str, grids: &[Grid]| {
        parts.push(words.to_owned());
        parts.extend(grids.iter().map(Grid::markdown));
    };
    say(prose::TARGETS, &[targets(&results.targets)]);
    if let Some(headline) = &results.headline {
        say(prose::HEADLINE, &[throughput(headline)]);
        say(prose::AFTER_HEADLINE, &[]);
    }
    say(prose::MATRIX, &[ratios(&results.matrix)]);
    say(
        "Copies that arrived per second:\n",
        &[rates(&results.matrix)],
    );
    say(
        "Processor time per copy that arrived:\n",
        &[processor(&results.matrix)],
    );
    say(prose::LATENCY, &[]);
    for table in &results.latency {
        let words = match table.name.as_str() {
            "saturated" => prose::SATURATED.to_owned(),
            style => format!(
                "At {} events per second, publisher and subscriber as {style}:\n",
                count(results.method.per_second.into())
            ),
        };
        say(&words, &[latency(table)]);
    }
    say(prose::CURVES, &[]);
    for curve in &results.curves {
        let picture = format!("![{}]({})\n", curve.title, picture(curve));
        say(&format!("### {}\n", curve.title), &[]);
        say(&picture, &[costs(curve)]);
    }
    say(prose::METHOD, &[]);
    say(prose::BOTTOM, &[]);
    parts.join("\n")
}

/// Where and how long.
fn machine(results: &Results) -> String {
    let Machine {
        processor,
        cores,
        memory_gib,
        system,
        kernel,
        rustc,
        versions,
    } = &results.machine;
    let versions: Vec<_> = versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let method = &results.method;
    format!(
        "The machine: {processor}, {cores} cores, {memory_gib} GiB, {system}, Linux {kernel}; {rustc}, \
         release build; {}. Medians of {} rounds; {} s of publishing in each sample of the headline, \
         {} s in those of other tables, {} s in those of curves.\n",
        versions.join(", "),
        method.rounds,
        seconds(method.headline_seconds),
        seconds(method.table_seconds),
        seconds(method.curve_seconds),
    )
}

fn seconds(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn targets(targets: &[Target]) -> Grid {
    let mut grid = Grid::new(["target", "wanted", "measured", "met"]);
    for target in targets {
        let bound = match target.bound {
            Bound::AtLeast => "at least",
            Bound::AtMost => "at most",
        };
        let met = if target.is_met() { "yes" } else { "**no**" };
        grid.row(vec![
            target.name.clone(),
            format!("{bound} {}", target.target),
            ratio(Some(target.measured)),
            met.to_owned(),
        ]);
    }
    grid
}

fn throughput(table: &Table) -> Grid {
    let head = [
        "",
        "ratio",
        "beside",
        "events/s",
        "CPU per event",
        "memory",
        "window",
    ];
    let mut grid = Grid::new(head);
    for row in ours_first(table) {
        grid.row(vec![
            row.name.clone(),
            ratio(row.rate_ratio),
            row.beside.clone().unwrap_or_default(),
            rate(row.rate),
            time(row.cpu),
            memory(row.memory),
            row.window
                .map(|window| window.to_string())
                .unwrap_or_default(),
        ]);
    }
    grid
}

fn latency(table: &Table) -> Grid {
    let mut grid = Grid::new(["", "p50 ratio", "p50", "p99", "p99.9", "longest"]);
    for row in ours_first(table) {
        let mut cells = vec![row.name.clone(), ratio(row.p50_ratio)];
        let figures = row.latency.map(|l| [l.p50, l.p99, l.p999, l.max]);
        cells.extend(figures.into_iter().flatten().map(time));
        grid.row(cells);
    }
    grid
}

fn ours_first(table: &Table) -> impl Iterator<Item = &Row> {
    let ours = |row: &&Row| row.beside.is_some();
    table
        .rows
        .iter()
        .filter(ours)
        .chain(table.rows.iter().filter(move |row| !ours(row)))
}

fn ratios(tables: &[Table]) -> Grid {
    let mut grid = Grid::new([""].into_iter().chain(PHASES));
    for table in tables {
        let of = |phase: &&str| table.rows.iter().find(|row| row.name == **phase);
        let cells = PHASES
            .iter()
            .map(|phase| ratio(of(phase).and_then(|row| row.rate_ratio)));
        grid.row([table.name.clone()].into_iter().chain(cells).collect());
    }
    grid
}

fn rates(tables: &[Table]) -> Grid {
    by_contender(tables, |row| match row.dropped {
        0.0 => rate(row.rate),
        dropped => format!("{} ({:.0} % dropped)", rate(row.rate), dropped * 100.0),
    })
}

fn processor(tables: &[Table]) -> Grid {
    by_contender(tables, |row| time(row.cpu))
}

fn by_contender(tables: &[Table], cell: fn(&Row) -> String) -> Grid {
    let names = tables.first().into_iter().flat_map(ours_first);
    let mut grid = Grid::new([""].into_iter().chain(names.map(|row| row.name.as_str())));
    for table in tables {
        let cells = ours_first(table).map(cell);
        grid.row([table.name.clone()].into_iter().chain(cells).collect());
    }
    grid
}

fn costs(curve: &Curve) -> Grid {
    let names = curve.series.iter().map(|series| series.name.as_str());
    let mut grid = Grid::new([curve.grows.as_str()].into_iter().chain(names));
    let xs = curve
        .series
        .first()
        .into_iter()
        .flat_map(|series| &series.points);
    for (at, x) in xs.map(|point| point.x).enumerate() {
        let cells = curve
            .series
            .iter()
            .filter_map(|series| series.points.get(at));
        let cells = cells.map(|point| time(point.cost));
        grid.row([count(x)].into_iter().chain(cells).collect());
    }
    grid
}

fn picture(curve: &Curve) -> String {
    format!("performance/{}.svg", curve.name)
}
