//! FLW-006: what the process holds while nobody reads.
//!
//! Measured on the process itself, so nothing else may run beside it. A first round of the same load
//! fills the queues and takes what the allocator keeps for good; whatever a later round adds beyond
//! a bound, and does not give back, is kept for each event. What is offered has payloads of its own
//! and is not recorded: a history is no part of the bus.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::{Delivery, Event, EventBus, Overflow, Subscribe, TryPublishError};

use crate::harness::Capability;
use crate::stage::{Context, Stage};
use crate::verdict::{Checked, Unmet};

/// Bytes of each payload, where it is the payloads that may be kept.
const PAYLOAD: usize = 4096;
/// Bytes of each payload, where it is what goes with them.
const SMALL: usize = 16;
/// Small events offered: those that push others out in batches, so many of each other sort for each.
const SMALL_ROUND: usize = 200_000;
const BATCH: usize = 50;
const OF_OTHERS: usize = 475;
/// Growth that is put down to the allocator after them: 52 bytes for each that pushes others out, and
/// 6 for each of the others.
const SMALL_BOUND: u64 = 512 << 10;
/// Events that each subscription has room for.
const CAPACITY: usize = 256;
/// Events offered in a round, by a third each: refused, dropped at once, and pushing others out.
const ROUND: usize = 12_000;
const ROUNDS: usize = 2;
/// Growth that is put down to the allocator. A round offers more than ten times as much.
const BOUND: u64 = 4 << 20;
/// So many events that push others out are on their way at most: what is, is held too.
const ON_THE_WAY: usize = 16;

/// FLW-006: with subscriptions that nobody reads under load, memory stops growing when they are
/// full.
pub(crate) async fn flw_006_memory_is_bounded(context: Context) -> Checked {
    let stage = context.stage().await?;
    let bus = stage.bus();
    let far = if context.has(Capability::SeveralHandles) {
        stage.connect().await?
    } else {
        stage.bus()
    };
    let unread = |filter, overflow| {
        let subscribe = Subscribe::to(filter)?.capacity(CAPACITY);
        Ok::<_, Unmet>(subscribe.overflow(overflow))
    };
    let stalled = [
        bus.subscribe(unread("stalled", Overflow::Wait)?).await?,
        bus.subscribe(unread("lossy", Overflow::DropOldest)?)
            .await?,
        bus.subscribe(unread("lossy", Overflow::DropNewest)?)
            .await?,
    ];
    let publishers = [bus, far];
    load(&stage, &publishers, None).await?;
    let full = resident()?;
    for _ in 0..ROUNDS {
        load(&stage, &publishers, Some(stalled[0].name())).await?;
        falls_to(&stage, full, BOUND, "large").await?;
    }
    // What they make of the queues is not held against them.
    load_of_small(&stage, &publishers, SMALL_ROUND / 20).await?;
    let full = resident()?;
    load_of_small(&stage, &publishers, SMALL_ROUND).await?;
    falls_to(&stage, full, SMALL_BOUND, "small").await?;
    let dropped = |at: usize| stalled[at].stats().dropped;
    match (dropped(0), dropped(1), dropped(2)) {
        (1.., 1.., 1..) => Ok(()),
        none => Err(Unmet::unexercised(format_args!(
            "not all dropped: {none:?}"
        ))),
    }
}

/// Offers a round of events by both publishers. Once the subscription `full` is, it refuses.
async fn load(stage: &Stage, publishers: &[Arc<dyn EventBus>], full: Option<&str>) -> Checked {
    let event = |topic| Event::new(topic, vec![7_u8; PAYLOAD]);
    let mut refused = 0;
    for turn in 0..ROUND / 3 {
        let bus = &publishers[turn % publishers.len()];
        match bus
            .try_publish(event("stalled")?)
            .map_err(|r| r.into_parts().1)
        {
            Ok(_) => {}
            Err(TryPublishError::Full { .. }) => refused += 1,
            Err(reason) => return Err(Unmet::broken(reason)),
        }
        let fleeting = event("stalled")?.delivery(Delivery::AtMostOnce);
        bus.publish(fleeting).await?;
        let receipt = stage
            .wait("room to push others out", bus.publish(event("lossy")?))
            .await??;
        if turn % ON_THE_WAY == 0 {
            receipt.confirmed(stage.patience()).await?;
        }
    }
    match full {
        Some(name) if refused < ROUND / 6 => Err(Unmet::unexercised(format_args!(
            "`{name}` was not full: {refused} refused"
        ))),
        _ => Ok(()),
    }
}

/// Offers small events by both publishers, to queues that are full.
async fn load_of_small(stage: &Stage, publishers: &[Arc<dyn EventBus>], events: usize) -> Checked {
    let event = |topic| Event::new(topic, vec![7_u8; SMALL]);
    for turn in 0..events / (BATCH + 2 * OF_OTHERS) {
        let bus = &publishers[turn % publishers.len()];
        for _ in 0..OF_OTHERS {
            // Whether it is refused is looked at where events are large.
            let _ = bus.try_publish(event("stalled")?);
            let fleeting = event("stalled")?.delivery(Delivery::AtMostOnce);
            bus.publish(fleeting).await?;
        }
        let batch: Result<Vec<Event>, _> = (0..BATCH).map(|_| event("lossy")).collect();
        let publishing = bus.publish_batch(batch?);
        let receipt = stage.wait("room to push others out", publishing).await??;
        receipt.confirmed(stage.patience()).await?;
    }
    Ok(())
}

/// Waits until the process holds no more than `growth` over what it did when the queues were `full`:
/// what is on its way of such events may take a moment.
async fn falls_to(stage: &Stage, full: u64, growth: u64, events: &str) -> Checked {
    let mut held = 0;
    let mut beat = tokio::time::interval(Duration::from_millis(5));
    let falling = stage.wait("memory to fall", async {
        loop {
            held = resident()?;
            if held <= full + growth {
                return Ok::<_, Unmet>(());
            }
            beat.tick().await;
        }
    });
    let fell = falling.await;
    let told = |unmet| {
        let over = held.saturating_sub(full) >> 10;
        Unmet::broken(format_args!(
            "{unmet}: {events} events made it grow by {over} KiB over full queues"
        ))
    };
    fell.map_err(told)?
}

/// Memory of the process that no file stands behind, in bytes.
fn resident() -> Checked<u64> {
    let status = fs::read_to_string("/proc/self/status").map_err(Unmet::unexercised)?;
    let kib = status.lines().find_map(|line| {
        let rest = line.strip_prefix("RssAnon:")?.trim();
        rest.strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    let kib = kib.ok_or_else(|| Unmet::unexercised("/proc/self/status has no RssAnon"))?;
    Ok(kib * 1024)
}
