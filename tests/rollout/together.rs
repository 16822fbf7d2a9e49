//! Several tasks that publish one topic through one handle.

use std::sync::Arc;

use eventbus::rollout;
use eventbus::{Delivery, Event, EventBus, Subscribe, Topic};

use super::scene::{Scene, run};

const TASKS: u32 = 4;
const EVENTS: u32 = 500;

/// The stamps say the order in which a subscription has the events, also of those that had to wait.
#[test]
fn who_waits_for_room_is_not_overtaken_by_a_later_stamp() {
    run(async {
        for phase in ["crossbeam", "in-process"] {
            let scene = Scene::new();
            let rollout = scene.rollout(&[phase]);
            let bus = rollout::open(&scene.config(rollout)).await.unwrap();
            let subscribe = Subscribe::to("a").unwrap().capacity(2);
            let mut subscription = bus.subscribe(subscribe).await.unwrap();
            let all: Arc<dyn EventBus> = bus.clone();
            for task in 0..TASKS {
                let all = Arc::clone(&all);
                tokio::spawn(async move {
                    let publisher = all.publisher(Topic::new("a").unwrap());
                    for n in 0..EVENTS {
                        let event = Event::new("a", "x").unwrap();
                        let event = event.delivery(Delivery::AtLeastOnce);
                        match (task + n) % 3 {
                            0 => drop(all.publish(event).await.unwrap()),
                            1 => drop(publisher.publish(event).await.unwrap()),
                            _ => {
                                let batch = vec![event.clone(), event];
                                drop(all.publish_batch(batch).await.unwrap());
                            }
                        }
                    }
                });
            }
            let in_batches = (0..TASKS * EVENTS).filter(|n| (n / EVENTS + n % EVENTS) % 3 == 2);
            let wanted = u64::from(TASKS * EVENTS) + in_batches.count() as u64;
            let mut last = None;
            for _ in 0..wanted {
                let event = subscription.recv().await.unwrap();
                let sequence = event.origin().map(|origin| origin.sequence);
                assert!(last < sequence, "{phase}: {sequence:?} after {last:?}");
                last = sequence;
            }
            bus.shutdown().await.unwrap();
        }
    });
}
