//! Publishing in order to each addressee, so that one without room holds up nobody else.
//!
//! Each addressee has a lane of letters, of which one is being published. A letter that finds no room, or no
//! connection, is tried again until its time is over: each time is counted, the log hears of it now and then, and what became of
//! the letter in the end is told to whoever asks for [`next`](Lanes::next). A letter that was given up while it
//! is under way is not tried again.
//!
//! Invariant: of one lane at most one letter is under way, and letters leave in the order in which they came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::plain::Plain;
use eventbus_trait::{Event, EventBus, PublishError};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::complaints::Complaints;
use crate::later::after;

/// Before a letter is tried again, whatever time the bus has given it: its deadline may be very short.
const PAUSE: Duration = Duration::from_millis(50);

/// An event for an addressee.
pub(crate) struct Letter<T> {
    pub(crate) content: Content,
    pub(crate) until: Until,
    /// What the sender calls it.
    pub(crate) tag: T,
}

/// What a letter says.
pub(crate) enum Content {
    Event(Event),
    /// It depends on when it is sent, and is written anew each time.
    Written(Box<Write>),
}

/// Writes an event as it is at this time. Nothing if it is too late for it.
pub(crate) type Write = dyn Fn(Instant) -> Result<Option<Event>, String> + Send + Sync;

/// When a letter is of no use any more.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    At(Instant),
    /// So long after its turn has come.
    Within(Duration),
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
    #[error("it was given up")]
    GivenUp,
    #[error("{0}")]
    Unwritable(String),
}

/// One addressee's.
struct Lane<T> {
    /// What the letter that is being published is called.
    tag: T,
    /// Gives that letter up. Nothing if that was done.
    give_up: Option<oneshot::Sender<()>>,
    /// The letters behind it.
    waiting: VecDeque<Letter<T>>,
}

/// How the publishing of a lane's letter has ended.
struct Tried {
    to: Arc<str>,
    error: Option<Unsent>,
    retries: u64,
}

pub(crate) struct Lanes<T> {
    bus: Arc<dyn EventBus>,
    lanes: HashMap<Arc<str>, Lane<T>>,
    again: Arc<Mutex<Complaints>>,
    sending: FuturesUnordered<BoxFuture<'static, Tried>>,
}

impl<T: Send + 'static> Lanes<T> {
    pub(crate) fn new(bus: Arc<dyn EventBus>) -> Self {
        Self {
            bus,
            lanes: HashMap::new(),
            again: Arc::default(),
            sending: FuturesUnordered::new(),
        }
    }

    /// Addressees that something is on its way to.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Letters on their way to anybody.
    pub(crate) fn letters(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len() + 1).sum()
    }

    /// Letters on their way to one addressee.
    pub(crate) fn waiting(&self, to: &str) -> Option<usize> {
        self.lanes.get(to).map(|lane| lane.waiting.len() + 1)
    }

    pub(crate) fn push(&mut self, to: &str, letter: Letter<T>) {
        if let Some(lane) = self.lanes.get_mut(to) {
            lane.waiting.push_back(letter);
            return;
        }
        let to: Arc<str> = to.into();
        let (tag, give_up) = self.send(Arc::clone(&to), letter);
        let give_up = Some(give_up);
        let waiting = VecDeque::new();
        self.lanes.insert(
            to,
            Lane {
                tag,
                give_up,
                waiting,
            },
        );
    }

    /// Takes back a letter that is not under way yet. Whether there was one.
    pub(crate) fn retract(&mut self, to: &str, is: impl Fn(&T) -> bool) -> bool {
        let Some(lane) = self.lanes.get_mut(to) else {
            return false;
        };
        let before = lane.waiting.len();
        lane.waiting.retain(|letter| !is(&letter.tag));
        lane.waiting.len() < before
    }

    /// Does not try a letter again that is under way: if it has not found room, it is [`Unsent::GivenUp`].
    pub(crate) fn give_up(&mut self, to: &str, is: impl Fn(&T) -> bool) {
        if let Some(lane) = self.lanes.get_mut(to)
            && is(&lane.tag)
            && let Some(give_up) = lane.give_up.take()
        {
            // Else it has just been published.
            let _under_way = give_up.send(());
        }
    }

    /// What became of the next letter. Never if none is on its way. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Sent<T> {
        loop {
            let Some(tried) = self.sending.next().await else {
                return std::future::pending().await;
            };
            // Each that is being published has a lane.
            if let Some(sent) = self.tried(tried) {
                return sent;
            }
        }
    }

    fn tried(&mut self, tried: Tried) -> Option<Sent<T>> {
        let Tried { to, error, retries } = tried;
        let mut lane = self.lanes.remove(&to)?;
        let tag = if let Some(letter) = lane.waiting.pop_front() {
            let (next, give_up) = self.send(Arc::clone(&to), letter);
            lane.give_up = Some(give_up);
            let tag = std::mem::replace(&mut lane.tag, next);
            self.lanes.insert(Arc::clone(&to), lane);
            tag
        } else {
            lane.tag
        };
        Some(Sent {
            to,
            tag,
            error,
            retries,
        })
    }

    fn send(&self, to: Arc<str>, letter: Letter<T>) -> (T, oneshot::Sender<()>) {
        let bus = Arc::clone(&self.bus);
        let (give_up, given_up) = oneshot::channel();
        let until = match letter.until {
            Until::At(at) => at,
            Until::Within(time) => after(Instant::now(), time),
        };
        let content = letter.content;
        let again = Arc::clone(&self.again);
        self.sending.push(Box::pin(async move {
            let mut retries = 0;
            let tell = |event: &Event, reason: &PublishError| {
                retries += 1;
                let turn = again.lock().turn(Instant::now());
                if let Some(more) = turn {
                    let reason = Plain::field(reason);
                    warn!(topic = %event.topic(), %reason, more, "trying again");
                }
            };
            let published = publish(&*bus, content, until, given_up, tell).await;
            let error = published.err();
            Tried { to, error, retries }
        }));
        (letter.tag, give_up)
    }
}

async fn publish(
    bus: &dyn EventBus,
    mut content: Content,
    until: Instant,
    mut given_up: oneshot::Receiver<()>,
    mut again: impl FnMut(&Event, &PublishError),
) -> Result<(), Unsent> {
    loop {
        let (event, write) = match content {
            Content::Event(event) => (event, None),
            Content::Written(write) => {
                let event = write(Instant::now()).map_err(Unsent::Unwritable)?;
                (event.ok_or(Unsent::TooLate)?, Some(write))
            }
        };
        let published = timeout_at(until, bus.publish(event)).await;
        let Err(refused) = published.map_err(|_| Unsent::TooLate)? else {
            return Ok(());
        };
        let (returned, reason) = refused.into_parts();
        let pause = match &reason {
            PublishError::Backpressure { .. } => PAUSE,
            PublishError::RateLimited { retry_after } => PAUSE.max(*retry_after),
            _ => return Err(Unsent::Refused(reason)),
        };
        let at = after(Instant::now(), pause);
        if at >= until {
            return Err(Unsent::Refused(reason));
        }
        if timeout_at(at, &mut given_up).await.is_ok() {
            return Err(Unsent::GivenUp);
        }
        again(&returned, &reason);
        content = write.map_or(Content::Event(returned), Content::Written);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use crossbeam_backend::CrossbeamBus;
    use eventbus_trait::{Limits, Subscribe, Subscription};

    use super::*;

    fn letter(topic: &str, tag: u32) -> Letter<u32> {
        Letter {
            content: Content::Event(Event::new(topic, tag.to_string().into_bytes()).unwrap()),
            until: Until::At(Instant::now() + Duration::from_secs(60)),
            tag,
        }
    }

    /// A bus that soon gives up, lanes on it, and who has room for one event on the topic `full`.
    async fn impatient() -> (Arc<CrossbeamBus>, Lanes<u32>, Subscription) {
        let bus = CrossbeamBus::new(Limits {
            publish_deadline: Duration::from_millis(5),
            ..Limits::default()
        });
        let full = Subscribe::to("full").unwrap().capacity(1);
        let full = bus.subscribe(full).await.unwrap();
        let lanes = Lanes::new(bus.clone() as Arc<dyn EventBus>);
        (bus, lanes, full)
    }

    /// Has the lanes try until the bus has refused once more.
    async fn try_in_vain(bus: &CrossbeamBus, lanes: &mut Lanes<u32>) {
        let before = bus.stats().refused;
        let mut look = tokio::time::interval(Duration::from_millis(1));
        let refused = async {
            while bus.stats().refused == before {
                look.tick().await;
            }
        };
        tokio::select! {
            sent = lanes.next() => panic!("{sent:?}"),
            () = refused => {}
        }
    }

    /// The bus has a clock of its own, so this one is not turned.
    #[tokio::test]
    async fn who_has_no_room_holds_up_nobody_else_and_gets_everything_in_order() {
        let (bus, mut lanes, mut full) = impatient().await;
        for tag in 0..4 {
            lanes.push("a", letter("full", tag));
        }
        lanes.push("b", letter("empty", 9));
        assert_eq!((lanes.lanes(), lanes.waiting("a")), (2, Some(4)));
        let mut first = [lanes.next().await.tag, lanes.next().await.tag];
        first.sort_unstable();
        assert_eq!(first, [0, 9]);
        assert!(lanes.retract("a", |tag| *tag == 3) && !lanes.retract("a", |tag| *tag == 1));
        // Nobody reads until then.
        try_in_vain(&bus, &mut lanes).await;
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
    #[tracing_test::traced_test]
    async fn however_often_and_for_however_many_it_is_tried_again_the_log_hears_of_it_once() {
        let (bus, mut lanes, _full) = impatient().await;
        let tries = Arc::new(AtomicU32::new(0));
        let mut full = Vec::new();
        for (to, topic) in [("a", "full.a"), ("b", "full.b")] {
            let one = Subscribe::to(topic).unwrap().capacity(1);
            full.push(bus.subscribe(one).await.unwrap());
            lanes.push(to, letter(topic, 0));
            let tries = Arc::clone(&tries);
            let write = move |_| {
                tries.fetch_add(1, Ordering::Relaxed);
                let event = Event::new(topic, "");
                event.map(Some).map_err(|error| error.to_string())
            };
            let content = Content::Written(Box::new(write));
            lanes.push(
                to,
                Letter {
                    content,
                    ..letter(topic, 1)
                },
            );
        }
        let first = [lanes.next().await, lanes.next().await];
        assert!(first.iter().all(|sent| sent.error.is_none()), "{first:?}");
        while tries.load(Ordering::Relaxed) < 6 {
            let pause = tokio::time::timeout(PAUSE, lanes.next()).await;
            assert!(pause.is_err(), "{pause:?}");
        }
        for full in &mut full {
            full.recv().await.unwrap();
        }
        let retries = lanes.next().await.retries + lanes.next().await.retries;
        assert!(retries >= 4, "{retries}");
        logs_assert(|lines: &[&str]| {
            let said = lines.iter().filter(|line| line.contains("trying again"));
            match said.count() {
                1 => Ok(()),
                other => Err(format!("{other} lines of {retries} tries")),
            }
        });
    }

    #[tokio::test]
    async fn a_letter_that_finds_no_room_in_its_time_is_told_and_the_next_one_tried() {
        let bus = CrossbeamBus::new(Limits::default());
        let full = Subscribe::to("full").unwrap().capacity(1);
        let _full = bus.subscribe(full).await.unwrap();
        let mut lanes = Lanes::new(bus.clone() as Arc<dyn EventBus>);
        lanes.push("a", letter("full", 0));
        for tag in 1..3 {
            let until = Until::At(Instant::now() + Duration::from_millis(20));
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

    #[tokio::test]
    async fn what_was_given_up_is_not_tried_again_and_the_next_has_its_whole_time_from_then_on() {
        let (bus, mut lanes, mut full) = impatient().await;
        for tag in 0..2 {
            lanes.push("a", letter("full", tag));
        }
        let written = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&written);
        let write = move |_| {
            let times = 1 + count.fetch_add(1, Ordering::Relaxed);
            let event = Event::new("full", times.to_string().into_bytes());
            event.map(Some).map_err(|error| error.to_string())
        };
        let own = PAUSE * 20;
        let last = Letter {
            content: Content::Written(Box::new(write)),
            until: Until::Within(own),
            tag: 2,
        };
        lanes.push("a", last);
        assert_eq!(lanes.next().await.tag, 0);
        // Longer than the last one has, from when it was pushed.
        let pause = tokio::time::timeout(own + PAUSE, lanes.next()).await;
        assert!(pause.is_err(), "{pause:?}");
        lanes.give_up("a", |tag| *tag == 2);
        lanes.give_up("a", |tag| *tag == 1);
        lanes.give_up("a", |tag| *tag == 1);
        let sent = lanes.next().await;
        assert_eq!((sent.tag, sent.error), (1, Some(Unsent::GivenUp)));
        try_in_vain(&bus, &mut lanes).await;
        assert_eq!(full.recv().await.unwrap().bytes().unwrap(), "0");
        let sent = lanes.next().await;
        assert_eq!((sent.tag, sent.error), (2, None));
        let says = full.recv().await.unwrap().bytes().unwrap();
        let says: u32 = std::str::from_utf8(&says).unwrap().parse().unwrap();
        let times = written.load(Ordering::Relaxed);
        assert!(
            says > 1 && says == times,
            "{says} of {times}: written anew each time"
        );
        assert_eq!(lanes.lanes(), 0);
    }
}
