//! The paths: what every event goes through, without threads, sockets and TLS.

use std::sync::Arc;

use busrt_backend::wire::{EventFrame, FrameWriter, LinkEntry};
use bytes::Bytes;
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{
    Event, EventBus, Limits, Origin, Payload, PublisherId, Subscribe, Subscription, Topic,
};
use futures_util::FutureExt;

/// Bytes of each payload.
const PAYLOAD: usize = 100;
/// Events of a frame.
const FRAME: u64 = 100;
/// Subscriptions that a topic is matched against.
const SUBSCRIPTIONS: usize = 10_000;

/// One path.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(u64),
}

pub(crate) const PATHS: [Path; 3] = [
    Path {
        name: "crossbeam",
        what: "published and received through Arc<dyn EventBus>",
        run: crossbeam,
    },
    Path {
        name: "frame",
        what: "written to and read from a frame of 100 events",
        run: frame,
    },
    Path {
        name: "route",
        what: "the first of its topic, among 10,000 subscriptions that do not match",
        run: route,
    },
];

fn crossbeam(events: u64) {
    let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits::default());
    let mut subscription = subscribe(&bus, "bench.#");
    let publisher = bus.publisher(Topic::new("bench.topic").unwrap());
    let payload = Bytes::from(vec![7_u8; PAYLOAD]);
    for _ in 0..events {
        let publishing = publisher.publish(publisher.event(payload.clone()));
        publishing.now_or_never().expect("there is room").unwrap();
        let event = subscription.try_recv().unwrap();
        assert_eq!(event.payload().known_len(), Some(PAYLOAD));
    }
}

fn frame(events: u64) {
    let topic = Topic::new("bench.topic").unwrap();
    let (publisher, epoch) = (PublisherId([7; 16]), 1);
    let payload = Bytes::from(vec![7_u8; PAYLOAD]);
    for first in (0..events).step_by(usize::try_from(FRAME).unwrap()) {
        let link = LinkEntry {
            subscription: 1,
            first,
            dropped: 0,
        };
        let hint = usize::try_from(FRAME).unwrap() * (PAYLOAD + 16);
        let mut writer = FrameWriter::new(publisher, epoch, &[link], hint);
        for sequence in first..first + FRAME {
            let mut event = Event::on(topic.clone(), Payload::raw(payload.clone()));
            event.accept(|| Origin {
                publisher,
                epoch,
                sequence,
            });
            writer.push(&event, &payload, publisher, epoch);
        }
        let frame = EventFrame::read(&topic, &writer.finish().into()).unwrap();
        assert_eq!(frame.events.len() as u64, FRAME);
    }
}

fn route(events: u64) {
    let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits::default());
    let _others: Vec<_> = (0..SUBSCRIPTIONS)
        .map(|n| subscribe(&bus, &format!("other.n{n}.#")))
        .collect();
    let mut subscription = subscribe(&bus, "bench.#");
    for n in 0..events {
        let event = Event::new(format!("bench.n{n}"), Payload::raw("")).unwrap();
        bus.try_publish(event).unwrap();
        subscription.try_recv().unwrap();
    }
}

fn subscribe(bus: &Arc<dyn EventBus>, filter: &str) -> Subscription {
    let wanted = Subscribe::to(filter).unwrap().capacity(64);
    let subscribing = bus.subscribe(wanted).now_or_never();
    subscribing.expect("nothing to wait for").unwrap()
}
