//! FLW-005: a rate limit, where one is set.
//!
//! Nothing here asserts how fast a bus is. A limit is an upper bound, so it is enough to count what
//! was accepted, and to hold that against the time that has passed.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus_trait::{Delivery, Limits, PublishError, Rate, Refused, Topic, TryPublishError};
use futures_util::future::{Either, select};
use tokio::time::{MissedTickBehavior, interval};

use crate::check::{self, Within};
use crate::harness::Capability;
use crate::stage::{Author, Context, Stage};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

const PER_SECOND: u32 = 20;
const BURST: u32 = 10;
/// What one event takes at this rate.
const INTERVAL: Duration = Duration::from_millis(1000 / PER_SECOND as u64);

/// FLW-005: a handle may publish a burst at once and then as fast as the limit says, by all its ways
/// together: `try_publish` tells when to come back, `publish` waits for its turn. Other handles have
/// limits of their own.
pub(crate) async fn flw_005_a_rate_is_kept(context: Context) -> Checked {
    let stage = limited(&context, PER_SECOND, BURST, Limits::default()).await?;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let mut authors = vec![Arc::clone(&author)];
    let mut readers = vec![stage.reader(&bus, "a.#").await?];
    let mut pace = Pace::begin(&author);

    let burst = pace.exhaust(Delivery::AtLeastOnce)?.0;
    ensure!(
        burst >= BURST,
        "refused after {burst} events, of which {BURST} may come at once"
    );
    pace.waits_as_told().await?;
    pace.exhaust(Delivery::AtMostOnce)?;
    let refused = stage.history().refused();
    ensure_eq!(bus.stats().refused, refused as u64, "events refused");
    by_every_other_way(&mut pace).await?;
    if context.has(Capability::SeveralHandles) {
        pace.exhaust(Delivery::AtLeastOnce)?;
        let other = stage.author(&stage.connect().await?);
        let burst = Pace::begin(&other).exhaust(Delivery::AtLeastOnce)?.0;
        ensure!(
            burst >= BURST,
            "another handle is refused after {burst} of {BURST} events"
        );
        authors.push(other);
    }
    stage.drain(&mut readers, &authors).await?;
    let history = stage.history();
    check::lost(&history).verdict()?;
    check::refused(&history).verdict()?;
    check::duplicates(&history).verdict()?;
    check::nonmonotonic(&history, Within::Author).verdict()?;
    turns_after_the_deadline_are_refused(&context).await
}

async fn limited(context: &Context, per_second: u32, burst: u32, limits: Limits) -> Checked<Stage> {
    let number = |n| NonZeroU32::new(n).ok_or_else(|| Unmet::broken("a rate of nothing"));
    let rate = Some(Rate {
        per_second: number(per_second)?,
        burst: number(burst)?,
    });
    context.stage_with(Limits { rate, ..limits }).await
}

/// What one handle has published since it began.
struct Pace<'a> {
    author: &'a Author,
    begun: Instant,
    accepted: u32,
}

impl<'a> Pace<'a> {
    fn begin(author: &'a Author) -> Self {
        Self {
            author,
            begun: Instant::now(),
            accepted: 0,
        }
    }

    /// Counts events as accepted: no more than a burst and what the time has earned.
    fn accepted(&mut self, events: u32) -> Checked {
        self.accepted += events;
        let took = self.begun.elapsed();
        let earned = took.as_nanos().div_ceil(INTERVAL.as_nanos());
        let most = BURST.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX));
        ensure!(
            self.accepted <= most,
            "took {} events in {took:?}, {BURST} at once and {PER_SECOND} per second are the limit",
            self.accepted
        );
        Ok(())
    }

    /// Publishes without waiting until the handle is over its limit: how many were taken, when the
    /// last was offered, and how long to wait.
    fn exhaust(&mut self, delivery: Delivery) -> Checked<(u32, Instant, Duration)> {
        let topic = Topic::new("a.b")?;
        let mut taken = 0;
        loop {
            let offered = Instant::now();
            let event = self.author.event(&topic).delivery(delivery);
            match self.author.try_send(event).map_err(Refused::into_parts) {
                Ok(_) => {
                    taken += 1;
                    self.accepted(1)?;
                }
                Err((_, TryPublishError::RateLimited { retry_after })) => {
                    ensure!(
                        !retry_after.is_zero() && retry_after <= INTERVAL,
                        "told to wait {retry_after:?}, the next turn comes after {INTERVAL:?} at most"
                    );
                    return Ok((taken, offered, retry_after));
                }
                Err((_, reason)) => {
                    return Err(Unmet::broken(format_args!("refused because {reason}")));
                }
            }
        }
    }

    /// Who is told how long to wait is not taken before, and is taken then.
    async fn waits_as_told(&mut self) -> Checked {
        for _ in 0..3 {
            let (_, offered, retry_after) = self.exhaust(Delivery::AtLeastOnce)?;
            self.author.publish("a.b").await?;
            let waited = offered.elapsed();
            ensure!(
                waited >= retry_after,
                "published after {waited:?}, when told to wait {retry_after:?}"
            );
            self.accepted(1)?;
            let (_, _, retry_after) = self.exhaust(Delivery::AtLeastOnce)?;
            // The time that the bus has asked for: nothing is concluded from its having passed but
            // what was promised.
            let _ = tokio::time::timeout(retry_after, std::future::pending::<()>()).await;
            let again = self.author.event(&Topic::new("a.b")?);
            self.author.try_send(again)?;
            self.accepted(1)?;
        }
        Ok(())
    }
}

/// Batches, publishers of a topic and waiting at-most-once events are held to the same limit.
async fn by_every_other_way(pace: &mut Pace<'_>) -> Checked {
    let author = pace.author;
    let topic = Topic::new("a.b")?;
    pace.exhaust(Delivery::AtLeastOnce)?;
    let batch = (0..4).map(|_| author.event(&topic)).collect();
    author.send_batch(batch).await?;
    pace.accepted(4)?;
    pace.exhaust(Delivery::AtLeastOnce)?;
    let publisher = author.bus().publisher(topic.clone());
    for _ in 0..2 {
        author.send_by(&publisher, author.event(&topic)).await?;
        pace.accepted(1)?;
    }
    let late = author.event(&topic).delivery(Delivery::AtMostOnce);
    author.send(late).await?;
    pace.accepted(1)
}

/// A publish whose turn comes after its deadline is refused, and told when to come back.
async fn turns_after_the_deadline_are_refused(context: &Context) -> Checked {
    let deadline = Duration::from_millis(20);
    let limits = Limits {
        publish_deadline: deadline,
        ..Limits::default()
    };
    let stage = limited(context, 1, 1, limits).await?;
    let author = stage.author(&stage.bus());
    let topic = Topic::new("a.b")?;
    // Only a bus that is held up for a second each time takes them all.
    for _ in 0..5 {
        let sending = author.send(author.event(&topic));
        let Err(refused) = before_long(sending, deadline).await? else {
            continue;
        };
        let reason = refused.into_parts().1;
        let PublishError::RateLimited { retry_after } = reason else {
            return Err(Unmet::broken(format_args!("refused because {reason}")));
        };
        ensure!(
            retry_after > deadline && retry_after <= Duration::from_secs(1),
            "told to wait {retry_after:?} at one event per second, with a deadline of {deadline:?}"
        );
        return Ok(());
    }
    Err(Unmet::unexercised("no event came before its turn"))
}

/// What comes of a publish, unless it goes on for many times its deadline. They are beats of the
/// task that publishes: a machine that is held up holds them up too.
async fn before_long<T>(publishing: impl Future<Output = T>, deadline: Duration) -> Checked<T> {
    const BEATS: usize = 15;
    let mut publishing = pin!(publishing);
    let mut beat = interval(deadline);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..BEATS {
        if let Either::Left((done, _)) = select(publishing.as_mut(), pin!(beat.tick())).await {
            return Ok(done);
        }
    }
    Err(Unmet::broken(format_args!(
        "a publish with a deadline of {deadline:?} waits for a turn that comes after it"
    )))
}
