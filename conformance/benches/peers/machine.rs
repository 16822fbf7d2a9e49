//! Where a run took place.

use std::fs::read_to_string;

use crate::report::results::Machine;

/// Crates whose versions matter.
const COMPARED: [&str; 4] = ["busrt", "crossbeam-channel", "eventbus-trait", "tokio"];

/// This machine, as far as it tells.
pub(crate) fn here() -> Machine {
    let unknown = || "unknown".to_owned();
    let memory = field("/proc/meminfo", "MemTotal:").unwrap_or_default();
    let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    let system = field("/etc/os-release", "PRETTY_NAME=");
    let kernel = read_to_string("/proc/sys/kernel/osrelease");
    Machine {
        processor: field("/proc/cpuinfo", "model name\t:").unwrap_or_else(unknown),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory_gib: (kib + (1 << 19)) >> 20,
        system: system.map_or_else(unknown, |name| name.trim_matches('"').to_owned()),
        kernel: kernel.map_or_else(|_| unknown(), |kernel| kernel.trim().to_owned()),
        rustc: env!("CONFORMANCE_RUSTC").to_owned(),
        versions: COMPARED
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), version(name)?)))
            .collect(),
    }
}

/// How many processes want a core, as an average over the last minute.
pub(crate) fn load() -> String {
    let averages = read_to_string("/proc/loadavg").unwrap_or_default();
    averages.split(' ').next().unwrap_or("unknown").to_owned()
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

/// A crate's version, as the workspace has locked it.
fn version(name: &str) -> Option<String> {
    let lock = read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).ok()?;
    let (_, entry) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    entry.split('"').next().map(str::to_owned)
}
