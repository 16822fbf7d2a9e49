//! The bus under test, driven by a program, and what the program may expect of it.

use std::sync::Arc;
use std::time::Duration;

use conformance::check::{self, Findings, Within};
use conformance::history::mark_of;
use conformance::stage::{Author, FENCES, Reader, Stage};
use conformance::{Checked, Context, Harness, Patience, Unmet};
use eventbus_trait::{
    Delivery, Event, EventBus, Limits, Overflow, Refused, Subscribe, SubscribeError, Topic,
    TopicFilter, TryPublishError,
};
use tokio::runtime::Runtime;

use crate::model::{Operation, Wish};

const PATIENCE: Patience = Patience(Duration::from_secs(15));

/// A started bus with the handles and subscriptions that the program has made.
pub(crate) struct Machine {
    runtime: Runtime,
    context: Context,
    parts: Parts,
}

struct Parts {
    stage: Stage,
    /// Whether a queue takes exactly as many events as its capacity, from whomever.
    exact: bool,
    handles: Vec<Handle>,
    subscriptions: Vec<Option<Standing>>,
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
    /// At-least-once events among them that were not read, by author.
    unread: Vec<usize>,
    /// At-most-once events that it may have queued.
    perhaps: usize,
}

impl Machine {
    pub(crate) fn start(harness: Arc<dyn Harness>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = had(runtime);
        let exact = matches!(harness.name(), "crossbeam" | "shadow-crossbeam-in-process");
        let context = Context::new(harness, PATIENCE);
        let limits = Limits {
            publish_deadline: PATIENCE.0,
            ..Limits::default()
        };
        let stage = had(runtime.block_on(context.stage_with(limits)));
        let author = stage.author(&stage.bus());
        let handles = vec![Handle { author, open: true }];
        let parts = Parts {
            stage,
            exact,
            handles,
            subscriptions: Vec::new(),
        };
        Self {
            runtime,
            context,
            parts,
        }
    }

    /// Performs one operation; panics if the bus does not do what it has to.
    pub(crate) fn perform(&mut self, operation: &Operation) {
        let performed = self.runtime.block_on(self.parts.perform(operation));
        if let Err(unmet) = performed {
            panic!("{operation:?}: {unmet}");
        }
    }

    /// Reads everything, ends the bus and checks the history.
    pub(crate) fn finish(self) {
        let Self {
            runtime,
            context,
            parts,
        } = self;
        let checked = runtime.block_on(async {
            let checked = parts.finish().await;
            context.leave(checked).await
        });
        runtime.shutdown_timeout(PATIENCE.0);
        if let Err(unmet) = checked {
            panic!("{unmet}");
        }
    }
}

fn had<T>(result: Result<T, impl std::fmt::Display>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("no program can start: {error}"),
    }
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
                match self.subscriptions[*subscription].take() {
                    Some(standing) => standing.reader.unsubscribe().await.map(|_| ()),
                    None => Ok(()),
                }
            }
            Operation::Publish {
                handle,
                topic,
                delivery,
                events,
            } => {
                let topic = Topic::new(topic)?;
                for _ in 0..*events {
                    self.publish(*handle, &topic, *delivery).await?;
                }
                Ok(())
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
            unread: Vec::new(),
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

    async fn publish(&mut self, handle: usize, topic: &Topic, delivery: Delivery) -> Checked {
        let author = Arc::clone(&self.handles[handle].author);
        let event = author.event(topic).delivery(delivery);
        let mut takers = self
            .subscriptions
            .iter()
            .flatten()
            .filter(|s| s.takes(handle, topic));
        let exact = self.exact;
        let has_room = takers.all(|s| s.may_lose() || s.has_room(exact));
        if delivery == Delivery::AtMostOnce {
            author.try_send(event)?;
        } else if has_room {
            author.send(event).await?;
        } else if !self.taken_or_full(&author, event).await? {
            return Ok(());
        }
        let takers = self.subscriptions.iter_mut().flatten();
        for standing in takers.filter(|s| s.takes(handle, topic)) {
            standing.note_accepted(handle, delivery)?;
        }
        Ok(())
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
            let matched = standing.accepted + (fencing.len() * FENCES) as u64;
            standing.reader.read_until_matched(matched).await?;
            read.push(standing.reader);
        }
        for mut standing in lossy {
            standing
                .reader
                .read_until_matched(standing.accepted)
                .await?;
            // A loss at the very end is told with the next event, for which there is room now.
            let fencing = standing.others(&authors, &self.handles);
            let reader = std::slice::from_mut(&mut standing.reader);
            self.stage
                .drain(reader, &fencing[..fencing.len().min(1)])
                .await?;
            read.push(standing.reader);
        }
        // The history first: it names what the counters only show.
        judge(&self.stage)?;
        for reader in &mut read {
            reader.counted(|stats| stats.is_conserved()).await?;
        }
        Ok(())
    }
}

fn judge(stage: &Stage) -> Checked {
    let history = stage.history();
    for findings in [
        check::lost(&history),
        check::duplicates(&history),
        check::phantoms(&history),
        check::refused(&history),
        check::corrupted(&history),
        check::nonmonotonic(&history, Within::Author),
        check::uncounted(&history),
    ] {
        unless_empty(&findings)?;
    }
    Ok(())
}

/// A program in which nothing happened is in order.
fn unless_empty(findings: &Findings) -> Checked {
    match findings.verdict() {
        Err(Unmet::Unexercised(_)) if findings.unjudgeable.is_none() => Ok(()),
        verdict => verdict,
    }
}

impl Standing {
    fn takes(&self, publisher: usize, topic: &Topic) -> bool {
        self.filter.matches(topic) && !(self.wish.exclude_own && publisher == self.handle)
    }

    fn may_lose(&self) -> bool {
        self.wish.overflow != Overflow::Wait
    }

    /// Whether an event must find room. Where publishers have windows of their own, an empty queue
    /// alone is sure to have some for each.
    fn has_room(&self, exact: bool) -> bool {
        let held = self.unread.iter().sum::<usize>() + self.perhaps;
        held == 0 || (exact && held < self.wish.capacity)
    }

    /// The authors whose events reach it.
    fn others(&self, authors: &[Arc<Author>], handles: &[Handle]) -> Vec<Arc<Author>> {
        let own = &handles[self.handle].author;
        let reach = |author: &&Arc<Author>| !self.wish.exclude_own || !Arc::ptr_eq(author, own);
        authors.iter().filter(reach).cloned().collect()
    }

    /// A queue is bounded: for each publisher at least, if not for all together.
    fn note_accepted(&mut self, author: usize, delivery: Delivery) -> Checked {
        self.accepted += 1;
        if delivery == Delivery::AtMostOnce {
            self.perhaps += 1;
            return Ok(());
        }
        if self.unread.len() <= author {
            self.unread.resize(author + 1, 0);
        }
        self.unread[author] += 1;
        if !self.may_lose() && self.unread[author] > self.wish.capacity {
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
            if self.unread.iter().all(|unread| *unread == 0) {
                break;
            }
            let event = self.reader.expect().await?;
            let mark = mark_of(&event).and_then(|mark| usize::try_from(mark.author).ok());
            match mark.and_then(|author| self.unread.get_mut(author)) {
                Some(unread) if event.get_delivery() == Delivery::AtLeastOnce => {
                    *unread = unread.saturating_sub(1);
                }
                _ => self.perhaps = self.perhaps.saturating_sub(1),
            }
        }
        Ok(())
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
