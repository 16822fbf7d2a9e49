//! Resident memory, as `/proc` tells it.

use procfs::process::Process;

/// Of this process, or of another, in bytes; 0 if it cannot be told.
pub(super) fn resident(process: Option<u32>) -> u64 {
    let process = match process.map(i32::try_from) {
        None => Process::myself(),
        Some(id) => Process::new(id.unwrap_or_default()),
    };
    let status = process.and_then(|process| process.status());
    status.ok().and_then(|status| status.vmrss).unwrap_or(0) * 1024
}

/// Most that this process has had, in bytes; 0 if it cannot be told.
pub(super) fn peak() -> u64 {
    let status = Process::myself().and_then(|process| process.status());
    status.ok().and_then(|status| status.vmhwm).unwrap_or(0) * 1024
}

/// A size in words.
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}
