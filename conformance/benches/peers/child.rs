//! One measurement, in a process of its own.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::load::{Sink, sum};
use crate::scenario::{Contender, Sample, Scenario};
use crate::{ours, raw};

/// What a contender reports.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) accepted: u64,
    pub(crate) dropped: u64,
    pub(crate) sinks: Vec<Sink>,
    pub(crate) clock: Stopped,
}

/// Wall and processor time from the first publish to the last arrival.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) zero: Instant,
    cpu: f64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopped {
    seconds: f64,
    cpu_seconds: f64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            zero: Instant::now(),
            cpu: cpu(),
        }
    }

    pub(crate) fn stop(self) -> Stopped {
        Stopped {
            seconds: self.zero.elapsed().as_secs_f64(),
            cpu_seconds: cpu() - self.cpu,
        }
    }
}

/// Makes the measurement and prints its sample.
pub(crate) fn run(scenario: &str) {
    let scenario: Scenario = serde_json::from_str(scenario).unwrap();
    let before = memory("VmRSS:");
    let done = match scenario.contender {
        Contender::RawCrossbeam => raw::channels::crossbeam(&scenario),
        Contender::RawTokio => raw::channels::tokio(&scenario),
        Contender::RawInProcess => raw::busrt::in_process(&scenario),
        Contender::RawUnix => raw::busrt::unix(&scenario),
        Contender::RawTcp => raw::busrt::tcp(&scenario),
        _ => ours::run(&scenario),
    };
    let (delivered, latency) = sum(done.sinks);
    // With a topic to each subscription, an event has one copy.
    let copies = if scenario.topics > 1 {
        1
    } else {
        scenario.subscribers as u64
    };
    assert_eq!(
        delivered + done.dropped,
        done.accepted * copies,
        "{} lost events",
        scenario.contender.name()
    );
    assert!(!scenario.at_least_once || done.dropped == 0);
    let sample = Sample {
        accepted: done.accepted,
        delivered,
        dropped: done.dropped,
        seconds: done.clock.seconds,
        cpu_seconds: done.clock.cpu_seconds,
        memory: memory("VmHWM:").saturating_sub(before),
        latency,
    };
    println!("{}", serde_json::to_string(&sample).unwrap());
}

/// User and system time of this process, in seconds.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A figure of this process's memory, in bytes.
fn memory(figure: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(figure));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<u64>().unwrap() * 1024
}
