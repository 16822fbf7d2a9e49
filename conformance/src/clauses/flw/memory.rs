//! FLW-006: what the process holds while nobody reads.
//!
//! Measured on the process itself, so nothing else may run beside it. A first round of the same load
//! fills the queues and takes what the allocator keeps for good; whatever later rounds add beyond
//! a bound, and do not give back, is kept for each event. What is offered has payloads of its own
//! and is not recorded: a history is no part of the bus.
//!
//! Invariant: it passes only if so much was offered that what is kept of it would be more than all
//! that the process held before. What others have freed in it would hide less than that.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
/// Bytes kept of each small event that are found wherever they lie.
const CRUMB: u64 = 64;
/// Events that each subscription has room for.
const CAPACITY: usize = 256;
/// Events offered in a round, by a third each: refused, dropped at once, and pushing others out.
const ROUND: usize = 12_000;
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
    let offered = Offered {
        stage: &stage,
        publishers: &publishers,
        stalled: stalled[0].name(),
    };
    offered.large(false).await?;
    offered.outweigh(Sort::Large).await?;
    // What they make of the queues is not held against them.
    offered.small(SMALL_ROUND / 20).await?;
    offered.outweigh(Sort::Small).await?;
    let dropped = |at: usize| stalled[at].stats().dropped;
    match (dropped(0), dropped(1), dropped(2)) {
        (1.., 1.., 1..) => Ok(()),
        none => Err(Unmet::unexercised(format_args!(
            "not all dropped: {none:?}"
        ))),
    }
}

/// Which events are offered.
#[derive(Debug, Clone, Copy)]
enum Sort {
    /// Those whose payloads may be kept.
    Large,
    /// Those of which something else may be.
    Small,
}

impl Sort {
    /// What they are called, what growth is put down to the allocator, and how many bytes of a round
    /// are kept where something is: the payloads of one in three, or crumbs of all.
    fn measures(self) -> (&'static str, u64, u64) {
        match self {
            Self::Large => ("large", BOUND, (ROUND / 3 * PAYLOAD) as u64),
            Self::Small => ("small", SMALL_BOUND, SMALL_ROUND as u64 * CRUMB),
        }
    }
}

/// Who offers them, and to whom.
struct Offered<'a> {
    stage: &'a Stage,
    publishers: &'a [Arc<dyn EventBus>],
    /// The subscription that refuses.
    stalled: &'a str,
}

impl Offered<'_> {
    /// Offers rounds of events, after each of which memory falls to what it was, until what is kept of
    /// them cannot lie in memory that the process had before and did not use.
    async fn outweigh(&self, sort: Sort) -> Checked {
        let (events, bound, of_a_round) = sort.measures();
        let (full, since) = (resident()?, Instant::now());
        for _ in 0..=(full + bound) / of_a_round {
            if since.elapsed() > self.stage.patience() {
                return Err(Unmet::unexercised(format_args!(
                    "the process held {} MiB before, in which {events} events may be kept; run the \
                     clause in a process of its own",
                    full >> 20
                )));
            }
            match sort {
                Sort::Large => self.large(true).await?,
                Sort::Small => self.small(SMALL_ROUND).await?,
            }
            falls_to(self.stage, full, bound, events).await?;
        }
        Ok(())
    }

    /// Offers a round of large events by both publishers. Once the stalled subscription is `full`, it
    /// refuses.
    async fn large(&self, full: bool) -> Checked {
        let event = |topic| Event::new(topic, vec![7_u8; PAYLOAD]);
        let mut refused = 0;
        for turn in 0..ROUND / 3 {
            let bus = &self.publishers[turn % self.publishers.len()];
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
            let publishing = bus.publish(event("lossy")?);
            let receipt = self.stage.wait("room to push others out", publishing);
            let receipt = receipt.await??;
            if turn % ON_THE_WAY == 0 {
                receipt.confirmed(self.stage.patience()).await?;
            }
        }
        if full && refused < ROUND / 6 {
            return Err(Unmet::unexercised(format_args!(
                "`{}` was not full: {refused} refused",
                self.stalled
            )));
        }
        Ok(())
    }

    /// Offers so many small events by both publishers, to queues that are full.
    async fn small(&self, events: usize) -> Checked {
        let event = |topic| Event::new(topic, vec![7_u8; SMALL]);
        for turn in 0..events / (BATCH + 2 * OF_OTHERS) {
            let bus = &self.publishers[turn % self.publishers.len()];
            for _ in 0..OF_OTHERS {
                // Whether it is refused is looked at where events are large.
                let _ = bus.try_publish(event("stalled")?);
                let fleeting = event("stalled")?.delivery(Delivery::AtMostOnce);
                bus.publish(fleeting).await?;
            }
            let batch: Result<Vec<Event>, _> = (0..BATCH).map(|_| event("lossy")).collect();
            let publishing = bus.publish_batch(batch?);
            let receipt = self.stage.wait("room to push others out", publishing);
            receipt.await??.confirmed(self.stage.patience()).await?;
        }
        Ok(())
    }
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

/// Memory of the process that no file stands behind, swapped out or not, in bytes.
fn resident() -> Checked<u64> {
    let status = fs::read_to_string("/proc/self/status").map_err(Unmet::unexercised)?;
    let kib = |of: &str| {
        let found = status.lines().find_map(|line| {
            let rest = line.strip_prefix(of)?.strip_prefix(':')?.trim();
            rest.strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        found.ok_or_else(|| Unmet::unexercised(format_args!("/proc/self/status has no {of}")))
    };
    Ok((kib("RssAnon")? + kib("VmSwap")?) * 1024)
}
