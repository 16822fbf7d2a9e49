//! Reads `/proc`: which processes there are.

use std::collections::BTreeSet;

use procfs::ProcError;
use procfs::process::all_processes;
use serde::{Deserialize, Serialize};

/// A process for its whole life: a process id alone is used again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// When it began, in clock ticks since boot.
    pub started: u64,
    /// What it goes by.
    pub name: String,
}

/// The processes that we may see.
pub(crate) fn all() -> Result<BTreeSet<Process>, ProcError> {
    // Who ends while it is read is not there.
    let stats = all_processes()?.filter_map(|entry| entry.and_then(|entry| entry.stat()).ok());
    Ok(stats
        .map(|stat| Process {
            pid: stat.pid,
            started: stat.starttime,
            name: stat.comm,
        })
        .collect())
}
