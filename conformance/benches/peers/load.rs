//! What publishers publish and when, and what readers do with it: the same for every contender.
//!
//! Where nothing else would hold a publisher back before something is lost, it stays at most
//! [`AHEAD`] events before the slowest reader.
//!
//! A publisher ends with a mark, one byte, that is published as every event but never dropped; a
//! reader that has the marks of all publishers has everything. Latency counts from when an event was
//! due, not from when there was time for it: a bus that falls behind shows that in every event that
//! had to wait. At saturation nothing is due, and it counts from the call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::scenario::{Latency, Pace, Scenario, Style};

/// What a publisher ends with. Payloads are longer.
pub(crate) const MARK: &[u8] = b"!";
/// Bytes of the time at the beginning of a payload.
const STAMP: usize = 8;
/// How far a publisher may be ahead, in events or frames of a batch: half of what busrt's broker
/// queues for a client, and what a session of ours has under way; at most once half of that.
const AHEAD: u64 = 4096;
/// The same in bytes.
const AHEAD_BYTES: u64 = 32 << 20;
/// Events between looks at the clock.
const STRIDE: u64 = 64;

/// How far publishers are ahead of readers.
#[derive(Debug)]
pub(crate) struct Ahead {
    most: u64,
    sent: AtomicU64,
    received: Vec<AtomicU64>,
}

impl Ahead {
    pub(crate) fn of(scenario: &Scenario) -> Option<Arc<Self>> {
        let frame = (scenario.payload * scenario.batch) as u64;
        let most = match scenario.at_least_once {
            true => AHEAD,
            false => AHEAD / 2,
        };
        let most = (AHEAD_BYTES / frame).clamp(16, most) * scenario.batch as u64;
        scenario.is_held_back().then(|| {
            Arc::new(Self {
                most,
                sent: AtomicU64::new(0),
                received: (0..scenario.readers).map(|_| AtomicU64::new(0)).collect(),
            })
        })
    }

    /// What the slowest reader has received.
    fn least(&self) -> u64 {
        let received = self.received.iter();
        let received = received.map(|received| received.load(Ordering::Relaxed));
        received.min().unwrap_or(u64::MAX)
    }
}

/// One publisher's part. Everything that the hot loop asks is decided before it.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    zero: Instant,
    pace: Pace,
    style: Style,
    stamped: bool,
    /// Events come in multiples of this, and so many at once.
    multiple: u64,
    step: u64,
    payload: Bytes,
    shared: Arc<Vec<u8>>,
    ahead: Option<Arc<Ahead>>,
    /// What the slowest reader had received when it was last looked at.
    floor: u64,
}

impl Load {
    pub(crate) fn of(scenario: &Scenario, zero: Instant, ahead: Option<&Arc<Ahead>>) -> Self {
        let payload = vec![7_u8; scenario.payload];
        assert!(payload.len() > STAMP, "payloads are longer than a time");
        let turns = scenario.topics * scenario.connections;
        Self {
            zero,
            pace: scenario.pace,
            style: scenario.style,
            stamped: scenario.stamped,
            multiple: (turns * scenario.batch) as u64,
            step: scenario.batch as u64,
            payload: payload.clone().into(),
            shared: Arc::new(payload),
            ahead: ahead.cloned(),
            floor: 0,
        }
    }

    /// Whether there is another event, or batch, after `published`. Waits until it is due.
    pub(crate) async fn more(&mut self, published: u64) -> bool {
        if let Some(ahead) = &self.ahead {
            let sent = ahead.sent.fetch_add(self.step, Ordering::Relaxed);
            if sent.saturating_sub(self.floor) >= ahead.most {
                // Until half of it is free again: who looks for room for one finds it one by one.
                while sent.saturating_sub(self.floor) >= ahead.most / 2 {
                    self.pass_the_time().await;
                    self.floor = ahead.least();
                }
            }
        }
        match self.pace {
            Pace::Saturated { seconds } => {
                let looks = published.is_multiple_of(STRIDE) || self.multiple > 1;
                let may_end = looks && published > 0 && published.is_multiple_of(self.multiple);
                !may_end || self.zero.elapsed().as_secs_f64() < seconds
            }
            Pace::Scheduled { events, .. } if published == events => false,
            Pace::Scheduled { .. } => {
                let due = self.due(published);
                while self.zero.elapsed() < due {
                    self.pass_the_time().await;
                }
                true
            }
        }
    }

    /// The payload of event `n`.
    pub(crate) fn bytes(&self, n: u64) -> Bytes {
        if self.stamped {
            self.stamp(n).into()
        } else {
            self.payload.clone()
        }
    }

    /// The same, as a channel of Rust values carries it.
    pub(crate) fn arc(&self, n: u64) -> Arc<Vec<u8>> {
        if self.stamped {
            Arc::new(self.stamp(n))
        } else {
            Arc::clone(&self.shared)
        }
    }

    fn stamp(&self, n: u64) -> Vec<u8> {
        let since = match self.pace {
            Pace::Saturated { .. } => self.zero.elapsed(),
            Pace::Scheduled { .. } => self.due(n),
        };
        let mut payload = self.shared.to_vec();
        payload[..STAMP].copy_from_slice(&nanos(since).to_le_bytes());
        payload
    }

    /// When event `n` is due, after zero.
    fn due(&self, n: u64) -> Duration {
        let Pace::Scheduled { per_second, .. } = self.pace else {
            return Duration::ZERO;
        };
        Duration::from_nanos(n * (1_000_000_000 / u64::from(per_second)))
    }

    /// A timer is late by more than what is measured, so the publisher looks at the clock, and
    /// gives way to whoever wants the core.
    async fn pass_the_time(&self) {
        match self.style {
            Style::Threads => {
                std::hint::spin_loop();
                std::thread::yield_now();
            }
            Style::Tasks => tokio::task::yield_now().await,
        }
    }
}

/// What one reader found.
#[derive(Debug)]
pub(crate) struct Sink {
    zero: Instant,
    pub(crate) payload: usize,
    pub(crate) received: u64,
    ahead: Option<Arc<Ahead>>,
    reader: usize,
    times: Option<Histogram<u64>>,
}

impl Sink {
    /// For one of the readers.
    pub(crate) fn of(
        scenario: &Scenario,
        zero: Instant,
        ahead: Option<&Arc<Ahead>>,
        reader: usize,
    ) -> Self {
        Self {
            zero,
            payload: scenario.payload,
            received: 0,
            ahead: ahead.cloned(),
            reader,
            times: scenario.stamped.then(|| Histogram::new(3).unwrap()),
        }
    }

    /// Takes what arrived; `false` if it was a mark.
    #[inline]
    pub(crate) fn take(&mut self, payload: &[u8]) -> bool {
        if payload.len() == MARK.len() {
            return false;
        }
        assert_eq!(payload.len(), self.payload, "the payload arrives whole");
        self.received += 1;
        if let Some(ahead) = &self.ahead {
            ahead.received[self.reader].store(self.received, Ordering::Relaxed);
        }
        if let Some(times) = &mut self.times {
            let (stamp, _) = payload.split_first_chunk::<STAMP>().unwrap();
            let sent = u64::from_le_bytes(*stamp);
            times
                .record(nanos(self.zero.elapsed()).saturating_sub(sent))
                .unwrap();
        }
        true
    }
}

/// All that arrived, and how long it took.
pub(crate) fn sum(sinks: Vec<Sink>) -> (u64, Option<Latency>) {
    let received = sinks.iter().map(|sink| sink.received).sum();
    let mut times: Option<Histogram<u64>> = None;
    for sink in sinks {
        match (&mut times, sink.times) {
            (Some(all), Some(some)) => all.add(some).unwrap(),
            (all, some) => *all = some,
        }
    }
    let latency = times.map(|times| Latency {
        p50: times.value_at_quantile(0.5),
        p99: times.value_at_quantile(0.99),
        p999: times.value_at_quantile(0.999),
        max: times.max(),
    });
    (received, latency)
}

fn nanos(since: Duration) -> u64 {
    u64::try_from(since.as_nanos()).unwrap()
}
