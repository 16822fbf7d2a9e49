//! The bus under test, driven by a program, and what the program may expect of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use conformance::history::{Mark, mark_of};
use conformance::stage::{Author, FENCES, Reader, Stage};
use conformance::{Checked, Context, Harness, Patience, Unmet};
use eventbus_trait::{
    Delivery, Event, EventBus, Limits, Overflow, Receipt, ReceiptError, Refused, Subscribe,
    SubscribeError, Topic, TopicFilter, TryPublishError,
};

use super::model::{Call, Operation, Wish};
use crate::programs::{Outcome, judge, on_a_runtime, read_until_quiet};

const PATIENCE: Patience = Patience(Duration::from_secs(15));

/// Runs a program and judges what came of it.
pub(crate) fn run(harness: Arc<dyn Harness>, program: &[Operation], step: impl Fn()) -> Outcome {
    let context = Context::new(Arc::clone(&harness), PATIENCE);
    on_a_runtime(&context, perform_all(&*harness, &context, program, step))
}

async fn perform_all(
    harness: &dyn Harness,
    context: &Context,
    program: &[Operation],
    step: impl Fn(),
) -> Checked {
    let limits = Limits {
        publish_deadline: PATIENCE.0,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let author = stage.author(&stage.bus());
    let mut parts = Parts {
        exact: ["crossbeam", "shadow-crossbeam"]
            .iter()
            .any(|exact| harness.name().starts_with(exact)),
        handles: vec![Handle { author, open: true }],
        stage,
        ended: false,
        subscriptions: Vec::new(),
    };
    for operation in program {
        step();
        let performed = parts.perform(operation).await;
        performed.map_err(|unmet| Unmet::broken(format_args!("{operation:?}: {unmet}")))?;
    }
    parts.finish().await
}

struct Parts {
    stage: Stage,
    /// Whether a queue takes exactly as many events as its capacity, from whomever.
    exact: bool,
    /// Whether a subscription has ended, which a publisher elsewhere may not know yet.
    ended: bool,
    handles: Vec<Handle>,
    subscriptions: Vec<Option<Standing>>,
}

/// What is published by whom.
struct Publish<'a> {
    author: Arc<Author>,
    handle: usize,
    topic: &'a Topic,
    delivery: Delivery,
}

struct Handle {
    author: Arc<Author>,
    open: bool,
}

/// A subscription that has not ended.
struct Standing {
    handle: usize,
    reader: Reader,
    filter: TopicFilter,
    wish: Wish,
    /// Events accepted for it.
    accepted: u64,
    /// At-least-once events among them that were not read.
    unread: BTreeSet<Mark>,
    /// Events that it may have queued: at-most-once, and given up.
    perhaps: usize,
}

impl Parts {
    async fn perform(&mut self, operation: &Operation) -> Checked {
        match operation {
            Operation::Connect => {
                let bus = self.stage.connect().await?;
                let author = self.stage.author(&bus);
                self.handles.push(Handle { author, open: true });
                Ok(())
            }
            Operation::Shutdown { handle } => self.shut_down(*handle).await,
            Operation::Subscribe { handle, wish } => self.subscribe(*handle, wish).await,
            Operation::Unsubscribe { subscription } => {
                self.ended = true;
                match self.subscriptions[*subscription].take() {
                    Some(standing) => standing.reader.unsubscribe().await.map(|_| ()),
                    None => Ok(()),
                }
            }
            Operation::Publish {
                handle,
                call,
                topic,
                delivery,
                events,
            } => {
                let topic = Topic::new(topic)?;
                let publish = Publish {
                    author: Arc::clone(&self.handles[*handle].author),
                    handle: *handle,
                    topic: &topic,
                    delivery: *delivery,
                };
                match call {
                    Call::Batch if self.have_room(&publish, *events) => {
                        self.publish_batch(&publish, *events).await
                    }
                    _ => {
                        for _ in 0..*events {
                            self.publish(&publish, *call).await?;
                        }
                        Ok(())
                    }
                }
            }
            Operation::Read {
                subscription,
                events,
            } => match &mut self.subscriptions[*subscription] {
                Some(standing) => standing.read(*events).await,
                None => Ok(()),
            },
        }
    }

    /// The handle's own subscriptions end, once they have yielded all that was accepted for them.
    async fn shut_down(&mut self, handle: usize) -> Checked {
        let bus = Arc::clone(self.handles[handle].author.bus());
        self.stage.wait("shutdown", bus.shutdown()).await??;
        self.handles[handle].open = false;
        self.ended = true;
        for subscription in &mut self.subscriptions {
            if let Some(mut ended) = subscription.take_if(|s| s.handle == handle) {
                ended.reader.read_to_end().await?;
            }
        }
        Ok(())
    }

    async fn subscribe(&mut self, handle: usize, wish: &Wish) -> Checked {
        let bus = Arc::clone(self.handles[handle].author.bus());
        let taken = self
            .subscriptions
            .iter()
            .flatten()
            .any(|s| wish.name.is_some_and(|name| name == s.reader.name()));
        if taken {
            return self.is_refused(&bus, wish).await;
        }
        if let Some(name) = wish.name {
            self.becomes_free(&bus, name).await?;
        }
        let reader = self.stage.read(&bus, subscription(wish)?).await?;
        self.subscriptions.push(Some(Standing {
            handle,
            reader,
            filter: TopicFilter::new(wish.filter)?,
            wish: wish.clone(),
            accepted: 0,
            unread: BTreeSet::new(),
            perhaps: 0,
        }));
        Ok(())
    }

    async fn is_refused(&mut self, bus: &Arc<dyn EventBus>, wish: &Wish) -> Checked {
        self.subscriptions.push(None);
        match bus.subscribe(subscription(wish)?).await {
            Err(SubscribeError::AlreadySubscribed { .. }) => Ok(()),
            other => Err(Unmet::broken(format_args!("a name given twice: {other:?}"))),
        }
    }

    /// A name whose subscription has ended may still be known elsewhere.
    async fn becomes_free(&self, bus: &Arc<dyn EventBus>, name: &str) -> Checked {
        let probing = async {
            let mut beat = tokio::time::interval(Duration::from_millis(1));
            loop {
                match bus.subscribe(Subscribe::to("never")?.named(name)).await {
                    Ok(probe) => {
                        probe.unsubscribe().await;
                        return Ok(());
                    }
                    Err(SubscribeError::AlreadySubscribed { .. }) => {
                        beat.tick().await;
                    }
                    Err(error) => return Err(Unmet::from(error)),
                }
            }
        };
        self.stage.wait("a name to become free", probing).await?
    }

    fn takers(&self, publish: &Publish<'_>) -> impl Iterator<Item = &Standing> {
        let standing = self.subscriptions.iter().flatten();
        standing.filter(|s| s.takes(publish.handle, publish.topic))
    }

    /// Whether all that take it must have room for so many events.
    fn have_room(&self, publish: &Publish<'_>, events: usize) -> bool {
        let exact = self.exact;
        let mut takers = self.takers(publish);
        takers.all(|s| s.may_lose() || s.has_room(exact, events))
    }

    async fn publish(&mut self, publish: &Publish<'_>, call: Call) -> Checked {
        let Publish {
            author,
            topic,
            delivery,
            ..
        } = publish;
        let event = author.event(topic).delivery(*delivery);
        let mark = mark_of(&event);
        let has_room = self.have_room(publish, 1);
        let receipt = if call == Call::GivenUp {
            match publish_unless_it_waits(author, event).await? {
                Some(receipt) => Some(receipt),
                None => {
                    self.note(publish, None)?;
                    return Ok(());
                }
            }
        } else if call == Call::Publisher && (has_room || *delivery == Delivery::AtMostOnce) {
            let publisher = author.bus().publisher((*topic).clone());
            Some(author.send_by(&publisher, event).await?)
        } else if *delivery == Delivery::AtMostOnce {
            Some(author.try_send(event)?)
        } else if has_room {
            Some(author.send(event).await?)
        } else if self.taken_or_full(author, event).await? {
            None
        } else {
            return Ok(());
        };
        if let (Some(receipt), Delivery::AtLeastOnce) = (receipt, delivery) {
            self.is_confirmed(publish, receipt, 1).await?;
        }
        self.note(publish, mark)
    }

    async fn publish_batch(&mut self, publish: &Publish<'_>, events: usize) -> Checked {
        let event = |_| {
            publish
                .author
                .event(publish.topic)
                .delivery(publish.delivery)
        };
        let batch: Vec<Event> = (0..events).map(event).collect();
        let marks: Vec<_> = batch.iter().map(mark_of).collect();
        let receipt = publish.author.send_batch(batch).await?;
        if publish.delivery == Delivery::AtLeastOnce {
            self.is_confirmed(publish, receipt, events).await?;
        }
        marks
            .into_iter()
            .try_for_each(|mark| self.note(publish, mark))
    }

    /// Who takes the event has it now; without a mark, perhaps.
    fn note(&mut self, publish: &Publish<'_>, mark: Option<Mark>) -> Checked {
        let takers = self.subscriptions.iter_mut().flatten();
        for standing in takers.filter(|s| s.takes(publish.handle, publish.topic)) {
            standing.note(mark, publish.delivery)?;
        }
        Ok(())
    }

    /// DEL-010: the receipt is for a copy in each queue.
    async fn is_confirmed(
        &self,
        publish: &Publish<'_>,
        receipt: Receipt,
        events: usize,
    ) -> Checked {
        let takers = (self.takers(publish).count() * events) as u64;
        // Who may lose events may have lost this one at once.
        let sure = self.takers(publish).filter(|s| !s.may_lose()).count() * events;
        let told = match receipt.confirmed(PATIENCE.0).await {
            Ok(confirmation) => confirmation.deliveries,
            // By one that has ended, and that the publisher did not know of yet.
            Err(ReceiptError::Lost { .. }) if self.ended && !self.exact => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if (sure as u64..=takers).contains(&told) || (told > takers && self.ended && !self.exact) {
            return Ok(());
        }
        Err(Unmet::broken(format_args!(
            "a receipt for {takers} copies tells of {told}"
        )))
    }

    /// Publishes where there may be no room; whether the event was accepted. A subscription that
    /// has ended may still be found full, until the publishing handle has been told.
    async fn taken_or_full(&self, author: &Author, event: Event) -> Checked<bool> {
        let pending = author.invoke(&event);
        let trying = async {
            let mut event = event;
            let mut beat = tokio::time::interval(Duration::from_millis(1));
            loop {
                let topic = event.topic().clone();
                match author.bus().try_publish(event).map_err(Refused::into_parts) {
                    Ok(_) => return Ok(true),
                    Err((_, TryPublishError::Full { subscription }))
                        if self.may_be_full(&subscription, &topic) =>
                    {
                        return Ok(false);
                    }
                    Err((back, TryPublishError::Full { .. })) => event = back,
                    Err((_, reason)) => return Err(Unmet::broken(reason)),
                }
                beat.tick().await;
            }
        };
        let taken = self
            .stage
            .wait("an ended subscription to be forgotten", trying)
            .await??;
        pending.end(&if taken { Ok(()) } else { Err(()) });
        Ok(taken)
    }

    fn may_be_full(&self, name: &str, topic: &Topic) -> bool {
        let mut standing = self.subscriptions.iter().flatten();
        standing.any(|s| s.reader.name() == name && s.filter.matches(topic) && !s.may_lose())
    }

    /// Reads everything to its end and judges the history.
    async fn finish(mut self) -> Checked {
        let open = self.handles.iter().filter(|handle| handle.open);
        let authors: Vec<_> = open.map(|handle| Arc::clone(&handle.author)).collect();
        let standing: Vec<_> = self.subscriptions.drain(..).flatten().collect();
        let (lossy, lossless): (Vec<_>, Vec<_>) =
            standing.into_iter().partition(Standing::may_lose);
        let mut read = Vec::new();
        for mut standing in lossless {
            let fencing = standing.others(&authors, &self.handles);
            let reader = std::slice::from_mut(&mut standing.reader);
            self.stage.drain(reader, &fencing).await?;
            // What a handle that was shut down had lost is told behind nobody's fence.
            let fences = (fencing.len() * FENCES) as u64;
            standing.read_on(&self.stage, fences).await?;
            read.push(standing.reader);
        }
        for mut standing in lossy {
            standing.read_on(&self.stage, 0).await?;
            // A loss at the very end is told with the next event, for which there is room now.
            let fencing = standing.others(&authors, &self.handles);
            let reader = std::slice::from_mut(&mut standing.reader);
            self.stage
                .drain(reader, &fencing[..fencing.len().min(1)])
                .await?;
            read.push(standing.reader);
        }
        if self.stage.history().given_up().next().is_some() {
            read_until_quiet(&mut read).await;
        }
        // The history first: it names what the counters only show.
        judge(&self.stage)?;
        for reader in &mut read {
            reader.counted(|stats| stats.is_conserved()).await?;
        }
        Ok(())
    }
}

impl Standing {
    fn takes(&self, publisher: usize, topic: &Topic) -> bool {
        self.filter.matches(topic) && !(self.wish.exclude_own && publisher == self.handle)
    }

    fn may_lose(&self) -> bool {
        self.wish.overflow != Overflow::Wait
    }

    /// Whether `events` must find room. Where publishers have windows of their own, an empty queue
    /// alone is sure to have some for each.
    fn has_room(&self, exact: bool, events: usize) -> bool {
        let held = self.unread.len() + self.perhaps;
        held + events <= self.wish.capacity && (held == 0 || exact)
    }

    /// The authors whose events reach it.
    fn others(&self, authors: &[Arc<Author>], handles: &[Handle]) -> Vec<Arc<Author>> {
        let own = &handles[self.handle].author;
        let reach = |author: &&Arc<Author>| !self.wish.exclude_own || !Arc::ptr_eq(author, own);
        authors.iter().filter(reach).cloned().collect()
    }

    /// A queue is bounded: for each publisher at least, if not for all together.
    fn note(&mut self, mark: Option<Mark>, delivery: Delivery) -> Checked {
        let Some(mark) = mark else {
            self.perhaps += 1;
            return Ok(());
        };
        self.accepted += 1;
        if delivery == Delivery::AtMostOnce {
            self.perhaps += 1;
            return Ok(());
        }
        self.unread.insert(mark);
        let own = self.unread.iter().filter(|m| m.author == mark.author);
        if !self.may_lose() && own.count() > self.wish.capacity {
            let (name, capacity) = (self.reader.name(), self.wish.capacity);
            return Err(Unmet::broken(format_args!(
                "`{name}` of {capacity} holds more"
            )));
        }
        Ok(())
    }

    /// Reads `events` at most; what was accepted has to come.
    async fn read(&mut self, events: usize) -> Checked {
        if self.may_lose() {
            self.reader.take();
            return Ok(());
        }
        for _ in 0..events {
            if self.unread.is_empty() {
                break;
            }
            let event = self.reader.expect().await?;
            if !mark_of(&event).is_some_and(|mark| self.unread.remove(&mark)) {
                self.perhaps = self.perhaps.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Reads until nothing that was accepted is on its way. What was given up and came all the same
    /// is counted too.
    async fn read_on(&mut self, stage: &Stage, fences: u64) -> Checked {
        for _ in 0..2 {
            let history = stage.history();
            let given_up: BTreeSet<Mark> = history.given_up().collect();
            let marks = history.marks_of(self.reader.name()).into_iter().flatten();
            let strays = marks.filter(|mark| given_up.contains(mark)).count() as u64;
            let matched = self.accepted + fences + strays;
            self.reader.read_until_matched(matched).await?;
        }
        Ok(())
    }
}

/// Publishes an event and gives up if that has to wait.
async fn publish_unless_it_waits(author: &Author, event: Event) -> Checked<Option<Receipt>> {
    let looking = async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        sent = author.send(event) => Ok(Some(sent?)),
        () = looking => Ok(None),
    }
}

fn subscription(wish: &Wish) -> Checked<Subscribe> {
    let mut subscribe = Subscribe::to(wish.filter)?
        .capacity(wish.capacity)
        .overflow(wish.overflow);
    if let Some(name) = wish.name {
        subscribe = subscribe.named(name);
    }
    if wish.exclude_own {
        subscribe = subscribe.exclude_own();
    }
    Ok(subscribe)
}
