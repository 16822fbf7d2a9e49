//! Carries out what the core decides: publishes orders, reads reports, follows the members.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use eventbus_trait::plain::Plain;
use eventbus_trait::{Correlation, Event, EventBus, Subscription};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::core::{Asked, CallOff, Step};
use super::roster::Seat;
use super::{Now, Shared};
use crate::complaints::Complaints;
use crate::lanes::{Content, Lanes, Letter, Sent, Unsent, Until};
use crate::registry::Watch;
use crate::tasks::{Mark, Order, Report, orders_topic};

/// How long a cancellation may wait for room on its way, from when it is its turn. After that the task's
/// deadline does the same.
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
    malformed: Complaints,
    unsent: Complaints,
    uncancelled: Complaints,
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
            malformed: Complaints::default(),
            unsent: Complaints::default(),
            uncancelled: Complaints::default(),
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
                    Step::Ask(asked) => self.ask(*asked),
                    Step::Cancel(off) => self.cancel(*off),
                    Step::End { .. } => {}
                }
            }
        }
    }

    /// The order is written when it is sent, because it says how much time is left.
    fn ask(&mut self, asked: Asked) {
        let to = asked.seat.member.name.clone();
        let tag = Tag::Ask(asked.mark.clone());
        let correlation = asked.correlation.clone().stage("do");
        let until = Until::At(asked.due);
        let write = move |now| match asked.order(now) {
            Some(order) => written(&asked.seat, &order, &correlation).map(Some),
            // Its deadline is an alarm of the core, which ends it.
            None => Ok(None),
        };
        let content = Content::Written(Box::new(write));
        self.lanes.push(
            &to,
            Letter {
                content,
                until,
                tag,
            },
        );
    }

    fn cancel(&mut self, off: CallOff) {
        let CallOff {
            seat,
            mark,
            correlation,
        } = off;
        let to = &seat.member.name;
        let is = |tag: &Tag| matches!(tag, Tag::Ask(of) if *of == mark);
        if self.lanes.retract(to, is) {
            return self.released(&seat);
        }
        // It may have arrived all the same: the cancellation goes behind it.
        self.lanes.give_up(to, is);
        let correlation = correlation.stage("cancel");
        let tag = Tag::Cancel(seat.clone(), mark.clone());
        match written(&seat, &Order::Cancel(mark.clone()), &correlation) {
            Ok(event) => {
                let letter = Letter {
                    content: Content::Event(event),
                    until: Until::Within(CANCEL_WITHIN),
                    tag,
                };
                self.lanes.push(&seat.member.name, letter);
            }
            Err(reason) => {
                self.uncancelled(&seat.member.name, &mark, &reason);
                self.released(&seat);
            }
        }
    }

    fn released(&self, seat: &Seat) {
        let mut inner = self.shared.inner.lock();
        inner.with(|core, now, steps| core.released(seat, now, steps));
    }

    fn sent(&mut self, sent: Sent<Tag>) {
        match sent.tag {
            Tag::Cancel(seat, mark) => {
                if let Some(reason) = sent.error {
                    self.uncancelled(&sent.to, &mark, &reason.to_string());
                }
                self.released(&seat);
            }
            Tag::Ask(mark) => {
                let reason = match sent.error {
                    // The core has done with it.
                    None | Some(Unsent::GivenUp) => return,
                    Some(reason) => reason,
                };
                if let Some(more) = self.unsent.turn(Instant::now()) {
                    let (task, why) = (Plain::field(&mark.id), Plain::field(&reason));
                    warn!(member = %sent.to, %task, attempt = mark.attempt, reason = %why, more, "order not sent");
                }
                let mut inner = self.shared.inner.lock();
                inner.core.counts.unsent += 1;
                inner.with(|core, now, steps| match reason {
                    Unsent::Refused(reason) => core.unsent(&mark, Some(reason), now, steps),
                    Unsent::Unwritable(reason) => core.hopeless(&mark, reason, steps),
                    Unsent::TooLate | Unsent::GivenUp => core.unsent(&mark, None, now, steps),
                });
            }
        }
    }

    fn uncancelled(&mut self, member: &str, mark: &Mark, reason: &str) {
        if let Some(more) = self.uncancelled.turn(Instant::now()) {
            let (task, reason) = (Plain::field(&mark.id), Plain::field(reason));
            warn!(member, %task, %reason, more, "cancellation not sent");
        }
    }

    fn report(&mut self, event: &Event) {
        let bytes = event.bytes().map_err(|error| error.to_string());
        let report = bytes.and_then(|bytes| Report::decode(&bytes).map_err(|e| e.to_string()));
        let mut inner = self.shared.inner.lock();
        match report {
            Ok(report) => inner.with(|core, now, steps| core.report(report, now, steps)),
            Err(reason) => {
                inner.core.counts.malformed += 1;
                drop(inner);
                if let Some(more) = self.malformed.turn(Instant::now()) {
                    let topic = event.topic();
                    warn!(topic = %Plain::field(topic), reason = %Plain::field(reason), more, "not a report");
                }
            }
        }
    }
}

fn written(seat: &Seat, order: &Order, correlation: &Correlation) -> Result<Event, String> {
    let payload = order.encode().map_err(|error| error.to_string())?;
    let topic = orders_topic(&seat.member.kind, &seat.member.name);
    let event = Event::new(topic, payload).map_err(|error| error.to_string())?;
    Ok(event.correlation(correlation.clone()))
}

/// Waits until then; for ever if there is no such moment.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
