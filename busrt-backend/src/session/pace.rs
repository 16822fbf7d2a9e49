//! When a busy writer leaves events to gather.
//!
//! A frame costs as much as some hundred small events. A writer that has a processor to itself would send
//! what little has come since its last frame, again and again, and keep the processor from those who
//! publish and read. So once it has sent a few parts of frames on end it may pause. Where little is
//! published at a time, or each event has a frame of its own, nothing waits.
//!
//! Nor does it where those who publish wait for what others answer: as much as there ever is has gathered
//! long before the pause ends. So the writer tries both ways in turns, and pauses only if as much is sent
//! with pauses as without.
//!
//! Source of the idea: interrupt coalescing of network cards.

use std::time::{Duration, Instant};

use super::run::MAX_RUN;

/// Fewer events in a frame than this are no load.
const FEW: u64 = 4;
/// Frames of parts on end that make a load.
const ROUNDS: u32 = 8;
/// Fewer events in a frame than this, after a pause, were not worth it.
const WORTH: u64 = 32;
/// How long events may gather; with the slack of the system's clock it is twice that.
pub(crate) const PAUSE: Duration = Duration::from_micros(50);

/// How long the writer goes one way before it goes the other.
const STINT: Duration = Duration::from_millis(1);
/// A stint that took longer was interrupted.
const INTERRUPTED: Duration = Duration::from_millis(3);
/// Stints of a trial.
const STINTS: u32 = 8;
/// How long a trial is valid.
const VALID: Duration = Duration::from_millis(200);
/// Least of what is sent without pauses that has to be sent with them: such short times differ by chance.
const AS_MUCH: f64 = 0.9;

#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Parts of frames sent on end.
    rounds: u32,
    paused: bool,
    trial: Trial,
}

impl Pace {
    /// Takes note of what has been sent at once, of the events in a frame and in all; whether the writer
    /// may pause before it goes on.
    pub(crate) fn sent(&mut self, in_a_frame: u64, events: u64, now: Instant) -> bool {
        let least = if self.paused { WORTH } else { FEW };
        if (least..u64::from(MAX_RUN)).contains(&in_a_frame) {
            self.rounds = self.rounds.saturating_add(1);
        } else {
            self.rounds = 0;
        }
        let is_load = self.rounds >= ROUNDS;
        self.paused = self.trial.allows(is_load, events, now) && is_load;
        self.paused
    }

    /// There was nothing to send.
    pub(crate) fn rest(&mut self) {
        self.rounds = 0;
        self.paused = false;
    }
}

/// What was sent one way.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    events: u64,
    time: Duration,
}

#[derive(Debug)]
enum Trial {
    Decided {
        pauses: bool,
        until: Option<Instant>,
    },
    /// Every other stint is one with pauses.
    Stint {
        number: u32,
        since: Instant,
        events: u64,
        /// Without pauses, and with them.
        tallies: [Tally; 2],
    },
}

impl Default for Trial {
    fn default() -> Self {
        Self::Decided {
            pauses: false,
            until: None,
        }
    }
}

impl Trial {
    /// Takes note of what has been sent; whether to pause now.
    fn allows(&mut self, is_load: bool, sent: u64, now: Instant) -> bool {
        match self {
            Self::Decided { pauses, until } => {
                if is_load && until.is_none_or(|until| until <= now) {
                    *self = Self::Stint {
                        number: 0,
                        since: now,
                        events: 0,
                        tallies: [Tally::default(); 2],
                    };
                    return false;
                }
                *pauses
            }
            Self::Stint {
                number,
                since,
                events,
                tallies,
            } => {
                *events += sent;
                let time = now.saturating_duration_since(*since);
                if time >= STINT {
                    if time < INTERRUPTED {
                        let tally = &mut tallies[*number as usize % 2];
                        tally.events += *events;
                        tally.time += time;
                    }
                    (*number, *since, *events) = (*number + 1, now, 0);
                }
                if *number < STINTS {
                    return *number % 2 == 1;
                }
                let pauses = is_worth_it(*tallies);
                *self = Self::Decided {
                    pauses,
                    until: Some(now + VALID),
                };
                pauses
            }
        }
    }
}

fn is_worth_it([without, with]: [Tally; 2]) -> bool {
    let rate = |tally: Tally| tally.events as f64 / tally.time.as_secs_f64();
    let is_known = !(without.time.is_zero() || with.time.is_zero());
    is_known && rate(with) >= AS_MUCH * rate(without)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pace that pauses as often as there is a load.
    fn decided() -> (Pace, Instant) {
        let now = Instant::now();
        let trial = Trial::Decided {
            pauses: true,
            until: Some(now + VALID),
        };
        let pace = Pace {
            trial,
            ..Pace::default()
        };
        (pace, now)
    }

    /// Sends as much so often, and says how often there was a pause.
    fn pauses(pace: &mut Pace, now: Instant, events: u64, times: u32) -> u32 {
        let sent = |_| u32::from(pace.sent(events, events, now));
        (0..times).map(sent).sum()
    }

    #[test]
    fn only_parts_of_a_frame_on_end_are_a_load() {
        let full = u64::from(MAX_RUN);
        for events in [0, FEW - 1, full] {
            let (mut pace, now) = decided();
            assert_eq!(pauses(&mut pace, now, events, 100), 0, "{events}");
        }
        for events in [WORTH, full - 1] {
            let (mut pace, now) = decided();
            assert_eq!(pauses(&mut pace, now, events, ROUNDS - 1), 0);
            assert_eq!(pauses(&mut pace, now, events, 100), 100);
            pace.rest();
            assert_eq!(pauses(&mut pace, now, events, ROUNDS - 1), 0, "anew");
        }
    }

    #[test]
    fn a_pause_in_which_little_gathers_is_the_last_for_a_while() {
        let (mut pace, now) = decided();
        assert_eq!(pauses(&mut pace, now, WORTH - 1, ROUNDS), 1);
        assert_eq!(pauses(&mut pace, now, WORTH - 1, ROUNDS), 0);
        assert_eq!(pauses(&mut pace, now, WORTH - 1, 1), 1);
        assert_eq!(pauses(&mut pace, now, FEW - 1, 100), 0);
    }

    /// A load for `time`, of which so much comes within 20 us, and within the 100 us of a pause. Between
    /// stints of a trial it is held up for `gap`. How long there were pauses.
    fn under(
        pace: &mut Pace,
        now: &mut Instant,
        time: Duration,
        [soon, later]: [u64; 2],
        gap: Duration,
    ) -> Duration {
        let end = *now + time;
        let (mut paused, mut pauses) = (Duration::ZERO, false);
        while *now < end {
            let (events, took) = if pauses { (later, 100) } else { (soon, 20) };
            let took = Duration::from_micros(took);
            *now += took;
            paused += took * u32::from(pauses);
            if let Trial::Stint { since, .. } = pace.trial
                && *now >= since + STINT
            {
                *now += gap;
            }
            pauses = pace.sent(events, events, *now);
        }
        paused
    }

    #[test]
    fn it_pauses_only_if_as_much_is_sent_so() {
        let stints = STINT * STINTS;
        for (load, least, most) in [
            // Nobody waits for an answer; as much as can be sent, or as comes.
            ([60, 500], VALID - stints, VALID),
            ([40, 200], VALID - stints, VALID),
            // No more gathers than there is at once.
            ([64, 64], Duration::ZERO, stints),
            ([100, 300], Duration::ZERO, stints),
        ] {
            let (mut pace, mut now) = (Pace::default(), Instant::now());
            for round in 0..3 {
                let paused = under(&mut pace, &mut now, VALID, load, Duration::ZERO);
                let expected = least..=most;
                assert!(expected.contains(&paused), "{load:?} {round} {paused:?}");
            }
        }
    }

    #[test]
    fn a_load_that_changes_is_tried_anew() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        under(&mut pace, &mut now, VALID, [64, 64], Duration::ZERO);
        pace.rest();
        under(&mut pace, &mut now, VALID, [60, 500], Duration::ZERO);
        let paused = under(&mut pace, &mut now, VALID / 2, [60, 500], Duration::ZERO);
        assert!(paused > VALID / 4, "{paused:?}");
    }

    #[test]
    fn what_was_interrupted_decides_nothing() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let paused = under(&mut pace, &mut now, VALID, [60, 500], INTERRUPTED);
        assert!(paused < STINT * STINTS, "{paused:?}");
    }
}
