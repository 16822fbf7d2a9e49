//! The page: one file, nothing loaded. Live it asks for `/observed.json`, frozen it has what it shows.
//!
//! Invariant: what was seen enters a page in two places only, as JSON without any character that
//! could end its element, and as escaped text; the script puts it into the document as text.

use std::fmt::{self, Display, Formatter, Write as _};

use serde::Serialize;
use uuid::Uuid;

use super::observed::Observed;
use super::text::plain;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// A page and the policy that a server sends along.
pub(super) struct Page {
    pub(super) html: String,
    pub(super) policy: String,
}

/// What the script finds in its page.
#[derive(Serialize)]
struct Data<'a> {
    live: bool,
    runs: &'a [&'a Observed],
}

/// The page that asks for more.
pub(super) fn live(seen: &Observed) -> Page {
    page(true, &seen.title, &[seen])
}

/// The page as it stands, as a file of its own: what was seen of one process, or of several runs.
#[must_use]
pub fn frozen(title: &str, runs: &[&Observed]) -> String {
    page(false, title, runs).html
}

fn page(live: bool, title: &str, runs: &[&Observed]) -> Page {
    let nonce = Uuid::new_v4().simple().to_string();
    let connect = if live { "'self'" } else { "'none'" };
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src {connect}; base-uri 'none'; form-action 'none'"
    );
    let mut summary = String::new();
    for run in runs {
        // Writing to a text cannot fail.
        let _ = writeln!(summary, "{}", Text(&plain(run)));
    }
    let data = serde_json::to_string(&Data { live, runs }).unwrap_or_default();
    let parts = [
        ("policy", policy.clone()),
        ("nonce", nonce),
        ("title", Text(title).to_string()),
        ("style", STYLE.to_owned()),
        ("summary", summary),
        ("data", inert(&data)),
        ("script", SCRIPT.to_owned()),
    ];
    Page {
        html: fill(TEMPLATE, &parts),
        policy: policy + "; frame-ancestors 'none'",
    }
}

/// Puts parts where the template names them, and never looks at what it has put there.
fn fill(template: &str, parts: &[(&str, String)]) -> String {
    let mut page = String::new();
    let mut pieces = template.split("{{");
    page.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (name, after) = piece.split_once("}}").unwrap_or((piece, ""));
        if let Some((_, part)) = parts.iter().find(|(known, _)| *known == name) {
            page.push_str(part);
        }
        page.push_str(after);
    }
    page
}

/// JSON that is no markup, whatever its texts are.
fn inert(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text
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
                '\n' => f.write_char(c)?,
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
    fn every_part_has_its_place_and_none_is_left() {
        let page = frozen("t", &[]);
        let empty = fill(TEMPLATE, &[]);
        let places = TEMPLATE.matches("{{").count();
        assert_eq!(places, 10, "{empty}");
        assert!(!page.contains("{{"), "a place is left");
        for part in [STYLE, SCRIPT, r#"{"live":false,"runs":[]}"#, "<title>t"] {
            assert!(page.contains(part), "{part}");
        }
    }

    #[test]
    fn nothing_that_was_seen_is_taken_for_a_place() {
        let page = frozen("{{script}}", &[]);
        assert_eq!(page.matches(SCRIPT).count(), 1);
        assert!(page.contains("<title>{{script}}"));
    }

    #[test]
    fn json_cannot_end_its_element() {
        let text = inert("\"</script><!--&\u{2028}\"");
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        let back: String = serde_json::from_str(&text).unwrap();
        assert_eq!(back, "</script><!--&\u{2028}");
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for word in ["http:", "https:", "//cdn", "@import", "url("] {
            for (name, text) in [
                ("page.html", TEMPLATE),
                ("page.css", STYLE),
                ("page.js", SCRIPT),
            ] {
                // The name of SVG is no address.
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(word), "{word} in {name}");
            }
        }
        for unsafe_way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!SCRIPT.contains(unsafe_way), "{unsafe_way}");
        }
    }
}
