//! The queue to the candidate: one line for everything that the candidate has to do, in the order
//! in which the primary accepted it.
//!
//! Subscriptions and handles are made by the same line as events, so that a subscription stands on
//! the candidate exactly between the events that came before it and after it on the primary, and
//! nobody waits for it.
//!
//! A candidate that does not keep up gets stretches of events, not every so manieth: once the queue
//! was full, or the candidate stood still for long, nobody asks for room until it has been empty, and
//! the candidate's thread has rested; a publisher pays for a look at a flag.
//!
//! Invariant: events hold units of a semaphore from before they enter until the candidate has been
//! given them, so their number and size are bounded; commands that are no events are bounded by
//! number; `full` is set only while there is work, at whose end it is taken back, or for ever.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use eventbus_trait::Event;

use super::link::Link;
use super::route::Route;
use super::sub::Sub;
use super::sync::{AtomicBool, AtomicU64, Mutex, Ordering, Semaphore, SemaphorePermit, Signal};

/// Most commands other than events.
const MAX_CONTROL: usize = 8192;
/// Bytes that one unit stands for.
const UNIT: usize = 1024;
/// How many events are queued between two looks at whether the candidate takes any.
const LOOK: usize = 256;

/// Something for the candidate to do.
#[derive(Debug)]
pub(crate) enum Command {
    Publish(Offer),
    Subscribe(Arc<Sub>, Arc<Link>),
    Unsubscribe(Arc<Sub>),
    Connect {
        from: Arc<Link>,
        to: Arc<Link>,
        name: Option<String>,
    },
    /// Lets go of a handle; `shutdown` says whether the application shut its own down.
    Disconnect {
        link: Arc<Link>,
        shutdown: bool,
    },
    Mark,
    /// What comes next in the line of calls and services.
    Work,
    Finish,
}

/// An event for the candidate.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) route: Arc<Route>,
    pub(crate) sequence: u64,
    pub(crate) event: Event,
    pub(crate) units: u32,
}

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    signal: Signal,
    room: Semaphore,
    capacity: u32,
    /// How long the candidate may take nothing; `None` if its publishers wait for it.
    stall: Option<Duration>,
    /// There was no room for an event, or the candidate stood still, and it has not caught up since, or
    /// never will.
    full: AtomicBool,
    /// Commands that the candidate is done with.
    done: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    commands: VecDeque<Command>,
    control: usize,
    high_water: usize,
    closed: bool,
    /// Whether a batch is being worked on.
    busy: bool,
    /// Events until the next look at whether the candidate takes any.
    to_look: usize,
    /// How many commands it was done with when it was last seen to get on, and when.
    seen: Option<(u64, Instant)>,
}

impl Queue {
    /// A queue for `capacity` events.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize)) as u32;
        Self {
            state: Mutex::default(),
            signal: Signal::new(),
            room: Semaphore::new(capacity as usize),
            capacity,
            stall: None,
            full: AtomicBool::new(false),
            done: AtomicU64::new(0),
        }
    }

    /// The same, which turns events away once the candidate has been at one command for `stall`.
    pub(crate) fn stall(self, stall: Duration) -> Self {
        Self {
            stall: Some(stall),
            ..self
        }
    }

    /// Room for `event`, if there is any.
    pub(crate) fn try_room(&self, event: &Event) -> Option<SemaphorePermit<'_>> {
        self.room.try_acquire_many(self.units(event)).ok()
    }

    /// Room for `event`, if there is any and the candidate keeps up.
    pub(crate) fn room_if_keeping_up(&self, event: &Event) -> Option<SemaphorePermit<'_>> {
        if self.is_full() {
            return None;
        }
        let room = self.try_room(event);
        if room.is_none() {
            let state = self.state.lock();
            let works = state.busy || !state.commands.is_empty();
            if works || state.closed {
                self.full.store(true, Ordering::SeqCst);
            }
        }
        room
    }

    /// Whether events are turned away until the candidate has caught up.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Waits for room for `events`; `None` if the candidate has gone.
    pub(crate) async fn room(&self, events: &[Event]) -> Option<SemaphorePermit<'_>> {
        let units: u32 = events
            .iter()
            .map(|event| self.units(event))
            .fold(0, u32::saturating_add);
        self.room.acquire_many(units.min(self.capacity)).await.ok()
    }

    /// Queues an event; says whether it went in. The permit's units are held until
    /// [`Queue::given`].
    pub(crate) fn publish(
        &self,
        permit: SemaphorePermit<'_>,
        route: Arc<Route>,
        sequence: u64,
        event: Event,
    ) -> bool {
        let units = u32::try_from(permit.num_permits()).unwrap_or(u32::MAX);
        let command = Command::Publish(Offer {
            route,
            sequence,
            event,
            units,
        });
        {
            let mut state = self.state.lock();
            if state.closed {
                return false;
            }
            state.commands.push_back(command);
            let waiting = state.commands.len() - state.control;
            state.high_water = state.high_water.max(waiting);
            if let Some(stall) = self.stall
                && state.stands_still(stall, &self.done)
            {
                self.full.store(true, Ordering::SeqCst);
            }
        }
        permit.forget();
        self.signal.notify();
        true
    }

    /// Queues anything else; says whether it went in.
    pub(crate) fn control(&self, command: Command) -> bool {
        {
            let mut state = self.state.lock();
            // What ends things always fits: there is one of it for each handle.
            let ends = matches!(command, Command::Finish | Command::Disconnect { .. });
            if state.closed || (state.control >= MAX_CONTROL && !ends) {
                return false;
            }
            state.control += 1;
            state.commands.push_back(command);
        }
        self.signal.notify();
        true
    }

    /// Waits for commands and moves up to `most` of them to `batch`. For one consumer.
    pub(crate) async fn next(&self, batch: &mut VecDeque<Command>, most: usize) {
        self.state.lock().busy = false;
        poll_fn(|cx| {
            if self.take(batch, most) {
                return Poll::Ready(());
            }
            self.signal.register(cx.waker());
            if self.take(batch, most) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Whether the queue was full, and the candidate has caught up. For its one consumer, when it is
    /// done with a batch: who finds no room from now on wakes it.
    pub(crate) fn has_caught_up(&self) -> bool {
        let mut state = self.state.lock();
        state.busy = false;
        // Calls go on while events are turned away.
        state.commands.len() == state.control && self.is_full()
    }

    /// Takes events again.
    pub(crate) fn reopen(&self) {
        let state = self.state.lock();
        self.full.store(state.closed, Ordering::SeqCst);
    }

    /// Notes that the candidate is done with a command. For its one consumer.
    pub(crate) fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives back the room of an event that the candidate was given.
    pub(crate) fn given(&self, units: u32) {
        self.room.add_permits(units as usize);
    }

    /// Takes nothing more, and forgets what is queued.
    pub(crate) fn close(&self) {
        self.room.close();
        let commands = {
            let mut state = self.state.lock();
            state.closed = true;
            self.full.store(true, Ordering::SeqCst);
            state.busy = false;
            state.control = 0;
            std::mem::take(&mut state.commands)
        };
        drop(commands);
    }

    /// Whether the candidate's thread has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.room.is_closed()
    }

    /// Whether nothing is queued and nothing is being worked on.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.commands.is_empty() && !state.busy
    }

    /// Most events that ever waited.
    pub(crate) fn high_water(&self) -> u64 {
        self.state.lock().high_water as u64
    }

    /// Events that wait now.
    pub(crate) fn waiting(&self) -> u64 {
        let state = self.state.lock();
        (state.commands.len() - state.control) as u64
    }

    fn take(&self, batch: &mut VecDeque<Command>, most: usize) -> bool {
        let mut state = self.state.lock();
        let n = state.commands.len().min(most);
        batch.extend(state.commands.drain(..n));
        let control = batch
            .iter()
            .filter(|c| !matches!(c, Command::Publish(_)))
            .count();
        state.control = state.control.saturating_sub(control);
        state.busy = n > 0;
        n > 0
    }

    fn units(&self, event: &Event) -> u32 {
        let kib = event.known_size().unwrap_or(0) / UNIT;
        u32::try_from(kib + 1)
            .unwrap_or(u32::MAX)
            .min(self.capacity)
    }
}

impl State {
    /// Whether the candidate has been at the same command for `stall` or longer. Looks now and then
    /// only, and each time there is an event that it is not done with.
    fn stands_still(&mut self, stall: Duration, done: &AtomicU64) -> bool {
        if self.to_look > 0 {
            self.to_look -= 1;
            return false;
        }
        self.to_look = LOOK - 1;
        let (now, done) = (Instant::now(), done.load(Ordering::Relaxed));
        match self.seen {
            Some((before, at)) if before == done => now - at >= stall,
            _ => {
                self.seen = Some((done, now));
                false
            }
        }
    }
}
