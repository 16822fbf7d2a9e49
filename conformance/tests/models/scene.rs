//! What the models of the session play with: an outbox, links, a subscriber, an alarm.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use eventbus_trait::{Event, PublisherId, TopicFilter};

use crate::session::link::{Link, LinkState};
use crate::session::outbox::Outbox;
use crate::session::places::Places;
use crate::session::waiting::{NotAccepted, accept_within};
use crate::sync::Mutex;
use crate::wire::{AckEntry, SubscriptionInfo};

/// The only peer, or the first.
pub(crate) const PEER: &str = "p";
/// Bytes of credit: more than any model uses.
pub(crate) const BYTES: u64 = 1 << 20;

pub(crate) fn outbox() -> Arc<Outbox> {
    Arc::new(Outbox::new(PublisherId([1; 16]), 7))
}

/// A subscription to everything that has `received` events and gives credit up to `credit`.
pub(crate) fn cursor(subscription: u64, received: u64, credit: u64) -> SubscriptionInfo {
    SubscriptionInfo {
        id: subscription,
        name: format!("s{subscription}"),
        filters: vec![TopicFilter::new("#").unwrap()],
        link: 1,
        received,
        received_bytes: 0,
        credit,
        credit_bytes: BYTES,
    }
}

/// Opens a link, or goes on with it.
pub(crate) fn open(outbox: &Outbox, cursor: SubscriptionInfo) {
    assert!(outbox.open_link(&PEER.into(), cursor, false).is_none());
}

pub(crate) fn ack(subscription: u64, received: u64, credit: u64) -> AckEntry {
    AckEntry {
        subscription,
        received,
        credit,
        credit_bytes: BYTES,
    }
}

/// The subscriber has `received` events, and gives credit up to `credit`.
pub(crate) fn acknowledge(outbox: &Outbox, subscription: u64, received: u64, credit: u64) {
    outbox.acknowledge(PEER, &[ack(subscription, received, credit)]);
}

pub(crate) fn event(topic: &str) -> Option<Event> {
    Some(Event::new(topic, "x").unwrap())
}

/// Publishes an event, waiting for room without a deadline.
pub(crate) async fn publish(
    outbox: &Outbox,
    topic: &str,
) -> Result<Vec<(Arc<Link>, u64)>, NotAccepted> {
    let places = place(outbox, topic).await?;
    Ok(places.all())
}

/// The same, with the event's places as a receipt wants them.
pub(crate) async fn place(outbox: &Outbox, topic: &str) -> Result<Places, NotAccepted> {
    accept_within(outbox, &mut event(topic), &mut None, std::future::pending).await
}

/// The sequences that an event got.
pub(crate) fn numbers(places: &[(Arc<Link>, u64)]) -> Vec<u64> {
    places.iter().map(|(_, sequence)| *sequence).collect()
}

/// All links end.
pub(crate) fn end(outbox: &Outbox, state: LinkState) {
    if state == LinkState::Closed {
        outbox.close_links(|_: &Link| true);
        return;
    }
    for (link, _) in outbox.take_links(|_: &Link| true) {
        link.lose("the model ends it");
    }
}

/// A deadline that comes when a thread says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alarm(Arc<Mutex<(bool, Option<Waker>)>>);

impl Alarm {
    pub(crate) fn ring(&self) {
        let waker = {
            let mut state = self.0.lock();
            state.0 = true;
            state.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}
