//! Reads `/proc`: which processes of a name there are, and what they run. The same in every step.

use std::collections::BTreeSet;

use procfs::ProcError;
use procfs::process::{Process as Entry, all_processes};
use serde::{Deserialize, Serialize};

/// How much of a program's name the kernel keeps, in bytes.
const NAME_BYTES: usize = 15;

/// A process for its whole life: a process id alone is used again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks since boot.
    started: u64,
    pub(crate) name: String,
}

/// The processes whose name begins so.
pub(crate) fn named(beginning: &str) -> Result<BTreeSet<Process>, ProcError> {
    // Who ends while it is read is not there.
    let stats = all_processes()?.filter_map(|entry| entry.and_then(|entry| entry.stat()).ok());
    let named = stats.filter(|stat| stat.comm.starts_with(beginning));
    Ok(named
        .map(|stat| Process {
            pid: stat.pid,
            started: stat.starttime,
            name: stat.comm,
        })
        .collect())
}

impl Process {
    /// Path of the program that it runs, if we may know it.
    pub(crate) fn program(&self) -> Option<String> {
        let path = Entry::new(self.pid).and_then(|entry| entry.exe()).ok()?;
        Some(path.display().to_string())
    }

    /// Whether it goes by another name than its program.
    pub(crate) fn pretends(&self, program: &str) -> bool {
        let file = program.rsplit('/').next().unwrap_or(program).as_bytes();
        &file[..file.len().min(NAME_BYTES)] != self.name.as_bytes()
    }
}
