//! One stream of events from a publisher's thread to a subscriber's, every one of them counted.
//!
//! A fence ends the stream, behind everything published: what has not come before it is lost. If
//! nothing moves for [`STILL`], both handles are shut down, which ends the wait for the fence too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use eventbus::{
    DEFAULT_CAPACITY, Event, EventBus, PublishError, Publisher, Subscribe, Subscription, Topic,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::errors::Errors;
use super::latencies::Latencies;
use super::pace::Pace;
use super::payload::{Delivery, Mark, Payloads, Tally};
use crate::failure::Failure;

/// A stream in which nothing moves for so long will not move any more.
const STILL: Duration = Duration::from_secs(15);
/// Time between two looks at whether anything moves.
const LOOK: Duration = Duration::from_millis(100);
/// Most bytes of payload that a subscription has room for, unless that is too few events.
const MOST_QUEUED: usize = 64 << 20;
const LEAST_ROOM: usize = 16;
/// How many events go by, at full speed, between two looks at the clock.
const STRIDE: u64 = 64;
/// A handle that publishes and one that reads: what two processes would have.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) publisher: Arc<dyn EventBus>,
    pub(super) subscriber: Arc<dyn EventBus>,
}

/// What to publish.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) topic: &'static str,
    pub(super) payload: usize,
    /// Most events.
    pub(super) events: u64,
    /// Longest time to publish them in.
    pub(super) within: Duration,
    /// Without it as fast as the bus takes them.
    pub(super) pace: Option<Pace>,
}

/// What both threads see of each other. Apart, so that neither waits for the other's cache line.
#[derive(Debug)]
pub(super) struct Shared {
    began: OnceLock<Instant>,
    enough: AtomicBool,
    /// Events with this number or a later one were published after the fault.
    after_fault: AtomicU64,
    recovered: OnceLock<Instant>,
    accepted: Apart,
    received: Apart,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart(AtomicU64);

/// A stream on its way.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) shared: Arc<Shared>,
    pair: Pair,
    published: oneshot::Receiver<Published>,
    read: oneshot::Receiver<Read>,
}

/// What came of a stream.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) delivery: Delivery,
    pub(super) errors: Errors,
    /// From the first publish to the last delivery.
    pub(super) took: Duration,
    /// Latencies, of a paced stream.
    pub(super) latencies: Latencies,
    /// Longest that a publisher of a paced stream waited for the bus.
    pub(super) longest_publish: Duration,
    /// From when the first event was due to when the last was accepted.
    pub(super) publishing: Duration,
    pub(super) stood_still: bool,
}

#[derive(Debug)]
struct Published {
    accepted: u64,
    errors: Errors,
    longest: Duration,
    took: Duration,
}

#[derive(Debug)]
struct Read {
    tally: Tally,
    ended: Instant,
    latencies: Latencies,
}

impl Shared {
    fn new() -> Self {
        Self {
            began: OnceLock::new(),
            enough: AtomicBool::new(false),
            after_fault: AtomicU64::new(u64::MAX),
            recovered: OnceLock::new(),
            accepted: Apart::default(),
            received: Apart::default(),
        }
    }

    /// Events accepted so far.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.0.load(Ordering::Acquire)
    }

    /// Events received so far.
    pub(super) fn received(&self) -> u64 {
        self.received.0.load(Ordering::Acquire)
    }

    /// From now on, what is published counts as published after the fault.
    pub(super) fn fault(&self) {
        self.after_fault.store(self.accepted(), Ordering::Release);
    }

    /// When the first event arrived that was published after the fault.
    pub(super) fn recovered(&self) -> Option<Instant> {
        self.recovered.get().copied()
    }

    /// No further events.
    pub(super) fn end(&self) {
        self.enough.store(true, Ordering::Release);
    }
}

impl Stream {
    /// Subscribes, and publishes.
    pub(super) async fn start(pair: &Pair, order: Order) -> Result<Self, Failure> {
        let topic =
            Topic::new(order.topic).map_err(|reason| Failure::io("name a topic", reason))?;
        let filter = Subscribe::to(order.topic);
        let filter = filter.map_err(|reason| Failure::io("name a topic", reason))?;
        let room = (MOST_QUEUED / order.payload).clamp(LEAST_ROOM, DEFAULT_CAPACITY);
        let filter = filter.capacity(room);
        let latencies = Latencies::new();
        let latencies = latencies.map_err(|reason| Failure::io("keep latencies", reason))?;
        let subscription = pair.subscriber.subscribe(filter).await?;
        let shared = Arc::new(Shared::new());
        let publisher = pair.publisher.publisher(topic);
        let read = on_thread("reader", {
            let shared = Arc::clone(&shared);
            move |_| read(subscription, order, &shared, latencies)
        })?;
        let published = on_thread("publisher", {
            let shared = Arc::clone(&shared);
            move |runtime| runtime.block_on(publish(publisher, order, &shared))
        })?;
        Ok(Self {
            shared,
            pair: pair.clone(),
            published,
            read,
        })
    }

    /// Waits for the end of the stream, and counts.
    pub(super) async fn finish(self) -> Result<Outcome, Failure> {
        let Self {
            shared,
            pair,
            mut published,
            mut read,
        } = self;
        let mut looks = tokio::time::interval(LOOK);
        let mut moved = ((0, 0), Instant::now());
        let mut stood_still = false;
        let (mut publishing, mut reading) = (None, None);
        while publishing.is_none() || reading.is_none() {
            tokio::select! {
                done = &mut published, if publishing.is_none() => publishing = Some(done),
                done = &mut read, if reading.is_none() => reading = Some(done),
                _ = looks.tick() => {
                    let now = (shared.accepted(), shared.received());
                    if now != moved.0 {
                        moved = (now, Instant::now());
                    } else if !stood_still && moved.1.elapsed() > STILL {
                        stood_still = true;
                        shared.end();
                        // What they could not confirm is found missing.
                        let _ = pair.publisher.shutdown().await;
                        let _ = pair.subscriber.shutdown().await;
                    }
                }
            }
        }
        let gone = || Failure::io("measure", "a thread of the measurement ended early");
        let published = publishing.and_then(Result::ok).ok_or_else(gone)?;
        let read = reading.and_then(Result::ok).ok_or_else(gone)?;
        let began = shared.began.get().copied().unwrap_or(read.ended);
        Ok(Outcome {
            delivery: read.tally.close(published.accepted),
            errors: published.errors,
            took: read.ended.saturating_duration_since(began),
            latencies: read.latencies,
            longest_publish: published.longest,
            publishing: published.took,
            stood_still,
        })
    }
}

fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce(Handle) -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, Failure> {
    let (send, receive) = oneshot::channel();
    let runtime = Handle::current();
    thread::Builder::new()
        .name(name.to_owned())
        // Who does not wait for it does not want it.
        .spawn(move || drop(send.send(work(runtime))))
        .map_err(|reason| Failure::io("start a thread", reason))?;
    Ok(receive)
}

async fn publish(publisher: Publisher, order: Order, shared: &Shared) -> Published {
    let mut payloads = Payloads::new(order.payload);
    let began = *shared.began.get_or_init(Instant::now);
    let mut published = Published {
        accepted: 0,
        errors: Errors::default(),
        longest: Duration::ZERO,
        took: Duration::ZERO,
    };
    let over = |accepted: u64| {
        let look = order.pace.is_some() || accepted.is_multiple_of(STRIDE);
        accepted == order.events
            || look && (shared.enough.load(Ordering::Acquire) || began.elapsed() > order.within)
    };
    while !over(published.accepted) {
        if let Some(pace) = order.pace {
            pace.wait(began, published.accepted);
        }
        let event = publisher.event(payloads.next());
        let called = order.pace.map(|_| Instant::now());
        let enough = || shared.enough.load(Ordering::Acquire);
        if !insist(&publisher, event, &mut published.errors, enough).await {
            break;
        }
        if let Some(called) = called {
            published.longest = published.longest.max(called.elapsed());
        }
        published.accepted += 1;
        shared
            .accepted
            .0
            .store(published.accepted, Ordering::Release);
    }
    published.took = began.elapsed();
    let fence = publisher.event(payloads.fence());
    // Without it nobody knows what is lost; so only the end of the bus ends this.
    insist(&publisher, fence, &mut published.errors, || false).await;
    published
}

/// Publishes until the event is taken, and counts the refusals; `false` if it never will be, or once
/// it is `enough`.
async fn insist(
    publisher: &Publisher,
    mut event: Event,
    errors: &mut Errors,
    enough: impl Fn() -> bool,
) -> bool {
    loop {
        let Err(refused) = publisher.publish(event).await else {
            return true;
        };
        let reason = errors.refused(refused.reason());
        let passes = matches!(
            reason,
            PublishError::Backpressure { .. }
                | PublishError::RateLimited { .. }
                | PublishError::Disconnected { .. }
        );
        if !passes || enough() {
            return false;
        }
        event = refused.into_event();
        // A refusal without a wait is not to be asked for all the time.
        thread::yield_now();
    }
}

fn read(
    mut subscription: Subscription,
    order: Order,
    shared: &Shared,
    mut latencies: Latencies,
) -> Read {
    let mut tally = Tally::new(order.payload, order.events);
    let mut received = 0_u64;
    while let Some(event) = subscription.recv_blocking() {
        let mark = match event.payload().bytes() {
            Ok(bytes) => tally.take(&bytes),
            Err(_) => tally.take(&[]),
        };
        match (mark, order.pace) {
            (Mark::Fence, _) => break,
            (Mark::Event(number), Some(pace)) => {
                let now = Instant::now();
                let began = shared.began.get().copied().unwrap_or(now);
                let latency = now.saturating_duration_since(began + pace.due(number));
                latencies.record(latency);
                if number >= shared.after_fault.load(Ordering::Acquire) {
                    shared.recovered.get_or_init(|| now);
                }
            }
            _ => {}
        }
        received += 1;
        if order.pace.is_some() || received.is_multiple_of(STRIDE) {
            shared.received.0.store(received, Ordering::Release);
        }
    }
    let ended = Instant::now();
    // Whatever came behind the fence came twice, or out of order.
    while let Ok(event) = subscription.try_recv() {
        if let Ok(bytes) = event.payload().bytes() {
            tally.take(&bytes);
        }
    }
    Read {
        tally,
        ended,
        latencies,
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
