//! FLW: flow control. Queues are bounded, and what a full one does is what the contract says.

mod handlers;
mod memory;
mod rate;

pub(super) use handlers::flw_003_handlers_may_publish;
pub(super) use memory::flw_006_memory_is_bounded;
pub(super) use rate::flw_005_a_rate_is_kept;

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus_trait::{
    Limits, Overflow, PublishError, Refused, Subscribe, Subscription, Topic, TryPublishError,
};

use crate::check;
use crate::stage::{Author, Context, Reader};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// More than any publisher needs of places, and as many as the ample subscriptions have.
const REFUSALS: usize = 100;

/// FLW-001: with one of two matching subscriptions full, a publish waits until its deadline, names
/// the full one, and the other gets nothing of it; once there is room, publishing goes on.
pub(crate) async fn flw_001_room_in_all_or_none(context: Context) -> Checked {
    let deadline = Duration::from_millis(50);
    let limits = Limits {
        publish_deadline: deadline,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let bus = stage.bus();
    let author = stage.author(&bus);
    // Ample ones on both sides, so that whichever order the phase enters queues in, one of them
    // would get an event that another has no room for. Not so ample that places which a refused
    // event keeps would go unnoticed.
    let ample = |filter| Ok::<_, Unmet>(Subscribe::to(filter)?.capacity(REFUSALS));
    let first = stage.read(&bus, ample("a.#")?).await?;
    let small = stage
        .read(&bus, Subscribe::to("*.b")?.named("small").capacity(8))
        .await?;
    let mut readers = vec![first, small, stage.read(&bus, ample("a.b")?).await?];

    for _ in 0..3 {
        let filled = author.fill("a.b").await;
        let (_, full) = filled.map_err(Unmet::into_breach)?;
        ensure_eq!(
            full,
            TryPublishError::Full {
                subscription: "small".into()
            },
            "try_publish"
        );
        for _ in 0..REFUSALS {
            let offered = author.try_send(author.event(&Topic::new("a.b")?));
            let went_past = offered.is_ok();
            ensure!(!went_past, "an event went past a full subscription");
        }
        backpressure(&author, deadline).await?;
        let publisher = bus.publisher(Topic::new("a.b")?);
        let went_past = publisher.try_publish(publisher.event("unmarked")).is_ok();
        ensure!(!went_past, "a publisher went past a full subscription");
        batch_is_refused(&author).await?;
        // Other topics have room.
        author.publish("a.c").await?;
        let topic = Topic::new("a.b")?;
        let (sent, drained) = futures_util::future::join(
            author.insist(author.event(&topic)),
            stage.drain(&mut readers, &[Arc::clone(&author)]),
        )
        .await;
        sent?;
        drained?;
    }
    stage.drain(&mut readers, &[author]).await?;
    let history = stage.history();
    check::refused(&history).verdict()?;
    check::phantoms(&history).verdict()?;
    check::lost(&history).verdict()
}

async fn backpressure(author: &Author, deadline: Duration) -> Checked {
    let event = author.event(&Topic::new("a.b")?);
    let began = Instant::now();
    let sent = author.send(event).await.map_err(Refused::into_parts);
    let took = began.elapsed();
    match sent {
        Ok(_) => Err(Unmet::broken("a publish went past a full subscription")),
        Err((
            _,
            PublishError::Backpressure {
                subscription,
                waited,
            },
        )) => {
            ensure_eq!(subscription, "small", "subscription named");
            ensure!(
                waited >= deadline,
                "gave up after {waited:?}, before {deadline:?}"
            );
            ensure!(
                took >= deadline,
                "gave up after {took:?}, before {deadline:?}, and says {waited:?}"
            );
            Ok(())
        }
        Err((_, reason)) => Err(Unmet::broken(format_args!("refused because {reason}"))),
    }
}

async fn batch_is_refused(author: &Author) -> Checked {
    let (fits, full) = (Topic::new("a.c")?, Topic::new("a.b")?);
    let batch = vec![
        author.event(&fits),
        author.event(&full),
        author.event(&fits),
    ];
    match author.send_batch(batch).await {
        Ok(_) => Err(Unmet::broken("a batch went past a full subscription")),
        Err(refused) => {
            ensure!(
                matches!(refused.reason, PublishError::Backpressure { .. }),
                "refused because {}",
                refused.reason
            );
            ensure_eq!(refused.accepted, 1, "events of the batch taken");
            ensure_eq!(refused.events.len(), 2, "events of the batch handed back");
            Ok(())
        }
    }
}

/// FLW-002: a subscription that may lose events never holds a publisher up, keeps the oldest or
/// the newest as it asked, and is told of each gap where it is.
pub(crate) async fn flw_002_losses_are_told_in_band(context: Context) -> Checked {
    const EVENTS: u64 = 500;
    let stage = context.stage().await?;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let small = |overflow| Ok::<_, Unmet>(Subscribe::to("a.#")?.capacity(8).overflow(overflow));
    let mut readers = vec![
        stage.read(&bus, small(Overflow::DropOldest)?).await?,
        stage.read(&bus, small(Overflow::DropNewest)?).await?,
    ];
    let mut published = 0;
    for turn in 0..4 {
        author
            .publish_over(&["a.b", "a.c"], EVENTS as usize)
            .await?;
        published += EVENTS;
        for reader in &mut readers {
            reader.read_until_matched(published).await?;
        }
        let history = stage.history();
        let ends: Vec<_> = readers.iter().map(|r| history.marks_of(r.name())).collect();
        let last = ends[0].last().copied().flatten().map(|mark| mark.sequence);
        ensure_eq!(
            last,
            Some(published - 1),
            "newest event kept by `DropOldest`, turn {turn}"
        );
        let first = ends[1].first().copied().flatten().map(|mark| mark.sequence);
        ensure_eq!(first, Some(0), "oldest event kept by `DropNewest`");
    }
    // A loss at the very end is told with whatever comes next.
    author.publish("a.b").await?;
    for reader in &mut readers {
        reader.read_until_matched(published + 1).await?;
        ensure_eq!(
            reader.stats().dropped,
            reader.lagged(),
            "losses counted and told"
        );
        if reader.lagged() == 0 {
            return Err(Unmet::unexercised("nothing was dropped"));
        }
    }
    let history = stage.history();
    check::uncounted(&history).verdict()?;
    check::phantoms(&history).verdict()
}

/// FLW-004: neither a publisher that waits for room nor a receiver that waits for an event is
/// left asleep, on an executor or on a plain thread.
pub(crate) async fn flw_004_no_lost_wake_up(context: Context) -> Checked {
    const EVENTS: usize = 1000;
    // A publisher that is not woken is seen as refused, long after any healthy one has gone on.
    let limits = Limits {
        publish_deadline: context.patience() / 2,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let bus = stage.bus();
    let one = || Ok::<_, Unmet>(Subscribe::to("a.#")?.capacity(1));
    // A task for each: in a shared one, the wake-up of one reader would serve for the other.
    let mut reading = Vec::new();
    for _ in 0..2 {
        let reader = stage.read(&bus, one()?).await?;
        reading.push(tokio::spawn(read_exactly(reader, EVENTS * 2)));
    }
    let thread = bus.subscribe(one()?.named("thread")).await?;
    let counting = tokio::task::spawn_blocking(move || count_on_a_thread(thread, EVENTS * 2));
    let authors = [stage.author(&bus), stage.author(&bus)];
    let publishing = authors.clone().map(|author| {
        tokio::spawn(async move { author.publish_over(&["a.b", "a.c"], EVENTS).await })
    });
    for publishing in publishing {
        publishing.await.map_err(Unmet::broken)??;
    }
    let mut readers = Vec::new();
    for reading in reading {
        readers.push(
            stage
                .wait("a reader", reading)
                .await?
                .map_err(Unmet::broken)??,
        );
    }
    let counted = stage
        .wait("the thread", counting)
        .await?
        .map_err(Unmet::broken)?;
    ensure_eq!(counted, EVENTS * 2, "events received on a plain thread");
    stage.drain(&mut readers, &authors).await?;
    check::lost(&stage.history()).verdict()?;
    for a_waits_first in [false, true] {
        who_has_room_is_woken(&context, a_waits_first).await?;
    }
    Ok(())
}

/// Two publishers wait for two full subscriptions: room in one wakes who waits for that one.
async fn who_has_room_is_woken(context: &Context, a_waits_first: bool) -> Checked {
    let limits = Limits {
        publish_deadline: context.patience() * 2,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let bus = stage.bus();
    let mut a = stage.read(&bus, Subscribe::to("a")?.capacity(1)).await?;
    let _b = stage.read(&bus, Subscribe::to("b")?.capacity(1)).await?;
    let filling = stage.author(&bus);
    filling.fill("a").await?;
    filling.fill("b").await?;
    let waiting_for = |topic: &'static str| {
        let author = stage.author(&bus);
        async move { author.publish(topic).await.map(drop) }
    };
    let mut order = ["b", "a"];
    if a_waits_first {
        order.reverse();
    }
    let what = "one of two publishers that wait for two subscriptions";
    let mut waiting = Vec::new();
    for topic in order {
        waiting.push(stage.asleep(what, waiting_for(topic)).await?);
    }
    a.expect().await?;
    let for_a = waiting.swap_remove(usize::from(!a_waits_first));
    for_a.woken(&stage, "by room in its own").await?
}

async fn read_exactly(mut reader: Reader, events: usize) -> Checked<Reader> {
    for _ in 0..events {
        reader.expect().await?;
    }
    Ok(reader)
}

fn count_on_a_thread(mut subscription: Subscription, events: usize) -> usize {
    let mut counted = 0;
    while counted < events && subscription.recv_blocking().is_some() {
        counted += 1;
    }
    counted
}
