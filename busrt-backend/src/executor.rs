//! An executor whose tasks a publisher runs as well: in process, an event then reaches its
//! subscription in the publisher's own thread, without waking another.
//!
//! A publisher lends a hand only if nobody runs tasks at the moment and it has not done so for a
//! while. A busy bus is left to the executor's own task, which sends what has come meanwhile in one.
//!
//! Invariant: who is counted in `running` looks at the queue, and for pauses, again after it is no longer,
//! so a task that is scheduled or begins to pause meanwhile needs no wake-up of its own. Only the
//! executor's own task sits pauses out.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_task::{FallibleTask, Runnable};
use eventbus_trait::Signal;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use crate::pauses::Pauses;

/// Tasks run before the runtime's other tasks get a turn.
const TURN: usize = 64;
/// Tasks that a publisher runs at most.
const HELP: usize = 16;
/// How long after a publisher has helped another may.
const HELP_EVERY: Duration = Duration::from_micros(50);

pub(crate) struct Executor {
    /// `None` once nothing is run any more. A task is in it once at most.
    queue: Mutex<Option<VecDeque<Runnable>>>,
    /// Told when a task is put into the queue while somebody runs tasks.
    more: Condvar,
    pauses: Pauses,
    /// How many run tasks.
    running: AtomicUsize,
    /// Wakes the executor's own task.
    signal: Signal,
    /// Where timers and tasks of the runtime belong, whoever runs a task.
    runtime: Handle,
    zero: Instant,
    /// When a publisher helped last, in nanoseconds since `zero`.
    helped: AtomicU64,
}

/// A publisher's help: it runs tasks when this is dropped.
pub(crate) struct Help<'a>(&'a Executor);

/// The executor's own task.
async fn run(ending: Ending) {
    let this = &ending.0;
    poll_fn(|cx| -> Poll<()> {
        this.running.fetch_add(1, Ordering::SeqCst);
        let mut all = this.run_some(TURN);
        if !all {
            this.pauses.tell();
        } else if this.sit_out_a_pause() {
            all = this.run_some(TURN);
        }
        this.running.fetch_sub(1, Ordering::SeqCst);
        this.signal.register(cx.waker());
        if !all || this.has_work() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

/// Ends the executor with its own task.
struct Ending(Arc<Executor>);

impl Drop for Ending {
    fn drop(&mut self) {
        // Without the lock: dropping a task may schedule another.
        let left = self.0.queue.lock().take();
        drop(left);
    }
}

impl Executor {
    pub(crate) fn new(runtime: Handle) -> Arc<Self> {
        let this = Arc::new(Self {
            queue: Mutex::new(Some(VecDeque::new())),
            more: Condvar::new(),
            pauses: Pauses::default(),
            running: AtomicUsize::new(0),
            signal: Signal::new(),
            runtime: runtime.clone(),
            // The first may help at once.
            zero: Instant::now()
                .checked_sub(HELP_EVERY)
                .unwrap_or_else(Instant::now),
            helped: AtomicU64::new(0),
        });
        // What it runs is no part of one task's budget.
        let ending = Ending(Arc::clone(&this));
        runtime.spawn(tokio::task::unconstrained(run(ending)));
        this
    }

    /// A task of this executor. Dropping what is returned cancels it.
    pub(crate) fn spawn<F>(self: &Arc<Self>, future: F) -> FallibleTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let this: Weak<Self> = Arc::downgrade(self);
        let schedule = move |runnable| {
            if let Some(this) = this.upgrade() {
                this.schedule(runnable);
            }
        };
        let future = tokio::task::unconstrained(future);
        let (runnable, task) = async_task::spawn(future, schedule);
        runnable.schedule();
        task.fallible()
    }

    fn schedule(&self, runnable: Runnable) {
        let refused = {
            let mut queue = self.queue.lock();
            match queue.as_mut() {
                Some(queue) => {
                    queue.push_back(runnable);
                    None
                }
                None => Some(runnable),
            }
        };
        if refused.is_some() {
            return;
        }
        if self.running.load(Ordering::SeqCst) == 0 {
            self.signal.notify();
        } else {
            self.more.notify_one();
        }
    }

    /// Runs at most so many tasks; whether there is none left.
    fn run_some(&self, most: usize) -> bool {
        for _ in 0..most {
            let next = self.queue.lock().as_mut().and_then(VecDeque::pop_front);
            let Some(next) = next else { return true };
            // A task that panics has ended, and whoever waits for it is told so.
            let _ = catch_unwind(AssertUnwindSafe(|| next.run()));
        }
        false
    }

    /// Lets a task pause. Others run meanwhile, and so does this one if it is woken.
    pub(crate) async fn pause(&self, time: Duration) {
        self.pauses.pause(time).await;
    }

    /// Sleeps until the first pause is over or there is something to do; whether there was a pause.
    ///
    /// It blocks a thread of the runtime, which is why pauses are short and the runtime has another one.
    fn sit_out_a_pause(&self) -> bool {
        let Some(until) = self.pauses.first() else {
            return false;
        };
        {
            let mut queue = self.queue.lock();
            if queue.as_ref().is_some_and(VecDeque::is_empty) {
                self.more.wait_until(&mut queue, until);
            }
        }
        self.pauses.tell();
        true
    }

    /// Whether there is a task to run, or a pause to sit out.
    fn has_work(&self) -> bool {
        self.has_any() || self.pauses.first().is_some()
    }

    fn has_any(&self) -> bool {
        self.queue.lock().as_ref().is_some_and(|q| !q.is_empty())
    }

    /// Offers help with what the caller is about to cause, if there is nobody else.
    pub(crate) fn help(&self) -> Option<Help<'_>> {
        if self.running.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let now = u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let rested = now.saturating_sub(self.helped.load(Ordering::Relaxed));
        if u128::from(rested) < HELP_EVERY.as_nanos() {
            return None;
        }
        self.running
            .compare_exchange(0, 1, Ordering::SeqCst, Ordering::Relaxed)
            .ok()?;
        self.helped.store(now, Ordering::Relaxed);
        Some(Help(self))
    }
}

impl Drop for Help<'_> {
    fn drop(&mut self) {
        let _until_it_ends = Running(self.0);
        if self.0.has_any() && !is_ending() {
            let _here = self.0.runtime.enter();
            self.0.run_some(HELP);
        }
    }
}

/// A helper that is counted in, until this is dropped.
struct Running<'a>(&'a Executor);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        if self.0.has_work() {
            self.0.signal.notify();
        }
    }
}

/// Whether this thread is ending so far that no runtime can be entered in it.
fn is_ending() -> bool {
    Handle::try_current().is_err_and(|e| e.is_thread_local_destroyed())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::{Notify, oneshot};

    use super::*;

    /// A runtime whose tasks run only while `block_on` is under way.
    fn asleep() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// A runtime with a thread of its own.
    fn one_thread() -> Runtime {
        Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    }

    #[test]
    fn who_helps_runs_what_it_has_caused_in_its_own_thread() {
        let runtime = asleep();
        let executor = Executor::new(runtime.handle().clone());
        let wake = Arc::new(Notify::new());
        let (told, mut ran_in) = oneshot::channel();
        let task = executor.spawn({
            let wake = Arc::clone(&wake);
            async move {
                wake.notified().await;
                // A timer belongs to the executor's runtime.
                let _ = tokio::time::timeout(Duration::ZERO, async {}).await;
                told.send(std::thread::current().id()).unwrap();
            }
        });
        {
            let _help = executor.help().unwrap();
            wake.notify_one();
        }
        assert_eq!(ran_in.try_recv(), Ok(std::thread::current().id()));
        assert!(executor.help().is_none(), "not again so soon");
        assert_eq!(runtime.block_on(task), Some(()));
    }

    #[test]
    fn nobody_helps_where_somebody_runs_tasks() {
        let runtime = asleep();
        let executor = Executor::new(runtime.handle().clone());
        let (told, offered) = oneshot::channel();
        let task = executor.spawn({
            let executor = Arc::clone(&executor);
            async move {
                let _ = told.send(executor.help().is_some());
            }
        });
        runtime.block_on(task);
        assert_eq!(runtime.block_on(offered), Ok(false));
    }

    #[test]
    fn a_task_that_panics_hurts_neither_who_helps_nor_the_others() {
        let runtime = asleep();
        let executor = Executor::new(runtime.handle().clone());
        let bad = executor.spawn(async { panic!("on purpose") });
        let good = executor.spawn(async { 7 });
        drop(executor.help().unwrap());
        assert_eq!(runtime.block_on(bad), None::<()>);
        assert_eq!(runtime.block_on(good), Some(7));
    }

    #[test]
    fn what_is_more_than_help_goes_on_without_it() {
        let runtime = asleep();
        let executor = Executor::new(runtime.handle().clone());
        let tasks: Vec<_> = (0..10 * HELP)
            .map(|n| executor.spawn(async move { n }))
            .collect();
        drop(executor.help().unwrap());
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(runtime.block_on(task), Some(n));
        }
    }

    #[test]
    fn a_pause_that_began_with_help_ends_without_it() {
        let runtime = asleep();
        let executor = Executor::new(runtime.handle().clone());
        // The executor's own task has nothing to do any more.
        runtime.block_on(executor.spawn(async {}));
        runtime.block_on(tokio::task::yield_now());
        // Before it is there, or it would wake that task.
        let help = executor.help().unwrap();
        let task = executor.spawn({
            let executor = Arc::clone(&executor);
            async move { executor.pause(Duration::from_millis(50)).await }
        });
        drop(help);
        assert!(executor.pauses.first().is_some(), "it pauses");
        let watched = async { tokio::time::timeout(Duration::from_secs(60), task).await };
        assert_eq!(runtime.block_on(watched), Ok(Some(())));
    }

    #[test]
    fn a_pause_ends_beside_tasks_that_always_have_something_to_do() {
        let runtime = one_thread();
        let executor = Executor::new(runtime.handle().clone());
        let busy = executor.spawn(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let (told, over) = std::sync::mpsc::sync_channel(1);
        let pausing = executor.spawn({
            let executor = Arc::clone(&executor);
            async move {
                executor.pause(Duration::from_micros(50)).await;
                let _ = told.send(());
            }
        });
        let ended = over.recv_timeout(Duration::from_secs(60));
        drop((busy, pausing));
        assert_eq!(ended, Ok(()));
    }

    #[test]
    fn a_pause_holds_up_no_other_task() {
        let runtime = one_thread();
        let executor = Executor::new(runtime.handle().clone());
        let (told, pauses) = oneshot::channel();
        let long = executor.spawn({
            let executor = Arc::clone(&executor);
            async move {
                let _ = told.send(());
                executor.pause(Duration::from_secs(120)).await;
            }
        });
        runtime.block_on(pauses).unwrap();
        let patience = Duration::from_secs(60);
        for n in 0..1_000 {
            // The runtime's one thread sits out the pause: a timer of its own would not run.
            let (answer, answered) = std::sync::mpsc::sync_channel(1);
            let other = executor.spawn(async move { answer.send(n) });
            assert_eq!(answered.recv_timeout(patience), Ok(n));
            drop(other);
        }
        drop(long);
        let last = executor.spawn(async {});
        assert_eq!(runtime.block_on(last), Some(()), "nor does the end of it");
        assert!(executor.pauses.first().is_none());
    }

    #[test]
    fn tasks_end_with_their_runtime() {
        struct Told(Arc<AtomicBool>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let runtime = asleep();
        let executor = Executor::new(runtime.handle().clone());
        let dropped = Arc::new(AtomicBool::new(false));
        let told = Told(Arc::clone(&dropped));
        let task = executor.spawn(async move {
            let _told = told;
            std::future::pending::<()>().await;
        });
        drop(executor.help().unwrap());
        drop(runtime);
        assert!(!dropped.load(Ordering::SeqCst), "somebody waits for it");
        drop(task);
        assert!(dropped.load(Ordering::SeqCst), "nobody is left to run it");
        assert!(executor.queue.lock().is_none());
    }

    /// Each of many threads wakes tasks and helps as it likes: every wake-up is followed.
    #[test]
    fn no_wake_up_is_lost_between_who_helps_and_who_does_not() {
        const THREADS: usize = 4;
        const TIMES: usize = 2_000;
        let runtime = one_thread();
        let executor = Executor::new(runtime.handle().clone());
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for n in 0..TIMES {
                        let (asked, question) = oneshot::channel();
                        let (answer, answered) = oneshot::channel();
                        let task = executor.spawn(async move {
                            let _ = answer.send(question.await);
                        });
                        {
                            let _help = (n % 3 > 0).then(|| {
                                executor.helped.store(0, Ordering::Relaxed);
                                executor.help()
                            });
                            asked.send(n).unwrap();
                        }
                        let watched = async {
                            let patience = Duration::from_secs(60);
                            tokio::time::timeout(patience, answered).await
                        };
                        let answered = runtime.block_on(watched);
                        assert_eq!(answered.expect("it was woken"), Ok(Ok(n)));
                        drop(task);
                    }
                });
            }
        });
    }
}
