//! When a busy writer leaves events to gather.
//!
//! A frame costs as much as some hundred small events. A writer that has a processor to itself would send
//! what little has come since its last frame, again and again, and keep the processor from those who
//! publish and read. So once it has sent a few parts of frames on end it pauses, and goes on to do so as
//! long as enough gathers to be worth it. Where little is published at a time, or each event has a frame of
//! its own, nothing waits.
//!
//! Source of the idea: interrupt coalescing of network cards.

use std::time::Duration;

use super::run::MAX_RUN;

/// Fewer events in a frame than this are no load.
const FEW: u64 = 4;
/// Frames of parts on end that make a load.
const ROUNDS: u32 = 8;
/// Fewer events in a frame than this, after a pause, were not worth it.
const WORTH: u64 = 32;
/// How long events may gather; with the slack of the system's clock it is twice that.
pub(crate) const PAUSE: Duration = Duration::from_micros(50);

#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Parts of frames sent on end.
    rounds: u32,
    paused: bool,
}

impl Pace {
    /// Takes note of what has been sent at once, by the events in a frame; whether the writer may pause
    /// before it goes on.
    pub(crate) fn sent(&mut self, events: u64) -> bool {
        let least = if self.paused { WORTH } else { FEW };
        if (least..u64::from(MAX_RUN)).contains(&events) {
            self.rounds = self.rounds.saturating_add(1);
        } else {
            self.rounds = 0;
        }
        self.paused = self.rounds >= ROUNDS;
        self.paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as much so often, and says how often there was a pause.
    fn pauses(pace: &mut Pace, events: u64, times: u32) -> u32 {
        (0..times).map(|_| u32::from(pace.sent(events))).sum()
    }

    #[test]
    fn only_parts_of_a_frame_on_end_are_a_load() {
        let full = u64::from(MAX_RUN);
        for events in [0, FEW - 1, full] {
            assert_eq!(pauses(&mut Pace::default(), events, 100), 0, "{events}");
        }
        for events in [WORTH, full - 1] {
            let mut pace = Pace::default();
            assert_eq!(pauses(&mut pace, events, ROUNDS - 1), 0);
            assert_eq!(pauses(&mut pace, events, 100), 100);
            assert!(!pace.sent(0));
            assert!(!pace.sent(events), "it begins anew");
        }
    }

    #[test]
    fn a_pause_in_which_little_gathers_is_the_last_for_a_while() {
        let mut pace = Pace::default();
        assert_eq!(pauses(&mut pace, WORTH - 1, ROUNDS), 1);
        assert_eq!(pauses(&mut pace, WORTH - 1, ROUNDS), 0);
        assert_eq!(pauses(&mut pace, WORTH - 1, 1), 1);
        assert_eq!(pauses(&mut pace, FEW - 1, 100), 0);
    }
}
