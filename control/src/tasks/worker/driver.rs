//! Carries out what the intake decides: reads orders, runs handlers, publishes reports.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use eventbus_trait::plain::Plain;
use eventbus_trait::{Correlation, Event, EventBus, Payload, PublishError, Subscription};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, debug, info_span, warn};

use super::intake::{Ran, Step, Told};
use super::{Load, Options, Shared, TaskFailure, TaskHandler, Work};
use crate::complaints::Complaints;
use crate::intake::{Hold, Intake as Gate};
use crate::lanes::{Content, Lanes, Letter, Sent, Unsent, Until};
use crate::member::Identity;
use crate::tasks::{Answer, FailureReason, Order, Report, reports_topic};

type Returned = Result<Payload, TaskFailure>;

pub(super) struct Driver {
    member: String,
    instance: String,
    handler: Arc<dyn TaskHandler>,
    options: Options,
    shared: Arc<Shared>,
    tell_load: watch::Sender<Load>,
    tell_seen: watch::Sender<u64>,
    handlers: JoinSet<Returned>,
    numbers: HashMap<Id, u64>,
    aborts: HashMap<u64, AbortHandle>,
    lanes: Lanes<Told>,
    malformed: Complaints,
    unanswerable: Complaints,
    unsent: Complaints,
    /// The host's, which waits for what was taken in.
    pub(super) gate: Option<Gate>,
}

impl Driver {
    pub(super) fn new(
        bus: Arc<dyn EventBus>,
        identity: &Identity,
        handler: Arc<dyn TaskHandler>,
        options: Options,
        shared: Arc<Shared>,
        (tell_load, tell_seen): (watch::Sender<Load>, watch::Sender<u64>),
    ) -> Self {
        Self {
            member: identity.name.clone(),
            instance: identity.instance.clone(),
            handler,
            options,
            shared,
            tell_load,
            tell_seen,
            handlers: JoinSet::new(),
            numbers: HashMap::new(),
            aborts: HashMap::new(),
            lanes: Lanes::new(bus),
            malformed: Complaints::default(),
            unanswerable: Complaints::default(),
            unsent: Complaints::default(),
            gate: None,
        }
    }

    pub(super) async fn run(mut self, mut orders: Subscription) {
        let shared = Arc::clone(&self.shared);
        loop {
            let alarm = shared.intake.lock().next_alarm();
            tokio::select! {
                event = orders.recv() => match event {
                    Some(event) => self.order(&event),
                    None => break,
                },
                Some(ended) = self.handlers.join_next_with_id() => self.ended(ended),
                sent = self.lanes.next() => self.sent(sent),
                () = at(alarm) => {
                    let steps = shared.intake.lock().tick(Instant::now());
                    self.carry_out(steps);
                }
                () = shared.wake.notified() => {
                    if shared.interrupt.load(Ordering::Acquire) {
                        let steps = shared.intake.lock().interrupt();
                        self.carry_out(steps);
                    }
                }
            }
            // What was asked before is seen by what was told after.
            let asked = shared.asked.load(Ordering::Acquire);
            self.tell_load();
            self.tell_seen
                .send_if_modified(|seen| std::mem::replace(seen, asked) != asked);
        }
        debug!(member = %self.member, "bus is closed: no more tasks");
    }

    fn tell_load(&self) {
        let intake = self.shared.intake.lock();
        let load = Load {
            running: intake.alive(),
            waiting: intake.waiting(),
            telling: self.lanes.lanes(),
        };
        drop(intake);
        self.tell_load
            .send_if_modified(|told| std::mem::replace(told, load) != load);
    }

    fn order(&mut self, event: &Event) {
        let bytes = event.bytes().map_err(|error| error.to_string());
        let order = bytes.and_then(|bytes| Order::decode(&bytes).map_err(|e| e.to_string()));
        let order = match order {
            Ok(order) => order,
            Err(reason) => {
                self.shared.malformed.fetch_add(1, Ordering::Relaxed);
                if let Some(more) = self.malformed.turn(Instant::now()) {
                    let topic = event.topic();
                    warn!(topic = %Plain::field(topic), reason = %Plain::field(reason), more, "not an order");
                }
                return;
            }
        };
        let mark = order.mark();
        // A cancellation is answered at most once for each task that is held; so it needs no bound.
        let unheard = match self.lanes.waiting(&mark.dispatcher) {
            None => self.lanes.lanes() >= self.options.dispatchers,
            Some(waiting) => waiting >= self.options.unheard,
        };
        if unheard && matches!(order, Order::Do(_)) {
            self.shared.unanswerable.fetch_add(1, Ordering::Relaxed);
            if let Some(more) = self.unanswerable.turn(Instant::now()) {
                warn!(
                    dispatcher = mark.dispatcher,
                    task = %Plain::field(&mark.id),
                    more,
                    "its reports find no room: not taken"
                );
            }
            return;
        }
        let correlation = event
            .get_correlation()
            .cloned()
            .unwrap_or_else(|| Correlation::new(&mark.id));
        let hold = matches!(order, Order::Do(_))
            .then(|| self.enter())
            .flatten();
        let mut intake = self.shared.intake.lock();
        let steps = intake.order(order, correlation, hold, Instant::now());
        drop(intake);
        self.carry_out(steps);
    }

    /// Lets the host wait for a task, if it has one. When the host is about to go, so is the worker.
    fn enter(&self) -> Option<Arc<Hold>> {
        let hold = self.gate.as_ref()?.enter();
        if hold.is_none() {
            self.shared.intake.lock().drain();
        }
        hold.map(Arc::new)
    }

    fn carry_out(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Start(number, work) => self.start(number, *work),
                Step::Abort(number) => {
                    if let Some(handler) = self.aborts.get(&number) {
                        handler.abort();
                    }
                }
                Step::Tell(told) => self.tell(*told),
            }
        }
    }

    fn start(&mut self, number: u64, work: Work) {
        let mark = &work.task.mark;
        let span = info_span!(
            "task",
            id = mark.id,
            attempt = mark.attempt,
            capability = work.task.capability
        );
        work.correlation.adopt(&span);
        let handler = Arc::clone(&self.handler);
        let abort = self
            .handlers
            .spawn(async move { handler.run(work).await }.instrument(span));
        self.numbers.insert(abort.id(), number);
        self.aborts.insert(number, abort);
    }

    fn ended(&mut self, ended: Result<(Id, Returned), JoinError>) {
        let (id, ran) = match ended {
            Ok((id, returned)) => (id, Some(Ran::Returned(returned))),
            Err(error) => (error.id(), panicked(error)),
        };
        let Some(number) = self.numbers.remove(&id) else {
            return;
        };
        self.aborts.remove(&number);
        let steps = self.shared.intake.lock().ended(number, ran);
        self.carry_out(steps);
    }

    fn tell(&mut self, told: Told) {
        let report = Report {
            mark: told.mark.clone(),
            member: self.member.clone(),
            instance: self.instance.clone(),
            answer: told.answer.clone(),
        };
        let event = report
            .encode()
            .map_err(|error| error.to_string())
            .and_then(|payload| {
                let topic = reports_topic(&told.mark.dispatcher);
                Event::new(topic, payload).map_err(|error| error.to_string())
            });
        match event {
            Ok(event) => {
                let correlation = told.correlation.clone().stage(told.answer.name());
                let letter = Letter {
                    content: Content::Event(event.correlation(correlation)),
                    until: Until::At(told.until),
                    tag: told.clone(),
                };
                if has_result(&told.answer) {
                    // Who asks again and again would have it wait many times over.
                    let same = |other: &Told| other.mark.id == told.mark.id;
                    self.lanes.retract(&told.mark.dispatcher, |other| {
                        same(other) && has_result(&other.answer)
                    });
                }
                self.lanes.push(&told.mark.dispatcher, letter);
            }
            Err(reason) => self.unsendable(&told, FailureReason::Error, reason),
        }
    }

    fn sent(&mut self, sent: Sent<Told>) {
        self.shared
            .retries
            .fetch_add(sent.retries, Ordering::Relaxed);
        let told = sent.tag;
        match sent.error {
            None => {}
            Some(Unsent::Refused(reason @ PublishError::TooLarge { .. })) => {
                self.unsendable(&told, FailureReason::TooLarge, reason.to_string());
            }
            Some(reason) => self.lost(&told, &reason.to_string()),
        }
    }

    /// A result that cannot be sent is told as a failure, which can.
    fn unsendable(&mut self, told: &Told, reason: FailureReason, message: String) {
        if !matches!(told.answer, Answer::Done(_)) {
            return self.lost(told, &message);
        }
        let instead = self.shared.intake.lock().unsendable(told, reason, message);
        self.tell(instead);
    }

    fn lost(&mut self, told: &Told, reason: &str) {
        self.shared.unsent.fetch_add(1, Ordering::Relaxed);
        let Some(more) = self.unsent.turn(Instant::now()) else {
            return;
        };
        let (task, reason) = (Plain::field(&told.mark.id), Plain::field(reason));
        warn!(
            dispatcher = told.mark.dispatcher,
            %task,
            answer = told.answer.name(),
            %reason,
            more,
            "report not sent"
        );
    }
}

impl Drop for Driver {
    /// Nobody hears any more what was not told by now.
    fn drop(&mut self) {
        let given_back = self.shared.intake.lock().interrupt();
        let given_back = given_back
            .iter()
            .filter(|step| matches!(step, Step::Tell(_)));
        let unsent = given_back.count() + self.lanes.letters();
        if unsent > 0 {
            self.shared
                .unsent
                .fetch_add(unsent as u64, Ordering::Relaxed);
            warn!(member = %self.member, unsent, "reports not sent: it has stopped");
        }
    }
}

fn has_result(answer: &Answer) -> bool {
    matches!(answer, Answer::Done(_) | Answer::Failed { .. })
}

/// What a panic says; nothing of a handler that was aborted.
fn panicked(error: JoinError) -> Option<Ran> {
    let panic = error.try_into_panic().ok()?;
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    let message = message.unwrap_or_else(|| "it did not say why".to_owned());
    Some(Ran::Panicked(format!("panicked: {message}")))
}

/// Waits until then; for ever if there is no such moment.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
