//! Runs a program on one bus and writes down what an application can observe of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conformance::history::{Mark, mark_of};
use conformance::stage::{Author, Reader, Stage, is_fence};
use conformance::{Checked, Context, Harness, Patience, Seed, Unmet};
use eventbus_trait::{Delivery, Event, Limits, Subscribe, Topic};

use super::model::{Call, Operation, Wish, Wrong};
use crate::programs::{judge, judge_what_came, on_a_runtime};

const PATIENCE: Patience = Patience(Duration::from_secs(15));
/// Beyond the limit of an event.
const LARGE: usize = 1 << 16;

/// What an application can observe: with the same program the same on any bus.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Observed {
    /// How each call ended.
    results: Vec<String>,
    /// What each subscription yielded of each author, in order.
    streams: BTreeMap<String, Vec<(u64, String)>>,
    /// What each subscription counted.
    counts: BTreeMap<String, String>,
}

impl Observed {
    /// Where `other` is not the same.
    pub(crate) fn differs(&self, other: &Self) -> Option<String> {
        let results = self.results.iter().zip(&other.results);
        for (at, (have, want)) in results.enumerate() {
            if have != want {
                return Some(format!("result {at} differs: {have}, and {want}"));
            }
        }
        for (stream, have) in &self.streams {
            let want = other.streams.get(stream);
            if Some(have) != want {
                return Some(format!("stream {stream} differs: {have:?}, and {want:?}"));
            }
        }
        for (name, have) in &self.counts {
            let want = other.counts.get(name);
            if Some(have) != want {
                return Some(format!("counts of {name} differ: {have}, and {want:?}"));
            }
        }
        (self != other).then(|| "there is more on one side".to_owned())
    }
}

/// Runs a program.
pub(crate) fn run(
    harness: &Arc<dyn Harness>,
    program: &[Operation],
    step: impl Fn(),
) -> Result<Observed, String> {
    // The same events on both phases, to the byte.
    let seed = Seed::of_run().of("differential");
    let context = Context::new(Arc::clone(harness), PATIENCE).with_seed(seed);
    let mut observed = Observed::default();
    on_a_runtime(&context, async {
        let limits = Limits {
            publish_deadline: PATIENCE.0,
            max_event_size: LARGE,
            ..Limits::default()
        };
        let stage = context.stage_with(limits).await?;
        let author = stage.author(&stage.bus());
        let mut machine = Machine {
            stage,
            handles: vec![Some(author)],
            subscriptions: Vec::new(),
            ended: false,
            observed: &mut observed,
        };
        for operation in program {
            step();
            let performed = machine.perform(operation).await;
            performed.map_err(|unmet| Unmet::broken(format_args!("{operation:?}: {unmet}")))?;
        }
        for subscription in 0..machine.subscriptions.len() {
            machine.end(subscription).await?;
        }
        let gated = |op: &Operation| matches!(op, Operation::Subscribe { wish, .. } if wish.gated);
        if program.iter().any(gated) {
            judge_what_came(&machine.stage)
        } else {
            judge(&machine.stage)
        }
    })?;
    Ok(observed)
}

struct Machine<'a> {
    stage: Stage,
    handles: Vec<Option<Arc<Author>>>,
    subscriptions: Vec<Option<Standing>>,
    /// Whether a subscription has ended, which a publisher elsewhere may not know yet.
    ended: bool,
    observed: &'a mut Observed,
}

/// A subscription that has not ended.
struct Standing {
    handle: usize,
    reader: Reader,
    exclude_own: bool,
}

impl Standing {
    /// Reads all that the authors among `authors` whose events reach it have published.
    async fn drain(&mut self, stage: &Stage, authors: &[(usize, Arc<Author>)]) -> Checked {
        let reach = |(on, _): &&(usize, Arc<Author>)| !self.exclude_own || *on != self.handle;
        let authors = authors
            .iter()
            .filter(reach)
            .map(|(_, author)| Arc::clone(author));
        let authors: Vec<_> = authors.collect();
        stage
            .drain(std::slice::from_mut(&mut self.reader), &authors)
            .await
    }
}

impl Machine<'_> {
    async fn perform(&mut self, operation: &Operation) -> Checked {
        match operation {
            Operation::Connect => {
                let bus = self.stage.connect().await?;
                self.handles.push(Some(self.stage.author(&bus)));
            }
            Operation::Shutdown { handle } => self.shut_down(*handle).await?,
            Operation::Subscribe { handle, wish } => {
                let bus = Arc::clone(self.author(*handle)?.bus());
                let name = format!("s{}", self.subscriptions.len());
                let reader = self.stage.read(&bus, subscription(wish, &name)?).await?;
                self.subscriptions.push(Some(Standing {
                    handle: *handle,
                    reader,
                    exclude_own: wish.exclude_own,
                }));
            }
            Operation::Unsubscribe { subscription } => self.end(*subscription).await?,
            Operation::Publish {
                handle,
                call,
                topic,
                delivery,
                events,
            } => {
                let author = self.author(*handle)?;
                let topic = Topic::new(topic)?;
                let result = publish(&author, *call, &topic, *delivery, *events).await?;
                // Who has ended elsewhere may still be counted.
                if *delivery == Delivery::AtLeastOnce && !self.ended {
                    self.observed.results.push(result);
                }
            }
            Operation::Wrong { handle, wrong } => {
                let refused = self.refused(*handle, *wrong).await?;
                self.observed.results.push(format!("{wrong:?}: {refused}"));
            }
        }
        Ok(())
    }

    fn author(&self, handle: usize) -> Checked<Arc<Author>> {
        let author = self.handles[handle].as_ref().map(Arc::clone);
        author.ok_or_else(|| Unmet::broken("the handle is closed"))
    }

    /// What was accepted before is read; so nothing of it depends on who was faster.
    async fn shut_down(&mut self, handle: usize) -> Checked {
        self.ended = true;
        let author = self.author(handle)?;
        for standing in self.subscriptions.iter_mut().flatten() {
            let closing = [(handle, Arc::clone(&author))];
            standing.drain(&self.stage, &closing).await?;
        }
        for subscription in 0..self.subscriptions.len() {
            let on = self.subscriptions[subscription].as_ref();
            if on.is_some_and(|standing| standing.handle == handle) {
                self.end(subscription).await?;
            }
        }
        self.handles[handle] = None;
        let bus = Arc::clone(author.bus());
        self.stage.wait("shutdown", bus.shutdown()).await??;
        let topic = Topic::new("a")?;
        let closed = author.send(author.event(&topic)).await;
        let closed = closed.map(|_| ()).map_err(|refused| refused.into_parts().1);
        self.observed.results.push(format!("closed: {closed:?}"));
        Ok(())
    }

    /// Reads a subscription to its end, writes down what it yielded, and ends it.
    async fn end(&mut self, subscription: usize) -> Checked {
        let Some(mut standing) = self.subscriptions[subscription].take() else {
            return Ok(());
        };
        self.ended = true;
        let authors = self.handles.iter().enumerate();
        let open = authors.filter_map(|(on, author)| Some((on, author.clone()?)));
        standing
            .drain(&self.stage, &open.collect::<Vec<_>>())
            .await?;
        let reader = standing.reader;
        let name = reader.name().to_owned();
        let history = self.stage.history();
        for arrival in history.arrivals(&name) {
            let Some(Mark { author, sequence }) = arrival.mark else {
                continue;
            };
            let stream = self.observed.streams.entry(format!("{name} of {author}"));
            stream
                .or_default()
                .push((sequence, arrival.topic.to_string()));
        }
        let stats = reader.stats();
        // Fences depend on who is there to send them, and are nobody's business.
        let counts = format!("{} filtered, {} dropped", stats.filtered, stats.dropped);
        self.observed.counts.insert(name, counts);
        reader.unsubscribe().await?;
        Ok(())
    }

    /// Does what is wrong and returns how it was refused.
    async fn refused(&mut self, handle: usize, wrong: Wrong) -> Checked<String> {
        let author = self.author(handle)?;
        let bus = Arc::clone(author.bus());
        let topic = Topic::new("a")?;
        let large = || author.event(&topic).header("large", "x".repeat(2 * LARGE));
        let subscribe = || Subscribe::to("never");
        let text = match wrong {
            Wrong::TooLarge => {
                let refused = author.send(large()).await;
                format!(
                    "{:?}",
                    refused
                        .map(|_| ())
                        .map_err(|refused| refused.into_parts().1)
                )
            }
            Wrong::LargeInBatch => {
                let batch = vec![author.event(&topic), large(), author.event(&topic)];
                match author.send_batch(batch).await {
                    Ok(_) => "taken".to_owned(),
                    Err(refused) => format!(
                        "{} taken, {} back, {:?}",
                        refused.accepted,
                        refused.events.len(),
                        refused.reason
                    ),
                }
            }
            Wrong::OtherTopic => {
                let publisher = bus.publisher(Topic::new("a.b")?);
                let refused = author.send_by(&publisher, author.event(&topic)).await;
                format!(
                    "{:?}",
                    refused
                        .map(|_| ())
                        .map_err(|refused| refused.into_parts().1)
                )
            }
            Wrong::NameInUse => {
                let mut standing = self.subscriptions.iter().flatten();
                let Some(standing) = standing.next() else {
                    return Ok("nobody has a name".to_owned());
                };
                let name = standing.reader.name();
                let again = bus.subscribe(subscribe()?.named(name)).await;
                format!("{:?}", again.map(|_| ()))
            }
            Wrong::LongName => {
                let long = bus.subscribe(subscribe()?.named("x".repeat(1_000))).await;
                format!("{:?}", long.map(|_| ()))
            }
            Wrong::NoCapacity => {
                let none = bus.subscribe(subscribe()?.capacity(0)).await;
                format!("{:?}", none.map(|_| ()))
            }
            Wrong::Full => return self.full(&author).await,
            Wrong::Closed => {
                let other = self.stage.wait("a handle", bus.connect(None)).await??;
                self.stage.wait("shutdown", other.shutdown()).await??;
                let published = other.publish(Event::new("a", "")?).await.map(|_| ());
                let published = published.map_err(|refused| refused.into_parts().1);
                let subscribed = other.subscribe(subscribe()?).await.map(|_| ());
                format!("{published:?}, {subscribed:?}")
            }
        };
        Ok(text)
    }

    /// Fills a subscription of one place on the handle itself, and gives it up.
    async fn full(&mut self, author: &Arc<Author>) -> Checked<String> {
        let name = format!("full{}", author.written());
        let one = Subscribe::to("full")?.capacity(1).named(name);
        let reader = self.stage.read(author.bus(), one).await?;
        let (_, full) = author.fill("full").await?;
        reader.unsubscribe().await?;
        self.ended = true;
        Ok(format!("{full:?}"))
    }
}

/// Publishes, and returns what the last receipt says.
async fn publish(
    author: &Author,
    call: Call,
    topic: &Topic,
    delivery: Delivery,
    events: usize,
) -> Checked<String> {
    let event = || author.event(topic).delivery(delivery);
    let mut last = None;
    if call == Call::Batch {
        last = Some(
            author
                .send_batch((0..events).map(|_| event()).collect())
                .await?,
        );
    } else {
        let publisher = author.bus().publisher(topic.clone());
        for _ in 0..events {
            last = Some(match call {
                // There is room; only credit for it may be on its way.
                Call::Try if delivery == Delivery::AtMostOnce => author.try_send(event())?,
                Call::Publisher => author.send_by(&publisher, event()).await?,
                _ => author.send(event()).await?,
            });
        }
    }
    match last {
        Some(receipt) => {
            let confirmed = receipt.confirmed(PATIENCE.0).await;
            Ok(format!("{call:?}: {:?}", confirmed.map(|c| c.deliveries)))
        }
        None => Ok("nothing".to_owned()),
    }
}

fn subscription(wish: &Wish, name: &str) -> Checked<Subscribe> {
    let mut subscribe = Subscribe::to(wish.filter)?.named(name).capacity(1_000);
    if let Some(and) = wish.and {
        subscribe = subscribe.and(and)?;
    }
    if wish.exclude_own {
        subscribe = subscribe.exclude_own();
    }
    if wish.gated {
        let even = |event: &Event| mark_of(event).is_some_and(|mark| mark.sequence % 2 == 0);
        subscribe = subscribe.matching(move |event| is_fence(event) || even(event));
    }
    Ok(subscribe)
}
