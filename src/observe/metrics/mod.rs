//! What was seen, in Prometheus' text format.
//!
//! The families are tables, so that their documentation is made of them and not beside them. The
//! numbers are kept elsewhere already; a registry would only keep them a second time.
//!
//! Invariant: a counter never goes down while the process lives, except that a new comparison begins
//! at 0; labels have as many values as what was seen has rows, which is bounded.

mod families;
mod samples;

use std::fmt::Write as _;

use super::observed::Observed;
use families::{BROKER, BUS, PROCESS, ROLLOUT, SHADOW};
use samples::Sample;

/// A family of metrics, made of one part of what was seen.
#[derive(Clone, Copy)]
struct Family<T: ?Sized> {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: fn(&T) -> Vec<Sample>,
}

type Rows<T> = [Family<T>];

const fn family<T: ?Sized>(
    kind: &'static str,
    name: &'static str,
    help: &'static str,
    samples: fn(&T) -> Vec<Sample>,
) -> Family<T> {
    Family {
        name,
        kind,
        help,
        samples,
    }
}

/// All families of what there is to see.
pub(super) fn text(seen: &Observed) -> String {
    let mut page = String::new();
    write_all(&mut page, PROCESS, Some(seen));
    write_all(&mut page, BUS, seen.stats.as_ref());
    write_all(&mut page, SHADOW, seen.shadow.as_ref());
    write_all(&mut page, ROLLOUT, seen.rollout.as_ref());
    write_all(&mut page, BROKER, seen.broker.as_ref());
    page
}

/// The table of all families for people, in Markdown.
#[cfg(all(test, feature = "crossbeam"))]
pub(super) fn documentation() -> String {
    fn rows<T: ?Sized>(table: &mut String, families: &Rows<T>) {
        for family in families {
            let Family {
                name, kind, help, ..
            } = family;
            let _ = writeln!(table, "| `{name}` | {kind} | {help} |");
        }
    }
    let mut table = "| metric | kind | |\n| --- | --- | --- |\n".to_owned();
    rows(&mut table, PROCESS);
    rows(&mut table, BUS);
    rows(&mut table, SHADOW);
    rows(&mut table, ROLLOUT);
    rows(&mut table, BROKER);
    table
}

fn write_all<T>(page: &mut String, families: &Rows<T>, seen: Option<&T>) {
    let Some(seen) = seen else { return };
    for family in families {
        let Family {
            name,
            kind,
            help,
            samples,
        } = family;
        // Writing to a text cannot fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for Sample {
            suffix,
            labels,
            value,
        } in samples(seen)
        {
            let _ = write!(page, "{name}{suffix}");
            for (at, (label, text)) in labels.iter().enumerate() {
                let before = if at == 0 { '{' } else { ',' };
                let _ = write!(page, "{before}{label}=\"{}\"", escaped(text));
            }
            let end = if labels.is_empty() { "" } else { "}" };
            let _ = writeln!(page, "{end} {value}");
        }
    }
}

/// The three characters that would end a label's value, or the line.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}
