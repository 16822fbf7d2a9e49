//! Draining one of the candidate's subscriptions into the comparison.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::{Item, Subscription};
use futures_util::FutureExt;

use crate::candidate::text_of;
use crate::class::{Reason, Side};
use crate::comparator::Comparator;
use crate::latest::Latest;
use crate::marker;
use crate::sub::{Phase, Sub};

/// How many items are taken before somebody else gets a turn.
const TURN: usize = 128;
/// How often an ended subscription is looked at for what is still due.
const TICK: Duration = Duration::from_millis(10);

/// Drains `subscription` until it ends, or until the application has ended its own and everything
/// due has come or is given up.
pub(crate) async fn drain(comparator: Arc<Comparator>, sub: Arc<Sub>, subscription: Subscription) {
    let work = AssertUnwindSafe(take_all(&comparator, &sub, subscription)).catch_unwind();
    if let Err(panic) = work.await {
        comparator.error("receive", "panic", &text_of(&*panic));
        sub.close(&comparator, Side::Candidate, Reason::Unavailable);
        sub.closing.notified().await;
        comparator.retire(&sub);
    }
}

async fn take_all(comparator: &Arc<Comparator>, sub: &Arc<Sub>, mut subscription: Subscription) {
    let mut latest = Latest::default();
    let mut taken = 0;
    let ended = loop {
        // At random, so that a stream that never pauses does not hide the end.
        tokio::select! {
            item = subscription.recv_item() => match item {
                Some(item) => take(comparator, sub, item, &mut latest),
                None => break true,
            },
            () = sub.closing.notified() => break false,
        }
        taken += 1;
        if taken % TURN == 0 {
            tokio::task::yield_now().await;
        }
    };
    if ended {
        let reason = if sub.phase() >= Phase::Ending {
            Reason::Shutdown
        } else {
            comparator.error("receive", "ended", &"the candidate ended a subscription");
            Reason::Unavailable
        };
        sub.close(comparator, Side::Candidate, reason);
        sub.closing.notified().await;
    } else {
        take_what_is_due(comparator, sub, &mut subscription, &mut latest).await;
    }
    comparator.retire(sub);
    subscription.unsubscribe().await;
}

/// Takes items until nothing is awaited any more. Markers are on their way, and a lost one is
/// sent again, or given up once the candidate has been silent for long.
async fn take_what_is_due(
    comparator: &Arc<Comparator>,
    sub: &Arc<Sub>,
    subscription: &mut Subscription,
    latest: &mut Latest,
) {
    let mut tick = tokio::time::interval(TICK);
    while sub.counts().awaited > 0 {
        tokio::select! {
            biased;
            item = subscription.recv_item() => match item {
                Some(item) => take(comparator, sub, item, latest),
                None => return,
            },
            // There is nothing to take: it was asked for first.
            _ = tick.tick() => {
                sub.sweep(comparator);
                sub.give_up_marks(comparator);
            }
        }
    }
}

fn take(comparator: &Comparator, sub: &Sub, item: Item, latest: &mut Latest) {
    match item {
        Item::Lagged(n) => sub.dropped.add(Side::Candidate, n),
        Item::Event(event) if marker::is_marker(&event) => {
            if let Some(origin) = event.origin()
                && marker::is_from(&event, comparator.id)
            {
                sub.marked(comparator, origin, event.topic());
            }
        }
        Item::Event(event) => sub.arrived(comparator, Side::Candidate, &event, latest),
    }
}
