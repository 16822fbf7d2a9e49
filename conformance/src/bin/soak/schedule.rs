//! When which fault strikes whom.
//!
//! Faults stand at fractions of the events. Publishers may publish up to a fault's place; as it
//! strikes they are let on most of the way to the next one, and no further until it is over. So
//! every fault strikes while events are being published, however fast the bus is.

use std::time::Duration;

use conformance::fault::Way;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::args::Args;

/// A fault, and whom it strikes: peers are numbered, subscribers after publishers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    Kill {
        down: Duration,
    },
    Reset {
        peer: usize,
    },
    /// One way, or both.
    Partition {
        peer: usize,
        way: Option<Way>,
        lasts: Duration,
    },
    Stall {
        subscriber: usize,
        lasts: Duration,
    },
}

/// A fault at its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scheduled {
    pub(crate) fault: Fault,
    /// The fraction of all events at which it strikes.
    pub(crate) at: f64,
    /// How long after publishers were let on.
    pub(crate) after: Duration,
    /// How far they were let on.
    pub(crate) until: f64,
}

/// How far publishers may go while a fault lasts, of the way to the next.
const MEANWHILE: f64 = 0.8;

pub(crate) fn schedule(args: &Args, seed: u64) -> Vec<Scheduled> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = Vec::new();
    let peers = (args.publishers + args.subscribers) as usize;
    for _ in 0..args.kills {
        let down = Duration::from_millis(random.random_range(100..=1500));
        faults.push(Fault::Kill { down });
    }
    for _ in 0..args.resets {
        let peer = random.random_range(0..peers);
        faults.push(Fault::Reset { peer });
    }
    for number in 0..args.partitions {
        // Each kind in turn, so that three partitions have had all of them.
        let way = [None, Some(Way::Up), Some(Way::Down)][number as usize % 3];
        let lasts = args.keepalive().mul_f64(random.random_range(1.5..=3.0));
        let peer = random.random_range(0..peers);
        faults.push(Fault::Partition { peer, way, lasts });
    }
    for _ in 0..args.stalls {
        let subscriber = random.random_range(0..args.subscribers as usize);
        let lasts = args.stall();
        faults.push(Fault::Stall { subscriber, lasts });
    }
    faults.shuffle(&mut random);
    let gap = 1.0 / (faults.len() + 1) as f64;
    let mut at: Vec<f64> = Vec::new();
    for number in 1..=faults.len() {
        at.push((number as f64 + random.random_range(-0.25..=0.25)) * gap);
    }
    let after = |next: Option<&f64>, at: f64| at + (next.copied().unwrap_or(1.0) - at) * MEANWHILE;
    let scheduled = faults.into_iter().enumerate().map(|(n, fault)| Scheduled {
        fault,
        at: at[n],
        after: Duration::from_millis(random.random_range(0..=20)),
        until: after(at.get(n + 1), at[n]),
    });
    scheduled.collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn args(text: &str) -> Args {
        Args::try_parse_from(text.split(' ')).unwrap()
    }

    #[test]
    fn a_seed_fixes_everything() {
        let args = args("soak --kills 5 --resets 4 --partitions 3 --stalls 2");
        let one = schedule(&args, 7);
        assert_eq!(one, schedule(&args, 7));
        assert_ne!(one, schedule(&args, 8));
        assert_eq!(one.len(), 14);
    }

    #[test]
    fn faults_stand_apart_in_order() {
        let args = args("soak --kills 50");
        for seed in 0..20 {
            let mut last = 0.0;
            for scheduled in schedule(&args, seed) {
                assert!(scheduled.at > last, "{scheduled:?}");
                assert!(scheduled.until > scheduled.at && scheduled.until < 1.0);
                last = scheduled.until;
            }
        }
    }

    #[test]
    fn three_partitions_are_of_three_kinds() {
        let args = args("soak --partitions 3");
        let mut ways: Vec<_> = schedule(&args, 1)
            .into_iter()
            .map(|scheduled| match scheduled.fault {
                Fault::Partition { way, lasts, .. } => {
                    assert!(lasts > args.keepalive());
                    format!("{way:?}")
                }
                other => panic!("{other:?}"),
            })
            .collect();
        ways.sort();
        assert_eq!(ways, ["None", "Some(Down)", "Some(Up)"]);
    }
}
