//! A subscribing process: checks what comes as it comes, and says at the end what was wrong.

use std::sync::Arc;

use conformance::check::stream::{StreamCheck, StreamId};
use eventbus_trait::{EventBus, Item, Subscribe, Subscription};

use crate::args::Sabotage;
use crate::peer::{Speaker, connect, count};
use crate::publisher::next;
use crate::words::{Done, Order, Subscriber, Word, orders, read_payload, say, topic};

pub(crate) async fn play(part: Subscriber) -> Result<(), String> {
    let mut orders = orders();
    let name = format!("subscriber-{}", part.number);
    let bus = connect(&part.door, &name).await?;
    let everything = Subscribe::to("soak.#").map_err(|error| error.to_string())?;
    let subscription = bus.subscribe(everything.named(name)).await;
    let subscription = subscription.map_err(|error| error.to_string())?;
    let speaker = Speaker::start(&bus);
    speaker.doing("waits for events");
    say(&Word::Ready);
    let mut reading = Reading {
        subscription,
        check: StreamCheck::default(),
        lagged: 0,
        sabotage: part.sabotage,
    };
    let accepted = loop {
        tokio::select! {
            biased;
            order = next(&mut orders) => match order? {
                Order::End(accepted) => break accepted,
                Order::Publish(_) => {}
            },
            item = reading.subscription.recv_item() => match item {
                Some(item) => {
                    reading.note(item);
                    reading.take();
                    speaker.events(reading.check.received());
                }
                None => return Err("the subscription has ended".to_owned()),
            },
        }
    };
    speaker.doing("shuts down");
    let done = finish(reading, &bus, accepted).await;
    drop(speaker);
    say(&Word::Done(Box::new(done)));
    Ok(())
}

/// Of a payload that is none of ours.
const NOBODY: StreamId = StreamId {
    publisher: u32::MAX,
    topic: u32::MAX,
};
/// The event of its stream that sabotage is done to.
const SABOTAGED: u64 = 10;

struct Reading {
    subscription: Subscription,
    check: StreamCheck,
    lagged: u64,
    sabotage: Option<Sabotage>,
}

impl Reading {
    fn note(&mut self, item: Item) {
        let event = match item {
            Item::Event(event) => event,
            Item::Lagged(events) => {
                self.lagged += events;
                return;
            }
        };
        let bytes = event.bytes().unwrap_or_default();
        match read_payload(&bytes) {
            Some((id, number, ..)) if number == SABOTAGED && self.sabotage.is_some() => {
                self.falsify(id, number);
            }
            Some((id, number, overall, true)) if event.topic().as_str() == topic(id) => {
                self.check.came(id, number, overall);
            }
            Some((id, number, ..)) => self.check.came_altered(id, number),
            None => self.check.came_altered(NOBODY, 0),
        }
    }

    fn falsify(&mut self, id: StreamId, number: u64) {
        match self.sabotage.take() {
            None => {}
            Some(Sabotage::Lose) => {}
            Some(Sabotage::Alter) => self.check.came_altered(id, number),
            Some(Sabotage::Repeat) => {
                self.check.came(id, number, number);
                self.check.came(id, number, number);
            }
        }
    }

    /// What is there already. Bounded, so that an order is heard however fast events come.
    fn take(&mut self) {
        const AT_MOST: usize = 512;
        for _ in 0..AT_MOST {
            match self.subscription.try_recv_item() {
                Ok(item) => self.note(item),
                Err(_) => return,
            }
        }
    }
}

async fn finish(
    mut reading: Reading,
    bus: &Arc<dyn EventBus>,
    accepted: Vec<(u32, u32, u64)>,
) -> Done {
    let mut done = Done::default();
    // What is queued is read before, while and after the handle shuts down: then the stream ends.
    let shutting = bus.shutdown();
    let reading_on = async {
        while let Some(item) = reading.subscription.recv_item().await {
            reading.note(item);
        }
    };
    let (shutdown, ()) = tokio::join!(shutting, reading_on);
    done.shutdown = shutdown.err().map(|error| error.to_string());
    done.lagged = reading.lagged;
    let accepted = accepted
        .into_iter()
        .map(|(publisher, topic, events)| (StreamId { publisher, topic }, events));
    done.found = reading.check.finish(accepted).into();
    count(&mut done, bus);
    done
}
