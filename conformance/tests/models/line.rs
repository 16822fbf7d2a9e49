//! A line to the only subscriber of an outbox, and the task that writes to it.
//!
//! Invariant: the subscriber takes events by number, in order, each once. What arrives twice it cuts
//! off; a gap fails the model, unless the line loses a frame without a word: then the subscriber takes
//! nothing beyond it, and tells.

use std::sync::Arc;

use crate::explore::block_on;
use crate::scene::{PEER, acknowledge};
use crate::session::kept::Again;
use crate::session::link::Link;
use crate::session::outbox::Outbox;
use crate::session::run::{Run, Taken};
use crate::session::sending::{Wire, send_all};
use crate::sync::{AtomicU64, Notify, Ordering};
use crate::wire::{Control, LinkEntry};

/// Credit that never runs out.
pub(crate) const AMPLE: u64 = 1_000;

/// What a writer or its line does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// What is sent counts as there.
    AcknowledgesWhatItSends,
    /// What was to be said on the old connection is said on the next.
    ForgetsNoMessages,
    /// The links stay live when the connection ends.
    StaysLive,
    /// What is sent again is not.
    ResendsNothing,
    /// What failed to be sent is taken for sent, with all that follows.
    DropsTheRest,
}

/// The subscriber: how many events it has, in order, from the first.
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    received: AtomicU64,
    /// Told when there is another connection, or a gap.
    pub(crate) reconnected: Notify,
}

impl Subscriber {
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    fn take(&self, first: u64, events: u64, may_miss: bool) {
        let expected = self.received();
        if may_miss && first > expected {
            return self.reconnected.notify_one();
        }
        assert!(first <= expected, "a gap: {first} came after {expected}");
        let next = expected.max(first + events);
        self.received.store(next, Ordering::Release);
    }
}

/// The line has broken.
#[derive(Debug)]
pub(crate) struct Broken;

pub(crate) struct Line {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) subscriber: Arc<Subscriber>,
    /// What arrives is acknowledged at once.
    pub(crate) acknowledges: bool,
    /// Frames until the line breaks; the one that breaks it is lost.
    pub(crate) breaks: Option<u64>,
    /// The frame that begins here is lost, and nobody told.
    pub(crate) loses: Option<u64>,
    pub(crate) fault: Fault,
}

impl Line {
    pub(crate) fn new(outbox: &Arc<Outbox>, subscriber: &Arc<Subscriber>) -> Self {
        Self {
            outbox: Arc::clone(outbox),
            subscriber: Arc::clone(subscriber),
            acknowledges: false,
            breaks: None,
            loses: None,
            fault: Fault::None,
        }
    }

    /// Writes whatever is accepted until nothing is left and `done`: as the connection's task does.
    pub(crate) fn write(mut self, done: impl Fn(&Subscriber) -> bool) {
        let outbox = Arc::clone(&self.outbox);
        let mut taken = Taken::default();
        loop {
            let busy = outbox.take(&mut taken);
            if block_on(send_all(&outbox, &mut taken, &mut self)).is_err() {
                self.connect_again(&mut taken);
                continue;
            }
            if busy {
                continue;
            }
            if done(&self.subscriber) {
                return;
            }
            block_on(outbox.wake.notified());
        }
    }

    /// As the connection's task does between two connections.
    fn connect_again(&mut self, taken: &mut Taken) {
        match self.fault {
            Fault::ForgetsNoMessages => {}
            Fault::DropsTheRest => *taken = Taken::default(),
            _ => taken.forget_messages(),
        }
        if self.fault != Fault::StaysLive {
            self.outbox.go_offline();
        }
        self.outbox.go_online();
        self.subscriber.reconnected.notify_one();
    }

    fn carry(&mut self, first: u64, events: u64) -> Result<(), Broken> {
        if self.fault == Fault::AcknowledgesWhatItSends {
            acknowledge(&self.outbox, 1, first + events, AMPLE);
        }
        if let Some(left) = self.breaks {
            self.breaks = left.checked_sub(1);
            if left == 0 {
                return Err(Broken);
            }
        }
        if self.loses == Some(first) {
            // Whoever is sent it again gets it.
            self.loses = Some(u64::MAX);
            return Ok(());
        }
        self.subscriber.take(first, events, self.loses.is_some());
        if self.acknowledges {
            acknowledge(&self.outbox, 1, self.subscriber.received(), AMPLE);
        }
        Ok(())
    }
}

impl Wire for Line {
    type Error = Broken;

    async fn message(&mut self, to: &Arc<str>, _: &Control) -> Result<(), Broken> {
        assert_eq!(&**to, PEER);
        Ok(())
    }

    async fn frame(&mut self, run: &Run, links: &[LinkEntry]) -> Result<(), Broken> {
        links
            .iter()
            .try_for_each(|link| self.carry(link.first, run.count()))
    }

    async fn frame_again(&mut self, _: &Link, again: &Again) -> Result<(), Broken> {
        if self.fault == Fault::ResendsNothing {
            return Ok(());
        }
        self.carry(again.entry.first, again.next() - again.entry.first)
    }

    fn sent_again(&mut self, _: &Link, _: u64, _: u64) {}
}
