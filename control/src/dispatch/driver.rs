//! Carries out what the core decides: publishes orders, reads reports, follows the members.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use eventbus_trait::{Correlation, Event, EventBus, Subscription};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::core::{Asked, CallOff, Step};
use super::roster::Seat;
use super::{Now, Shared};
use crate::lanes::{Lanes, Letter, Sent, Unsent};
use crate::registry::Watch;
use crate::tasks::{Mark, Order, Report, orders_topic};

/// How long a cancellation may wait for room on its way. After that the task's deadline does the same.
const CANCEL_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// An order on its way.
pub(super) enum Tag {
    Ask(Mark),
    Cancel(Seat, Mark),
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    tell_now: watch::Sender<Now>,
    tell_seen: watch::Sender<u64>,
    lanes: Lanes<Tag>,
}

impl Driver {
    pub(super) fn new(
        bus: Arc<dyn EventBus>,
        shared: Arc<Shared>,
        tell_now: watch::Sender<Now>,
        tell_seen: watch::Sender<u64>,
    ) -> Self {
        Self {
            shared,
            tell_now,
            tell_seen,
            lanes: Lanes::new(bus),
        }
    }

    pub(super) async fn run(mut self, mut reports: Subscription, mut members: Watch) {
        let shared = Arc::clone(&self.shared);
        let mut watching = true;
        loop {
            let asked = shared.asked.load(Ordering::Acquire);
            self.publish();
            self.tell(asked);
            let alarm = shared.inner.lock().core.next_alarm();
            tokio::select! {
                event = reports.recv() => match event {
                    Some(event) => self.report(&event),
                    None => break,
                },
                change = members.next(), if watching => match change {
                    Some(change) => {
                        let mut inner = shared.inner.lock();
                        inner.with(|core, now, steps| core.change(change, now, steps));
                    }
                    None => {
                        watching = false;
                        warn!("nothing is heard of members any more: the registry has ended");
                    }
                },
                sent = self.lanes.next() => self.sent(sent),
                () = at(alarm) => {
                    let mut inner = shared.inner.lock();
                    inner.with(|core, now, steps| core.tick(now, steps));
                }
                () = shared.wake.notified() => {}
            }
        }
        debug!("bus is closed: tasks end");
        shared.inner.lock().close();
    }

    fn tell(&self, asked: u64) {
        let now = self.shared.now(self.lanes.lanes());
        self.tell_now
            .send_if_modified(|told| std::mem::replace(told, now) != now);
        self.tell_seen
            .send_if_modified(|seen| std::mem::replace(seen, asked) != asked);
    }

    /// Puts everything on its way that the core wants published.
    fn publish(&mut self) {
        loop {
            let steps = std::mem::take(&mut self.shared.inner.lock().out);
            if steps.is_empty() {
                return;
            }
            for step in steps {
                match step {
                    Step::Ask(asked) => self.ask(&asked),
                    Step::Cancel(off) => self.cancel(*off),
                    Step::End { .. } => {}
                }
            }
        }
    }

    fn ask(&mut self, asked: &Asked) {
        let Some(order) = asked.order(Instant::now()) else {
            // Its deadline is an alarm of the core, which ends it.
            return;
        };
        let tag = Tag::Ask(asked.mark.clone());
        let correlation = asked.correlation.clone().stage("do");
        if let Err(reason) = self.send(&asked.seat, &order, correlation, asked.due, tag) {
            warn!(task = asked.mark.id, reason, "order not sent");
            let mut inner = self.shared.inner.lock();
            inner.core.counts.unsent += 1;
            inner.with(|core, _, steps| core.hopeless(&asked.mark, reason, steps));
        }
    }

    fn cancel(&mut self, off: CallOff) {
        let CallOff {
            seat,
            mark,
            correlation,
        } = off;
        let to = &seat.member.name;
        if self
            .lanes
            .retract(to, |tag| matches!(tag, Tag::Ask(of) if *of == mark))
        {
            return self.released(&seat);
        }
        let until = Instant::now() + CANCEL_WITHIN;
        let correlation = correlation.stage("cancel");
        let tag = Tag::Cancel(seat.clone(), mark.clone());
        if let Err(reason) = self.send(&seat, &Order::Cancel(mark), correlation, until, tag) {
            warn!(member = seat.member.name, reason, "cancellation not sent");
            self.released(&seat);
        }
    }

    fn send(
        &mut self,
        seat: &Seat,
        order: &Order,
        correlation: Correlation,
        until: Instant,
        tag: Tag,
    ) -> Result<(), String> {
        let payload = order.encode().map_err(|error| error.to_string())?;
        let topic = orders_topic(&seat.member.kind, &seat.member.name);
        let event = Event::new(topic, payload).map_err(|error| error.to_string())?;
        let event = event.correlation(correlation);
        self.lanes
            .push(&seat.member.name, Letter { event, until, tag });
        Ok(())
    }

    fn released(&self, seat: &Seat) {
        let mut inner = self.shared.inner.lock();
        inner.with(|core, now, steps| core.released(seat, now, steps));
    }

    fn sent(&self, sent: Sent<Tag>) {
        match sent.tag {
            Tag::Cancel(seat, mark) => {
                if let Some(reason) = sent.error {
                    warn!(member = %sent.to, task = mark.id, %reason, "cancellation not sent");
                }
                self.released(&seat);
            }
            Tag::Ask(mark) => {
                let Some(reason) = sent.error else {
                    return;
                };
                warn!(member = %sent.to, task = mark.id, attempt = mark.attempt, %reason, "order not sent");
                let reason = match reason {
                    Unsent::Refused(reason) => Some(reason),
                    Unsent::TooLate => None,
                };
                let mut inner = self.shared.inner.lock();
                inner.core.counts.unsent += 1;
                inner.with(|core, now, steps| core.unsent(&mark, reason, now, steps));
            }
        }
    }

    fn report(&self, event: &Event) {
        let bytes = event.bytes().map_err(|error| error.to_string());
        let report = bytes.and_then(|bytes| Report::decode(&bytes).map_err(|e| e.to_string()));
        let mut inner = self.shared.inner.lock();
        match report {
            Ok(report) => inner.with(|core, now, steps| core.report(report, now, steps)),
            Err(reason) => {
                inner.core.counts.malformed += 1;
                drop(inner);
                warn!(topic = %event.topic(), reason, "not a report");
            }
        }
    }
}

/// Waits until then; for ever if there is no such moment.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
