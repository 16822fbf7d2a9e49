//! What others sent, made fit to be printed.
//!
//! A member may be anybody's: its words, paths and reasons, printed as they are, could clear a terminal,
//! type into it, or look like lines of ours.
//!
//! Invariant: no character that is printed here controls a terminal or reorders what is beside it.

use std::fmt::Arguments;

/// Whether it would control a terminal, or reorder what is beside it.
fn controls(c: char) -> bool {
    let reorders = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || reorders
}

/// The text in one line; what cannot be printed as it is has become `\n`, `\u{1b}` and the like.
fn one_line(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if controls(c) {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Prints a line.
pub(crate) fn say(line: Arguments<'_>) {
    println!("{}", one_line(&line.to_string()));
}

/// Prints a line that tells of something bad.
pub(crate) fn complain(line: Arguments<'_>) {
    eprintln!("{}", one_line(&line.to_string()));
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn what_would_control_a_terminal_is_escaped() {
        assert_eq!(
            one_line("a\u{1b}[31m\u{9b}2J\u{202e}\r\nb\u{7f}é"),
            "a\\u{1b}[31m\\u{9b}2J\\u{202e}\\r\\nb\\u{7f}é"
        );
    }
}
