//! Telling the log what goes wrong: now and then, because it may go on, and others may do it often.
//!
//! Invariant: of one kind at most a line each ten seconds, and the next one says how many there were between.

use std::time::Duration;

use tokio::time::Instant;

/// Time between two lines.
const QUIET: Duration = Duration::from_secs(10);

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
}
