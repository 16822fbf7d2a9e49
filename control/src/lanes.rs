//! Publishing in order to each addressee, so that one without room holds up nobody else.
//!
//! Each addressee has a lane of letters, of which one is being published. A letter that finds no room, or no
//! connection, is tried again until its time is over: each time is logged and counted, and what became of
//! the letter in the end is told to whoever asks for [`next`](Lanes::next).
//!
//! Invariant: of one lane at most one letter is under way, and letters leave in the order in which they came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::{Event, EventBus, PublishError};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::warn;

/// Before a letter is tried again, whatever time the bus has given it: its deadline may be very short.
const PAUSE: Duration = Duration::from_millis(50);

/// An event for an addressee.
#[derive(Debug)]
pub(crate) struct Letter<T> {
    pub(crate) event: Event,
    /// When it is of no use any more.
    pub(crate) until: Instant,
    /// What the sender calls it.
    pub(crate) tag: T,
}

/// What became of a letter.
#[derive(Debug)]
pub(crate) struct Sent<T> {
    pub(crate) to: Arc<str>,
    pub(crate) tag: T,
    /// Why it was not published.
    pub(crate) error: Option<Unsent>,
    /// How often it was tried in vain.
    pub(crate) retries: u64,
}

/// Why a letter was not published.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Unsent {
    #[error(transparent)]
    Refused(PublishError),
    #[error("no room on its way in time")]
    TooLate,
}

pub(crate) struct Lanes<T> {
    bus: Arc<dyn EventBus>,
    /// The letters behind the one that is being published.
    lanes: HashMap<Arc<str>, VecDeque<Letter<T>>>,
    sending: FuturesUnordered<BoxFuture<'static, Sent<T>>>,
}

impl<T: Send + 'static> Lanes<T> {
    pub(crate) fn new(bus: Arc<dyn EventBus>) -> Self {
        Self {
            bus,
            lanes: HashMap::new(),
            sending: FuturesUnordered::new(),
        }
    }

    /// Addressees that something is on its way to.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Letters on their way to one addressee.
    pub(crate) fn waiting(&self, to: &str) -> Option<usize> {
        self.lanes.get(to).map(|lane| lane.len() + 1)
    }

    pub(crate) fn push(&mut self, to: &str, letter: Letter<T>) {
        if let Some(lane) = self.lanes.get_mut(to) {
            lane.push_back(letter);
            return;
        }
        let to: Arc<str> = to.into();
        self.lanes.insert(Arc::clone(&to), VecDeque::new());
        self.send(to, letter);
    }

    /// Takes back a letter that is not under way yet. Whether there was one.
    pub(crate) fn retract(&mut self, to: &str, is: impl Fn(&T) -> bool) -> bool {
        let Some(lane) = self.lanes.get_mut(to) else {
            return false;
        };
        let before = lane.len();
        lane.retain(|letter| !is(&letter.tag));
        lane.len() < before
    }

    /// What became of the next letter. Never if none is on its way. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Sent<T> {
        let Some(sent) = self.sending.next().await else {
            return std::future::pending().await;
        };
        let lane = self.lanes.get_mut(&sent.to);
        if let Some(letter) = lane.and_then(VecDeque::pop_front) {
            self.send(Arc::clone(&sent.to), letter);
        } else {
            self.lanes.remove(&sent.to);
        }
        sent
    }

    fn send(&self, to: Arc<str>, letter: Letter<T>) {
        let bus = Arc::clone(&self.bus);
        self.sending.push(Box::pin(async move {
            let (error, retries) = publish(&*bus, letter.event, letter.until).await;
            Sent {
                to,
                tag: letter.tag,
                error,
                retries,
            }
        }));
    }
}

async fn publish(bus: &dyn EventBus, mut event: Event, until: Instant) -> (Option<Unsent>, u64) {
    let mut retries = 0;
    loop {
        let published = timeout_at(until, bus.publish(event)).await;
        let Ok(published) = published else {
            return (Some(Unsent::TooLate), retries);
        };
        let Err(refused) = published else {
            return (None, retries);
        };
        let (returned, reason) = refused.into_parts();
        let pause = match &reason {
            PublishError::Backpressure { .. } => PAUSE,
            PublishError::RateLimited { retry_after } => PAUSE.max(*retry_after),
            _ => return (Some(Unsent::Refused(reason)), retries),
        };
        let again = Instant::now() + pause;
        if again >= until {
            return (Some(Unsent::Refused(reason)), retries);
        }
        warn!(topic = %returned.topic(), %reason, "trying again");
        sleep_until(again).await;
        retries += 1;
        event = returned;
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_backend::CrossbeamBus;
    use eventbus_trait::{Limits, Subscribe};

    use super::*;

    fn letter(topic: &str, tag: u32) -> Letter<u32> {
        Letter {
            event: Event::new(topic, tag.to_string().into_bytes()).unwrap(),
            until: Instant::now() + Duration::from_secs(60),
            tag,
        }
    }

    /// The bus has a clock of its own, so this one is not turned.
    #[tokio::test]
    async fn who_has_no_room_holds_up_nobody_else_and_gets_everything_in_order() {
        let bus = CrossbeamBus::new(Limits {
            publish_deadline: Duration::from_millis(5),
            ..Limits::default()
        });
        let full = Subscribe::to("full").unwrap().capacity(1);
        let mut full = bus.subscribe(full).await.unwrap();
        let mut lanes = Lanes::new(bus.clone() as Arc<dyn EventBus>);
        for tag in 0..4 {
            lanes.push("a", letter("full", tag));
        }
        lanes.push("b", letter("empty", 9));
        assert_eq!((lanes.lanes(), lanes.waiting("a")), (2, Some(4)));
        let mut first = [lanes.next().await.tag, lanes.next().await.tag];
        first.sort_unstable();
        assert_eq!(first, [0, 9]);
        assert!(lanes.retract("a", |tag| *tag == 3) && !lanes.retract("a", |tag| *tag == 1));
        // Nobody reads until it has been tried in vain.
        let pause = tokio::time::timeout(PAUSE * 3, lanes.next()).await;
        assert!(pause.is_err(), "{pause:?}");
        let mut retries = 0;
        for expected in 0..3_u32 {
            let event = full.recv().await.unwrap();
            assert_eq!(event.bytes().unwrap(), expected.to_string());
            if expected < 2 {
                let sent = lanes.next().await;
                assert_eq!((sent.tag, sent.error), (expected + 1, None));
                retries += sent.retries;
            }
        }
        assert!(retries > 0);
        assert_eq!(lanes.lanes(), 0);
    }

    #[tokio::test]
    async fn a_letter_that_finds_no_room_in_its_time_is_told_and_the_next_one_tried() {
        let bus = CrossbeamBus::new(Limits::default());
        let full = Subscribe::to("full").unwrap().capacity(1);
        let _full = bus.subscribe(full).await.unwrap();
        let mut lanes = Lanes::new(bus.clone() as Arc<dyn EventBus>);
        for tag in 0..3 {
            let until = Instant::now() + Duration::from_millis(20);
            lanes.push(
                "a",
                Letter {
                    until,
                    ..letter("full", tag)
                },
            );
        }
        let errors = [lanes.next().await, lanes.next().await, lanes.next().await];
        let errors = errors.map(|sent| sent.error);
        assert_eq!(errors, [None, Some(Unsent::TooLate), Some(Unsent::TooLate)]);
    }
}
