//! The candidate's own thread: it does what is in the queue, one thing after the other, and drains
//! the candidate's subscriptions all the time.
//!
//! Everything that touches the candidate happens here, on a runtime of its own: its panics are
//! caught here, its hangs hold up the queue and nothing else, its errors are counted.
//!
//! Invariant: when the thread ends, for whatever reason, the queue is closed and the comparison
//! knows that nothing more will come.

use std::collections::{HashMap, VecDeque};
use std::fmt::{Debug, Display};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use eventbus_trait::rpc::Serving;
use eventbus_trait::{Origin, Overflow, SubscribeError, Subscription};
use futures_timer::Delay;
use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::class::{Reason, Side};
use crate::comparator::Comparator;
use crate::drain::drain;
use crate::link::Link;
use crate::marker;
use crate::mirror::{self, Work};
use crate::queue::{Command, Offer, Queue};
use crate::streams::Key;
use crate::sub::Sub;

/// Most commands taken from the queue at once; the drains get a turn in between.
const BATCH: usize = 64;
/// How many panics in a row say that there will never be anything else. Each costs as much as a
/// hundred events.
const MOST_PANICS: u32 = 1000;
/// How long to leave the queue alone once it is empty.
const NAP: Duration = Duration::from_millis(1);
/// How much less than others the candidate's thread wants a processor.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
/// How many times as long as it was behind the candidate's thread rests, and at most for how long.
const REST: u32 = 16;
const LONGEST_REST: Duration = Duration::from_secs(1);
/// How long a new subscription waits for an ended one to give its name back.
const NAME_WAIT: Duration = Duration::from_secs(5);

/// Starts the thread; `first` is the candidate's first handle.
pub(crate) fn spawn(comparator: &Arc<Comparator>, first: &Arc<Link>) {
    let link = Arc::clone(first);
    let started = std::thread::Builder::new()
        .name("shadow-candidate".to_owned())
        .spawn({
            // Made here, so that it says so as well if there is no thread.
            let end = End(Arc::clone(comparator));
            move || run(&end.0, link)
        });
    match started {
        Ok(thread) => *comparator.life.thread.lock() = Some(thread),
        Err(reason) => {
            comparator.error("thread", "spawn", &reason);
            comparator.disable(format!("no thread for the candidate: {reason}"));
        }
    }
}

/// Waits until the thread has ended, at most for `wait`.
pub(crate) async fn ended(comparator: &Comparator, wait: Duration) {
    let thread = comparator.life.thread.lock().take();
    if let Some(thread) = thread {
        if until(wait, || thread.is_finished()).await {
            // It has ended, so this does not wait; a panic in it was told by the panic hook.
            let _ = thread.join();
        } else {
            warn!("the candidate blocks its thread, which is left behind");
        }
    }
    if let Some(recorder) = &comparator.recorder {
        recorder.close();
        if !until(wait, || recorder.is_done()).await {
            warn!("the disk blocks the divergence file, which is left as it is");
        }
    }
}

/// Waits until something has ended, at most for `wait`; says whether it has.
async fn until(wait: Duration, ended: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !ended() {
        if begun.elapsed() >= wait {
            return false;
        }
        Delay::new(Duration::from_millis(1)).await;
    }
    true
}

/// Says that the thread has ended when it is dropped, also by a panic.
struct End(Arc<Comparator>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.disable("its thread panicked".to_owned());
        }
        self.0.close_queue();
        self.0.candidate_gone(Reason::Unavailable);
        self.0.life.ended.store(true, Ordering::Release);
    }
}

fn run(comparator: &Arc<Comparator>, first: Arc<Link>) {
    // On Linux that is this thread alone. Where processors are scarce, the application comes first.
    #[cfg(target_os = "linux")]
    if let Err(reason) = rustix::process::nice(NICE) {
        debug!(%reason, "the candidate's thread is no less than others");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(reason) => {
            comparator.error("thread", "runtime", &reason);
            comparator.disable(format!("no runtime for the candidate: {reason}"));
            return;
        }
    };
    let mut worker = Worker {
        comparator: Arc::clone(comparator),
        links: vec![first],
        panics: 0,
        drains: HashMap::new(),
        copies: HashMap::new(),
    };
    runtime.block_on(async {
        tokio::select! {
            () = worker.work() => {}
            () = patience(comparator) => debug!("candidate did not finish in time"),
        }
    });
    comparator.close_queue();
    comparator.candidate_gone(if comparator.is_disabled() {
        Reason::Unavailable
    } else {
        Reason::Shutdown
    });
    // Whatever is left of the candidate goes here and not in a thread of the application.
    let _ = catch_unwind(AssertUnwindSafe(move || {
        for link in &worker.links {
            drop(link.take());
        }
        drop(worker);
        runtime.shutdown_background();
    }));
}

/// Waits until the last handle is gone, and then as long as the candidate may still take.
async fn patience(comparator: &Comparator) {
    comparator.life.finishing.notified().await;
    let wait = comparator.options.shutdown_wait;
    let _ = tokio::time::timeout(wait, std::future::pending::<()>()).await;
}

/// Who has been behind rests before there is more, so that the application has its processors for
/// itself for most of the time.
#[derive(Default)]
struct Rest {
    behind_since: Option<Instant>,
    until: Option<Instant>,
}

impl Rest {
    /// How long to rest, if that is due now.
    fn due(&mut self, queue: &Queue) -> Option<Duration> {
        let caught_up = queue.has_caught_up();
        if !caught_up && !queue.is_full() {
            *self = Self::default();
            return None;
        }
        let now = Instant::now();
        let since = *self.behind_since.get_or_insert(now);
        if !caught_up {
            return None;
        }
        let rest = (now - since).saturating_mul(REST).min(LONGEST_REST);
        let until = *self.until.get_or_insert(now + rest);
        Some(until.saturating_duration_since(now))
    }
}

struct Worker {
    comparator: Arc<Comparator>,
    links: Vec<Arc<Link>>,
    /// Events that it panicked at, one after the other.
    panics: u32,
    drains: HashMap<u64, Drain>,
    /// Copies of services, by the service. A call holds the one that it asks.
    copies: HashMap<u64, Arc<Copied>>,
}

/// A copy of a service, by its name.
struct Copied {
    name: String,
    _serving: Serving,
}

struct Drain {
    sub: Arc<Sub>,
    task: JoinHandle<()>,
}

impl Worker {
    async fn work(&mut self) {
        let mut batch = VecDeque::with_capacity(BATCH);
        let mut rest = Rest::default();
        loop {
            let queue = &self.comparator.queue;
            match rest.due(queue) {
                // There may be other work all the time, for which it is not behind.
                Some(Duration::ZERO) => self.comparator.reopen_queue(),
                Some(time) => {
                    let next = queue.next(&mut batch, BATCH);
                    if tokio::time::timeout(time, next).await.is_err() {
                        self.comparator.reopen_queue();
                    }
                }
                None => queue.next(&mut batch, BATCH).await,
            }
            while let Some(command) = batch.pop_front() {
                if matches!(command, Command::Finish) {
                    return;
                }
                self.obey(command).await;
                self.comparator.queue.done();
                if self.panics >= MOST_PANICS {
                    let why = format!("the candidate panicked at {MOST_PANICS} events in a row");
                    return self.comparator.disable(why);
                }
            }
            tokio::task::yield_now().await;
            if self.comparator.queue.waiting() == 0 {
                // Who is asleep must be woken, and the publisher would pay for that: so with traffic
                // going on this looks for itself, now and then.
                let _ = tokio::time::timeout(NAP, std::future::pending::<()>()).await;
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Publish(offer) => self.publish(offer).await,
            Command::Subscribe(sub, link) => self.subscribe(sub, &link).await,
            Command::Unsubscribe(sub) => self.unsubscribe(&sub).await,
            Command::Connect { from, to, name } => self.connect(&from, to, name).await,
            Command::Disconnect { link, shutdown } => self.disconnect(&link, shutdown).await,
            Command::Mark => self.mark().await,
            Command::Work => self.calls().await,
            Command::Finish => {}
        }
    }

    async fn publish(&mut self, offer: Offer) {
        let comparator = &Arc::clone(&self.comparator);
        let failed = match offer.route.link.bus() {
            None => Some(Reason::Unavailable),
            Some(bus) => {
                offer.route.offered(comparator, offer.sequence);
                let published = self.guard("publish", bus.publish(offer.event)).await;
                self.panics = if published.is_none() {
                    self.panics + 1
                } else {
                    0
                };
                match published {
                    Some(Ok(_)) => None,
                    Some(Err(refused)) => {
                        comparator.error("publish", &kind(refused.reason()), refused.reason());
                        Some(Reason::Refused)
                    }
                    None => Some(Reason::Refused),
                }
            }
        };
        if let Some(reason) = failed {
            offer.route.give_up(comparator, offer.sequence, reason);
        }
        comparator.queue.given(offer.units);
    }

    async fn subscribe(&mut self, sub: Arc<Sub>, link: &Arc<Link>) {
        self.drains.retain(|_, drain| !drain.task.is_finished());
        self.free_name(&sub).await;
        let subscribe = sub
            .subscribe
            .clone()
            .capacity(self.comparator.options.candidate_capacity)
            .overflow(Overflow::Wait);
        let subscribed = match link.bus() {
            None => None,
            Some(bus) => {
                let attempt = async { bus.subscribe(subscribe).await };
                self.guard("subscribe", attempt).await
            }
        };
        match subscribed {
            Some(Ok(subscription)) => self.drain(&sub, subscription),
            failed => {
                if let Some(Err(reason)) = failed {
                    let kind = kind::<SubscribeError>(&reason);
                    self.comparator.error("subscribe", &kind, &reason);
                }
                sub.close(&self.comparator, Side::Candidate, Reason::Unavailable);
            }
        }
        sub.standing.notify_one();
    }

    fn drain(&mut self, sub: &Arc<Sub>, subscription: Subscription) {
        let task = drain(Arc::clone(&self.comparator), Arc::clone(sub), subscription);
        let drain = Drain {
            sub: Arc::clone(sub),
            task: tokio::spawn(task),
        };
        self.drains.insert(sub.id, drain);
    }

    /// Waits until an ended subscription of the same name is gone from the candidate.
    async fn free_name(&mut self, sub: &Sub) {
        let Some(name) = sub.subscribe.name() else {
            return;
        };
        let same = |drain: &Drain| drain.sub.subscribe.name() == Some(name);
        let Some(id) = self
            .drains
            .iter()
            .find_map(|(id, d)| same(d).then_some(*id))
        else {
            return;
        };
        if let Some(mut drain) = self.drains.remove(&id)
            && tokio::time::timeout(NAME_WAIT, &mut drain.task)
                .await
                .is_err()
        {
            drain.task.abort();
            self.comparator.retire(&drain.sub);
        }
    }

    async fn unsubscribe(&mut self, sub: &Arc<Sub>) {
        // Everything published before has been given to the candidate: what it still owes comes
        // before these markers.
        self.send_marks(std::slice::from_ref(sub)).await;
        match self.drains.get(&sub.id) {
            Some(drain) if !drain.task.is_finished() => sub.closing.notify_one(),
            _ => self.comparator.retire(sub),
        }
    }

    async fn connect(&mut self, from: &Link, to: Arc<Link>, name: Option<String>) {
        let connected = match from.bus() {
            None => None,
            Some(bus) => {
                let attempt = async { bus.connect(name.as_deref()).await };
                self.guard("connect", attempt).await
            }
        };
        match connected {
            Some(Ok(bus)) => to.connect(bus),
            Some(Err(reason)) => self.comparator.error("connect", &kind(&reason), &reason),
            None => {}
        }
        self.links.push(to);
    }

    async fn disconnect(&mut self, link: &Arc<Link>, shutdown: bool) {
        self.links.retain(|other| !Arc::ptr_eq(other, link));
        let Some(bus) = link.take() else {
            return;
        };
        if shutdown {
            let ended = self.guard("shutdown", async { bus.shutdown().await }).await;
            if let Some(Err(reason)) = ended {
                self.comparator.error("shutdown", &kind(&reason), &reason);
            }
        }
        let _ = catch_unwind(AssertUnwindSafe(move || drop(bus)));
    }

    /// Does what is next in the line of calls and services.
    async fn calls(&mut self) {
        match self.comparator.mirror.next() {
            Some(Work::Serve(hosted, link)) => {
                let serving = mirror::serve_copy(&self.comparator, &hosted, &link).await;
                let copy = serving.map(|serving| Copied {
                    name: hosted.copy().to_owned(),
                    _serving: serving,
                });
                self.copies
                    .extend(copy.map(|copy| (hosted.id(), Arc::new(copy))));
            }
            Some(Work::Unserve(id)) => {
                let copy = self.copies.remove(&id);
                let _ = catch_unwind(AssertUnwindSafe(move || drop(copy)));
            }
            Some(Work::Call(asked)) => {
                let mut copies = self.copies.values();
                let copy = copies.find(|copy| copy.name == asked.copy()).cloned();
                tokio::spawn(async move {
                    asked.ask(copy.is_some()).await;
                    // It outlives its service until it has answered what was asked before.
                    drop(copy);
                });
            }
            None => {}
        }
    }

    async fn mark(&mut self) {
        self.comparator.mark_queued.store(false, Ordering::Release);
        let subs = self.comparator.subs();
        // Every drain that has something to take gets a turn.
        tokio::task::yield_now().await;
        for sub in &subs {
            sub.give_up_marks(&self.comparator);
        }
        self.send_marks(&subs).await;
    }

    /// Sends a marker on each stream on which the candidate owes something to one of `subs`.
    async fn send_marks(&self, subs: &[Arc<Sub>]) {
        let comparator = &self.comparator;
        let mut wanted: HashMap<Key, (u64, Arc<Link>)> = HashMap::new();
        for sub in subs {
            for (stream, cut) in sub.wanted_marks(comparator.now()) {
                let entry = wanted
                    .entry(stream.key.clone())
                    .or_insert_with(|| (cut, Arc::clone(&stream.link)));
                entry.0 = entry.0.max(cut);
            }
        }
        for (key, (cut, link)) in wanted {
            // Noted also if there is no way to send it: then it is lost, and silence decides.
            let now = comparator.now();
            for sub in subs {
                sub.mark(&key, cut, now);
            }
            let Some(bus) = link.bus() else { continue };
            let origin = Origin {
                publisher: key.publisher,
                epoch: key.epoch,
                sequence: cut,
            };
            let event = marker::marker(comparator.id, key.topic, origin);
            let sent = self.guard("marker", bus.publish(event)).await;
            if let Some(Err(refused)) = sent {
                comparator.error("marker", &kind(refused.reason()), refused.reason());
            }
        }
    }

    /// Runs something of the candidate's; `None` if it panicked, which is counted.
    async fn guard<T>(&self, operation: &str, run: impl Future<Output = T>) -> Option<T> {
        match AssertUnwindSafe(run).catch_unwind().await {
            Ok(result) => Some(result),
            Err(panic) => {
                self.comparator.error(operation, "panic", &text_of(&*panic));
                None
            }
        }
    }
}

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}

/// The name of an error's variant, in snake case.
pub(crate) fn kind<E: Debug + Display>(error: &E) -> String {
    let debug = format!("{error:?}");
    let name = debug.chars().take_while(|c| c.is_ascii_alphanumeric());
    let mut kind = String::new();
    for c in name {
        if c.is_ascii_uppercase() && !kind.is_empty() {
            kind.push('_');
        }
        kind.push(c.to_ascii_lowercase());
    }
    kind
}
