//! Telling the log what others do wrong: now and then, and cut, because they may do it often and at length.
//!
//! Invariant: of one kind at most a line each ten seconds, and the next one says how many there were between.

use std::fmt::{self, Write};
use std::time::Duration;

use tokio::time::Instant;

/// Time between two lines.
const QUIET: Duration = Duration::from_secs(10);
/// Longest text of others in a line, in characters.
const LONGEST: usize = 200;

/// One kind of complaint.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    last: Option<Instant>,
    kept: u64,
}

impl Complaints {
    /// Whether this one may be told now, and how many were not since the last one.
    pub(crate) fn turn(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + QUIET) {
            self.kept += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.kept))
    }
}

/// What others wrote does not fill the log, nor begin a line in it.
pub(crate) struct Short<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Short<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        text.chars().take(LONGEST).try_for_each(|c| {
            if c.is_control() {
                return write!(f, "{}", c.escape_default());
            }
            f.write_char(c)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_each_ten_seconds_with_the_number_of_those_between() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let told = [0, 1, 9, 10, 11, 30].map(|seconds| complaints.turn(at(seconds)));
        assert_eq!(told, [Some(0), None, None, Some(2), None, Some(1)]);
    }

    #[test]
    fn what_others_wrote_is_cut_and_stays_on_its_line() {
        assert_eq!(Short("x".repeat(201)).to_string(), "x".repeat(200));
        assert_eq!(Short("\u{e4}\n\u{1b}").to_string(), "\u{e4}\\n\\u{1b}");
    }
}
