//! Exploring a model, and seeing a broken one fail.
//!
//! Invariant: a model that explored less than its floor fails, and only one that held is recorded.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Counter, Ordering as Count};
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::Notify;

use crate::record::{forget, record, text_of};

/// Preemptions in an execution, unless a model says otherwise. Nearly all bugs need two at most.
const PREEMPTIONS: usize = 2;
/// Preemptions that a twin's bug may need.
const PREEMPTIONS_OF_TWINS: usize = 3;
/// Steps of an execution, beyond which something spins.
const MOST_STEPS: usize = 10_000;

/// A model: which clauses it stands behind, and how far it is explored.
pub(crate) struct Model {
    name: &'static str,
    covers: &'static [&'static str],
    preemptions: usize,
}

impl Model {
    /// A model that stands behind the clauses `covers`.
    pub(crate) fn new(name: &'static str, covers: &'static [&'static str]) -> Self {
        Self {
            name,
            covers,
            preemptions: PREEMPTIONS,
        }
    }

    /// Explores with this many preemptions in an execution.
    pub(crate) fn preemptions(mut self, preemptions: usize) -> Self {
        self.preemptions = preemptions;
        self
    }

    /// Explores `model`, at least `floor` executions of it, and records how many there were.
    pub(crate) fn explore(self, floor: usize, model: impl Fn() + Send + Sync + 'static) {
        // What it held for may be other code than this.
        forget(self.name);
        let executions = check(self.preemptions, model);
        println!("{}: {executions} executions", self.name);
        assert!(
            executions >= floor,
            "{executions} executions, floor {floor}"
        );
        record(self.name, self.covers, executions, floor);
    }
}

/// Explores a model with a bug, and expects it to fail in the way that its bug fails.
pub(crate) fn must_fail(expected: &str, model: impl Fn() + Send + Sync + 'static) {
    let outcome = catch_unwind(AssertUnwindSafe(|| check(PREEMPTIONS_OF_TWINS, model)));
    let panic = outcome.expect_err("the model sees the twin's bug");
    let message = text_of(&*panic);
    assert!(
        message.contains(expected),
        "not `{expected}` but: {message}"
    );
}

fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) -> usize {
    let executions = Arc::new(Counter::new(0));
    let seen = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = MOST_STEPS;
    builder.check(move || {
        seen.fetch_add(1, Count::Relaxed);
        model();
    });
    executions.load(Count::Relaxed)
}

/// What a thread sleeps on. Not `park`: loom lets an `unpark` end a `join` as well. Who is never
/// woken sleeps for ever, which loom calls a deadlock.
#[derive(Default)]
pub(crate) struct Bed(Notify);

impl Bed {
    /// Sleeps until woken, since the last time.
    pub(crate) fn rest(&self) {
        self.0.wait();
    }
}

impl Wake for Bed {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

/// Polls a future to its end, sleeping while it is not ready. Of a model that fails the future is
/// not dropped: what it would touch is gone.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let bed = Arc::new(Bed::default());
    let waker = Waker::from(Arc::clone(&bed));
    let mut future = ManuallyDrop::new(Box::pin(future));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => {
                drop(ManuallyDrop::into_inner(future));
                return output;
            }
            Poll::Pending => bed.rest(),
        }
    }
}

/// What is dropped, unless its model has failed: what it would touch is gone then.
pub(crate) struct Kept<T>(Option<T>);

impl<T> Kept<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(self.0.take());
        }
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap()
    }
}

impl<T> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().unwrap()
    }
}
