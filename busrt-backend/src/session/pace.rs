//! When a busy writer leaves events to gather.
//!
//! A frame costs as much as some hundred small events. A writer that has a processor to itself would send
//! what little has come since its last frame, again and again, and keep the processor from those who
//! publish and read. So once it has sent a few parts of a frame on end it pauses, until a frame is full,
//! or [`PAUSE`] is over, or anything else is to be sent. Where little is published at a time, and each
//! event is sent as it comes, nothing waits.
//!
//! Source of the idea: interrupt coalescing of network cards.

use std::time::Duration;

/// Fewer events than this, taken at once, are no load.
const FEW: u64 = 4;
/// Parts of a frame on end that make a load.
const ROUNDS: u32 = 8;
/// How long events may gather; with the slack of the system's clock it is twice that.
pub(crate) const PAUSE: Duration = Duration::from_micros(50);

#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Parts of a frame sent on end.
    rounds: u32,
}

impl Pace {
    /// Takes note of what has been sent at once; whether the writer may pause before it goes on.
    pub(crate) fn sent(&mut self, events: u64, frame: u64) -> bool {
        if (FEW..frame).contains(&events) {
            self.rounds = self.rounds.saturating_add(1);
        } else {
            self.rounds = 0;
        }
        self.rounds >= ROUNDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u64 = 1_000;

    #[test]
    fn only_parts_of_a_frame_on_end_are_a_load() {
        for (events, load) in [
            (0, false),
            (FEW - 1, false),
            (FEW, true),
            (FRAME - 1, true),
            (FRAME, false),
        ] {
            let mut pace = Pace::default();
            for round in 1..=2 * ROUNDS {
                assert_eq!(
                    pace.sent(events, FRAME),
                    load && round >= ROUNDS,
                    "{events}"
                );
            }
            assert!(!pace.sent(0, FRAME));
            assert!(!pace.sent(FEW, FRAME), "it begins anew");
        }
    }
}
