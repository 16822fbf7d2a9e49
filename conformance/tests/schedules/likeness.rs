//! The stand-ins that models and schedules use for tokio's primitives, held against the originals:
//! the same steps by chance, the same answers and the same wake-ups (FLW-004).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use conformance::Seed;
use conformance::seed::Rng;
use rand::RngExt as _;

use crate::sabotage;

mod sync {
    pub(crate) use parking_lot::Mutex;
}

#[path = "../models/notify.rs"]
mod notify;
#[path = "../models/semaphore.rs"]
mod semaphore;

/// Sequences of steps.
const RUNS: u64 = 3_000;
/// Steps of each.
const STEPS: usize = 30;
/// Who waits, at most.
const PLACES: usize = 4;

#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A future that is polled by hand, with the wake-ups that it got.
struct Polled<F> {
    future: Pin<Box<F>>,
    calls: Arc<Calls>,
}

impl<F: Future> Polled<F> {
    fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            calls: Arc::default(),
        }
    }

    fn poll(&mut self) -> Option<F::Output> {
        let waker = Waker::from(Arc::clone(&self.calls));
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn calls(&self) -> usize {
        self.calls.0.load(Ordering::Relaxed)
    }
}

/// One of the two, driven by the same dice.
macro_rules! notify_log {
    ($notify:expr, $rng:expr) => {{
        let (notify, rng): (_, &mut Rng) = ($notify, $rng);
        let mut places: [Option<Polled<_>>; PLACES] = Default::default();
        let mut log = Vec::new();
        for _ in 0..STEPS {
            let at = rng.random_range(0..PLACES);
            match rng.random_range(0..7) {
                0 => notify.notify_one(),
                1 => notify.notify_waiters(),
                2 => places[at] = None,
                3 => places[at] = Some(Polled::new(notify.notified())),
                4 => {
                    let ready = places[at].as_mut().map(|one| one.future.as_mut().enable());
                    log.push(format!("{at} enabled {ready:?}"));
                    if ready == Some(true) {
                        places[at] = None;
                    }
                }
                _ => {
                    let ready = places[at].as_mut().map(|one| one.poll().is_some());
                    log.push(format!("{at} polled {ready:?}"));
                    if ready == Some(true) {
                        places[at] = None;
                    }
                }
            }
            let calls = places.iter().map(|one| one.as_ref().map(Polled::calls));
            log.push(format!("{:?}", calls.collect::<Vec<_>>()));
        }
        log
    }};
}

macro_rules! semaphore_log {
    ($semaphore:expr, $rng:expr) => {{
        let (semaphore, rng): (_, &mut Rng) = ($semaphore, $rng);
        let mut places: [Option<Polled<_>>; PLACES] = Default::default();
        let mut held = Vec::new();
        let mut log = Vec::new();
        for _ in 0..STEPS {
            let at = rng.random_range(0..PLACES);
            let n = rng.random_range(1..4);
            match rng.random_range(0..40) {
                0 => semaphore.close(),
                1..7 => semaphore.add_permits(n as usize),
                7..12 => places[at] = None,
                12..20 => places[at] = Some(Polled::new(semaphore.acquire_many(n))),
                20..24 => {
                    let permit = semaphore.try_acquire_many(n);
                    log.push(format!("tried {n}: {}", permit.is_ok()));
                    held.extend(permit);
                }
                24..28 if !held.is_empty() => drop(held.remove(0)),
                _ => {
                    let output = places[at].as_mut().and_then(Polled::poll);
                    let ready = output.as_ref().map(Result::is_ok);
                    log.push(format!("{at} polled {ready:?}"));
                    if let Some(output) = output {
                        places[at] = None;
                        held.extend(output);
                    }
                }
            }
            let calls = places.iter().map(|one| one.as_ref().map(Polled::calls));
            let calls: Vec<_> = calls.collect();
            let left = semaphore.available_permits();
            log.push(format!("{calls:?} {left} {}", semaphore.is_closed()));
        }
        log
    }};
}

fn compare(what: &str, run: impl Fn(&mut Rng, &mut Rng) -> [Vec<String>; 2]) {
    let seed = Seed::of_run().of(what);
    for nth in 0..RUNS {
        let seed = seed.nth(nth);
        let [ours, tokios] = run(&mut seed.rng(), &mut seed.rng());
        assert_eq!(ours, tokios, "{what}, seed {seed}");
    }
}

#[test]
fn the_stand_in_for_notify_does_as_tokio_does() {
    compare("notify", |ours, tokios| {
        let (one, other) = (notify::Notify::new(), tokio::sync::Notify::new());
        [notify_log!(&one, ours), notify_log!(&other, tokios)]
    });
}

#[test]
fn the_stand_in_for_a_semaphore_does_as_tokio_does() {
    compare("semaphore", |ours, tokios| {
        let one = semaphore::Semaphore::new(3);
        let other = tokio::sync::Semaphore::new(3);
        [semaphore_log!(&one, ours), semaphore_log!(&other, tokios)]
    });
}

#[test]
fn the_comparison_sees_a_stand_in_that_forgets_its_permit() {
    let seeded = || the_stand_in_for_notify_does_as_tokio_does();
    let outcome = sabotage::with(sabotage::Bug::NoPermit, || std::panic::catch_unwind(seeded));
    assert!(outcome.is_err());
}
