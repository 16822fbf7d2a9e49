//! What others wrote, made fit to be shown: on a terminal, in a log, beside words of one's own.
//!
//! Whoever may publish, answer or be a member may say anything. Shown as it is, it could clear a terminal,
//! type into it, look like lines of ours, turn round what is beside it, or go on and on.
//!
//! Invariant: what is shown has at most as many characters as it may, and a mark where it was cut; none of
//! them controls a terminal, parts lines or reorders what is beside it.

use std::fmt::{self, Display, Write};

/// Most characters of a line for people.
pub const LINE: usize = 4_096;
/// Most characters of what others wrote in a field of a log.
pub const FIELD: usize = 200;

/// Whether it would control a terminal, part lines, or reorder what is beside it.
#[must_use]
pub fn controls(c: char) -> bool {
    let reorders = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || reorders || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Whether every character of it can be shown as it is.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    !text.contains(controls)
}

/// What it has is shown in one line: what cannot be shown as it is as `\n`, `\u{1b}` and the like, and what
/// is too long cut.
///
/// ```
/// use eventbus_trait::plain::Plain;
/// assert_eq!(Plain::field("a\u{1b}[2J\u{202e}\n").to_string(), r"a\u{1b}[2J\u{202e}\n");
/// assert_eq!(Plain::line("endless").at_most(3).to_string(), "end…");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Plain<T> {
    text: T,
    most: usize,
}

impl<T: Display> Plain<T> {
    /// As a line for people, of at most [`LINE`] characters.
    pub fn line(text: T) -> Self {
        Self { text, most: LINE }
    }

    /// As a field of a log, of at most [`FIELD`] characters.
    pub fn field(text: T) -> Self {
        Self { text, most: FIELD }
    }

    /// Of at most so many characters, besides the mark where it was cut.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }
}

impl<T: Display> Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sieve = Sieve {
            out: f,
            left: Some(self.most),
        };
        write!(sieve, "{}", self.text)
    }
}

/// Lets through what is plain, as long as there is room.
struct Sieve<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    /// Nothing once it was cut.
    left: Option<usize>,
}

impl Write for Sieve<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.write_char(c))
    }

    fn write_char(&mut self, c: char) -> fmt::Result {
        let escaped = controls(c).then(|| c.escape_default());
        let length = escaped.as_ref().map_or(1, ExactSizeIterator::len);
        // What is cut is read to its end: not every text takes an error for an answer.
        let Some(left) = self.left else {
            return Ok(());
        };
        self.left = left.checked_sub(length);
        match (self.left, escaped) {
            (None, _) => self.out.write_char('…'),
            (_, None) => self.out.write_char(c),
            (_, Some(mut escaped)) => escaped.try_for_each(|c| self.out.write_char(c)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_control_a_terminal_part_lines_or_reorder_is_escaped() {
        let told = "a\u{1b}[31m\u{9b}2J\u{202e}\r\nb\u{7f}\u{2028}\u{2029}\u{2066}é";
        assert!(!is_plain(told) && is_plain("aé"));
        assert_eq!(
            Plain::line(told).to_string(),
            "a\\u{1b}[31m\\u{9b}2J\\u{202e}\\r\\nb\\u{7f}\\u{2028}\\u{2029}\\u{2066}é"
        );
    }

    /// The characters that Unicode's bidirectional algorithm goes by, and those that part lines.
    #[test]
    fn each_of_them_is() {
        let known = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{85}\u{2028}\u{2029}";
        assert!(known.chars().all(controls));
        let harmless = "\u{200d}\u{2027}\u{202f}\u{2065}\u{206a}\u{a0}\u{5d0}";
        assert!(!harmless.chars().any(controls));
    }

    #[test]
    fn what_is_too_long_is_cut_at_a_character_and_says_so() {
        let most = "é".repeat(FIELD);
        assert_eq!(Plain::field(&most).to_string(), most);
        assert_eq!(
            Plain::field(format!("{most}x")).to_string(),
            format!("{most}…")
        );
        // An escape is whole or not there, and nothing comes after the mark.
        assert_eq!(Plain::line("ab\u{1b}c").at_most(6).to_string(), "ab…");
        assert_eq!(Plain::line("x").at_most(0).to_string(), "…");
        assert_eq!(
            Plain::line(&"x".repeat(9_999)).to_string().chars().count(),
            LINE + 1
        );
    }

    proptest! {
        #[test]
        fn it_is_plain_and_within_its_bound(text in any::<String>(), most in 0_usize..40) {
            let shown = Plain::line(&text).at_most(most).to_string();
            prop_assert!(is_plain(&shown));
            prop_assert!(shown.chars().count() <= most + 1);
            if is_plain(&text) && text.chars().count() <= most {
                prop_assert_eq!(shown, text);
            }
        }
    }
}
