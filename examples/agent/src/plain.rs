//! Lines for people.
//!
//! A member may be anybody's, and so may its words, paths and reasons.
//!
//! Invariant: what is printed here is one line, of which nothing controls a terminal.

use std::fmt::Arguments;

use eventbus::plain::Plain;

/// Prints a line.
pub(crate) fn say(line: Arguments<'_>) {
    let line = Plain::line(line).to_string();
    println!("{line}");
}

/// Prints a line that tells of something bad.
pub(crate) fn complain(line: Arguments<'_>) {
    // In one write: it has no buffer.
    let line = Plain::line(line).to_string();
    eprintln!("{line}");
}
