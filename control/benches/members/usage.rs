//! What a process takes of the machine, as the kernel says in `/proc`.

use std::fs::read_to_string;
use std::time::Instant;

/// What a process had taken at a moment.
pub(crate) struct Usage {
    process: u32,
    since: Instant,
    seconds: f64,
}

/// What it has taken since.
pub(crate) struct Spent {
    /// Of one core, as a share of the time.
    pub(crate) cpu: f64,
    /// Bytes that are resident now.
    pub(crate) resident: u64,
}

impl Usage {
    pub(crate) fn of(process: u32) -> Self {
        let seconds = seconds(process);
        let since = Instant::now();
        Self {
            process,
            since,
            seconds,
        }
    }

    pub(crate) fn spent(&self) -> Spent {
        let cpu = seconds(self.process) - self.seconds;
        Spent {
            cpu: cpu / self.since.elapsed().as_secs_f64(),
            resident: resident(self.process),
        }
    }
}

/// Processor time of a process, by user and system.
fn seconds(process: u32) -> f64 {
    let stat = read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name in brackets may have anything in it; times are the 12th and 13th word after it.
    let words: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks: u64 = words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

fn resident(process: u32) -> u64 {
    let status = read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}
