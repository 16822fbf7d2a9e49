//! A certificate as a page: one file, nothing loaded, no script.
//!
//! Invariant: whatever was not written here goes through [`Text`], so that no reason, however a
//! backend words it, becomes markup.

use std::fmt::{self, Display, Formatter, Write as _};

use super::{Binding, Certificate, Entry, Model, Versions, Word};
use crate::clauses::UNBUILT;

const STYLE: &str = include_str!("page.css");

/// A certificate, to be printed as a page.
pub(super) struct Page<'a>(pub(super) &'a Certificate);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let phase = Text(&self.0.phase);
        writeln!(
            f,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">"
        )?;
        writeln!(
            f,
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
        )?;
        writeln!(f, "<title>{phase}: {}</title>", self.verdict())?;
        writeln!(f, "<style>\n{STYLE}</style>\n</head>\n<body>\n<main>")?;
        self.head(f)?;
        self.broken(f)?;
        writeln!(f, "<h2>Clauses</h2>")?;
        let events = "published / delivered";
        let columns = ["Clause", "Verdict", events, "Faults", "Time"];
        table(f, "clauses", columns, self.0.clauses.iter().map(Row))?;
        if !self.0.models.is_empty() {
            writeln!(f, "<h2>Models</h2>")?;
            let columns = ["Model", "Covers", "Executions", "At least"];
            table(f, "models", columns, self.0.models.iter().map(ModelRow))?;
        }
        writeln!(f, "</main>\n</body>\n</html>")
    }
}

impl Page<'_> {
    /// "Conforming" alone is said only where every MUST was kept, or has no object.
    fn verdict(&self) -> String {
        let waived = self.0.waived_must.len();
        let verdict = match (self.0.passed, self.0.complete) {
            (false, _) => return "not conforming".to_owned(),
            (true, true) => "conforming",
            (true, false) => "nothing broken in part of the contract",
        };
        match (waived, self.unbuilt()) {
            (0, _) => verdict.to_owned(),
            (_, 0) => format!("{verdict} but for {waived} waived"),
            (_, unbuilt) => format!("{verdict} but for {waived} waived ({unbuilt} not built)"),
        }
    }

    /// Those of the waived whose part of the product does not exist.
    fn unbuilt(&self) -> usize {
        let ids = self.0.waived_must.iter();
        let is_unbuilt = |id: &&String| UNBUILT.iter().any(|unbuilt| unbuilt.id == **id);
        ids.filter(is_unbuilt).count()
    }

    fn head(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Certificate {
            counts, versions, ..
        } = self.0;
        let class = match (self.0.passed, self.0.waived_must.is_empty()) {
            (false, _) => "fail",
            (true, false) => "warn",
            (true, true) => "pass",
        };
        writeln!(f, "<h1>{}</h1>", Text(&self.0.phase))?;
        writeln!(f, "<p class=\"verdict {class}\">{}</p>", self.verdict())?;
        let totals = [
            (counts.pass, Word::Pass),
            (counts.fail, Word::Fail),
            (counts.fail_should, Word::FailShould),
            (counts.inconclusive, Word::Inconclusive),
            (counts.waived, Word::Waived),
            (counts.not_applicable, Word::NotApplicable),
            (counts.not_run, Word::NotRun),
        ];
        writeln!(f, "<ul class=\"counts\">")?;
        for (count, word) in totals.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(f, "<li><b>{count}</b> {}</li>", word.shown())?;
        }
        writeln!(f, "</ul>\n<dl>")?;
        let told = [
            (
                "Backend",
                versions.backend.as_deref().unwrap_or("not said").to_owned(),
            ),
            ("Suite", suite(versions)),
            ("Built by", versions.rustc.clone()),
            ("Ran on", versions.os.clone()),
            ("Began", self.0.started.clone()),
            ("Took", format!("{:.1} s", self.0.seconds)),
            ("Seed", self.0.seed.to_string()),
        ];
        for (term, text) in told {
            writeln!(f, "<div><dt>{term}</dt><dd>{}</dd></div>", Text(&text))?;
        }
        writeln!(f, "</dl>")
    }

    /// What a reader looks for first.
    fn broken(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let broken = |entry: &&Entry| {
            matches!(
                entry.verdict,
                Word::Fail | Word::FailShould | Word::Inconclusive
            )
        };
        let broken: Vec<&Entry> = self.0.clauses.iter().filter(broken).collect();
        if broken.is_empty() {
            return Ok(());
        }
        writeln!(f, "<h2>Broken</h2>\n<ul class=\"broken\">")?;
        for entry in broken {
            let (id, word) = (Text(&entry.id), entry.verdict.shown());
            writeln!(
                f,
                "<li><a href=\"#{id}\">{id}</a> {word}: {}</li>",
                Text(&entry.title)
            )?;
        }
        writeln!(f, "</ul>")
    }
}

fn suite(versions: &Versions) -> String {
    let changed = match versions.dirty {
        Some(true) => ", changed since",
        _ => "",
    };
    match &versions.commit {
        Some(commit) => format!("conformance {} at {commit}{changed}", versions.conformance),
        None => format!("conformance {}", versions.conformance),
    }
}

fn table<const N: usize>(
    f: &mut Formatter<'_>,
    class: &str,
    columns: [&str; N],
    rows: impl Iterator<Item = impl Display>,
) -> fmt::Result {
    write!(f, "<table class=\"{class}\">\n<thead><tr>")?;
    for column in columns {
        write!(f, "<th scope=\"col\">{column}</th>")?;
    }
    writeln!(f, "</tr></thead>\n<tbody>")?;
    for row in rows {
        writeln!(f, "{row}")?;
    }
    writeln!(f, "</tbody>\n</table>")
}

struct Row<'a>(&'a Entry);

impl Display for Row<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let entry = self.0;
        let (class, word) = (class(entry.verdict), entry.verdict.shown());
        write!(f, "<tr id=\"{}\" class=\"{class}\">", Text(&entry.id))?;
        write!(
            f,
            "<th scope=\"row\"><code>{}</code> {}",
            Text(&entry.id),
            Text(&entry.title)
        )?;
        if entry.level == Binding::Should {
            write!(f, " <small>should</small>")?;
        }
        write!(f, "</th><td><b class=\"word\">{word}</b>")?;
        if let Some(reason) = &entry.reason {
            write!(f, "<div class=\"reason\">{}</div>", Text(reason))?;
        }
        write!(f, "</td>")?;
        if matches!(
            entry.verdict,
            Word::NotRun | Word::NotApplicable | Word::Waived
        ) {
            return write!(f, "<td></td><td></td><td></td></tr>");
        }
        write!(
            f,
            "<td data-is=\"events\">{} / {}</td>",
            entry.published, entry.delivered
        )?;
        write!(f, "<td data-is=\"faults\">{}</td>", entry.faults)?;
        write!(f, "<td data-is=\"time\">{:.2} s</td></tr>", entry.seconds)
    }
}

fn class(word: Word) -> &'static str {
    match word {
        Word::Pass => "pass",
        Word::Fail | Word::Inconclusive => "fail",
        Word::FailShould | Word::Waived => "warn",
        Word::NotApplicable | Word::NotRun => "none",
    }
}

struct ModelRow<'a>(&'a Model);

impl Display for ModelRow<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let covers = self.0.covers.join(" ");
        write!(f, "<tr><th scope=\"row\">{}</th>", Text(&self.0.model))?;
        write!(f, "<td data-is=\"covers\">{}</td>", Text(&covers))?;
        write!(f, "<td data-is=\"executions\">{}</td>", self.0.executions)?;
        write!(f, "<td data-is=\"at least\">{}</td></tr>", self.0.floor)
    }
}

/// Text that is no markup, in an element or in an attribute.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Colours of a terminal, and whatever else a page cannot show.
                c if c.is_control() && c != '\n' && c != '\t' => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
