//! File descriptors: having as many as the connections need, before they are needed.
//!
//! The soft limit is low by tradition, for programs that use select(2), which this one does not;
//! so it is raised as far as the hard limit lets it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Descriptors of one connection: its socket, and nothing behind it.
const PER_CONNECTION: u64 = 1;
/// Those of the program itself, of its listeners, and of whoever asks for metrics.
const OWN: u64 = 64;

/// Sees to it that there are enough for so many connections, or says how many there are.
pub(super) fn provide(connections: usize) {
    let needed = (connections as u64)
        .saturating_mul(PER_CONNECTION)
        .saturating_add(OWN);
    let limit = getrlimit(Resource::Nofile);
    let Some(soft) = raised(limit, needed) else {
        return;
    };
    if soft < needed {
        warn!(
            needed,
            allowed = soft,
            "fewer file descriptors than connections need"
        );
    }
    if limit.current == Some(soft) {
        return;
    }
    let raised = Rlimit {
        current: Some(soft),
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => info!(allowed = soft, "limit of file descriptors raised"),
        Err(reason) => warn!(%reason, needed, "limit of file descriptors not raised"),
    }
}

/// The soft limit to set; `None` if it is high enough.
fn raised(limit: Rlimit, needed: u64) -> Option<u64> {
    let soft = limit.current.filter(|soft| *soft < needed)?;
    Some(
        limit
            .maximum
            .map_or(needed, |hard| needed.min(hard))
            .max(soft),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_as_far_as_needed_and_allowed() {
        for (current, maximum, expected) in [
            (Some(100), Some(1_000), Some(364)),
            (Some(100), Some(200), Some(200)),
            (Some(100), None, Some(364)),
            (Some(364), Some(1_000), None),
            (None, None, None),
        ] {
            assert_eq!(raised(Rlimit { current, maximum }, 364), expected);
        }
    }
}
