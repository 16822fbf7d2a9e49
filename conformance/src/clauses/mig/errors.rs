//! MIG-005: every error that any phase can be provoked to, against one table of what it is to be.
//!
//! Values are compared, and texts, because both end up in programs. Where an error tells a time that
//! was measured, the time is checked and then taken out of the comparison.

use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::{
    BatchRefused, ConnectError, Event, EventBus, FilterError, FlushError, Limits, MAX_CAPACITY,
    MAX_NAME_BYTES, PublishError, Refused, Subscribe, SubscribeError, Subscription, Topic,
    TopicError, TryPublishError, TryRecvError,
};

use crate::harness::Capability;
use crate::stage::{Context, Stage};
use crate::verdict::{Checked, Unmet};

const DEADLINE: Duration = Duration::from_millis(50);
const LARGEST: usize = 1024;
const SUBSCRIPTIONS: usize = 4;

/// MIG-005: errors have the values, and the texts, that they have in every other phase.
pub(crate) async fn mig_005_errors_are_the_same(context: Context) -> Checked {
    let limits = Limits {
        max_event_size: LARGEST,
        publish_deadline: DEADLINE,
        max_subscriptions: SUBSCRIPTIONS,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let mut errors = Errors::default();
    of_topics(&mut errors);
    of_publishing(&stage, &mut errors).await?;
    of_subscribing(&stage, &mut errors).await?;
    if context.has(Capability::SeveralHandles) {
        of_connecting(context.client_name(), &stage, &mut errors).await?;
    }
    of_a_closed_bus(&stage, &mut errors).await?;
    errors.verdict()
}

/// The errors that were not as they are to be.
#[derive(Debug, Default)]
struct Errors {
    compared: usize,
    wrong: Vec<String>,
}

impl Errors {
    /// Compares what `provocation` had for an answer with what it is to have.
    fn of<T, E>(&mut self, provocation: &str, answer: Result<T, E>, want: &E)
    where
        E: PartialEq + Debug + Display,
    {
        self.compared += 1;
        match answer {
            Ok(_) => self
                .wrong
                .push(format!("{provocation}: no error, want `{want}`")),
            Err(have) if have != *want || have.to_string() != want.to_string() => {
                let text = format!("{provocation}: have `{have}` ({have:?}), want `{want}`");
                self.wrong.push(text);
            }
            Err(_) => {}
        }
    }

    fn verdict(self) -> Checked {
        match self.wrong.len() {
            0 if self.compared == 0 => Err(Unmet::unexercised("no error was provoked")),
            0 => Ok(()),
            wrong => Err(Unmet::broken(format_args!(
                "{wrong} of {} errors are not those of other phases:\n  {}",
                self.compared,
                self.wrong.join("\n  ")
            ))),
        }
    }
}

fn of_topics(errors: &mut Errors) {
    let text = |text: &str| text.to_owned();
    let topics = [
        ("", TopicError::Empty),
        (
            "a..b",
            TopicError::EmptySegment {
                topic: text("a..b"),
                index: 2,
            },
        ),
        (
            "a.b c",
            TopicError::BadCharacter {
                segment: text("b c"),
                character: ' ',
            },
        ),
        ("a.#", TopicError::Wildcard { segment: text("#") }),
    ];
    for (topic, want) in topics {
        errors.of(
            &format!("the topic `{topic}`"),
            Event::new(topic, "x"),
            &want,
        );
    }
    let filters = [
        (
            "a.b*",
            FilterError::PartialWildcard {
                segment: text("b*"),
            },
        ),
        (
            "#.a",
            FilterError::TailNotLast {
                filter: text("#.a"),
                index: 1,
                segments: 2,
            },
        ),
        (
            "a.",
            FilterError::Topic(TopicError::EmptySegment {
                topic: text("a."),
                index: 2,
            }),
        ),
    ];
    for (filter, want) in filters {
        errors.of(
            &format!("the filter `{filter}`"),
            Subscribe::to(filter),
            &want,
        );
    }
}

/// Too large, too many, and for another topic; by every way of publishing.
async fn of_publishing(stage: &Stage, errors: &mut Errors) -> Checked {
    let bus = stage.bus();
    let small = Subscribe::to("full")?.named("small").capacity(1);
    let small = bus.subscribe(small).await?;
    let author = stage.author(&bus);
    author.fill("full").await?;

    let size = 2 * LARGEST;
    let large = |topic: &str| Event::new(topic, vec![0_u8; size]);
    let too_large = PublishError::TooLarge {
        size,
        limit: LARGEST,
    };
    // On a full topic too: waiting would not mend it.
    for topic in ["free", "full"] {
        by_every_way(&bus, large(topic)?, &too_large, errors).await?;
    }
    let full = TryPublishError::Full {
        subscription: "small".into(),
    };
    let backpressure = PublishError::Backpressure {
        subscription: "small".into(),
        waited: DEADLINE,
    };
    by_every_way_with(&bus, Event::new("full", "x")?, &backpressure, &full, errors).await?;

    let publisher = bus.publisher(Topic::new("free")?);
    let elsewhere = || Event::new("elsewhere", "x");
    let wrong_topic = PublishError::WrongTopic {
        topic: "elsewhere".into(),
        expected: "free".into(),
    };
    let refused = Refused::new(elsewhere()?, wrong_topic);
    let answer = publisher.publish(elsewhere()?).await;
    errors.of("publisher.publish elsewhere", answer, &refused);
    let answer = publisher.try_publish(elsewhere()?);
    let refused = refused.map(Into::into);
    errors.of("publisher.try_publish elsewhere", answer, &refused);
    small.unsubscribe().await;
    Ok(())
}

async fn by_every_way(
    bus: &Arc<dyn EventBus>,
    event: Event,
    want: &PublishError,
    errors: &mut Errors,
) -> Checked {
    let at_once = TryPublishError::Publish(want.clone());
    by_every_way_with(bus, event, want, &at_once, errors).await
}

/// Has `event` refused by every way of publishing.
async fn by_every_way_with(
    bus: &Arc<dyn EventBus>,
    event: Event,
    want: &PublishError,
    at_once: &TryPublishError,
    errors: &mut Errors,
) -> Checked {
    let of = |how: &str| format!("{how} on `{}` of {:?}", event.topic(), event.known_size());
    // With the event, which comes back as it was.
    let refused = Refused::new(event.clone(), want.clone());
    let refused_at_once = Refused::new(event.clone(), at_once.clone());
    let answer = bus.publish(event.clone()).await.map_err(timeless);
    errors.of(&of("publish"), answer, &refused);
    let answer = bus.try_publish(event.clone());
    errors.of(&of("try_publish"), answer, &refused_at_once);
    let publisher = bus.publisher(event.topic().clone());
    let answer = publisher.publish(event.clone()).await.map_err(timeless);
    errors.of(&of("publisher.publish"), answer, &refused);
    let answer = publisher.try_publish(event.clone());
    errors.of(&of("publisher.try_publish"), answer, &refused_at_once);
    let batch = vec![event.clone(), Event::new("free", "the rest")?];
    let refused = BatchRefused {
        accepted: 0,
        events: batch.clone(),
        reason: want.clone(),
    };
    let answer = bus.publish_batch(batch).await.map_err(|refused| {
        let reason = without_time(refused.reason);
        BatchRefused { reason, ..refused }
    });
    errors.of(&of("publish_batch"), answer, &refused);
    Ok(())
}

fn timeless(refused: Refused) -> Refused {
    refused.map(without_time)
}

/// A time that was measured is the deadline, unless it is less than that.
fn without_time(error: PublishError) -> PublishError {
    match error {
        PublishError::Backpressure {
            subscription,
            waited,
        } => PublishError::Backpressure {
            subscription,
            waited: waited.min(DEADLINE),
        },
        other => other,
    }
}

async fn of_subscribing(stage: &Stage, errors: &mut Errors) -> Checked {
    let bus = stage.bus();
    let any = || Subscribe::to("a.#");
    let mut taken = bus.subscribe(any()?.named("taken")).await?;
    errors.of(
        "try_recv of nothing",
        taken.try_recv(),
        &TryRecvError::Empty,
    );

    let name = "taken".to_owned();
    let in_use = SubscribeError::AlreadySubscribed { name: name.clone() };
    let answer = bus.subscribe(any()?.named(&name)).await;
    errors.of("subscribe by a name in use", answer, &in_use);
    let limit = MAX_CAPACITY;
    for capacity in [0, limit + 1] {
        let want = SubscribeError::Capacity { capacity, limit };
        let answer = bus.subscribe(any()?.named(&name).capacity(capacity)).await;
        errors.of(
            &format!("subscribe with room for {capacity}"),
            answer,
            &want,
        );
    }
    let (bytes, limit) = (MAX_NAME_BYTES + 1, MAX_NAME_BYTES);
    let too_long = SubscribeError::NameTooLong { bytes, limit };
    let answer = bus.subscribe(any()?.named("n".repeat(bytes))).await;
    errors.of("subscribe by a long name", answer, &too_long);

    let mut others: Vec<Subscription> = Vec::new();
    while others.len() + 1 < SUBSCRIPTIONS {
        others.push(bus.subscribe(any()?).await?);
    }
    let too_many = SubscribeError::TooManySubscriptions {
        limit: SUBSCRIPTIONS,
    };
    errors.of(
        "subscribe once too often",
        bus.subscribe(any()?).await,
        &too_many,
    );
    let answer = bus.subscribe(any()?.named(&name)).await;
    errors.of(
        "subscribe once too often by a name in use",
        answer,
        &too_many,
    );
    let answer = bus.subscribe(any()?.named("n".repeat(bytes))).await;
    errors.of("subscribe once too often by a long name", answer, &too_long);
    for subscription in others.into_iter().chain([taken]) {
        subscription.unsubscribe().await;
    }
    Ok(())
}

async fn of_connecting(client: &str, stage: &Stage, errors: &mut Errors) -> Checked {
    let bus = stage.bus();
    let holder = stage.wait("a handle", bus.connect(Some(client))).await??;
    let name = client.to_owned();
    let in_use = ConnectError::NameInUse { name };
    let again = stage.wait("a refusal", bus.connect(Some(client))).await?;
    errors.of("connect by a name in use", again, &in_use);
    let subscription = holder.subscribe(Subscribe::to("a.#")?.named("far")).await?;
    let answer = bus.subscribe(Subscribe::to("a.#")?.named("far")).await;
    let in_use = SubscribeError::AlreadySubscribed { name: "far".into() };
    errors.of("subscribe by another handle's name", answer, &in_use);
    subscription.unsubscribe().await;
    let long = "n".repeat(65);
    for bad in ["", "a b", "a.b", "ä", "a--in-b", "eb-directory", &long] {
        let answer = stage.wait("a refusal", bus.connect(Some(bad))).await?;
        let name = bad.to_owned();
        let want = ConnectError::BadName { name };
        errors.of(&format!("connect as `{bad}`"), answer, &want);
    }
    Ok(holder.shutdown().await?)
}

/// After shutdown everything is closed, whatever else would be wrong with it.
async fn of_a_closed_bus(stage: &Stage, errors: &mut Errors) -> Checked {
    let bus = stage.bus();
    let ended = Subscribe::to("a.#")?.named("ended");
    let mut ended = bus.subscribe(ended).await?;
    stage.wait("shutdown", bus.shutdown()).await??;
    let end = "the end of the stream of `ended`";
    stage.wait(end, ended.recv()).await?;
    errors.of(
        "try_recv after the end",
        ended.try_recv(),
        &TryRecvError::Closed,
    );
    let event = Event::new("a.b", "x")?;
    by_every_way(&bus, event, &PublishError::Closed, errors).await?;
    let large = Event::new("a.b", vec![0_u8; 2 * LARGEST])?;
    let too_large = PublishError::TooLarge {
        size: 2 * LARGEST,
        limit: LARGEST,
    };
    by_every_way(&bus, large, &too_large, errors).await?;
    errors.of(
        "flush after shutdown",
        bus.flush(DEADLINE).await,
        &FlushError::Closed,
    );
    let closed = SubscribeError::Closed;
    let answer = bus.subscribe(Subscribe::to("a.#")?).await;
    errors.of("subscribe after shutdown", answer, &closed);
    let answer = bus.subscribe(Subscribe::to("a.#")?.capacity(0)).await;
    errors.of("subscribe without room after shutdown", answer, &closed);
    errors.of(
        "connect after shutdown",
        bus.connect(None).await,
        &ConnectError::Closed,
    );
    Ok(())
}
