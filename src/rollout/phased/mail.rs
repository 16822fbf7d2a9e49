//! What a cutover and a subscription's receiver share.
//!
//! The receiver alone owns the phases' subscriptions, in the application's task; a cutover leaves it
//! letters. What a phase counted until its subscription ended is kept here, so that the counters go
//! on where it stopped.
//!
//! Invariant: each generation's counts are in `past` or come from its live subscription, never both.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eventbus_trait::{Signal, Subscribe, Subscription, SubscriptionCounters, SubscriptionStats};
use parking_lot::Mutex;

/// What a cutover tells a receiver.
#[derive(Debug)]
pub(crate) enum Letter {
    /// Receive from here too.
    Join(u64, Box<Subscription>),
    /// The cutover to this generation was given up.
    Leave(u64),
}

/// A subscription as its handle knows it.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) name: Arc<str>,
    /// As asked for, without what decides on events: that is above all phases.
    pub(crate) subscribe: Subscribe,
    pub(crate) counters: Arc<SubscriptionCounters>,
    /// Wakes the receiver for a letter.
    pub(crate) signal: Signal,
    /// Whether there are letters, for a look that costs nothing.
    post: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    letters: VecDeque<Letter>,
    /// Generations with a live subscription, and its name there.
    live: Vec<(u64, String)>,
    past: Past,
    /// The generation of an event that was taken and is not given out yet.
    waiting: Option<u64>,
    closed: bool,
}

impl State {
    /// A generation that was given up is used again, so it may be there twice: the older one goes.
    fn forget_live(&mut self, generation: u64) {
        if let Some(at) = self.live.iter().position(|(live, _)| *live == generation) {
            self.live.remove(at);
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Past {
    matched: u64,
    dropped: u64,
    /// Given up unread.
    queued: u64,
}

impl Membership {
    pub(crate) fn new(name: Arc<str>, subscribe: Subscribe, generation: u64) -> Arc<Self> {
        let live = vec![(generation, name.to_string())];
        Arc::new(Self {
            name,
            subscribe,
            counters: Arc::default(),
            signal: Signal::new(),
            post: AtomicBool::new(false),
            state: Mutex::new(State {
                live,
                ..State::default()
            }),
        })
    }

    /// Has the receiver take from `subscription` too. One that has ended lets go of it.
    pub(crate) fn join(&self, generation: u64, subscription: Subscription) {
        let name = subscription.name().to_owned();
        self.send(Letter::Join(generation, Box::new(subscription)), |state| {
            state.live.push((generation, name));
        });
    }

    /// Has the receiver let go of a phase that did not come to be.
    pub(crate) fn leave(&self, generation: u64) {
        if let Some(unread) = self.take_back(generation) {
            // Not under the lock.
            return drop(unread);
        }
        self.send(Letter::Leave(generation), |_| {});
    }

    /// The letter that asks to join, if it has not been read yet.
    fn take_back(&self, generation: u64) -> Option<Letter> {
        let mut state = self.state.lock();
        let joins = |letter: &Letter| matches!(letter, Letter::Join(at, _) if *at == generation);
        let at = state.letters.iter().rposition(joins)?;
        let letter = state.letters.remove(at);
        state.forget_live(generation);
        self.post
            .store(!state.letters.is_empty(), Ordering::Release);
        letter
    }

    fn send(&self, letter: Letter, also: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            // A subscription may take its time to go, and not under the lock.
            return drop(letter);
        }
        also(&mut state);
        state.letters.push_back(letter);
        self.post.store(true, Ordering::Release);
        drop(state);
        self.signal.notify();
    }

    pub(crate) fn next_letter(&self) -> Option<Letter> {
        let mut state = self.state.lock();
        let letter = state.letters.pop_front();
        self.post
            .store(!state.letters.is_empty(), Ordering::Release);
        letter
    }

    #[inline]
    pub(crate) fn has_letters(&self) -> bool {
        self.post.load(Ordering::Acquire)
    }

    /// The receiver is gone.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let letters = std::mem::take(&mut state.letters);
        drop(state);
        drop(letters);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// A phase's subscription has ended with these counts.
    pub(crate) fn ended(&self, generation: u64, stats: &SubscriptionStats) {
        let mut state = self.state.lock();
        state.forget_live(generation);
        state.past.matched += stats.matched;
        state.past.dropped += stats.dropped;
        state.past.queued += stats.queued;
    }

    pub(crate) fn set_waiting(&self, generation: Option<u64>) {
        self.state.lock().waiting = generation;
    }

    /// Whether an event is taken and not given out yet.
    pub(crate) fn waits(&self) -> bool {
        self.state.lock().waiting.is_some()
    }

    /// Whether a generation's subscription is still read.
    pub(crate) fn reads(&self, generation: u64) -> bool {
        let state = self.state.lock();
        !state.closed && state.live.iter().any(|(live, _)| *live == generation)
    }

    /// The past and what is live, in one.
    pub(crate) fn sum(&self, live: impl Iterator<Item = SubscriptionStats>) -> SubscriptionStats {
        let past = self.state.lock().past;
        let mut sum = SubscriptionStats {
            matched: past.matched,
            dropped: past.dropped,
            queued: past.queued,
            ..SubscriptionStats::default()
        };
        for stats in live {
            sum.matched += stats.matched;
            sum.dropped += stats.dropped;
            sum.queued += stats.queued;
        }
        sum
    }

    /// Counters as of now, by what `of` says of a generation's subscription of a name.
    pub(crate) fn stats(
        &self,
        of: impl Fn(u64, &str) -> Option<SubscriptionStats>,
    ) -> SubscriptionStats {
        let state = self.state.lock();
        let live: Vec<_> = state
            .live
            .iter()
            .filter_map(|(generation, name)| of(*generation, name))
            .collect();
        let waiting = u64::from(state.waiting.is_some());
        drop(state);
        let mut sum = self.sum(live.into_iter());
        sum.queued += waiting;
        sum.name = self.name.to_string();
        sum.delivered = self.counters.delivered.load(Ordering::Acquire);
        sum.filtered = self.counters.filtered.load(Ordering::Acquire);
        sum
    }
}
