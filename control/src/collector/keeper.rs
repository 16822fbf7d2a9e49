//! The task that asks the collector for changes, one after the other, and takes it down in the end.
//!
//! Invariant: no change is begun before the one before has ended, or once the member is about to go; and
//! the task always hears of a shutdown, also while the collector does not come back.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::pending;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::books::{Books, Change, Doubt, Verdict};
use super::problem::{Problem, Refusal};
use super::status::{Shared, millis};
use super::wire::{Ending, ShutdownReply};
use super::{Asked, Collector};
use crate::member::Activity;
use eventbus_trait::rpc::Failure;

/// What a caller gets.
#[derive(Debug)]
pub(super) enum Answer {
    Reply(Value),
    Failure(Failure),
    Panicked,
}

/// A change that somebody asks for.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) change: Change,
    pub(super) asked: Asked,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// A shutdown that somebody asks for.
#[derive(Debug)]
pub(super) struct Stop {
    /// When it is forced.
    pub(super) by: Instant,
    pub(super) answer: oneshot::Sender<ShutdownReply>,
}

/// How the collector has taken what it was asked.
type Taken = Result<Result<(), Refusal>, Doubt>;
type Doing<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

pub(super) struct Keeper {
    shared: Arc<Shared>,
    books: Books,
    /// The change that is being carried out.
    order: Option<Order>,
    doing: Doing<Taken>,
    /// The end, if it has begun.
    stopping: Option<Stopping>,
}

struct Stopping {
    since: Instant,
    by: Instant,
    waiting: Vec<oneshot::Sender<ShutdownReply>>,
    closing: Doing<Result<(), String>>,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let books = Books::new(shared.options.config.clone());
        Self {
            shared,
            books,
            order: None,
            doing: None,
            stopping: None,
        }
    }

    /// Works until the collector is shut down.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut stops: mpsc::Receiver<Stop>,
    ) -> ShutdownReply {
        loop {
            self.close_when_idle();
            let stopping = self.stopping.as_mut();
            let by = stopping.as_ref().map(|stopping| stopping.by);
            let closing = stopping.and_then(|stopping| stopping.closing.as_mut());
            let takes = self.doing.is_none() && by.is_none();
            tokio::select! {
                biased;
                Some(stop) = stops.recv() => {
                    self.stop(stop);
                    refuse_all(&mut orders);
                }
                taken = come(self.doing.as_mut()) => self.taken(taken),
                closed = come(closing) => return self.ended(closed),
                () = until(by) => return self.force(),
                Some(order) = orders.recv(), if takes => self.begin(order),
            }
        }
    }

    fn begin(&mut self, order: Order) {
        if order.answer.is_closed() {
            // Its caller waits no more.
            return;
        }
        match self.books.consider(&order.change) {
            Verdict::Done(reply) => answer(order.answer, Answer::Reply(reply)),
            Verdict::Refused(failure) => answer(order.answer, Answer::Failure(failure)),
            Verdict::Ask => {
                let collector = Arc::clone(&self.shared.collector);
                let (change, asked) = (order.change.clone(), order.asked.clone());
                let limit = self.shared.options.limit;
                let doing = async move { ask(&*collector, &change, &asked).await };
                self.doing = Some(Box::pin(guarded(limit, doing)));
                let doing = Some((order.change.operation(), Instant::now()));
                self.shared
                    .status
                    .send_modify(|status| status.doing = doing);
                self.order = Some(order);
            }
        }
    }

    /// The collector has come back.
    fn taken(&mut self, taken: Taken) {
        self.doing = None;
        let Some(Order {
            change,
            answer: caller,
            ..
        }) = self.order.take()
        else {
            return;
        };
        let operation = change.operation();
        let result = match taken {
            Ok(Ok(())) => {
                info!(operation, "carried out");
                Answer::Reply(self.books.conclude(change))
            }
            Ok(Err(refusal)) => {
                info!(operation, %refusal, "refused");
                Answer::Failure(Problem::Refused.failure(refusal.to_string()))
            }
            Err(doubt) => {
                warn!(
                    operation,
                    ?doubt,
                    "it is not known whether it was carried out"
                );
                self.books.doubt(&change, doubt);
                match doubt {
                    Doubt::Panicked => Answer::Panicked,
                    Doubt::TooLong => cut_off(operation),
                }
            }
        };
        self.told();
        answer(caller, result);
    }

    /// Lets everybody know how the books stand.
    fn told(&self) {
        let (activity, draining) = (self.books.activity(), self.stopping.is_some());
        self.shared.status.send_modify(|status| {
            status.activity = if draining {
                Activity::Draining
            } else {
                activity
            };
            status.config_version = self.books.config_version();
            status.doubts = self.books.doubts();
            status.doing = None;
        });
    }

    fn stop(&mut self, stop: Stop) {
        if let Some(stopping) = &mut self.stopping {
            stopping.by = stopping.by.min(stop.by);
            stopping.waiting.push(stop.answer);
            return;
        }
        info!(name = self.shared.identity.name, "shutting down");
        self.shared.intake.close();
        self.stopping = Some(Stopping {
            since: Instant::now(),
            by: stop.by,
            waiting: vec![stop.answer],
            closing: None,
        });
        let draining = Activity::Draining;
        self.shared
            .status
            .send_modify(|status| status.activity = draining);
    }

    /// Begins to take the collector down, once it does nothing else.
    fn close_when_idle(&mut self) {
        let Some(stopping) = self.stopping.as_mut().filter(|_| self.doing.is_none()) else {
            return;
        };
        if stopping.closing.is_none() {
            let collects = self.books.activity() == Activity::Collecting;
            let left = stopping.by.saturating_duration_since(Instant::now());
            let asked = Asked::within(left);
            stopping.closing = Some(Box::pin(close(Arc::clone(&self.shared), collects, asked)));
        }
    }

    fn ended(self, closed: Result<(), String>) -> ShutdownReply {
        match closed {
            Ok(()) => self.reply(Ending::Graceful, None),
            Err(reason) => {
                self.abort();
                self.reply(Ending::Forced, Some(reason))
            }
        }
    }

    /// The deadline has come.
    fn force(mut self) -> ShutdownReply {
        let working = self.shared.intake.inside();
        let reason = match &self.order {
            Some(order) => format!("{} had not come back", order.change.operation()),
            None if working > 0 => format!("{working} pieces of work were not finished"),
            None => "the collector had not finished".to_owned(),
        };
        self.doing = None;
        if let Some(order) = self.order.take() {
            answer(order.answer, cut_off(order.change.operation()));
        }
        self.abort();
        self.reply(Ending::Forced, Some(reason))
    }

    fn abort(&self) {
        let collector = AssertUnwindSafe(&self.shared.collector);
        if std::panic::catch_unwind(|| collector.abort()).is_err() {
            warn!("abort panicked");
        }
    }

    fn reply(self, ended: Ending, reason: Option<String>) -> ShutdownReply {
        let since = self.stopping.as_ref().map(|stopping| stopping.since);
        let reply = ShutdownReply {
            ended,
            took_ms: since.map_or(0, |since| millis(since.elapsed())),
            unfinished: self.shared.intake.inside(),
            reason,
        };
        info!(?ended, reason = reply.reason, "shut down");
        for caller in self.stopping.into_iter().flat_map(|end| end.waiting) {
            let _ = caller.send(reply.clone());
        }
        reply
    }
}

/// Stops intake, waits until all work is done, and lets the collector finish.
async fn close(shared: Arc<Shared>, collects: bool, asked: Asked) -> Result<(), String> {
    let collector = &*shared.collector;
    let failed = |what: &str, taken| match taken {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refusal)) => Err(format!("{what}: {refusal}")),
        Err(_) => Err(format!("{what} panicked")),
    };
    let mut stopped = Ok(());
    if collects {
        let stop = async { collector.stop_collection(&asked).await };
        stopped = failed(
            "stop_collection",
            AssertUnwindSafe(stop).catch_unwind().await,
        );
    }
    shared.intake.empty().await;
    let shutdown = async { collector.shutdown(&asked).await };
    let finished = AssertUnwindSafe(shutdown).catch_unwind().await;
    stopped.and(failed("shutdown", finished))
}

async fn ask(collector: &dyn Collector, change: &Change, asked: &Asked) -> Result<(), Refusal> {
    match change {
        Change::Start(options) => collector.start_collection(asked, options).await,
        Change::Stop => collector.stop_collection(asked).await,
        Change::Configure(update) => {
            collector.validate_config(&update.config).await?;
            if update.validate_only {
                return Ok(());
            }
            collector.update_config(asked, &update.config).await
        }
    }
}

/// What the collector says, if it neither panics nor takes too long.
async fn guarded(limit: Duration, asked: impl Future<Output = Result<(), Refusal>>) -> Taken {
    match timeout(limit, AssertUnwindSafe(asked).catch_unwind()).await {
        Ok(Ok(said)) => Ok(said),
        Ok(Err(_)) => Err(Doubt::Panicked),
        Err(_) => Err(Doubt::TooLong),
    }
}

fn cut_off(operation: &str) -> Answer {
    let text = format!("{operation} was cut off; it may have been carried out in part");
    Answer::Failure(Problem::CutOff.failure(text))
}

/// Whoever does not wait any more does not get it.
fn answer(caller: oneshot::Sender<Answer>, answer: Answer) {
    let _ = caller.send(answer);
}

fn refuse_all(orders: &mut mpsc::Receiver<Order>) {
    orders.close();
    while let Ok(order) = orders.try_recv() {
        answer(order.answer, Answer::Failure(draining()));
    }
}

/// The member takes nothing more.
pub(super) fn draining() -> Failure {
    Problem::Draining.failure("it is shutting down")
}

async fn come<T>(doing: Option<&mut Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match doing {
        Some(doing) => doing.await,
        None => pending().await,
    }
}

async fn until(by: Option<Instant>) {
    match by {
        Some(by) => sleep_until(by).await,
        None => pending().await,
    }
}
