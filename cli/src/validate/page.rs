//! The result as a page: one file, nothing loaded, no script.
//!
//! Invariant: whatever was not written here goes through [`Text`], so that no reason, however a
//! backend words it, becomes markup.

use std::fmt::{self, Display, Formatter, Write as _};

use super::document::Document;
use super::output::{COLUMNS, cells, conditions, notes, verdict};
use super::plot::{Latencies, Throughputs};
use super::properties::Peers;
use super::recommend::Recommendation;
use super::words::seconds;

const STYLE: &str = include_str!("page.css");

/// A document, to be printed as a page.
pub(super) struct Page<'a>(pub(super) &'a Document);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let verdict = verdict(self.0);
        writeln!(
            f,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
             name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Transports: \
             {verdict}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>"
        )?;
        let class = if self.0.passed { "pass" } else { "fail" };
        writeln!(
            f,
            "<h1>Transports</h1>\n<p class=\"verdict {class}\">{verdict}</p>"
        )?;
        writeln!(f, "<p class=\"soft\">{}</p>", Text(&conditions(self.0)))?;
        writeln!(f, "<h2>Recommendations</h2>")?;
        for recommendation in &self.0.recommendations {
            write!(f, "{}", Paragraph(recommendation))?;
        }
        let transports = &self.0.transports;
        writeln!(
            f,
            "<h2>Throughput</h2>\n<p class=\"soft\">Events per second.</p>"
        )?;
        writeln!(f, "<figure>{}</figure>", Throughputs(transports))?;
        writeln!(
            f,
            "<h2>Latency</h2>\n<p class=\"soft\">One way, from when an event was due to when it was \
             read. Both scales are logarithmic.</p>"
        )?;
        writeln!(f, "<figure>{}</figure>", Latencies(transports))?;
        self.figures(f)?;
        self.properties(f)?;
        self.run(f)?;
        writeln!(f, "</main>\n</body>\n</html>")
    }
}

impl Page<'_> {
    fn figures(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "<h2>Figures</h2>\n<table class=\"figures\">\n<thead><tr>"
        )?;
        for column in COLUMNS {
            write!(f, "<th scope=\"col\">{column}</th>")?;
        }
        writeln!(f, "</tr></thead>\n<tbody>")?;
        for found in &self.0.transports {
            write!(f, "<tr>")?;
            for (at, cell) in cells(found).iter().enumerate() {
                if at == 0 {
                    write!(f, "<th scope=\"row\">{}</th>", Text(cell))?;
                } else {
                    write!(f, "<td data-is=\"{}\">{}</td>", COLUMNS[at], Text(cell))?;
                }
            }
            writeln!(f, "</tr>")?;
        }
        writeln!(f, "</tbody>\n</table>\n<ul class=\"notes\">")?;
        for note in notes(self.0) {
            writeln!(f, "<li>{}</li>", Text(&note))?;
        }
        writeln!(
            f,
            "<li>set-up: open and the first subscribe; memory: growth of the process with both \
             handles, and its broker's process</li>\n</ul>"
        )
    }

    fn properties(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "<h2>Security</h2>\n<table>\n<thead><tr>")?;
        for column in ["transport", "reaches", "who gets in", "encrypted"] {
            write!(f, "<th scope=\"col\">{column}</th>")?;
        }
        writeln!(f, "</tr></thead>\n<tbody>")?;
        for found in &self.0.transports {
            let properties = found.properties;
            let who = match properties.peers {
                Peers::SameProcess => "the process itself",
                Peers::SameUser => "processes of the same user",
                Peers::Certificate => "whoever has a certificate",
            };
            writeln!(
                f,
                "<tr><th scope=\"row\">{}</th><td data-is=\"reaches\">{}</td><td data-is=\"who gets \
                 in\">{who}: {}</td><td data-is=\"encrypted\">{}</td></tr>",
                found.transport,
                properties.reach.words(),
                properties.peers.words(),
                if properties.encrypted { "yes" } else { "no" }
            )?;
        }
        writeln!(f, "</tbody>\n</table>")
    }

    fn run(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (asked, machine) = (&self.0.asked, &self.0.machine);
        let load = machine
            .load
            .map_or("not known".to_owned(), |load| load.to_string());
        writeln!(f, "<h2>Run</h2>\n<dl>")?;
        let told = [
            ("Began", self.0.started.clone()),
            ("Took", seconds(self.0.seconds)),
            ("Most events", asked.messages.to_string()),
            (
                "Version",
                format!("eventbus {}, {} build", machine.version, machine.build),
            ),
            ("Ran on", format!("{}, {} cores", machine.os, machine.cores)),
            ("Load before", load),
        ];
        for (term, text) in told {
            writeln!(f, "<div><dt>{term}</dt><dd>{}</dd></div>", Text(&text))?;
        }
        writeln!(f, "</dl>")
    }
}

struct Paragraph<'a>(&'a Recommendation);

impl Display for Paragraph<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let recommendation = self.0;
        let choice = recommendation.transport;
        writeln!(
            f,
            "<section>\n<h3>{}: <b>{}</b></h3>",
            recommendation.purpose.words(),
            choice.map_or("none of those measured", |choice| choice.name())
        )?;
        for (class, list) in [
            ("for", &recommendation.reasons),
            ("against", &recommendation.drawbacks),
        ] {
            if list.is_empty() {
                continue;
            }
            writeln!(f, "<ul class=\"{class}\">")?;
            for reason in list {
                writeln!(f, "<li>{}</li>", Text(reason))?;
            }
            writeln!(f, "</ul>")?;
        }
        writeln!(f, "<details><summary>Why not another</summary>\n<ul>")?;
        for other in &recommendation.others {
            let reasons = other.reasons.join("; ");
            writeln!(f, "<li>{}: {}</li>", other.transport, Text(&reasons))?;
        }
        writeln!(f, "</ul></details>\n</section>")
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
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_becomes_markup() {
        let text = Text("<a href=\"x\">&'\u{1b}[31m").to_string();
        assert_eq!(text, "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\u{fffd}[31m");
    }
}
