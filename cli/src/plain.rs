//! JSON documents of others, made fit to be printed as documents; [`eventbus::plain`] is for text.
//!
//! Invariant: no character that leaves here controls a terminal or reorders what is beside it, and a
//! document says what it said before.

use std::fmt::Write as _;

use eventbus::plain::controls;

/// A JSON document that says the same. Between its parts it may have line breaks and spaces only.
pub(crate) fn json(document: &str) -> String {
    let mut plain = String::with_capacity(document.len());
    for c in document.chars() {
        // JSON has no raw control character in a string below U+0020.
        if controls(c) && c != '\n' {
            // Writing to a string cannot fail.
            let _ = write!(plain, "\\u{:04x}", u32::from(c));
        } else {
            plain.push(c);
        }
    }
    plain
}

/// A JSON document without what stands between its parts. Numbers keep all their digits.
pub(crate) fn compact(document: &str) -> String {
    let mut compact = String::with_capacity(document.len());
    let (mut in_text, mut escaped) = (false, false);
    for c in document.chars() {
        if !in_text && matches!(c, ' ' | '\t' | '\r' | '\n') {
            continue;
        }
        if c == '"' && !escaped {
            in_text = !in_text;
        }
        escaped = in_text && c == '\\' && !escaped;
        compact.push(c);
    }
    json(&compact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_control_a_terminal_is_escaped_as_json_does() {
        assert_eq!(
            json("\"\u{9b}\u{202e}\u{7f}é\"\n"),
            "\"\\u009b\\u202e\\u007fé\"\n"
        );
    }

    #[test]
    fn a_compact_document_says_the_same() {
        let document =
            "{ \"a b\" : [ 1.50,\n 18446744073709551616 ],\t\"c\\\" d\\\\\" : \" \u{9b}\" }\r\n";
        let compact = compact(document);
        assert_eq!(
            compact,
            "{\"a b\":[1.50,18446744073709551616],\"c\\\" d\\\\\":\" \\u009b\"}"
        );
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&compact), read(document));
    }
}
