//! `Signal`: no interleaving of senders and receiver loses a wake-up.
//!
//! Each mutant below has one step of it wrong, and the same model must find that out.

pub(crate) mod sync {
    //! What `signal` names its primitives by, here loom's.
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard as Guard};
}

#[path = "../../../eventbus-trait/src/signal.rs"]
pub(crate) mod signal;

use std::sync::Arc;
use std::task::Waker;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Mutex, MutexGuard};
use loom::thread;
use signal::Signal;

use crate::explore::{Bed, Model, must_fail};

/// What the models here stand behind.
const COVERS: &[&str] = &["FLW-004"];

/// Waking one receiver, right or wrong.
trait Bell: Default + Send + Sync + 'static {
    /// A sender has filled the queue.
    fn ring(&self);
    /// The receiver is about to wait; whether the last look at the queue says that it must not.
    fn last_look(&self, waker: &Waker, look: impl Fn() -> bool) -> bool;
}

impl Bell for Signal {
    fn ring(&self) {
        self.notify();
    }
    fn last_look(&self, waker: &Waker, look: impl Fn() -> bool) -> bool {
        self.register(waker);
        look()
    }
}

/// The same, with senders that take the waker and call it later, as under a lock.
#[derive(Default)]
struct Deferred(Signal);

impl Bell for Deferred {
    fn ring(&self) {
        let waker = self.0.take();
        thread::yield_now();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
    fn last_look(&self, waker: &Waker, look: impl Fn() -> bool) -> bool {
        self.0.last_look(waker, look)
    }
}

/// The same, with senders that have no item to be counted.
#[derive(Default)]
struct Uncounted(Signal);

impl Bell for Uncounted {
    fn ring(&self) {
        self.0.wake();
    }
    fn last_look(&self, waker: &Waker, look: impl Fn() -> bool) -> bool {
        self.0.last_look(waker, look)
    }
}

/// Mutant: the receiver raises the flag after its last look.
#[derive(Default)]
struct RaisedLate(Signal);

impl Bell for RaisedLate {
    fn ring(&self) {
        self.0.notify();
    }
    fn last_look(&self, waker: &Waker, look: impl Fn() -> bool) -> bool {
        let seen = look();
        self.0.register(waker);
        seen
    }
}

/// The parts of a signal, for mutants of its inside.
#[derive(Default)]
struct Parts {
    armed: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Parts {
    fn slot(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap()
    }
    fn wake(&self) {
        let waker = {
            let mut slot = self.slot();
            self.armed.store(false, Ordering::Relaxed);
            slot.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Mutant: nothing orders filling the queue and looking at the flag.
#[derive(Default)]
struct Unfenced(Parts);

impl Bell for Unfenced {
    fn ring(&self) {
        if self.0.armed.load(Ordering::Relaxed) {
            self.0.wake();
        }
    }
    fn last_look(&self, waker: &Waker, look: impl Fn() -> bool) -> bool {
        {
            let mut slot = self.0.slot();
            *slot = Some(waker.clone());
            self.0.armed.store(true, Ordering::Relaxed);
        }
        look()
    }
}

/// Mutant: the flag is up before the waker is there.
#[derive(Default)]
struct ArmedEmpty(Parts);

impl Bell for ArmedEmpty {
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.0.armed.load(Ordering::Relaxed) {
            self.0.wake();
        }
    }
    fn last_look(&self, waker: &Waker, look: impl Fn() -> bool) -> bool {
        self.0.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let seen = look();
        *self.0.slot() = Some(waker.clone());
        seen
    }
}

/// `senders` put one item each; the receiver sleeps until it has them all, one after another. A
/// lost wake-up leaves it asleep for ever, which loom calls a deadlock.
fn all_arrive<B: Bell>(senders: usize) {
    let bell = Arc::new(B::default());
    let queued = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..senders)
        .map(|_| {
            let (bell, queued) = (Arc::clone(&bell), Arc::clone(&queued));
            thread::spawn(move || {
                // Relaxed: the wake-up must not rely on the queue for its order.
                queued.fetch_add(1, Ordering::Relaxed);
                bell.ring();
            })
        })
        .collect();
    let bed = Arc::new(Bed::default());
    let waker = Waker::from(Arc::clone(&bed));
    for wanted in 1..=senders {
        let look = || queued.load(Ordering::Relaxed) >= wanted;
        while !look() && !bell.last_look(&waker, look) {
            bed.rest();
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Covers `Signal::notify` and `Signal::register`: the flag is raised before the last look.
#[test]
fn one_sender_wakes_the_receiver() {
    Model::new("signal-one-sender", COVERS)
        .preemptions(3)
        .explore(40, || all_arrive::<Signal>(1));
}

/// Covers `Signal::wake`.
#[test]
fn waking_without_counting_loses_nothing_either() {
    Model::new("signal-uncounted", COVERS)
        .preemptions(3)
        .explore(40, || all_arrive::<Uncounted>(1));
}

/// Covers `Signal::rung`: whoever has seen the items has seen their number.
#[test]
fn every_ring_is_counted_once() {
    Model::new("signal-rung", &["DEL-008"]).explore(2, || {
        let signal = Arc::new(Signal::new());
        let other = thread::spawn({
            let signal = Arc::clone(&signal);
            move || signal.notify()
        });
        signal.wake();
        signal.notify();
        other.join().unwrap();
        assert_eq!(signal.rung(), 2);
    });
}

/// Covers `Signal::notify` by several senders at once.
#[test]
fn two_senders_wake_the_receiver_for_each_item() {
    Model::new("signal-two-senders", COVERS).explore(2_000, || all_arrive::<Signal>(2));
}

/// Covers `Signal::take`: the waker is called later, when another sender may be at it.
#[test]
fn a_waker_called_later_is_not_lost() {
    Model::new("signal-deferred", COVERS).explore(2_000, || all_arrive::<Deferred>(2));
}

#[test]
fn the_model_sees_a_flag_raised_after_the_last_look() {
    must_fail("deadlock", || all_arrive::<RaisedLate>(1));
}

#[test]
fn the_model_sees_a_missing_fence() {
    must_fail("deadlock", || all_arrive::<Unfenced>(1));
}

#[test]
fn the_model_sees_a_flag_raised_before_the_waker_is_there() {
    must_fail("deadlock", || all_arrive::<ArmedEmpty>(1));
}
