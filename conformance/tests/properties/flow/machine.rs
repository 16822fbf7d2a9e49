//! The bus under test: what it does is held against the model.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use conformance::history::{Mark, mark_of};
use conformance::stage::{Author, Reader, Stage};
use conformance::{Checked, Context, Harness, Patience, Unmet};
use eventbus_trait::{
    Delivery, Event, Limits, PublishError, Refused, Subscribe, Topic, TryPublishError,
};

use super::model::{Model, Operation, PUBLISHERS, Queue, Relief};
use crate::programs::{Outcome, judge, on_a_runtime, read_until_quiet};

const PATIENCE: Patience = Patience(Duration::from_secs(15));
/// How long the impatient wait.
const SHORT: Duration = Duration::from_millis(3);

/// Runs a program and holds what comes of it against the model.
pub(crate) fn run(
    harness: &Arc<dyn Harness>,
    model: &Model,
    program: &[Operation],
    step: impl Fn(),
) -> Outcome {
    let context = Context::new(Arc::clone(harness), PATIENCE);
    on_a_runtime(&context, async {
        let exact = harness.name().starts_with("crossbeam");
        // Only where room is where the model says is it known who has to give up.
        let patient = model.patient || !exact;
        let limits = Limits {
            publish_deadline: if patient { PATIENCE.0 } else { SHORT },
            ..Limits::default()
        };
        let stage = context.stage_with(limits).await?;
        let mut authors = vec![stage.author(&stage.bus())];
        for _ in 1..PUBLISHERS {
            authors.push(stage.author(&stage.connect().await?));
        }
        let mut machine = Machine {
            stage,
            exact,
            patient,
            authors,
            subscriptions: Vec::new(),
        };
        for operation in program {
            step();
            let performed = machine.perform(operation).await;
            performed.map_err(|unmet| Unmet::broken(format_args!("{operation:?}: {unmet}")))?;
        }
        machine.finish().await
    })
}

struct Machine {
    stage: Stage,
    exact: bool,
    patient: bool,
    authors: Vec<Arc<Author>>,
    subscriptions: Vec<Option<Standing>>,
}

/// A subscription, and its queue as it should be.
struct Standing {
    reader: Reader,
    queue: Queue,
    accepted: u64,
    /// Events that may be queued, where the model does not know: at-most-once, and given up.
    perhaps: usize,
    /// Events that were read before it was known that they were accepted.
    early: HashSet<Mark>,
}

/// How a publish ended.
enum End {
    Accepted,
    /// For want of room in this subscription.
    Refused(String),
}

impl Machine {
    async fn perform(&mut self, operation: &Operation) -> Checked {
        match operation {
            Operation::Subscribe {
                handle,
                filter,
                capacity,
                overflow,
            } => {
                let subscribe = Subscribe::to(filter)?
                    .capacity(*capacity)
                    .overflow(*overflow);
                let bus = self.authors[*handle].bus();
                let reader = self.stage.read(bus, subscribe).await?;
                self.subscriptions.push(Some(Standing {
                    reader,
                    queue: Queue::new(filter, *capacity, *overflow),
                    accepted: 0,
                    perhaps: 0,
                    early: HashSet::new(),
                }));
                Ok(())
            }
            Operation::Publish {
                handle,
                topic,
                delivery,
                waits,
                events,
            } => {
                for _ in 0..*events {
                    self.publish(*handle, topic, *delivery, *waits).await?;
                }
                Ok(())
            }
            Operation::Relieved {
                handle,
                topic,
                subscription,
                relief,
            } => self.relieved(*handle, topic, *subscription, *relief).await,
            Operation::Read {
                subscription,
                events,
            } => self.read(*subscription, *events).await,
            Operation::Unsubscribe { subscription } => {
                match self.subscriptions[*subscription].take() {
                    Some(standing) => standing.reader.unsubscribe().await.map(|_| ()),
                    None => Ok(()),
                }
            }
        }
    }

    fn standing(&self) -> impl Iterator<Item = &Standing> {
        self.subscriptions.iter().flatten()
    }

    /// Who holds an event up, by the model.
    fn blocking(&self, topic: &str) -> Vec<&str> {
        let blocking = self.standing().filter(|s| s.queue.blocks(topic));
        blocking.map(|s| s.reader.name()).collect()
    }

    /// Whether there must be room: where each publisher has a window of its own, only an empty
    /// queue is sure to have some.
    fn must_have_room(&self, topic: &str) -> bool {
        let mut takers = self
            .standing()
            .filter(|s| s.queue.takes(topic) && !s.queue.may_lose());
        takers.all(|s| {
            let is_empty = s.queue.held.is_empty() && s.perhaps == 0;
            is_empty || (self.exact && !s.queue.blocks(topic))
        })
    }

    async fn publish(
        &mut self,
        handle: usize,
        topic: &str,
        delivery: Delivery,
        waits: bool,
    ) -> Checked {
        let author = Arc::clone(&self.authors[handle]);
        let event = author.event(&Topic::new(topic)?).delivery(delivery);
        let mark = mark_of(&event);
        let sure = delivery == Delivery::AtMostOnce || self.must_have_room(topic);
        // The patient would wait for ever, and credit for the sure may be on its way.
        let waits = if self.patient {
            sure && (waits || !self.exact)
        } else {
            waits
        };
        let end = if waits {
            self.publish_and_wait(&author, event).await?
        } else {
            match author.try_send(event).map_err(Refused::into_parts) {
                Ok(_) => End::Accepted,
                Err((_, TryPublishError::Full { subscription })) => End::Refused(subscription),
                Err((_, reason)) => return Err(Unmet::broken(reason)),
            }
        };
        self.judge_end(
            topic,
            sure,
            end,
            mark.filter(|_| self.exact || delivery == Delivery::AtLeastOnce),
        )
    }

    async fn publish_and_wait(&self, author: &Author, event: Event) -> Checked<End> {
        match author.send(event).await.map_err(Refused::into_parts) {
            Ok(_) => Ok(End::Accepted),
            Err((
                _,
                PublishError::Backpressure {
                    subscription,
                    waited,
                },
            )) => {
                let deadline = if self.patient { PATIENCE.0 } else { SHORT };
                if waited < deadline {
                    return Err(Unmet::broken(format_args!(
                        "gave up after {waited:?} of {deadline:?}"
                    )));
                }
                Ok(End::Refused(subscription))
            }
            Err((_, reason)) => Err(Unmet::broken(reason)),
        }
    }

    /// All or none, and as the model says where it knows.
    fn judge_end(&mut self, topic: &str, sure: bool, end: End, mark: Option<Mark>) -> Checked {
        match end {
            End::Refused(name) if sure => Err(Unmet::broken(format_args!(
                "no room in `{name}`, which has some"
            ))),
            End::Refused(name) => {
                // Elsewhere it is not known which, but that one of them was not sure to have room.
                if !self.exact || self.blocking(topic).contains(&name.as_str()) {
                    return Ok(());
                }
                Err(Unmet::broken(format_args!("`{name}` is named as full")))
            }
            End::Accepted if self.exact && !sure => Err(Unmet::broken(format_args!(
                "went past {:?}, which have no room",
                self.blocking(topic)
            ))),
            End::Accepted => self.enter(topic, mark),
        }
    }

    /// Who takes the event has it now; without a mark, perhaps.
    fn enter(&mut self, topic: &str, mark: Option<Mark>) -> Checked {
        let standing = self.subscriptions.iter_mut().flatten();
        for standing in standing.filter(|s| s.queue.takes(topic)) {
            standing.accepted += 1;
            match mark {
                Some(mark) if self.exact => standing.queue.enter(mark),
                Some(mark) if standing.early.remove(&mark) => {}
                Some(mark) => standing.queue.held.push_back(mark),
                None => standing.perhaps += 1,
            }
        }
        Ok(())
    }

    /// FLW-004: whoever waits for room is woken when there is.
    async fn relieved(
        &mut self,
        handle: usize,
        topic: &str,
        subscription: usize,
        relief: Relief,
    ) -> Checked {
        let author = Arc::clone(&self.authors[handle]);
        let event = author.event(&Topic::new(topic)?);
        let mark = mark_of(&event);
        let had_room = self.must_have_room(topic);
        let publisher = Arc::clone(&author);
        let waiting = tokio::spawn(async move { publisher.send(event).await.map(|_| ()) });
        // Lets it come to where it waits, mostly.
        tokio::task::yield_now().await;
        if had_room {
            let ended = self.stage.wait("a publish that has room", waiting).await?;
            ended.map_err(Unmet::broken)??;
            self.enter(topic, mark)?;
            return self.relieve(subscription, relief).await;
        }
        self.relieve(subscription, relief).await?;
        if self.must_have_room(topic) {
            let ended = self
                .stage
                .wait("a publish that was relieved", waiting)
                .await?;
            ended.map_err(Unmet::broken)??;
            return self.enter(topic, mark);
        }
        waiting.abort();
        match waiting.await {
            Ok(Ok(())) if !self.exact => self.enter(topic, mark),
            Ok(Ok(())) => Err(Unmet::broken("a publish went past a full subscription")),
            Ok(Err(refused)) => Err(refused.into()),
            // Given up; where the model does not know, it may have happened.
            Err(_) => {
                let standing = self.subscriptions.iter_mut().flatten();
                for standing in standing.filter(|s| s.queue.takes(topic)) {
                    standing.perhaps += usize::from(!self.exact);
                }
                Ok(())
            }
        }
    }

    async fn relieve(&mut self, subscription: usize, relief: Relief) -> Checked {
        match relief {
            Relief::Read => self.read(subscription, 1).await,
            Relief::Unsubscribe => {
                let operation = Operation::Unsubscribe { subscription };
                Box::pin(self.perform(&operation)).await
            }
        }
    }

    /// Reads what the model says is there.
    async fn read(&mut self, subscription: usize, events: usize) -> Checked {
        let exact = self.exact;
        let Some(standing) = &mut self.subscriptions[subscription] else {
            return Ok(());
        };
        if !exact && standing.queue.may_lose() {
            standing.reader.take();
            return Ok(());
        }
        for _ in 0..events.min(standing.queue.held.len()) {
            let event = standing.reader.expect().await?;
            let came = mark_of(&event);
            if !exact {
                let held = standing.queue.held.len();
                standing.queue.held.retain(|mark| Some(*mark) != came);
                if standing.queue.held.len() == held {
                    standing.perhaps = standing.perhaps.saturating_sub(1);
                    standing.early.extend(came);
                }
                continue;
            }
            let due = standing.queue.held.pop_front();
            if came != due {
                let (came, due) = (came.map(|m| m.to_string()), due.map(|m| m.to_string()));
                return Err(Unmet::broken(format_args!("read {came:?}, due is {due:?}")));
            }
        }
        Ok(())
    }

    async fn finish(mut self) -> Checked {
        let standing: Vec<_> = self.subscriptions.drain(..).flatten().collect();
        let mut queues = VecDeque::new();
        let mut readers = Vec::new();
        for Standing {
            mut reader,
            queue,
            accepted,
            ..
        } in standing
        {
            if queue.may_lose() {
                reader.read_until_matched(accepted).await?;
            } else {
                let reader = std::slice::from_mut(&mut reader);
                self.stage.drain(reader, &self.authors).await?;
            }
            // Losses at the very end are told with the next event, for which there is room now.
            let one = std::slice::from_mut(&mut reader);
            self.stage.drain(one, &self.authors[..1]).await?;
            readers.push(reader);
            queues.push_back(queue);
        }
        if self.stage.history().refused() > 0 {
            read_until_quiet(&mut readers).await;
        }
        // The history first: it names what the counters only show.
        judge(&self.stage)?;
        for (reader, queue) in readers.iter_mut().zip(queues) {
            let told = reader.lagged();
            let stats = reader
                .counted(|stats| stats.is_conserved() && stats.dropped == told)
                .await?;
            if self.exact && stats.dropped != queue.dropped {
                return Err(Unmet::broken(format_args!(
                    "`{}` dropped {}, and had to drop {}",
                    reader.name(),
                    stats.dropped,
                    queue.dropped
                )));
            }
        }
        Ok(())
    }
}
