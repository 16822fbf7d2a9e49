//! Heartbeats, and asking the collector how it is. Neither waits for the other, nor for what the collector
//! is doing.
//!
//! They are at most once, so that nobody who does not read them holds up anything (DEL-009): the next one
//! says the same.

use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::{BusState, Delivery, Event, PublishError, Publisher, TryPublishError};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::debug;

use super::status::Shared;
use crate::complaints::Complaints;
use crate::member::Heartbeat;

/// How long the last heartbeat may take to find room.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Publishes heartbeats until the bus is closed.
pub(super) async fn beat(
    shared: Arc<Shared>,
    publisher: Publisher,
    mut bus: watch::Receiver<BusState>,
) {
    let mut status = shared.status.subscribe();
    let mut tick = interval(shared.options.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut said, mut unpublished) = (None, Complaints::default());
    loop {
        let news = tokio::select! {
            _ = tick.tick() => None,
            // `shared` has the sender, so it does not end.
            _ = status.changed() => Some(summary(&shared)),
            () = connected(&mut bus) => None,
        };
        // What only the host has to know is no news.
        if news.is_some() && news == said {
            continue;
        }
        let heartbeat = shared.heartbeat();
        said = Some((heartbeat.activity, heartbeat.ailment.clone()));
        match publish(&publisher, &heartbeat) {
            Ok(()) => {}
            Err(TryPublishError::Publish(PublishError::Closed)) => return,
            Err(reason) => {
                if let Some(more) = unpublished.turn(Instant::now()) {
                    debug!(%reason, more, "a heartbeat was not published");
                }
            }
        }
    }
}

fn summary(shared: &Shared) -> (crate::member::Activity, Option<String>) {
    (shared.activity(), shared.known_ailment())
}

/// Waits until the bus is connected again: whoever listens there may be another one.
async fn connected(bus: &mut watch::Receiver<BusState>) {
    while bus.changed().await.is_ok() {
        if matches!(*bus.borrow_and_update(), BusState::Connected) {
            return;
        }
    }
    std::future::pending().await
}

/// Publishes one heartbeat, if that needs no waiting.
pub(super) fn publish(publisher: &Publisher, heartbeat: &Heartbeat) -> Result<(), TryPublishError> {
    let Some(event) = event(publisher, heartbeat) else {
        return Ok(());
    };
    let published = publisher.try_publish(event.delivery(Delivery::AtMostOnce));
    published
        .map_err(|refused| refused.into_parts().1)
        .map(drop)
}

/// Publishes the last heartbeat so that it arrives, if it can.
pub(super) async fn leave(publisher: &Publisher, heartbeat: &Heartbeat) {
    let Some(event) = event(publisher, heartbeat) else {
        return;
    };
    let published = timeout(LEAVE_WITHIN, publisher.publish(event)).await;
    let arrives = match &published {
        Ok(Ok(receipt)) => receipt.confirmed(LEAVE_WITHIN).await.is_ok(),
        _ => false,
    };
    if !matches!(published, Ok(Ok(_))) {
        // Those that have room get it.
        let _ = publish(publisher, heartbeat);
    }
    debug!(arrives, "said goodbye");
}

fn event(publisher: &Publisher, heartbeat: &Heartbeat) -> Option<Event> {
    let event = Event::json(publisher.topic().clone(), heartbeat);
    event.map_err(|reason| debug!(%reason, "no heartbeat")).ok()
}

/// Asks the collector how it is, again and again.
pub(super) async fn check(shared: Arc<Shared>) {
    let mut tick = interval(shared.options.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let begins = Some(Instant::now());
        shared.status.send_if_modified(|status| {
            status.checking = begins;
            false
        });
        let found = shared.check().await;
        shared.status.send_if_modified(|status| {
            status.checking = None;
            let news = status.checked != found;
            status.checked = found;
            news
        });
    }
}
