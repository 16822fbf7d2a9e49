//! Signs of life of a connection, ours and the broker's.
//!
//! busrt drops a client that sends nothing, and says nothing itself when the wire is cut. So
//! something is sent often, and now and then something that the broker has to acknowledge: if it
//! does not within the keepalive, the connection is dead, in whichever direction (LIF-007).
//!
//! Time comes from outside, so that tests need not wait for it.

use std::time::Duration;

use tokio::sync::oneshot::{Receiver, error::TryRecvError};
use tokio::time::Instant;

/// Longest time between two signs of life; busrt drops a client that is silent for 1.25 times the
/// broker's timeout.
const MAX_TICK: Duration = Duration::from_millis(300);
/// How often silent links are asked where they stand.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The broker's answer to a ping; whatever it says, it is alive.
pub(crate) type Answer = Receiver<Result<(), busrt::Error>>;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// Ask silent links where they stand.
    pub(crate) heartbeat: bool,
    /// Send something that the broker has to acknowledge.
    pub(crate) ping: bool,
}

/// Why the connection is taken for dead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Dead {
    #[error("the broker does not answer for {0:?}")]
    Silent(Duration),
    #[error("the connection has ended")]
    Ended,
}

#[derive(Debug)]
pub(crate) struct Life {
    keepalive: Duration,
    tick: Duration,
    /// When to look next.
    pub(crate) next: Instant,
    looked: Instant,
    heartbeat: Instant,
    pinged: Instant,
    /// Sent when, and not acknowledged yet.
    awaited: Option<(Instant, Answer)>,
}

impl Life {
    pub(crate) fn new(keepalive: Duration, now: Instant) -> Self {
        let tick = (keepalive / 4).min(MAX_TICK);
        Self {
            keepalive,
            tick,
            next: now + tick,
            looked: now,
            heartbeat: now,
            pinged: now,
            awaited: None,
        }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }

    /// Looks at the connection.
    pub(crate) fn look(&mut self, now: Instant) -> Result<Due, Dead> {
        let away = now.duration_since(self.looked);
        self.looked = now;
        self.next = now + self.tick;
        let heartbeat = now.duration_since(self.heartbeat) >= HEARTBEAT;
        if heartbeat {
            self.heartbeat = now;
        }
        // If it was this process that stood still, the answer may be waiting to be read.
        if away > self.keepalive / 2
            && let Some((sent, _)) = &mut self.awaited
        {
            *sent = now;
        }
        let awaited = self.is_awaited(now)?;
        Ok(Due {
            heartbeat,
            ping: !awaited && now.duration_since(self.pinged) >= self.keepalive / 4,
        })
    }

    /// A ping was sent.
    pub(crate) fn pinged(&mut self, now: Instant, answer: Option<Answer>) {
        self.pinged = now;
        self.awaited = answer.map(|answer| (now, answer));
    }

    fn is_awaited(&mut self, now: Instant) -> Result<bool, Dead> {
        let Some((sent, answer)) = &mut self.awaited else {
            return Ok(false);
        };
        match answer.try_recv() {
            Ok(_) => {
                self.awaited = None;
                Ok(false)
            }
            Err(TryRecvError::Closed) => Err(Dead::Ended),
            Err(TryRecvError::Empty) => {
                let silent = now.duration_since(*sent);
                if silent > self.keepalive {
                    return Err(Dead::Silent(silent));
                }
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::{Sender, channel};

    use super::*;

    const KEEPALIVE: Duration = Duration::from_secs(4);

    fn pinged() -> (Life, Instant, Sender<Result<(), busrt::Error>>) {
        let start = Instant::now();
        let mut life = Life::new(KEEPALIVE, start);
        let now = loop {
            let now = life.next;
            if life.look(now).unwrap().ping {
                break now;
            }
        };
        assert!(now - start <= KEEPALIVE / 4 + life.tick);
        let (answer, awaited) = channel();
        life.pinged(now, Some(awaited));
        (life, now, answer)
    }

    #[test]
    fn lif_007_a_silent_broker_is_noticed_within_twice_the_keepalive() {
        let (mut life, sent, _answer) = pinged();
        let dead = loop {
            match life.look(life.next) {
                Ok(due) => assert!(!due.ping, "one question at a time"),
                Err(dead) => break dead,
            }
        };
        assert!(matches!(dead, Dead::Silent(silent) if silent > KEEPALIVE));
        assert!(life.looked - sent <= KEEPALIVE + life.tick);
    }

    #[test]
    fn any_answer_is_a_sign_of_life_and_the_end_of_the_connection_is_none() {
        let (mut life, _, answer) = pinged();
        answer.send(Err(busrt::Error::access("no"))).unwrap();
        assert!(life.look(life.next).is_ok());
        let (mut life, _, answer) = pinged();
        drop(answer);
        assert_eq!(life.look(life.next), Err(Dead::Ended));
    }

    #[test]
    fn a_process_that_stood_still_reads_before_it_judges() {
        let (mut life, sent, answer) = pinged();
        let woken = sent + KEEPALIVE * 5;
        assert!(life.look(woken).is_ok(), "the answer may be there already");
        answer.send(Ok(())).unwrap();
        assert!(life.look(life.next).unwrap().ping);
    }

    #[test]
    fn flt_007_only_the_monotonic_clock_counts() {
        let (mut life, _, _answer) = pinged();
        let before = life.looked;
        assert_eq!(life.look(before).map(|due| due.ping), Ok(false));
        assert!(life.next > before);
    }

    #[test]
    fn silent_links_are_asked_once_a_second() {
        let start = Instant::now();
        let mut life = Life::new(KEEPALIVE, start);
        let mut beats = 0;
        while life.next <= start + Duration::from_secs(5) {
            beats += u32::from(life.look(life.next).unwrap().heartbeat);
        }
        assert!((4..=5).contains(&beats), "{beats}");
    }
}
