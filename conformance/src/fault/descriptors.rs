//! Taking a running process's file descriptors away, and seeing what it does about it.
//!
//! Nothing is closed: the process may open none any more until it is given its limit back.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit};

/// A process that can open nothing. Given back by [`feed`](Self::feed), not by dropping it.
#[derive(Debug)]
pub struct Starved {
    pid: Pid,
    before: Rlimit,
}

impl Starved {
    /// Lets the process `id` open nothing any more, sockets included.
    ///
    /// # Errors
    /// What the system said: most likely that there is no such process.
    pub fn starve(id: u32) -> io::Result<Self> {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        // The next descriptor is the lowest that is free, and has to be below the limit.
        let mut open = Vec::new();
        for entry in fs::read_dir(format!("/proc/{id}/fd"))? {
            open.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|n| n.parse::<u64>().ok()),
            );
        }
        let lowest_free = (0..).find(|number| !open.contains(number));
        let before = limit(
            pid,
            Rlimit {
                current: lowest_free,
                maximum: rustix::process::getrlimit(Resource::Nofile).maximum,
            },
        )?;
        Ok(Self { pid, before })
    }

    /// Gives the limit back.
    ///
    /// # Errors
    /// What the system said.
    pub fn feed(self) -> io::Result<()> {
        limit(self.pid, self.before).map(|_| ())
    }
}

/// Sets the limit, and returns what it was.
#[cfg(target_os = "linux")]
fn limit(pid: Pid, to: Rlimit) -> io::Result<Rlimit> {
    Ok(rustix::process::prlimit(Some(pid), Resource::Nofile, to)?)
}

#[cfg(not(target_os = "linux"))]
fn limit(_: Pid, _: Rlimit) -> io::Result<Rlimit> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The CPU time that the process `id` has used, in steps of a clock tick; `None` where there is no
/// `/proc`, or after its end.
#[must_use]
pub fn cpu_time(id: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before it may have anything in it, but for the last parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = times.try_fold(0, |sum, ticks| Some(sum + ticks.parse::<u64>().ok()?))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(ticks * 1000 / per_second.max(1)))
}
